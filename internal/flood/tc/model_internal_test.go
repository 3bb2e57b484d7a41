// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

const (
	modelVNIs  = 4
	modelVTEPs = 12
	modelMost  = 7
)

// A modelRun does at random what can happen to a mirror, and compares what
// packets would find with what the table and the ways say, after each step as a
// whole and while it is done as far as that can be said.
type modelRun struct {
	*mirrorRig
	r        *rand.Rand
	o        fdb.Options
	settings mirrorSettings
	ways     map[netip.Addr]underlay.Path
	held     map[vxlan.VNI]bool
	excluded map[netip.Addr]fdb.Exclusion

	// bounds say what packets may find while a step is done.
	bounds atomic.Pointer[[modelVNIs]bound]
}

// A bound has the members that each packet of a VNI must find, and those that
// it may find.
type bound struct {
	must, may map[netip.Addr]bool
}

func modelVTEP(n int) netip.Addr {
	if n == modelVTEPs {
		return netip.MustParseAddr("2001:db8::9")
	}
	return vtep(n + 1)
}

func (x *modelRun) addr() netip.Addr {
	// The one of the other family is rare: raw has its VNIs.
	if x.r.IntN(60) == 0 {
		return modelVTEP(modelVTEPs)
	}
	return modelVTEP(x.r.IntN(modelVTEPs))
}

func (x *modelRun) vni() vxlan.VNI { return vxlan.VNI(x.r.IntN(modelVNIs)) }

func (x *modelRun) way() underlay.Path {
	switch n := x.r.IntN(20); {
	case n == 0:
		return underlay.Path{State: underlay.PathUnfit}
	case n == 1:
		return underlay.Path{State: underlay.PathUnreachable}
	case n == 2:
		return underlay.Path{}
	case n == 3:
		return underlay.Path{State: underlay.PathRefused}
	case n < 6:
		return underlay.Path{State: underlay.PathUnresolved, MTU: 1200 + 100*x.r.IntN(4)}
	}
	return goodPath(x.r.IntN(9), 1200+100*x.r.IntN(4))
}

func (x *modelRun) configure() {
	hold := []time.Duration{2 * time.Second, 5 * time.Second, 9 * time.Second, fdb.Static}
	x.o.Learning, x.o.LearnHoldtime = fdb.Learning(x.r.IntN(3)), hold[x.r.IntN(len(hold))]
	x.settings = mirrorSettings{most: 1 + x.r.IntN(2*modelMost), hold: x.o.LearnHoldtime, raw: x.r.IntN(8) == 0}
}

// step does something, and returns what.
func (x *modelRun) step() string {
	r, now := x.r, x.clock()
	switch n := r.IntN(32); {
	case n < 12:
		us := make([]fdb.Update, 1+r.IntN(5))
		holds := []time.Duration{0, 0, time.Second, 3 * time.Second, time.Minute, time.Minute, fdb.Static}
		for i := range us {
			us[i] = fdb.Update{
				VNI: x.vni(), Addr: x.addr(), Identifier: uint64(r.IntN(6)), Holdtime: holds[r.IntN(len(holds))],
				Source: []fdb.Source{fdb.Registration, fdb.Registration, fdb.Peer, fdb.Operator}[r.IntN(4)], Repair: r.IntN(8) == 0,
			}
		}
		x.tab.Apply(now, us)
		return fmt.Sprintf("apply %v", us)
	case n < 16:
		l := fdb.Learned{VNI: x.vni(), Addr: x.addr()}
		x.tab.Learn(now, []fdb.Learned{l})
		return fmt.Sprintf("learn %v", l)
	case n < 22:
		v, a := x.vni(), x.addr()
		up := !a.Is4() || r.IntN(4) == 0 || x.mirrorRig.r.send(now, v, a)
		if up {
			x.raw(now, v, a)
		}
		return fmt.Sprintf("packet %v %v, up %v", v, a, up)
	case n < 24:
		x.tab.Sweep(now)
		return "sweep"
	case n < 25:
		x.excluded = make(map[netip.Addr]fdb.Exclusion)
		for range r.IntN(3) {
			x.excluded[x.addr()] = fdb.ExcludedDenied
		}
		x.tab.Exclude(x.excluded)
		return fmt.Sprintf("exclude %v", x.excluded)
	case n < 26:
		x.configure()
		x.tab.Configure(now, x.o)
		x.m.configure(x.settings)
		return fmt.Sprintf("configure %+v %+v", x.o, x.settings)
	case n < 28:
		v := x.vni()
		x.held[v] = r.IntN(3) == 0
		x.m.hold(v, x.held[v])
		return fmt.Sprintf("hold %v %v", v, x.held[v])
	case n < 31:
		ways := make(map[netip.Addr]underlay.Path)
		for range 1 + r.IntN(4) {
			if a := modelVTEP(r.IntN(modelVTEPs)); x.paths.wanted[a] {
				ways[a] = x.way()
				x.ways[a] = ways[a]
			}
		}
		x.m.pathsChanged(ways)
		return fmt.Sprintf("ways %v", ways)
	}
	return "time"
}

// raw does with a packet what raw would.
func (x *modelRun) raw(now fdb.Time, v vxlan.VNI, a netip.Addr) {
	l := []fdb.Lookup{{VNI: v, Source: a}}
	x.tab.LookupBatch(now, l)
	if l[0].Learn {
		x.tab.Learn(now, []fdb.Learned{{VNI: v, Addr: a}})
	}
}

func sorted(as []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(as), netip.Addr.Compare)
}

func set(as []netip.Addr) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(as))
	for _, a := range as {
		out[a] = true
	}
	return out
}

// watch runs the program until done is closed, and holds what it finds against
// the bounds.
func (x *modelRun) watch(r *reader, done <-chan struct{}, failed *atomic.Pointer[string]) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		v := vxlan.VNI(n % modelVNIs)
		before := x.bounds.Load()
		got := r.list(x.clock(), v)
		if got.copies == nil || before == nil || x.bounds.Load() != before {
			continue
		}
		b := before[v]
		found := set(got.addrs())
		bad := len(found) != len(got.copies)
		for a := range found {
			bad = bad || !b.may[a]
		}
		for a := range b.must {
			bad = bad || !found[a]
		}
		if bad {
			s := fmt.Sprintf("vni %v: found %v, must have %v of %v", v, got.addrs(), b.must, b.may)
			failed.CompareAndSwap(nil, &s)
		}
	}
}

// bound says what packets may find from now on, where members are those of before,
// and may be some of those that have been here until a packet came.
func (x *modelRun) bound(before *[modelVNIs][]netip.Addr) {
	var bs [modelVNIs]bound
	for v := range bs {
		after := x.tab.Members(x.clock(), vxlan.VNI(v), nil)
		b := bound{must: set(after), may: set(after)}
		for a := range b.must {
			if !slices.Contains(before[v], a) {
				delete(b.must, a)
			}
		}
		for _, a := range before[v] {
			b.may[a] = true
		}
		bs[v] = b
	}
	x.bounds.Store(&bs)
}

func TestMirrorModel(t *testing.T) {
	seeds, steps := 6, 250
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		runMirrorModel(t, uint64(seed), steps)
	}
}

func runMirrorModel(t *testing.T, seed uint64, steps int) {
	t.Helper()
	x := &modelRun{
		r: rand.New(rand.NewPCG(seed, 7)), ways: make(map[netip.Addr]underlay.Path), held: make(map[vxlan.VNI]bool),
	}
	x.configure()
	x.settings.raw = false
	k := newFakeKernel(modelVNIs+2, modelVTEPs+20)
	x.mirrorRig = newMirrorRigOf(t, x.o, x.settings.most, k)
	x.m.configure(x.settings)
	x.path = func(a netip.Addr) underlay.Path {
		x.ways[a] = x.way()
		return x.ways[a]
	}

	var failed atomic.Pointer[string]
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		r := k.reader()
		wg.Go(func() { x.watch(r, done, &failed) })
	}
	defer func() {
		close(done)
		wg.Wait()
	}()
	var trace []string
	for range steps {
		var before [modelVNIs][]netip.Addr
		for v := range before {
			before[v] = x.mirrorRig.r.listOrMembers(x, vxlan.VNI(v))
		}
		x.bounds.Store(nil)
		what := x.step()
		trace = append(trace, what)
		if what == "time" {
			for range x.r.IntN(8) {
				x.now.Add(int64(x.m.tick()))
				x.settle()
			}
			x.bounds.Store(nil)
		} else {
			x.bound(&before)
		}
		x.settle()
		x.bounds.Store(nil)
		x.m.looked = 0 // what the program saw is taken in at once
		x.settle()
		if s := failed.Load(); s != nil {
			t.Fatalf("seed %d, %v: %s", seed, trace, *s)
		}
		late := x.r.IntN(2) == 0
		if !late {
			x.now.Add(int64(lateTime))
			x.settle()
		}
		err := x.compare(late)
		if errors.Is(err, errUnswept) {
			x.tab.Sweep(x.clock())
			x.settle()
			err = x.compare(late)
		}
		if err != nil {
			t.Fatalf("seed %d, %v: %v (%d)", seed, trace, err, seed)
		}
	}
	if n := x.m.status().Differences; n > 0 {
		t.Errorf("seed %d: got %d differences, want none", seed, n)
	}
	if got, want := len(x.m.dests.byAddr), len(x.paths.wanted); got != want {
		t.Errorf("seed %d: got %d destinations, %d are wanted", seed, got, want)
	}
	x.empty(seed)
}

// listOrMembers returns to whom packets are flooded, by the program or by raw.
func (r *reader) listOrMembers(x *modelRun, v vxlan.VNI) []netip.Addr {
	if l := r.list(x.clock(), v); l.copies != nil {
		return l.addrs()
	}
	return x.tab.Members(x.clock(), v, nil)
}

// empty takes everything away, and looks for what is left.
func (x *modelRun) empty(seed uint64) {
	x.tab.Exclude(nil)
	x.o.Learning = fdb.LearnOff
	x.o.LearnHoldtime = time.Second
	x.tab.Configure(x.clock(), x.o)
	x.settings.hold = time.Second
	x.m.configure(x.settings)
	var us []fdb.Update
	for v := range vxlan.VNI(modelVNIs) {
		for _, e := range x.tab.Entries(x.clock(), v, nil) {
			if e.Source != fdb.Data {
				us = append(us, fdb.Update{VNI: v, Addr: e.Addr, Identifier: e.Identifier, Source: e.Source})
			}
		}
	}
	x.tab.Apply(x.clock(), us)
	x.now.Add(int64(10 * time.Second))
	x.tab.Sweep(x.clock())
	x.settle()
	x.pass(keepWay + time.Second)
	m := x.m
	slabs := 0
	for i := range m.blocks.slabs {
		slabs += m.blocks.slabs[i].used
	}
	if len(m.list)+len(m.vnis)+len(m.dests.byAddr)+len(x.paths.wanted)+slabs+m.stats.Members > 0 || len(m.spare) != int(m.unused) {
		x.t.Errorf("seed %d: %d VNIs, %d destinations, %v wanted, %d blocks, %d of %d slots free are left",
			seed, len(m.list), len(m.dests.byAddr), x.paths.wanted, slabs, len(m.spare), m.unused)
	}
}
