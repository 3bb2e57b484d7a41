// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// TestHammer lets everything that uses a table in the daemon use it at once. It
// is for the race detector; besides, the table must be sound at the end, and each
// snapshot on the way.
func TestHammer(t *testing.T) {
	defer goleak.VerifyNone(t)
	const rounds = 3000
	tab := fdb.New(fdb.Options{
		Limits:   fdb.Limits{VNIs: 8, Members: 40, Entries: 250, Learned: 60, Tombstones: 50},
		Learning: fdb.LearnAny, LearnHoldtime: 2 * time.Second,
	})
	var wg sync.WaitGroup
	run := func(seed uint64, f func(r *rand.Rand, now fdb.Time)) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 9))
			// Each has a clock of its own: a common one would order their steps and
			// hide races.
			for i := range rounds {
				f(r, fdb.Time(i)*sec/100)
			}
		})
	}
	vni := func(r *rand.Rand) vxlan.VNI { return vxlan.VNI(r.IntN(10)) }
	for i := range uint64(3) {
		run(i, func(r *rand.Rand, now fdb.Time) {
			ls := make([]fdb.Lookup, 8)
			for i := range ls {
				ls[i].VNI, ls[i].Source = vni(r), vtep(r.IntN(50))
			}
			tab.LookupBatch(now, ls)
			var learned []fdb.Learned
			for i := range ls {
				seen := map[netip.Addr]bool{}
				for j := range ls[i].Destinations {
					ls[i].Live(j, now)
					if a := ls[i].Destinations[j].Addr(); seen[a] || !a.Is4() || ls[i].Destinations[j].VNI != ls[i].VNI {
						t.Errorf("got destination %v of VNI %v in VNI %v", a, ls[i].Destinations[j].VNI, ls[i].VNI)
					} else {
						seen[a] = true
					}
				}
				if ls[i].Learn {
					learned = append(learned, fdb.Learned{VNI: ls[i].VNI, Addr: ls[i].Source})
				}
			}
			tab.Learn(now, learned)
		})
	}
	for i := range uint64(2) {
		run(10+i, func(r *rand.Rand, now fdb.Time) {
			us := make([]fdb.Update, 20)
			for i := range us {
				us[i] = fdb.Update{VNI: vni(r), Addr: vtep(r.IntN(50)), Identifier: uint64(r.IntN(40)), Source: fdb.Source(r.IntN(5)),
					Holdtime: pick(r, []time.Duration{0, time.Second, 5 * time.Second, fdb.Static}), Repair: r.IntN(4) == 0}
			}
			tab.Apply(now, us)
		})
	}
	run(20, func(_ *rand.Rand, now fdb.Time) { tab.Sweep(now) })
	run(21, func(r *rand.Rand, _ fdb.Time) {
		tab.Exclude(map[netip.Addr]fdb.Exclusion{vtep(r.IntN(50)): fdb.ExcludedDenied, vtep(r.IntN(50)): fdb.ExcludedOwn})
		tab.Excluded(vtep(1))
	})
	run(22, func(r *rand.Rand, now fdb.Time) {
		tab.Members(now, vni(r), nil)
		tab.Entries(now, vni(r), nil)
		tab.VNIs(nil)
		tab.Stats()
		tab.Collisions(nil)
	})
	run(23, func(r *rand.Rand, _ fdb.Time) {
		f := tab.Subscribe(30, fdb.KindAdded|fdb.KindRefreshed|fdb.KindRemoved)
		for range r.IntN(50) {
			runtime.Gosched()
			f.Take(nil)
		}
		ready(f)
		f.Close()
	})
	wg.Wait()
	if err := tab.Check(); err != nil {
		t.Error(err)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestChurnDoesNotLeak fills and empties a table again and again: what remains
// must not grow, and an empty table must not keep what a full one needed.
func TestChurnDoesNotLeak(t *testing.T) {
	o := benchOptions
	o.Tombstones = 100
	tab := fdb.New(o)
	now := fdb.Time(0)
	round := func() {
		// Much of it at once, then a part of it by turns: the second leaves VNIs with
		// a few members of many.
		fill(tab, now, 200, 200, 30*time.Second)
		for i := range 20_000 {
			tab.Learn(now, []fdb.Learned{{VNI: vxlan.VNI(1000 + i), Addr: vtep(i)}})
		}
		now = now.Add(10 * time.Second)
		fill(tab, now, 200, 3, time.Hour)
		for range 200 {
			now = now.Add(time.Second)
			tab.Sweep(now)
		}
		if err := tab.Check(); err != nil {
			t.Fatal(err)
		}
	}
	empty := heap()
	round()
	few := heap() - empty
	if per := few / 600; per > 1000 {
		t.Errorf("got %d bytes for each of the 600 entries that stay, want no more than 1000", per)
	}
	for range 5 {
		round()
	}
	if again := heap() - empty; again > few+few/4+100_000 {
		t.Errorf("got %d bytes after more rounds, want about %d", again, few)
	}
	now = now.Add(2 * time.Hour)
	tab.Sweep(now)
	if err := tab.Forgotten(); err != nil {
		t.Error(err)
	}
	if rest := heap() - empty; rest > 100_000 && rest < 1<<62 {
		t.Errorf("got %d bytes for an empty table, want next to nothing", rest)
	}
	runtime.KeepAlive(tab)
}

// Any number of workers refresh one learned member under the read lock; the
// latest packet counts, whichever worker is ahead.
func TestWorkersRefreshAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	tab := newTable()
	learnAll(tab, 0)
	const rounds = 2000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			ls := []fdb.Lookup{{VNI: 1, Source: v4a}}
			for i := range fdb.Time(rounds) {
				tab.LookupBatch(i, ls)
				ls[0].Live(0, i)
			}
		})
	}
	wg.Wait()
	want := fdb.Time(rounds - 1).Add(90 * time.Second)
	if got := tab.Entries(0, 1, nil); len(got) != 1 || got[0].Expires != want {
		t.Errorf("got %+v, want one that expires at %d", got, want)
	}
	if err := tab.Check(); err != nil {
		t.Error(err)
	}
}

// An entry costs less than 120 bytes, everything included.
func TestMemoryOfAnEntry(t *testing.T) {
	for _, sh := range []struct{ vnis, vteps int }{{100, 1000}, {1000, 100}} {
		before := heap()
		tab := fdb.New(benchOptions)
		fill(tab, 0, sh.vnis, sh.vteps, time.Minute)
		if got := int(heap()-before) / (sh.vnis * sh.vteps); got >= 120 {
			t.Errorf("%d VNIs of %d: got %d bytes for an entry, want less than 120", sh.vnis, sh.vteps, got)
		}
		runtime.KeepAlive(tab)
	}
}
