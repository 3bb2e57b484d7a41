// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

var (
	someAddrs = []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"),
		netip.MustParseAddr("240.0.0.9"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"),
		netip.MustParseAddr("fd00::3"),
	}
	someHolds = []time.Duration{0, 0, time.Second, 3 * time.Second, 10 * time.Second, 70000 * time.Second, fdb.Static}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func randomUpdates(r *rand.Rand, most int) []fdb.Update {
	us := make([]fdb.Update, 1+r.IntN(most))
	for i := range us {
		us[i] = fdb.Update{
			VNI: vxlan.VNI(r.IntN(3)), Addr: pick(r, someAddrs), Identifier: uint64(r.IntN(4)),
			Source:   pick(r, []fdb.Source{fdb.Registration, fdb.Registration, fdb.Peer, fdb.Peer, fdb.Operator, fdb.Configuration}),
			Holdtime: pick(r, someHolds), Repair: r.IntN(5) == 0, StaticOnly: r.IntN(5) == 0, KeepStatic: r.IntN(5) == 0,
		}
	}
	return us
}

func randomLearned(r *rand.Rand) []fdb.Learned {
	ls := make([]fdb.Learned, 1+r.IntN(3))
	for i := range ls {
		ls[i] = fdb.Learned{VNI: vxlan.VNI(r.IntN(3)), Addr: pick(r, someAddrs)}
	}
	return ls
}

func randomExclusions(r *rand.Rand) map[netip.Addr]fdb.Exclusion {
	set := map[netip.Addr]fdb.Exclusion{}
	for range r.IntN(4) {
		set[pick(r, someAddrs)] = fdb.Exclusion(r.IntN(4))
	}
	maps.DeleteFunc(set, func(_ netip.Addr, e fdb.Exclusion) bool { return e == fdb.NotExcluded })
	return set
}

func randomOptions(r *rand.Rand) fdb.Options {
	return fdb.Options{
		Limits:        fdb.Limits{MaxHoldtime: pick(r, []time.Duration{5 * time.Second, 65535 * time.Second, 100000 * time.Second})},
		Learning:      fdb.Learning(r.IntN(3)),
		LearnHoldtime: pick(r, []time.Duration{2 * time.Second, 5 * time.Second, 9 * time.Second, fdb.Static}),
	}
}

// TestModel does at random what can be done to a table, to a table and to a
// model of it, and compares them after each step.
func TestModel(t *testing.T) {
	seeds := 100
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		runModel(t, uint64(seed), 300)
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	o := randomOptions(r)
	tab, m := fdb.New(o), newModel(o)
	feed := tab.Subscribe(1000, fdb.KindAdded|fdb.KindRemoved|fdb.KindRefreshed)
	mirror := map[key]fdb.Time{}
	now := fdb.Time(r.Int64N(1 << 40))
	for step := range steps {
		what, swept := "", false
		var got, want any
		switch op := r.IntN(20); {
		case op < 8:
			us := randomUpdates(r, 4)
			what = fmt.Sprintf("apply %v", us)
			got, want = tab.Apply(now, us), m.apply(now, us)
		case op < 11:
			ls := randomLearned(r)
			what = fmt.Sprintf("learn %v", ls)
			got, want = tab.Learn(now, ls), m.learn(now, ls)
		case op < 15:
			what = "lookup"
			got, want = lookupBoth(r, tab, m, now)
		case op < 17:
			now = now.Add(time.Duration(r.Int64N(int64(4 * time.Second))))
			m.age(now)
			what = fmt.Sprintf("time %d", now)
		case op < 18:
			what, swept = "sweep", true
		case op < 19:
			m.excluded = randomExclusions(r)
			what = fmt.Sprintf("exclude %v", m.excluded)
			tab.Exclude(m.excluded)
		default:
			o := randomOptions(r)
			what = fmt.Sprintf("configure %+v", o)
			m.configure(o)
			m.age(now)
			tab.Configure(now, o)
		}
		if swept {
			tab.Sweep(now)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d, step %d, %s (-want +got):\n%s", seed, step, what, diff)
		}
		if err := tab.Check(); err != nil {
			t.Fatalf("seed %d, step %d, %s: %v", seed, step, what, err)
		}
		follow(feed, tab, now, mirror)
		if err := compare(tab, m, now, mirror, swept); err != nil {
			t.Fatalf("seed %d, step %d, %s: %v", seed, step, what, err)
		}
	}
}

type answer struct {
	Refused fdb.Exclusion
	Learn   bool
	Live    map[netip.Addr]bool
}

// lookupBoth looks a few sources up. What a data packet refreshes it refreshes in
// the model too.
func lookupBoth(r *rand.Rand, tab *fdb.Table, m *model, now fdb.Time) (got, want []answer) {
	ls := make([]fdb.Lookup, 1+r.IntN(4))
	for i := range ls {
		ls[i] = fdb.Lookup{VNI: vxlan.VNI(r.IntN(3)), Source: pick(r, someAddrs), Learn: true, Refused: fdb.ExcludedOwn}
	}
	tab.LookupBatch(now, ls)
	for _, l := range ls {
		w := answer{Refused: m.excluded[l.Source], Live: map[netip.Addr]bool{}}
		if w.Refused == fdb.NotExcluded {
			var refresh bool
			w.Learn, refresh = m.learns(l.VNI, l.Source)
			if k := (key{l.VNI, l.Source, 0, fdb.Data}); refresh {
				m.entries[k] = max(m.entries[k], now.Add(m.o.LearnHoldtime))
				m.hear(now, k)
			}
			for a := range m.members(l.VNI) {
				w.Live[a] = true
			}
		}
		g := answer{Refused: l.Refused, Learn: l.Learn, Live: map[netip.Addr]bool{}}
		for i := range l.Destinations {
			if l.Live(i, now) {
				g.Live[l.Destinations[i].Addr()] = true
			}
		}
		got, want = append(got, g), append(want, w)
	}
	return got, want
}

// follow brings mirror up to date by the feed.
func follow(feed *fdb.Feed, tab *fdb.Table, now fdb.Time, mirror map[key]fdb.Time) {
	changes, lost := feed.Take(nil)
	if lost {
		clear(mirror)
		for vni := range vxlan.VNI(3) {
			for _, e := range tab.Entries(now, vni, nil) {
				mirror[keyOf(e)] = e.Expires
			}
		}
	}
	for _, c := range changes {
		if c.Kind == fdb.Removed {
			delete(mirror, keyOf(c.Entry))
		} else {
			mirror[keyOf(c.Entry)] = c.Expires
		}
	}
}

func keyOf(e fdb.Entry) key { return key{e.VNI, e.Addr, e.Identifier, e.Source} }

// compare returns the first difference between the table and the model.
func compare(tab *fdb.Table, m *model, now fdb.Time, mirror map[key]fdb.Time, swept bool) error {
	entries := map[key]fdb.Time{}
	total := 0
	for vni := range vxlan.VNI(3) {
		for _, e := range tab.Entries(now, vni, nil) {
			entries[keyOf(e)] = e.Expires
		}
		ls := []fdb.Lookup{{VNI: vni, Source: netip.MustParseAddr("198.51.100.1")}}
		tab.LookupBatch(now, ls)
		want := m.members(vni)
		if err := compareSnapshot(&ls[0].Snapshot, want, now); err != nil {
			return fmt.Errorf("vni %v: %w", vni, err)
		}
		got := tab.Members(now, vni, nil)
		if len(got) != len(want) {
			return fmt.Errorf("vni %v: got members %v, want %v", vni, got, want)
		}
		total += len(want)
	}
	if !maps.Equal(entries, m.entries) {
		return fmt.Errorf("entries (-want +got):\n%v\n%v", m.entries, entries)
	}
	if !swept {
		return nil
	}
	if st := tab.Stats(); st.Entries != len(entries) || st.Expired != m.expired {
		return fmt.Errorf("got %d entries and %d expired, want %d and %d", st.Entries, st.Expired, len(entries), m.expired)
	}
	// Data packets refresh silently, so only the keys must agree.
	if got, want := sortedKeys(mirror), sortedKeys(entries); !slices.Equal(got, want) {
		return fmt.Errorf("feed: got %v, want %v", got, want)
	}
	return nil
}

func sortedKeys(m map[key]fdb.Time) []string {
	var out []string
	for k := range m {
		out = append(out, fmt.Sprint(k))
	}
	slices.Sort(out)
	return out
}

func compareSnapshot(s *fdb.Snapshot, want map[netip.Addr]fdb.Time, now fdb.Time) error {
	got := map[netip.Addr]bool{}
	all := true
	for i := range s.Destinations {
		a := s.Destinations[i].Addr()
		if _, ok := got[a]; ok {
			return fmt.Errorf("%v is twice in %v", a, s.Destinations)
		}
		got[a] = s.Live(i, now)
		all = all && got[a]
		if _, ok := want[a]; ok != got[a] {
			return fmt.Errorf("%v: got live %v, want %v", a, got[a], ok)
		}
		// Exact to the nanosecond, both ways.
		if exp := want[a]; got[a] && (exp != fdb.Never && s.Live(i, exp) || !s.Live(i, exp-1)) {
			return fmt.Errorf("%v does not expire at %d", a, exp)
		}
	}
	for a := range want {
		if !got[a] {
			return fmt.Errorf("%v is missing in %v", a, s.Destinations)
		}
	}
	if !all && s.AllLive(now) {
		return fmt.Errorf("AllLive with an expired destination")
	}
	return nil
}
