// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// monotonic is the clock of the program.
func monotonic() fdb.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return fdb.Time(ts.Nano())
}

// TestMirrorInTheMapsOfTheKernel has a mirror work in real maps, with real grace
// periods, and reads them by system calls.
func TestMirrorInTheMapsOfTheKernel(t *testing.T) {
	defer goleak.VerifyNone(t)
	netlab.Test(t) // skips without root
	k, err := load(64)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	tab := fdb.New(fdb.Options{})
	paths := &livingPaths{}
	m := newMirror(mirrorOptions{
		table: tab, maps: k.mirrored(), paths: paths, clock: monotonic, sink: &countingSink{},
		settings: mirrorSettings{most: 256, hold: time.Minute},
	})
	paths.tell = m.pathsChanged
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx) }()

	set := func(v vxlan.VNI, who int, hold time.Duration) {
		tab.Apply(monotonic(), []fdb.Update{{VNI: v, Addr: vtep(who), Source: fdb.Operator, Holdtime: hold}})
	}
	// A list that is another one by the time that it is read is none: the mirror lets
	// go of what it is made of.
	list := func(v vxlan.VNI) (out []int) {
		var slot uint32
		var s, after programSlot
		if k.objects.Vnis.Lookup(uint32(v), &slot) != nil || k.objects.Slots.Lookup(slot, &s) != nil || s.Vni != uint32(v) {
			return nil
		}
		var lost []string
		for i := range uint32(s.Word & 0xfff) {
			var r programMember
			at := position(s.Word >> 28)
			var segment *ebpf.Map
			if err := k.objects.Segments.Lookup(uint32(at.segment()), &segment); err != nil {
				t.Fatal(err)
			}
			if err := segment.Lookup(uint32(at.index())+i, &r); err != nil {
				t.Error(err)
			}
			segment.Close()
			var d programDest
			if err := k.objects.Dests.Lookup(r.Dest&destMask, &d); err != nil || hop(d.Hop).device() == 0 {
				lost = append(lost, fmt.Sprintf("got %+v, %v for %v, want a way", d, err, address(r.Addr)))
			}
			a := address(r.Addr).As4()
			out = append(out, int(a[2])<<8|int(a[3]))
		}
		if k.objects.Slots.Lookup(slot, &after) != nil || after.Word != s.Word || after.Vni != s.Vni {
			return nil
		}
		for _, what := range lost {
			t.Error(what)
		}
		return out
	}
	is := func(v vxlan.VNI, want ...int) func() bool {
		return func() bool { return slices.Equal(list(v), want) }
	}
	for v := range vxlan.VNI(3) {
		for who := range 5 {
			set(v, who+1, time.Hour)
		}
	}
	until(t, "five members", is(2, 1, 2, 3, 4, 5))
	for n := range 20 { // room that was let go of is used again
		set(2, n+5, 0)
		set(2, n+6, time.Hour)
		until(t, "one that leaves and one that joins", is(2, 1, 2, 3, 4, n+6))
	}
	m.pathsChanged(map[netip.Addr]underlay.Path{vtep(1): {State: underlay.PathUnfit}})
	until(t, "lists that raw has", is(0))
	m.pathsChanged(map[netip.Addr]underlay.Path{vtep(1): goodPath(3, 1500)})
	until(t, "lists that the kernel has again", is(0, 1, 2, 3, 4, 5))
	for who := range 5 {
		set(1, who+1, 0)
	}
	until(t, "a VNI that has gone", is(1))
	var s programSetting
	if err := k.objects.Settings.Lookup(uint32(0), &s); err != nil || fdb.Time(s.Lease) <= monotonic() || s.LearnHold != uint64(time.Minute) {
		t.Errorf("got %+v, %v, want maps that hold", s, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := k.objects.Settings.Lookup(uint32(0), &s); err != nil || s.Lease != 0 {
		t.Errorf("got %+v, %v, want maps that do not hold", s, err)
	}
}
