// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

func TestWaysThatChange(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.path = func(a netip.Addr) underlay.Path { return goodPath(int(a.As4()[3]), 1500) }
	g.join(someVNI, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	look := func() verdict { return g.r.list(g.clock(), someVNI) }
	check := func(v verdict, i int, p underlay.Path) {
		t.Helper()
		if c := v.copies[i]; c.mac != p.NextHop || int(c.device.Ifindex) != p.Index || c.device.Mac != p.Source {
			t.Errorf("got %+v, want %+v", c, p)
		}
	}
	for i := range 3 {
		check(look(), i, goodPath(i+1, 1500))
	}
	change := func(n int, p underlay.Path) verdict {
		g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(n): p})
		g.settle()
		return look()
	}
	check(change(2, goodPath(20, 1500)), 1, goodPath(20, 1500))
	if v := change(3, goodPath(3, 1400)); v.mtu != 1400 {
		t.Errorf("got an MTU of %d, want 1400", v.mtu)
	}
	if v := change(3, goodPath(3, 9000)); v.mtu != 1500 {
		t.Errorf("got an MTU of %d, want 1500", v.mtu)
	}
	if v := change(1, underlay.Path{State: underlay.PathUnresolved, MTU: 1300}); v.mtu != 1300 || v.copies[0].why != whyUnresolved || len(v.copies) != 3 {
		t.Errorf("got %+v, want an unresolved way among them", v)
	}
	if v := change(1, underlay.Path{State: underlay.PathUnreachable}); v.mtu != 1500 || v.copies[0].why != whyUnreachable {
		t.Errorf("got %+v, want an unreachable one among them", v)
	}
	if v := change(1, underlay.Path{State: underlay.PathRefused}); v.mtu != 1500 || v.copies[0].why != whyRefused {
		t.Errorf("got %+v, want a refused one among them", v)
	}
	check(change(1, goodPath(30, 1500)), 0, goodPath(30, 1500))
}

// TestTightWaysComeAfterTheirLists has a way change to one that raw alone can
// take, or with a smaller MTU: no packet finds the new way with the old list.
func TestTightWaysComeAfterTheirLists(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	ts := g.m.dests.plan(map[netip.Addr]underlay.Path{vtep(1): goodPath(5, 1400)})
	g.m.again(g.m.dests.tighten(ts))
	if v := g.r.list(g.clock(), someVNI); v.mtu != 1400 || v.copies[0].mac != goodPath(0, 1500).NextHop {
		t.Errorf("got %+v, want the MTU of after and the way of before", v)
	}
	g.m.dests.store(g.clock(), &ts[0])
	g.m.again(g.m.dests.loosen(ts))
	ts = g.m.dests.plan(map[netip.Addr]underlay.Path{vtep(1): goodPath(5, 9000)})
	g.m.again(g.m.dests.tighten(ts))
	if v := g.r.list(g.clock(), someVNI); v.mtu != 1400 {
		t.Errorf("got %+v, want the MTU of before", v)
	}
	g.m.dests.store(g.clock(), &ts[0])
	g.m.again(g.m.dests.loosen(ts))
	if v := g.r.list(g.clock(), someVNI); v.mtu != 1500 {
		t.Errorf("got %+v, want the MTU of after", v)
	}
	g.m.redirect(map[netip.Addr]underlay.Path{vtep(1): {State: underlay.PathUnfit}})
	if h := hop(g.k.dests[g.m.dests.byAddr[network(vtep(1))]].Hop); h.device() == 0 {
		t.Error("a packet that is under way finds no way where there is one for raw alone")
	}
}

func TestDevicesAreNamedAsLongAsPacketsMayUseThem(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1)...)
	g.settle()
	turn := func(n int) {
		p := goodPath(n, 1500)
		p.Index = 100 + n
		g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(1): p})
		g.m.turn()
	}
	turn(0)
	g.settle()
	turn(1)
	batch := <-g.m.dying // idle: the first
	turn(0)
	turn(2)
	g.m.release(batch)
	for i, d := range g.m.dests.known[1:] {
		if d == (device{}) && g.m.dests.dying[i+1] > 0 {
			t.Errorf("device %d is free while a packet may use it", i+1)
		}
	}
	g.settle()
	free := 0
	for _, d := range g.m.dests.known[1:] {
		if d == (device{}) {
			free++
		}
	}
	if want := len(g.m.dests.known) - 2; free != want {
		t.Errorf("got %d numbers of devices free, want %d", free, want)
	}
	for n := range 4 * maxDevices {
		turn(n + 10)
		g.settle()
	}
	wantFlooded(t, g, vteps(1)...)
}

func TestRoomForDestinationsRunsOut(t *testing.T) {
	g := newMirrorRigOf(t, fdb.Options{}, 256, newFakeKernel(4, 5)) // 4 VTEPs
	g.join(1, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	g.join(2, time.Hour, vteps(3, 4, 5, 6)...)
	g.settle()
	if got := g.flooded(2); got != nil || g.m.status().RawVNIs["no_room"] != 1 {
		t.Errorf("got %v and %+v, want a VNI that does not fit with raw", got, g.m.status())
	}
	g.leave(2, vteps(5, 6)...)
	g.settle()
	if got := g.flooded(2); !slices.Equal(got, vteps(3, 4)) {
		t.Errorf("got %v, want what fits now", got)
	}
	g.join(2, time.Hour, vteps(5)...)
	g.settle()
	g.leave(2, vteps(3, 4, 5)...)
	g.settle()
	g.pass(keepWay + time.Second)
	if len(g.paths.wanted) != 3 || len(g.m.dests.byAddr) != 3 {
		t.Errorf("got %v, want those of the other VNI", g.paths.wanted)
	}
	for id := range vxlan.VNI(6) {
		g.join(id+10, time.Hour, vteps(1)...)
	}
	g.settle()
	if s := g.m.status(); s.RawVNIs["no_room"] != 3 || s.KernelVNIs != 4 {
		t.Errorf("got %+v, want as many VNIs in the kernel as there are slots", s)
	}
}
