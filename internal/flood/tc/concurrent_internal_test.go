// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// TestAPacketFindsTheListOfBeforeOrOfAfter changes a list while packets come.
func TestAPacketFindsTheListOfBeforeOrOfAfter(t *testing.T) {
	const most = 40
	g := newMirrorRig(t, fdb.Options{}, 256)
	all := make([]netip.Addr, most)
	for i := range all {
		all[i] = vtep(i + 1)
	}
	g.join(someVNI+1, fdb.Static, all...) // so that all ways are known
	g.join(someVNI, fdb.Static, all[:5]...)
	g.settle()
	type pair struct{ before, after []netip.Addr }
	var now atomic.Pointer[pair]
	now.Store(&pair{g.flooded(someVNI), g.flooded(someVNI)})
	var failed atomic.Pointer[string]
	var packets atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		r := g.k.reader()
		if i == 0 {
			r.delay = runtime.Gosched
		}
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				p := now.Load()
				v := r.list(g.clock(), someVNI)
				packets.Add(1)
				got := v.addrs()
				if slices.Equal(got, p.before) || slices.Equal(got, p.after) || now.Load() != p {
					continue
				}
				s := fmt.Sprintf("got %v (up: %v), want %v or %v", got, v.copies == nil, p.before, p.after)
				failed.CompareAndSwap(nil, &s)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for step := 0; step < 400 || packets.Load() < 20_000 && step < 100_000; step++ {
		before := g.flooded(someVNI)
		for range 1 + r.IntN(3) {
			if a := all[1+r.IntN(most-1)]; slices.Contains(g.tab.Members(g.clock(), someVNI, nil), a) {
				g.leave(someVNI, a)
			} else {
				g.join(someVNI, fdb.Static, a)
			}
		}
		now.Store(&pair{before, g.tab.Members(g.clock(), someVNI, nil)})
		if step%8 == 0 { // all of it is read again, which no packet may see
			g.m.configure(mirrorSettings{most: 200 + r.IntN(50)})
		}
		g.settle()
		if s := failed.Load(); s != nil {
			t.Fatalf("step %d: %s", step, *s)
		}
		if got, want := g.flooded(someVNI), now.Load().after; !slices.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", step, got, want)
		}
	}
	close(done)
	wg.Wait()
}

// TestNoPacketFindsATightWayWithALargeMTU has a way change to and fro while
// packets come: none that finds the new one may be larger than it takes.
func TestNoPacketFindsATightWayWithALargeMTU(t *testing.T) {
	g := newMirrorRig(t, fdb.Options{}, 256)
	// Others come first, so that there is time between two stores.
	for i := range vxlan.VNI(40) {
		for n := range 100 {
			g.join(100+i, fdb.Static, vtep(n+2))
		}
	}
	g.settle()
	g.join(someVNI, fdb.Static, vteps(1, 2)...)
	g.settle()
	wide, tight := goodPath(1, 1500), goodPath(2, 1400)
	r := g.k.reader()
	slot := &g.k.slots[g.m.vnis[someVNI].slot]
	var bad atomic.Int64
	var looks atomic.Int64
	for range 200 {
		g.m.redirect(map[netip.Addr]underlay.Path{vtep(1): wide})
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				word := atomic.LoadUint64(&slot.Word)
				v := r.list(g.clock(), someVNI)
				looks.Add(1)
				if atomic.LoadUint64(&slot.Word) == word && v.copies[0].mac == tight.NextHop && v.mtu > tight.MTU {
					bad.Add(1)
				}
			}
		})
		for before := looks.Load(); looks.Load() < before+20; {
			runtime.Gosched()
		}
		g.m.redirect(map[netip.Addr]underlay.Path{vtep(1): tight})
		close(done)
		wg.Wait()
		if v := r.list(g.clock(), someVNI); v.mtu != tight.MTU || v.copies[0].mac != tight.NextHop {
			t.Fatalf("got %+v, want the new way", v)
		}
	}
	if n := bad.Load(); n > 0 {
		t.Errorf("%d packets found a way with the MTU of another", n)
	}
}

// A runner is a mirror that runs, on a clock of the machine.
type runner struct {
	tab   *fdb.Table
	k     *fakeKernel
	m     *mirror
	began time.Time
}

func (x *runner) clock() fdb.Time { return fdb.Time(time.Hour + time.Since(x.began)) }

// A livingPaths tells of each way soon after it is wanted.
type livingPaths struct {
	tell func(map[netip.Addr]underlay.Path)
}

func (p *livingPaths) Want(add, _ []netip.Addr) {
	ways := make(map[netip.Addr]underlay.Path, len(add))
	for _, a := range add {
		ways[a] = goodPath(0, 1500)
	}
	if len(ways) > 0 {
		p.tell(ways)
	}
}

// startMirror runs a mirror until the end of the test.
func startMirror(t testing.TB, o fdb.Options, most, vnis, dests int) *runner {
	x := &runner{tab: fdb.New(o), k: newFakeKernel(vnis, dests), began: time.Now()}
	paths := &livingPaths{}
	x.m = newMirror(mirrorOptions{
		table: x.tab, maps: x.k.mirrored(), paths: paths, clock: x.clock, sink: &countingSink{},
		settings: mirrorSettings{most: most, hold: o.LearnHoldtime},
	})
	paths.tell = x.m.pathsChanged
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.m.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if lease := atomic.LoadUint64(&x.k.settings.Lease); lease != 0 {
			t.Errorf("the maps hold until %d after the end", lease)
		}
	})
	return x
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not in two minutes: %s", what)
		}
	}
}

// TestMirrorUnderLoad has several change the table, ways and holds while the
// mirror runs and packets come.
func TestMirrorUnderLoad(t *testing.T) {
	defer goleak.VerifyNone(t)
	const vnis, vteps, core = 8, 30, 3
	o := fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: 500 * time.Millisecond}
	ready := t.Run("run", func(t *testing.T) {
		x := startMirror(t, o, 256, vnis+4, vteps+8)
		for v := range vxlan.VNI(vnis) {
			for i := range core {
				x.tab.Apply(x.clock(), []fdb.Update{{VNI: v, Addr: vtep(i), Source: fdb.Configuration, Holdtime: fdb.Static}})
			}
		}
		done := make(chan struct{})
		var wg sync.WaitGroup
		repeat := func(seed uint64, f func(r *rand.Rand)) {
			r := rand.New(rand.NewPCG(seed, 3))
			wg.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						f(r)
						runtime.Gosched()
					}
				}
			})
		}
		some := func(r *rand.Rand) (vxlan.VNI, netip.Addr) {
			return vxlan.VNI(r.IntN(vnis)), vtep(core + r.IntN(vteps-core))
		}
		repeat(1, func(r *rand.Rand) {
			v, a := some(r)
			holds := []time.Duration{0, 0, 50 * time.Millisecond, time.Second, fdb.Static}
			x.tab.Apply(x.clock(), []fdb.Update{{VNI: v, Addr: a, Identifier: uint64(1 + r.IntN(40)), Source: fdb.Registration, Holdtime: holds[r.IntN(len(holds))]}})
			if r.IntN(50) == 0 {
				x.tab.Sweep(x.clock())
			}
		})
		repeat(2, func(r *rand.Rand) {
			_, a := some(r)
			p := goodPath(r.IntN(9), 1200+100*r.IntN(4))
			if r.IntN(3) == 0 {
				p = underlay.Path{State: underlay.PathUnresolved, MTU: 1500}
			}
			x.m.pathsChanged(map[netip.Addr]underlay.Path{a: p})
			v := vxlan.VNI(r.IntN(vnis))
			if r.IntN(20) == 0 {
				<-x.m.hold(v, true)
				<-x.m.hold(v, false)
			}
		})
		var found [2]atomic.Int64
		for i := range found {
			reader := x.k.reader()
			reader.delay = runtime.Gosched
			repeat(uint64(10+i), func(r *rand.Rand) {
				v, a := some(r)
				if r.IntN(2) == 0 {
					if reader.send(x.clock(), v, a) {
						x.tab.Learn(x.clock(), []fdb.Learned{{VNI: v, Addr: a}})
					}
					return
				}
				got := reader.list(x.clock(), v)
				if got.copies == nil {
					return
				}
				found[i].Add(1)
				seen := set(got.addrs())
				if len(seen) != len(got.copies) {
					t.Errorf("twice in %v", got.addrs())
				}
				for c := range core {
					if !seen[vtep(c)] {
						t.Errorf("%v is not in %v", vtep(c), got.addrs())
					}
				}
			})
		}
		until(t, "packets and changes", func() bool {
			return t.Failed() || found[0].Load() > 700 && found[1].Load() > 700 && x.tab.Stats().Withdrawn > 200
		})
		close(done)
		wg.Wait()
		last := x.k.reader()
		until(t, "lists like the table's", func() bool {
			for v := range vxlan.VNI(vnis) {
				got := last.list(x.clock(), v)
				if !slices.Equal(sorted(got.addrs()), sorted(x.tab.Members(x.clock(), v, nil))) {
					x.tab.Sweep(x.clock())
					return false
				}
			}
			return true
		})
		if n := x.m.status().Differences; n > 0 {
			t.Errorf("got %d differences, want none", n)
		}
	})
	if !ready {
		t.Error("the mirror failed")
	}
}

// TestAFailedGracePeriodEndsTheMirror has nothing be used again that a packet may
// still look at.
func TestAFailedGracePeriodEndsTheMirror(t *testing.T) {
	defer goleak.VerifyNone(t)
	tab, k := fdb.New(fdb.Options{}), newFakeKernel(4, 8)
	maps := k.mirrored()
	want := fmt.Errorf("no grace")
	maps.grace = func() error { return want }
	m := newMirror(mirrorOptions{
		table: tab, maps: maps, paths: newFakePaths(t), clock: func() fdb.Time { return 1 }, sink: &countingSink{},
		settings: mirrorSettings{most: 4},
	})
	ended := make(chan error, 1)
	go func() { ended <- m.run(t.Context()) }()
	us := []fdb.Update{{VNI: 1, Addr: vtep(1), Source: fdb.Operator, Holdtime: time.Hour}}
	tab.Apply(1, us)
	until(t, "a VNI that is known", func() bool { return m.status().VNIs == 1 })
	us[0].Holdtime = 0
	tab.Apply(1, us)
	if got := <-ended; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if lease := atomic.LoadUint64(&k.settings.Lease); lease != 0 {
		t.Errorf("the maps hold until %d after the end", lease)
	}
}
