// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

var stranger = netip.MustParseAddr("198.51.100.77")

func lookup(tab *fdb.Table, now fdb.Time, vni vxlan.VNI, src netip.Addr) fdb.Lookup {
	ls := []fdb.Lookup{{VNI: vni, Source: src}}
	tab.LookupBatch(now, ls)
	return ls[0]
}

func addrs(s *fdb.Snapshot) []netip.Addr {
	var out []netip.Addr
	for i := range s.Destinations {
		out = append(out, s.Destinations[i].Addr())
	}
	return out
}

func TestDestination(t *testing.T) {
	tab := newTable()
	tab.Apply(0, []fdb.Update{reg(v4a, 1, time.Minute), reg(v6a, 1, time.Minute)})
	l := lookup(tab, 0, 1, stranger)
	if len(l.Destinations) != 2 {
		t.Fatalf("got %v, want two destinations", l.Destinations)
	}
	d4, d6 := &l.Destinations[0], &l.Destinations[1]
	if !d4.Is4() || d4.Addr() != v4a || d4.As4() != v4a.As4() || d4.VNI != 1 || d4.Port != 0 || d4.Flags != 0 {
		t.Errorf("got %+v, want %v", d4, v4a)
	}
	if d6.Is4() || d6.Addr() != v6a || d6.As16() != v6a.As16() {
		t.Errorf("got %+v, want %v", d6, v6a)
	}
	if l.Live(2, 0) || l.Live(-1, 0) {
		t.Errorf("got a live destination beyond the list")
	}
	if l = lookup(tab, 0, 2, stranger); len(l.Destinations) != 0 || l.Live(0, 0) {
		t.Errorf("got %v for a VNI without members", l.Destinations)
	}
}

// The order is that of joining; refreshing and another member's leaving do not
// change it.
func TestOrderIsStable(t *testing.T) {
	tab := newTable()
	var want []netip.Addr
	for i := range 50 {
		want = append(want, vtep(i))
		tab.Apply(0, []fdb.Update{reg(vtep(i), uint64(i+1), time.Minute)})
	}
	for i := range 50 {
		tab.Apply(1, []fdb.Update{reg(vtep(49-i), uint64(50-i), 2*time.Minute), from(fdb.Peer, reg(vtep(i), 0, time.Hour))})
	}
	tab.Apply(1, []fdb.Update{reg(vtep(10), 11, 0), from(fdb.Peer, reg(vtep(10), 0, 0)), reg(vtep(10), 11, time.Minute)})
	want = append(slices.Delete(want, 10, 11), vtep(10))
	l := lookup(tab, 1, 1, stranger)
	if got := addrs(&l.Snapshot); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A refresh must not cost what an addition may: the list stays the same one.
func TestRefreshKeepsTheList(t *testing.T) {
	tab := newTable()
	tab.Apply(0, []fdb.Update{reg(v4a, 1, time.Minute), reg(v4b, 2, time.Minute)})
	before := lookup(tab, 0, 1, stranger)
	tab.Apply(sec, []fdb.Update{reg(v4a, 1, time.Hour)})
	after := lookup(tab, sec, 1, stranger)
	if &before.Destinations[0] != &after.Destinations[0] {
		t.Errorf("the list was built anew")
	}
	if !before.Live(0, 120*sec) || before.Live(1, 120*sec) {
		t.Errorf("got live %v, %v by the earlier snapshot, want true, false", before.Live(0, 120*sec), before.Live(1, 120*sec))
	}
}

// What a lookup returned stays as it was, whatever happens to the table.
func TestSnapshotsStay(t *testing.T) {
	type kept struct {
		fdb.Snapshot
		want []netip.Addr
	}
	r := rand.New(rand.NewPCG(3, 3))
	tab := newTable()
	var all []kept
	now := fdb.Time(0)
	for range 3000 {
		now += fdb.Time(r.Int64N(int64(sec)))
		switch r.IntN(8) {
		case 0:
			tab.Sweep(now)
		case 1:
			tab.Exclude(randomExclusions(r))
		default:
			var us []fdb.Update
			for range 1 + r.IntN(20) {
				i := r.IntN(200)
				us = append(us, reg(vtep(i), uint64(i+1), pick(r, []time.Duration{0, time.Second, time.Minute, fdb.Static})))
			}
			tab.Apply(now, us)
		}
		l := lookup(tab, now, 1, stranger)
		all = append(all, kept{l.Snapshot, addrs(&l.Snapshot)})
	}
	for i := range all {
		if got := addrs(&all[i].Snapshot); !slices.Equal(got, all[i].want) {
			t.Fatalf("snapshot %d: got %v, want %v", i, got, all[i].want)
		}
	}
}

func TestAllLive(t *testing.T) {
	tab := newTable()
	tab.Apply(0, []fdb.Update{reg(v4a, 1, 10*time.Second), reg(v4b, 2, 20*time.Second)})
	l := lookup(tab, 0, 1, stranger)
	if !l.AllLive(10*sec-1) || l.AllLive(10*sec) {
		t.Errorf("got %v, %v, want AllLive up to the first expiry", l.AllLive(10*sec-1), l.AllLive(10*sec))
	}
	tab.Apply(sec, []fdb.Update{reg(v4a, 1, 29*time.Second)})
	tab.Sweep(10 * sec)
	if l = lookup(tab, 10*sec, 1, stranger); !l.AllLive(20*sec-1) || l.AllLive(20*sec) {
		t.Errorf("got %v, %v, want the bound renewed by the sweep", l.AllLive(20*sec-1), l.AllLive(20*sec))
	}
}

func TestSweep(t *testing.T) {
	tab := newTable()
	tab.Apply(0, []fdb.Update{reg(v4a, 1, 10*time.Second), from(fdb.Peer, reg(v4b, 2, 20*time.Second)), from(fdb.Operator, reg(v4c, 0, fdb.Static))})
	tab.Learn(0, []fdb.Learned{{VNI: 2, Addr: v4a}})
	for _, tt := range []struct {
		at   fdb.Time
		want fdb.Swept
	}{
		{sec, fdb.Swept{Next: 10 * sec}},
		{10 * sec, fdb.Swept{Expired: [fdb.NumSources]int{fdb.Registration: 1}, Next: 20 * sec}},
		{100 * sec, fdb.Swept{Expired: [fdb.NumSources]int{fdb.Data: 1, fdb.Peer: 1}, Next: fdb.Never}},
		{1000 * sec, fdb.Swept{Next: fdb.Never}},
	} {
		if got := tab.Sweep(tt.at); got != tt.want {
			t.Errorf("at %d: got %+v, want %+v", tt.at, got, tt.want)
		}
	}
	if got := tab.VNIs(nil); !slices.Equal(got, []vxlan.VNI{1}) {
		t.Errorf("got VNIs %v, want 1 alone", got)
	}
}

// Large VNIs take more than one slice of the lock: nothing may be missed.
func TestManyInSlices(t *testing.T) {
	tab := newTable()
	var us []fdb.Update
	for vni := range 20 {
		for i := range 3000 {
			u := reg(vtep(i), uint64(i+1), time.Minute)
			if i%3 == 0 {
				u.Holdtime = time.Hour
			}
			u.VNI = vxlan.VNI(vni * 7)
			us = append(us, u)
		}
	}
	if res := tab.Apply(0, us); res.Added != 60_000 {
		t.Fatalf("got %+v, want all added", res)
	}
	set := map[netip.Addr]fdb.Exclusion{}
	for i := range 500 {
		set[vtep(3*i)] = fdb.ExcludedService
	}
	tab.Exclude(set)
	if got := len(tab.Members(0, 7, nil)); got != 2500 {
		t.Errorf("got %d members beside the excluded, want 2500", got)
	}
	if got := tab.Sweep(120 * sec).Expired[fdb.Registration]; got != 40_000 {
		t.Errorf("got %d expired, want 40000", got)
	}
	tab.Exclude(nil)
	if got := len(tab.Members(120*sec, 133, nil)); got != 1000 {
		t.Errorf("got %d members, want 1000", got)
	}
	if err := tab.Check(); err != nil {
		t.Error(err)
	}
	if got := tab.VNIs([]vxlan.VNI{5}); len(got) != 21 || got[0] != 5 || got[20] != 133 || !slices.IsSorted(got[1:]) {
		t.Errorf("got VNIs %v", got)
	}
	for i := range us {
		us[i].Holdtime = 0
	}
	tab.Apply(121*sec, us)
	if err := tab.Forgotten(); err != nil {
		t.Error(err)
	}
}

func TestExclude(t *testing.T) {
	tab := newTable()
	tab.Apply(0, []fdb.Update{reg(v4a, 1, time.Minute), reg(v4b, 2, time.Minute), from(fdb.Operator, reg(v4c, 0, fdb.Static))})
	tab.Exclude(map[netip.Addr]fdb.Exclusion{v4a: fdb.ExcludedDenied, v4c: fdb.ExcludedOwn, v6a: fdb.ExcludedService, v6b: fdb.NotExcluded})
	l := lookup(tab, 0, 1, stranger)
	if got, want := addrs(&l.Snapshot), []netip.Addr{v4b}; !slices.Equal(got, want) {
		t.Errorf("got destinations %v, want %v", got, want)
	}
	if got := len(tab.Entries(0, 1, nil)); got != 3 {
		t.Errorf("got %d entries, want all 3", got)
	}
	l = lookup(tab, 0, 1, v4a)
	if l.Refused != fdb.ExcludedDenied || l.Learn || l.Destinations != nil || l.AllLive(0) {
		t.Errorf("got %+v, want the source refused and nothing else", l)
	}
	if l = lookup(tab, 0, 1, v6b); l.Refused != fdb.NotExcluded || !l.Learn {
		t.Errorf("got %+v, want %v learned", l, v6b)
	}
	for a, want := range map[netip.Addr]fdb.Exclusion{v4a: fdb.ExcludedDenied, v4b: fdb.NotExcluded, v6a: fdb.ExcludedService} {
		if got := tab.Excluded(a); got != want {
			t.Errorf("%v: got %v, want %v", a, got, want)
		}
	}
	if res := tab.Apply(0, []fdb.Update{from(fdb.Operator, reg(v6a, 0, fdb.Static)), reg(v4a, 1, 0)}); res.Added != 1 || res.Withdrawn != 1 {
		t.Errorf("got %+v, want an operator's entry taken and a withdrawal done", res)
	}
	tab.Exclude(nil)
	if got, want := tab.Members(0, 1, nil), []netip.Addr{v4b, v4c, v6a}; !slices.Equal(got, want) && !slices.Equal(got, []netip.Addr{v4b, v6a, v4c}) {
		t.Errorf("got members %v, want %v in any order", got, want)
	}
}
