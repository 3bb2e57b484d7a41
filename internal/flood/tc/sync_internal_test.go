// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/underlay"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSyncTakesEverythingIn(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	if n := g.m.status().Pending; n == 0 {
		t.Error("got nothing pending before the first turn")
	}
	g.join(someVNI, time.Hour, vteps(1, 2, 3)...)
	g.settle()
	if n := g.m.status().Pending; n != 0 {
		t.Errorf("got %d pending, want nothing", n)
	}
	if g.r.send(g.clock(), someVNI, vtep(1)) {
		t.Fatal("a packet of a known sender went up")
	}
	g.leave(someVNI, vtep(3))
	c := g.m.sync()
	if g.m.turn(); !closed(c) {
		t.Fatal("a sync that goes on after a turn with little to do")
	}
	wantFlooded(t, g, vteps(1, 2)...)
	if s := g.sink.slots[someVNI]; s.packets != 1 || g.sink.senders[vtep(1)].packets != 1 {
		t.Errorf("got %+v, %+v, want the packet of before", s, g.sink.senders)
	}

	// Those who ask soon after share the next.
	c = g.m.sync()
	if g.m.turn(); closed(c) {
		t.Error("a sync at once after another")
	}
	if g.m.awake() != g.m.synced {
		t.Errorf("the mirror is to be awake at %d, want %d", g.m.awake(), g.m.synced)
	}
	if g.m.sync() != c {
		t.Error("two who wait at the same time do not share a sync")
	}
	g.now.Add(int64(syncRest))
	if g.m.turn(); !closed(c) {
		t.Error("a sync that goes on after a pause")
	}

	// A VNI that goes takes nothing along.
	g.r.send(g.clock(), someVNI, vtep(1))
	g.leave(someVNI, vteps(1, 2)...)
	g.now.Add(int64(syncRest))
	c = g.m.sync()
	if g.m.turn(); !closed(c) || g.sink.slots[someVNI].packets != 2 {
		t.Errorf("got %+v, want both packets", g.sink.slots)
	}
}

func TestSyncAwaitsTheWholeTable(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.settle()
	g.now.Add(int64(syncRest))
	for range feedCapacity + 1 { // more than the feed holds
		g.join(someVNI+1, time.Hour, vteps(1)...)
	}
	g.m.work = 0
	g.m.drain()
	c := g.m.sync()
	g.m.requests()
	if g.m.endSync() != nil || closed(c) {
		t.Error("a sync that ends before the table is read")
	}
	g.settle()
	if !closed(c) {
		t.Error("a sync that goes on after the table was read")
	}
}

func TestPendingCountsWays(t *testing.T) {
	g := newMirrorRig(t, learning, 256)
	way := underlay.Path{}
	g.path = func(netip.Addr) underlay.Path { return way }
	pending := func(want int) {
		t.Helper()
		g.settle()
		if got := g.m.status().Pending; got != want {
			t.Errorf("got %d pending, want %d", got, want)
		}
	}
	g.join(someVNI, time.Hour, vteps(1, 2)...)
	g.join(someVNI+1, time.Hour, vteps(2, 3)...)
	pending(3)
	g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(2): goodPath(0, 1500)})
	pending(2)
	g.leave(someVNI+1, vteps(2, 3)...)
	pending(1)
	g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(1): {State: underlay.PathUnreachable}})
	pending(0)
	g.m.pathsChanged(map[netip.Addr]underlay.Path{vtep(1): {}})
	pending(1)
	g.leave(someVNI, vteps(1)...)
	pending(0)
}

// TestSyncOfAnEngine has many ask at once for what has just happened.
func TestSyncOfAnEngine(t *testing.T) {
	p := newPlant(t)
	ctx := context.Background()
	check(t, p.Sync(ctx))
	p.start()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				if err := p.Sync(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for n := range 5 {
		p.flood()
		check(t, p.Sync(ctx))
		if got := p.Counters().Packets; got != uint64(n+1) {
			t.Errorf("got %d packets, want %d", got, n+1)
		}
	}
	for n := range 5 {
		p.member(plantVNI+1, p.addrs[1+n%3])
		check(t, p.Sync(ctx))
		if s := p.Status(); s.VNIs+s.RawVNIs["pending"] != 2 {
			t.Errorf("got %+v, want two VNIs", s)
		}
	}
	if s := p.Status(); s.Pending != 0 {
		t.Errorf("got %+v, want nothing on its way", s)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Sync(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	p.stop()
	check(t, p.Sync(ctx))
}
