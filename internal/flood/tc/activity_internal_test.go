// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/fdb"
)

func TestActivityKeepsLearnedMembers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sweep bool
	}{{"told in time", false}, {"swept before", true}} {
		t.Run(tt.name, func(t *testing.T) {
			g := newMirrorRig(t, learning, 256)
			g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}, {VNI: someVNI, Addr: vtep(2)}})
			g.settle()
			wantFlooded(t, g, vteps(1, 2)...)
			g.pass(learnHold - time.Millisecond)
			if g.r.send(g.clock(), someVNI, vtep(1)) {
				t.Fatal("a packet of a known sender went up")
			}
			g.now.Add(int64(2 * time.Millisecond))
			if tt.sweep {
				g.tab.Sweep(g.clock())
			}
			g.settle()
			wantFlooded(t, g, vteps(1)...)
			if got := g.tab.Members(g.clock(), someVNI, nil); !slices.Equal(got, vteps(1)) {
				t.Fatalf("got members %v, want the one that sent", got)
			}
			g.pass(learnHold - 100*time.Millisecond)
			wantFlooded(t, g, vteps(1)...)
			g.pass(200 * time.Millisecond)
			wantFlooded(t, g)
			if s := g.sink.senders[vtep(1)]; s.packets != 1 || s.copies != 1 {
				t.Errorf("got %+v, want one packet and one copy", s)
			}
			if s := g.sink.slots[someVNI]; s.packets != 1 || s.copies != 1 {
				t.Errorf("got %+v, want one packet and one copy", s)
			}
		})
	}
}

// TestPacketsThatRawTookExtend has packets of a learned member go up. The table
// tells nobody that they extend its life.
func TestPacketsThatRawTookExtend(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}})
	g.settle()
	for range 20 {
		g.pass(learnHold / 2)
		g.tab.LookupBatch(g.clock(), []fdb.Lookup{{VNI: someVNI, Source: vtep(1)}})
		wantFlooded(t, g, vteps(1)...)
	}
}

func TestWhatWasWithdrawnIsNotLearnedFromOldPackets(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	g.r.send(g.clock(), someVNI, vtep(1))
	g.leave(someVNI, vtep(1))
	g.settle()
	wantFlooded(t, g, vteps(2)...)
	if got := g.tab.Members(g.clock(), someVNI, nil); !slices.Equal(got, vteps(2)) {
		t.Errorf("got members %v, want those that did not leave", got)
	}
}

// TestWhatWasSeenOfOldListsCounts has a packet that is under way find the list of
// before.
func TestWhatWasSeenOfOldListsCounts(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}, {VNI: someVNI, Addr: vtep(2)}})
	g.join(someVNI, time.Hour, vteps(3)...)
	g.settle()
	g.now.Add(int64(time.Second))
	changed := false
	g.r.delay = func() {
		if !changed {
			changed = true
			g.leave(someVNI, vteps(3)...)
			g.m.turn()
		}
	}
	g.k.noGrace.Store(true)
	if g.r.send(g.clock(), someVNI, vtep(1)) {
		t.Fatal("a packet of a known sender went up")
	}
	g.r.delay = func() {}
	g.settle()
	wantFlooded(t, g, vteps(1, 2)...)
	for _, c := range g.r.list(g.clock(), someVNI).copies {
		want := g.clock().Add(learnHold)
		if c.addr == vtep(2) {
			want = want.Add(-time.Second)
		}
		if c.expires != want {
			t.Errorf("%v expires at %d, want %d", c.addr, c.expires, want)
		}
	}
	if s := g.sink.senders[vtep(1)]; s.packets != 1 || s.copies != 2 {
		t.Errorf("got %+v, want what the old list counted", s)
	}
}

func TestKnownSenders(t *testing.T) {
	operator := func(hold time.Duration) func(g *mirrorRig) {
		return func(g *mirrorRig) {
			g.tab.Apply(g.clock(), []fdb.Update{{VNI: someVNI, Addr: vtep(1), Source: fdb.Operator, Holdtime: hold}})
		}
	}
	for _, tt := range []struct {
		name           string
		learning       fdb.Learning
		do             func(g *mirrorRig)
		known, learned bool
	}{
		{"registered", fdb.LearnAny, func(g *mirrorRig) { g.join(someVNI, time.Hour, vtep(1)) }, true, false},
		{"learned", fdb.LearnAny, func(g *mirrorRig) { g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}}) }, true, true},
		{"operator's", fdb.LearnAny, operator(time.Hour), false, false},
		{"operator's for ever", fdb.LearnAny, operator(fdb.Static), true, false},
		{"operator's without learning", fdb.LearnOff, operator(time.Hour), true, false},
		{"made static later", fdb.LearnAny, func(g *mirrorRig) {
			operator(time.Hour)(g)
			g.settle()
			operator(fdb.Static)(g)
		}, true, false},
		{"and the reverse", fdb.LearnAny, func(g *mirrorRig) {
			operator(fdb.Static)(g)
			g.settle()
			operator(time.Hour)(g)
		}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := learning
			o.Learning = tt.learning
			g := newMirrorRig(t, o, 256)
			tt.do(g)
			g.settle()
			c := g.r.list(g.clock(), someVNI).copies[0]
			if c.known != tt.known || c.learned != tt.learned {
				t.Errorf("got known %v, learned %v, want %v, %v", c.known, c.learned, tt.known, tt.learned)
			}
		})
	}
}

// TestWhatTheTableWasNotToldCounts has a packet come between the look at what
// the program saw and the store of an expiry.
func TestWhatTheTableWasNotToldCounts(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.tab.Learn(g.clock(), []fdb.Learned{{VNI: someVNI, Addr: vtep(1)}})
	g.settle()
	d, _ := g.tab.MirrorOne(g.clock(), someVNI, vtep(1))
	g.now.Add(int64(time.Second))
	g.r.send(g.clock(), someVNI, vtep(1))
	r := g.m.find(g.m.vnis[someVNI], network(vtep(1)))
	want := uint64(g.clock().Add(learnHold))
	if g.m.refresh(r, &d); r.Expires != want {
		t.Errorf("got %d, want %d", r.Expires, want)
	}
	var next programMember
	if g.m.carry(&next, r, &d); next.Expires != want {
		t.Errorf("got %d in the next list, want %d", next.Expires, want)
	}
}

// Members share what the program counts for their VNI alone, and nothing of it is
// lost.
func TestMembersShareWhatIsCountedForTheirVNI(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	count := func(bytes, copyBytes, drops uint64) {
		s := &g.k.slots[g.m.vnis[someVNI].slot]
		atomic.AddUint64(&s.Bytes, bytes)
		atomic.AddUint64(&s.CopyBytes, copyBytes)
		atomic.AddUint64(&s.Drops[slotUnresolved], drops)
	}
	send := func(from, packets int) {
		for range packets {
			g.r.send(g.clock(), someVNI, vtep(from))
		}
	}
	for _, tt := range []struct {
		name string
		do   func()
		want [2]sighting // what the first two have then
	}{
		{"one alone", func() { send(1, 2); count(201, 402, 3) },
			[2]sighting{{packets: 2, copies: 4, bytes: 201, copyBytes: 402, drops: 3}}},
		{"two at once", func() { send(1, 1); send(2, 3); count(401, 802, 0) },
			[2]sighting{{packets: 3, copies: 6, bytes: 301, copyBytes: 602, drops: 3}, {packets: 3, copies: 6, bytes: 301, copyBytes: 602}}},
		{"nobody", func() { count(50, 100, 1) },
			[2]sighting{{packets: 3, copies: 6, bytes: 301, copyBytes: 602, drops: 3}, {packets: 3, copies: 6, bytes: 301, copyBytes: 602}}},
		{"the rest, as its block goes", func() { send(2, 1); count(50, 100, 0); g.leave(someVNI, vteps(3)...) },
			[2]sighting{{packets: 3, copies: 6, bytes: 301, copyBytes: 602, drops: 3}, {packets: 4, copies: 8, bytes: 401, copyBytes: 802, drops: 1}}},
	} {
		tt.do()
		g.pass(time.Second)
		for i, want := range tt.want {
			got := g.sink.senders[vtep(i+1)]
			got.seen = 0
			if got != want {
				t.Errorf("%s: member %d: got %+v, want %+v", tt.name, i+1, got, want)
			}
		}
	}
}
