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

const someVNI vxlan.VNI = 7

var learning = fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: learnHold}

func wantFlooded(t *testing.T, g *mirrorRig, want ...netip.Addr) {
	t.Helper()
	if got := g.flooded(someVNI); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func wantRaw(t *testing.T, g *mirrorRig, why string) {
	t.Helper()
	if got := g.flooded(someVNI); got != nil {
		t.Fatalf("got %v, want packets to go up", got)
	}
	if s := g.m.status(); s.RawVNIs[why] != 1 || s.KernelVNIs != 0 || s.Members != 0 {
		t.Fatalf("got %+v, want one VNI with raw: %s", s, why)
	}
}

func TestListsFollowTheTable(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, 90*time.Second, vteps(1, 2, 3)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 2, 3)...)
	g.join(someVNI, 90*time.Second, vteps(4)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 2, 3, 4)...)
	g.leave(someVNI, vteps(2)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 3, 4)...)
	g.leave(someVNI, vteps(1, 3)...)
	g.join(someVNI, 90*time.Second, vteps(5, 6, 7, 8, 9, 1)...)
	g.settle()
	wantFlooded(t, g, vteps(4, 5, 6, 7, 8, 9, 1)...)
	if s := g.m.status(); s.VNIs != 1 || s.KernelVNIs != 1 || s.Members != 7 || s.Segments != 1 || s.Bytes != 2<<20 {
		t.Errorf("got %+v, want one VNI of 7 members in a segment of 2 MiB", s)
	}
	g.leave(someVNI, vteps(4, 5, 6, 7, 8, 9, 1)...)
	g.settle()
	wantFlooded(t, g)
	if _, ok := g.k.vnis.Load(uint32(someVNI)); ok {
		t.Error("a VNI without members is still in the kernel")
	}
	g.pass(keepWay + time.Second)
	if len(g.paths.wanted) > 0 || g.m.status().VNIs != 0 {
		t.Errorf("got %v wanted and %+v, want nothing", g.paths.wanted, g.m.status())
	}
}

func TestReasonsForRaw(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name string
		do   func(g *mirrorRig)
		undo func(g *mirrorRig)
	}{
		{"too_many_members", func(g *mirrorRig) { g.join(someVNI, time.Hour, vteps(5)...) }, func(g *mirrorRig) { g.leave(someVNI, vteps(5)...) }},
		{"family",
			func(g *mirrorRig) {
				g.leave(someVNI, vteps(4)...)
				g.tab.Apply(g.clock(), []fdb.Update{{VNI: someVNI, Addr: six, Source: fdb.Operator, Holdtime: time.Hour}})
			},
			func(g *mirrorRig) {
				g.tab.Apply(g.clock(), []fdb.Update{{VNI: someVNI, Addr: six, Source: fdb.Operator}})
				g.join(someVNI, time.Hour, vteps(4)...)
			}},
		{"unfit",
			func(g *mirrorRig) {
				g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(2): {State: underlay.PathUnfit}})
			},
			func(g *mirrorRig) {
				g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(2): goodPath(1, 1500)})
			}},
		{"held", func(g *mirrorRig) { g.m.hold(someVNI, true) }, func(g *mirrorRig) { g.m.hold(someVNI, false) }},
		{"settings",
			func(g *mirrorRig) { g.m.configure(mirrorSettings{most: 4, hold: learnHold, raw: true}) },
			func(g *mirrorRig) { g.m.configure(mirrorSettings{most: 4, hold: learnHold}) }},
		{"pending",
			func(g *mirrorRig) {
				g.leave(someVNI, vteps(4)...)
				g.path = func(netip.Addr) underlay.Path { return underlay.Path{} }
				g.join(someVNI, time.Hour, vteps(9)...)
				g.settle()
				g.now.Add(int64(lateTime))
			},
			func(g *mirrorRig) {
				g.leave(someVNI, vteps(9)...)
				g.path = func(netip.Addr) underlay.Path { return goodPath(0, 1500) }
				g.join(someVNI, time.Hour, vteps(4)...)
			}},
		{"no_room",
			func(g *mirrorRig) {
				g.leave(someVNI, vteps(1, 2, 3, 4)...)
				g.settle()
				g.k.refuse.Store(true)
				g.join(someVNI, time.Hour, vteps(1, 2, 3, 4)...)
			},
			func(g *mirrorRig) {
				g.k.refuse.Store(false)
				g.now.Add(int64(compareEvery))
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newMirrorRig(t, learning, 4)
			g.join(someVNI, time.Hour, vteps(1, 2, 3, 4)...)
			g.settle()
			wantFlooded(t, g, vteps(1, 2, 3, 4)...)
			tt.do(g)
			g.settle()
			wantRaw(t, g, tt.name)
			tt.undo(g)
			g.settle()
			wantFlooded(t, g, vteps(1, 2, 3, 4)...)
			if s := g.m.status(); len(s.RawVNIs) != 0 || s.Members != 4 {
				t.Errorf("got %+v, want nothing with raw", s)
			}
		})
	}
}

func TestRawHasEverythingWhereTheLeaseIsOver(t *testing.T) {
	g := newMirrorRig(t, learning, 4)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	g.now.Add(int64(leaseFor))
	if v := g.r.list(g.clock(), someVNI); v.up != upStale {
		t.Errorf("got %v, want packets to go up as stale", v)
	}
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	g.m.close()
	if v := g.r.list(g.clock(), someVNI); v.up != upStale {
		t.Errorf("got %v after the end, want packets to go up as stale", v)
	}
}

func TestRefreshesThatShorten(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	g.join(someVNI, 5*time.Second, vteps(1)...)
	g.settle()
	if got, want := g.r.list(g.clock(), someVNI).copies[0].expires, g.clock().Add(5*time.Second); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	g.join(someVNI, fdb.Static, vteps(1)...)
	g.settle()
	if got := g.r.list(g.clock(), someVNI).copies[0].expires; got != fdb.Never {
		t.Errorf("got %d, want never", got)
	}
	g.now.Add(int64(time.Hour))
	g.m.renew()
	wantFlooded(t, g, vteps(1)...)
}

func TestExclusionsAreInTheLists(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	g.tab.Exclude(map[netip.Addr]fdb.Exclusion{vtep(2): fdb.ExcludedDenied})
	g.settle()
	wantFlooded(t, g, vteps(1, 3)...)
	g.tab.Exclude(nil)
	g.settle()
	wantFlooded(t, g, vteps(1, 3, 2)...)
}

func TestSettingsThatChange(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}})
	g.settle()
	o := learning
	o.LearnHoldtime = 3 * time.Second
	g.tab.Configure(g.clock(), o)
	g.m.configure(mirrorSettings{most: 256, hold: o.LearnHoldtime})
	g.settle()
	if got := g.k.settings.LearnHold; got != uint64(3*time.Second) {
		t.Errorf("got a holdtime of %d, want 3 s", got)
	}
	if got, most := g.r.list(g.clock(), someVNI).copies[0].expires, g.clock().Add(4*time.Second); got > most {
		t.Errorf("a member that was learned lives until %d, want %d at most", got, most)
	}
	o.LearnHoldtime = fdb.Static
	g.tab.Configure(g.clock(), o)
	g.m.configure(mirrorSettings{most: 256, hold: o.LearnHoldtime})
	g.settle()
	g.r.send(g.clock(), someVNI, vtep(1))
	g.pass(time.Second)
	if got := g.r.list(g.clock(), someVNI).copies[0].expires; got != fdb.Never {
		t.Errorf("a member that is learned for ever lives until %d", got)
	}
	if n := g.m.status().Differences; n != 0 {
		t.Errorf("got %d differences, want none", n)
	}
}

func TestComparisonsCountAndMend(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(g *mirrorRig, v *vni)
		want uint64
	}{
		{"nothing", func(*mirrorRig, *vni) {}, 0},
		{"expiries of registered members", func(g *mirrorRig, v *vni) { g.m.block(v.at, 2)[0].Expires++; g.m.block(v.at, 2)[1].Expires-- }, 2},
		{"a word", func(g *mirrorRig, v *vni) { g.k.slots[v.slot].Word = 0 }, 1},
		{"changes that were not taken in", func(g *mirrorRig, _ *vni) {
			g.leave(someVNI, vteps(1)...)
			g.join(someVNI, time.Hour, vteps(4, 5)...)
			g.m.feed.Take(nil)
		}, 3},
		{"a VNI that was not taken in", func(g *mirrorRig, _ *vni) {
			g.join(someVNI+1, time.Hour, vteps(1)...)
			g.m.feed.Take(nil)
		}, 1},
		{"changes that are to be taken in", func(g *mirrorRig, _ *vni) {
			g.leave(someVNI, vteps(1)...)
			g.join(someVNI, 2*time.Hour, vteps(2)...)
			g.join(someVNI, time.Hour, vteps(4)...)
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newMirrorRig(t, learning, 256)
			g.join(someVNI, 100*time.Hour, vteps(1, 2, 3)...)
			g.settle()
			tt.harm(g, g.m.vnis[someVNI])
			g.m.readAll(true)
			g.m.compare(g.clock())
			g.settle()
			if got := g.m.status().Differences; got != tt.want {
				t.Errorf("got %d differences, want %d", got, tt.want)
			}
			wantFlooded(t, g, g.tab.Members(g.clock(), someVNI, nil)...)
		})
	}
}

func TestChangesThatWereLost(t *testing.T) {
	g := newMirrorRig(t, fdb.Options{}, 256)
	g.join(someVNI, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	for range feedCapacity/2 + 1 {
		g.leave(someVNI+1, vteps(1)...)
		g.join(someVNI+1, time.Hour, vteps(1)...)
	}
	g.leave(someVNI, vteps(1)...)
	g.settle()
	wantFlooded(t, g, vteps(2, 3)...)
	if s := g.m.status(); s.Lost != 1 || s.Differences != 0 {
		t.Errorf("got %+v, want one loss and no difference", s)
	}
}

func TestAHoldIsInForceWhenItSaysSo(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	early := g.m.hold(someVNI, true)
	g.settle()
	<-early
	wantRaw(t, g, "held")
	done := g.m.hold(someVNI, false)
	g.settle()
	<-done
	wantFlooded(t, g, vteps(1, 2)...)
	done = g.m.hold(someVNI, true)
	g.m.turn()
	<-done
	wantRaw(t, g, "held")
	other := g.m.hold(someVNI+5, true)
	g.settle()
	<-other
	g.join(someVNI+5, time.Hour, vteps(1)...)
	g.settle()
	if got := g.flooded(someVNI + 5); got != nil {
		t.Errorf("got %v, want a VNI that is held before it has members to go up", got)
	}
}
