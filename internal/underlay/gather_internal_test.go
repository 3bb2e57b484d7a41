// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// Entries that others remove while a long list is read hide none that stays.
func TestListingThatIsDisturbed(t *testing.T) {
	n, err := netlab.Test(t).Namespace("machine")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	check(n.AddVXLAN("vx", netlab.VXLAN{VNI: 1, Local: netip.MustParseAddr("192.0.2.1")}))
	l, err := n.Link("vx")
	check(err)
	var f *FDB
	check(n.Do(func() (err error) {
		f, err = OpenFDB()
		return err
	}))
	defer f.Close()
	cs := make([]FloodChange, 2000)
	for i := range cs {
		cs[i].FloodEntry = FloodEntry{Index: l.Index, Dst: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
	}
	if errs := f.Apply(cs); errs != nil {
		t.Fatal(errs)
	}
	// Whichever order the kernel lists in, some of them come first.
	mac := func(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(i)} }
	vtep := netip.MustParseAddr("192.0.2.2")
	for i := range 50 {
		check(n.AddFDB("vx", mac(i), vtep))
	}
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = unix.AF_BRIDGE
	first, readings := true, 0
	lost := make(flooding) // the first reading
	have, err := gather(func(each func([]byte)) (int, error) {
		readings++
		return f.conn.list(request{typ: unix.RTM_GETNEIGH, flags: unix.NLM_F_DUMP, body: b}, func(b []byte) {
			if first {
				first = false // the kernel has written two parts
				for i := range 50 {
					check(n.DeleteFDB("vx", mac(i), vtep))
				}
			}
			if readings == 1 {
				lost.take(b, nil)
			}
			each(b)
		})
	}, make(map[int]struct{}))
	check(err)
	if len(lost) == len(cs) {
		t.Error("got all entries at once, want some hidden: the test shows nothing")
	}
	if len(have) != len(cs) {
		t.Errorf("got %d entries in %d readings, want %d", len(have), readings, len(cs))
	}
}
