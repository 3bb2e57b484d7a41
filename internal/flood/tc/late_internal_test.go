// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/underlay"
)

// lateRig is a mirror with two members in the kernel, and others whose way is not
// told before the test does.
func lateRig(t *testing.T) *mirrorRig {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	g.path = func(netip.Addr) underlay.Path { return underlay.Path{} }
	return g
}

func (g *mirrorRig) told(p underlay.Path, who ...int) {
	ways := make(map[netip.Addr]underlay.Path)
	for _, n := range who {
		ways[vtep(n)] = p
	}
	g.m.pathsChanged(ways)
	g.settle()
}

func TestMembersJoinWhenTheirWayIsKnown(t *testing.T) {
	g := lateRig(t)
	g.join(someVNI, time.Hour, vteps(3, 4)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	if n := g.m.status().Pending; n != 2 {
		t.Errorf("got %d pending, want two", n)
	}
	g.told(goodPath(0, 1500), 4)
	wantFlooded(t, g, vteps(1, 2, 4)...)
	g.told(underlay.Path{State: underlay.PathUnresolved, MTU: 1500}, 3)
	wantFlooded(t, g, vteps(1, 2, 3, 4)...)
	if s := g.m.status(); s.Pending != 0 || s.Differences != 0 {
		t.Errorf("got %+v, want nothing pending", s)
	}
}

func TestMembersWithoutAWayForLongGoToRaw(t *testing.T) {
	g := lateRig(t)
	g.join(someVNI, time.Hour, vteps(3)...)
	g.settle()
	if at, want := g.m.awake(), g.clock().Add(lateTime); at != want {
		t.Errorf("the mirror is to be awake at %d, want %d", at, want)
	}
	g.now.Add(int64(lateTime - time.Millisecond))
	g.m.readAll(true)
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	// Others do not wait for one that was waited for.
	g.join(someVNI, time.Hour, vteps(4)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	g.now.Add(int64(time.Millisecond))
	g.settle()
	wantRaw(t, g, "pending")
	g.told(goodPath(0, 1500), 3)
	wantRaw(t, g, "pending")
	g.told(goodPath(0, 1500), 4)
	wantFlooded(t, g, vteps(1, 2, 3, 4)...)
	if n := g.m.status().Differences; n != 0 {
		t.Errorf("got %d differences, want none", n)
	}
}

// A list that raw has anyway is not kept from anybody, and one whose member has
// become pending goes to raw at once.
func TestRawHasMembersWithoutAWayAtOnce(t *testing.T) {
	g := lateRig(t)
	g.join(someVNI+1, time.Hour, vteps(1, 5)...)
	g.settle()
	if got := g.flooded(someVNI + 1); got != nil {
		t.Errorf("got %v, want a new VNI with raw", got)
	}
	g.told(underlay.Path{}, 2)
	g.leave(someVNI+1, vteps(1, 5)...)
	g.settle()
	wantRaw(t, g, "pending")
	g.join(someVNI, time.Hour, vteps(3)...)
	g.told(goodPath(0, 1500), 2)
	wantRaw(t, g, "pending")
}

func TestLateMembersThatLeave(t *testing.T) {
	g := lateRig(t)
	g.join(someVNI, time.Hour, vteps(3)...)
	g.settle()
	g.leave(someVNI, vteps(3, 1)...)
	g.settle()
	wantFlooded(t, g, vteps(2)...)
	g.join(someVNI, time.Hour, vteps(4)...)
	g.settle()
	g.leave(someVNI, vteps(2)...) // all that the kernel has
	g.settle()
	wantRaw(t, g, "pending")
	g.leave(someVNI, vteps(4)...)
	g.pass(keepWay + time.Second)
	if len(g.m.dests.byAddr)+len(g.paths.wanted)+g.m.dests.pending > 0 {
		t.Errorf("got %v, wanted %v, want nothing left", g.m.dests.byAddr, g.paths.wanted)
	}
}

func TestWaysAreKeptForAMoment(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	g.leave(someVNI, vteps(1, 2)...)
	g.pass(keepWay / 2)
	if len(g.paths.wanted) != 2 {
		t.Errorf("got %v, want ways of VTEPs that have just left", g.paths.wanted)
	}
	g.path = func(netip.Addr) underlay.Path { return underlay.Path{} } // none is asked for again
	g.join(someVNI, time.Hour, vteps(1)...)
	g.settle()
	wantFlooded(t, g, vteps(1)...)
	g.pass(keepWay)
	wantFlooded(t, g, vteps(1)...)
	if len(g.paths.wanted) != 1 || g.m.dests.kept != 0 {
		t.Errorf("got %v, %d kept, want the way of the member", g.paths.wanted, g.m.dests.kept)
	}
	// One that is no good is not kept.
	g.leave(someVNI, vteps(1)...)
	g.settle()
	g.told(underlay.Path{State: underlay.PathUnresolved}, 1)
	g.pass(2 * time.Second)
	if len(g.paths.wanted) != 0 {
		t.Errorf("got %v, want nothing", g.paths.wanted)
	}
}

func TestKeptWaysMakeRoom(t *testing.T) {
	g := newMirrorRigOf(t, learning, 4095, newFakeKernel(4, keptWays+200))
	for n := range keptWays + 100 {
		g.join(someVNI, time.Hour, vtep(n+1))
	}
	g.settle()
	g.join(someVNI+1, time.Hour, vtep(5000))
	for n := range keptWays + 100 {
		g.leave(someVNI, vtep(n+1))
	}
	g.settle()
	if n := len(g.paths.wanted); n != keptWays+1 {
		t.Errorf("got %d ways, want %d", n, keptWays+1)
	}
	for n := range keptWays + 100 {
		g.join(someVNI, time.Hour, vtep(n+2000))
	}
	g.settle()
	if got := len(g.flooded(someVNI)); got != keptWays+100 {
		t.Errorf("got %d members, want %d", got, keptWays+100)
	}
}
