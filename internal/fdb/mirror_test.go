// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// TestMirrorAgreesWithLookups does at random what can be done to a table, and
// holds what Mirror tells against what else the table tells.
func TestMirrorAgreesWithLookups(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		tab, now := fdb.New(randomOptions(r)), fdb.Time(0)
		for step := range 200 {
			switch op := r.IntN(16); {
			case op < 7:
				tab.Apply(now, randomUpdates(r, 4))
			case op < 11:
				tab.Learn(now, randomLearned(r))
			case op < 13:
				now = now.Add(time.Duration(r.Int64N(int64(2 * time.Second))))
			case op < 14:
				tab.Sweep(now)
			case op < 15:
				tab.Exclude(randomExclusions(r))
			default:
				tab.Configure(now, randomOptions(r))
			}
			for vni := range vxlan.VNI(3) {
				if err := checkMirror(tab, now, vni); err != nil {
					t.Fatalf("seed %d, step %d, vni %v: %v", seed, step, vni, err)
				}
			}
		}
	}
}

func checkMirror(tab *fdb.Table, now fdb.Time, vni vxlan.VNI) error {
	keep := fdb.Mirrored{Expires: 1}
	got, all := tab.Mirror(now, vni, len(someAddrs), []fdb.Mirrored{keep})
	want := tab.Members(now, vni, nil)
	if !all || len(got) != len(want)+1 || got[0] != keep {
		return fmt.Errorf("got %v, all %v, want %v", got, all, want)
	}
	got = got[1:]
	for i, a := range want {
		d := got[i]
		if d.Addr() != a || d.VNI != vni {
			return fmt.Errorf("got %v at %d, want %v", d, i, a)
		}
		if one, ok := tab.MirrorOne(now, vni, a); !ok || one != d {
			return fmt.Errorf("got %v, %v alone, %v among others", one, ok, d)
		}
		var expires, learned fdb.Time
		for _, e := range tab.Entries(now, vni, nil) {
			if e.Addr == a {
				expires = max(expires, e.Expires)
				if e.Source == fdb.Data {
					learned = e.Expires
				}
			}
		}
		l := fdb.Lookup{VNI: vni, Source: a}
		tab.Peek(now, &l)
		if d.Expires != expires || d.Known == l.Learn {
			return fmt.Errorf("got %v, want expiry %d, to be learned %v", d, expires, l.Learn)
		}
		if d.Learned && learned == 0 {
			return fmt.Errorf("got %v, which is not learned", d)
		}
	}
	if n := len(want); n > 0 {
		if some, all := tab.Mirror(now, vni, n-1, nil); all || len(some) > 0 {
			return fmt.Errorf("got %v, all %v, with %d of %d wanted", some, all, n-1, n)
		}
	}
	for _, a := range someAddrs {
		one, ok := tab.MirrorOne(now, vni, a)
		listed := false
		for _, m := range want {
			listed = listed || m == a
		}
		if ok != listed {
			return fmt.Errorf("got %v, %v of %v, want %v", one, ok, a, listed)
		}
	}
	return nil
}

// TestPacketsExtendWhatMirrorCallsLearned has each kind of member send.
func TestPacketsExtendWhatMirrorCallsLearned(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	registered := fdb.Update{VNI: 1, Addr: a, Identifier: 5, Source: fdb.Registration, Holdtime: 5 * time.Second}
	operator := fdb.Update{VNI: 1, Addr: a, Source: fdb.Operator, Holdtime: 5 * time.Second}
	for _, tt := range []struct {
		name     string
		learning fdb.Learning
		update   *fdb.Update
		learn    bool
		want     bool
	}{
		{"learned", fdb.LearnAny, nil, true, true},
		{"learned and by an operator", fdb.LearnKnown, &operator, true, true},
		{"learned and registered", fdb.LearnAny, &registered, true, false},
		{"registered", fdb.LearnAny, &registered, false, false},
		{"learning is off", fdb.LearnOff, &operator, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Learning: tt.learning, LearnHoldtime: 90 * time.Second})
			if tt.update != nil && tt.update.Identifier == 0 {
				tab.Apply(0, []fdb.Update{*tt.update})
			}
			if tt.learn {
				tab.Learn(0, []fdb.Learned{{VNI: 1, Addr: a}})
			}
			if tt.update != nil && tt.update.Identifier != 0 {
				tab.Apply(0, []fdb.Update{*tt.update})
			}
			now := fdb.Time(time.Second)
			before, _ := tab.MirrorOne(now, 1, a)
			tab.LookupBatch(now, []fdb.Lookup{{VNI: 1, Source: a}})
			after, _ := tab.MirrorOne(now, 1, a)
			if extended := after.Expires != before.Expires; before.Learned != tt.want || extended != tt.want {
				t.Errorf("got learned %v, extended %v, want %v", before.Learned, extended, tt.want)
			}
		})
	}
}

// TestMirrorOfALongListThatChanges reads a list in slices while it changes.
func TestMirrorOfALongListThatChanges(t *testing.T) {
	const vteps = 3000
	tab := fdb.New(fdb.Options{})
	for i := range vteps {
		tab.Apply(0, []fdb.Update{{VNI: 1, Addr: vtep(i), Source: fdb.Operator, Holdtime: fdb.Static}})
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			hold := fdb.Static
			if i%2 == 0 {
				hold = 0
			}
			// The first half stays, the others leave and come back.
			tab.Apply(0, []fdb.Update{{VNI: 1, Addr: vtep(vteps/2 + i/2%(vteps/2)), Source: fdb.Operator, Holdtime: hold}})
		}
	})
	var buf []fdb.Mirrored
	for range 200 {
		var all bool
		buf, all = tab.Mirror(0, 1, 2*vteps, buf[:0])
		seen := make(map[netip.Addr]bool, len(buf))
		for i := range buf {
			seen[buf[i].Addr()] = true
		}
		if !all || len(seen) != len(buf) || len(buf) < vteps-1 || len(buf) > vteps {
			t.Fatalf("got %d destinations, %d of them distinct, want %d or one less", len(buf), len(seen), vteps)
		}
		for i := range vteps / 2 {
			if !seen[vtep(i)] {
				t.Fatalf("%v is missing", vtep(i))
			}
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkMirror(b *testing.B) {
	for _, n := range []int{16, 64, 256, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tab := filled(b, 1_000_000/n, n, 90*time.Second)
			var buf []fdb.Mirrored
			i := 0
			for b.Loop() {
				i = (i + 7919) % (1_000_000 / n)
				buf, _ = tab.Mirror(1, vxlan.VNI(i), 4095, buf[:0])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
		})
	}
}
