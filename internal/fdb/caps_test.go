// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// capsView is what the entries of a table say about the caps.
type capsView struct {
	vnis, entries, learned int
	onlyLearned            int                // VNIs with learned entries alone
	members, sole          map[vxlan.VNI]int  // members; those with a learned entry alone
	has                    map[key]bool       // entries
	at                     map[netip.Addr]int // entries by address, in all VNIs
}

func viewCaps(tab *fdb.Table, now fdb.Time) capsView {
	v := capsView{members: map[vxlan.VNI]int{}, sole: map[vxlan.VNI]int{}, has: map[key]bool{}, at: map[netip.Addr]int{}}
	for _, vni := range tab.VNIs(nil) {
		kinds := map[netip.Addr][2]int{}
		other := 0
		for _, e := range tab.Entries(now, vni, nil) {
			v.entries++
			v.has[keyOf(e)] = true
			v.at[e.Addr]++
			k := kinds[e.Addr]
			if e.Source == fdb.Data {
				v.learned++
				k[0]++
			} else {
				other++
				k[1]++
			}
			kinds[e.Addr] = k
		}
		v.vnis++
		v.members[vni] = len(kinds)
		if other == 0 {
			v.onlyLearned++
		}
		for _, k := range kinds {
			if k[1] == 0 {
				v.sole[vni]++
			}
		}
	}
	return v
}

// TestCapsAtRandom does one thing at a time to a table with narrow caps. They
// hold at each moment, a registration is refused only where no learned entry
// could make room, and nothing but learned entries is evicted.
func TestCapsAtRandom(t *testing.T) {
	limits := fdb.Limits{VNIs: 2, Members: 3, Entries: 9, Learned: 4, Tombstones: 5}
	holds := []time.Duration{0, time.Second, 5 * time.Second, fdb.Static}
	refusals := [fdb.NumRefusals]int{}
	evicted := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		tab := fdb.New(fdb.Options{Limits: limits, Learning: fdb.LearnAny, LearnHoldtime: 20 * time.Second})
		feed := tab.Subscribe(100, fdb.KindRemoved)
		now := fdb.Time(0)
		for step := range 200 {
			if r.IntN(5) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(3 * time.Second))))
			}
			tab.Sweep(now)
			feed.Take(nil)
			before := viewCaps(tab, now)
			var res fdb.Result
			what := ""
			if r.IntN(2) == 0 {
				us := randomUpdates(r, 1)
				us[0].Holdtime, us[0].Repair = pick(r, holds), false
				what = fmt.Sprint(us)
				res = tab.Apply(now, us)
				checkRefused(t, what, us[0], &res, &before, limits)
			} else {
				ls := randomLearned(r)[:1]
				l := []fdb.Lookup{{VNI: ls[0].VNI, Source: ls[0].Addr}}
				tab.LookupBatch(now, l)
				res = tab.Learn(now, ls)
				what = fmt.Sprint(ls)
				if l[0].Learn != (res.Added == 1) {
					t.Fatalf("%s: got Learn %v, want what Learn did: %+v", what, l[0].Learn, res)
				}
			}
			for why, n := range res.Refused {
				refusals[why] += n
			}
			evicted += res.Evicted
			changes, _ := feed.Take(nil)
			for _, c := range changes {
				if c.Reason == fdb.Evicted && c.Source != fdb.Data {
					t.Fatalf("seed %d, step %d, %s: evicted %+v", seed, step, what, c)
				}
			}
			if err := tab.Check(); err != nil {
				t.Fatalf("seed %d, step %d, %s: %v", seed, step, what, err)
			}
			after := viewCaps(tab, now)
			st := tab.Stats()
			over := after.vnis > limits.VNIs || after.entries > limits.Entries || after.learned > limits.Learned ||
				st.Tombstones > limits.Tombstones || st.Entries != after.entries
			for _, n := range after.members {
				over = over || n > limits.Members
			}
			if over {
				t.Fatalf("seed %d, step %d, %s: got %+v with %+v, want within %+v", seed, step, what, after, st, limits)
			}
		}
	}
	for _, why := range []fdb.Refusal{fdb.RefusedVNIs, fdb.RefusedMembers, fdb.RefusedEntries, fdb.RefusedLearned} {
		if refusals[why] == 0 {
			t.Errorf("nothing was refused for %v", why)
		}
	}
	if evicted == 0 {
		t.Errorf("nothing was evicted")
	}
}

func checkRefused(t *testing.T, what string, u fdb.Update, res *fdb.Result, before *capsView, limits fdb.Limits) {
	t.Helper()
	bad := res.Refused[fdb.RefusedLearned] > 0 ||
		res.Refused[fdb.RefusedVNIs] > 0 && (before.vnis < limits.VNIs || before.onlyLearned > 0 || before.members[u.VNI] > 0) ||
		res.Refused[fdb.RefusedMembers] > 0 && (before.members[u.VNI] < limits.Members || before.sole[u.VNI] > 0) ||
		res.Refused[fdb.RefusedEntries] > 0 && (before.entries < limits.Entries || before.learned > 0) ||
		res.Evicted > 0 && before.vnis < limits.VNIs && before.entries < limits.Entries && before.members[u.VNI] < limits.Members ||
		before.has[key{u.VNI, u.Addr, u.Identifier, u.Source}] && res.Refused != [fdb.NumRefusals]int{}
	if bad {
		t.Fatalf("%s: got %+v with %+v", what, res, before)
	}
}

func TestOneAddressUnderManyIdentifiers(t *testing.T) {
	tab := fdb.New(fdb.Options{Limits: fdb.Limits{}, Learning: fdb.LearnAny, LearnHoldtime: time.Minute})
	u := fdb.Update{VNI: 1, Addr: v4a, Source: fdb.Registration, Holdtime: time.Minute}
	var res fdb.Result
	for id := range uint64(3 * fdb.MaxClaims) {
		u.Identifier = id + 1
		r := tab.Apply(0, []fdb.Update{u})
		res.Added += r.Added
		res.Refused[fdb.RefusedEntries] += r.Refused[fdb.RefusedEntries]
	}
	if res.Added != fdb.MaxClaims || res.Refused[fdb.RefusedEntries] != 2*fdb.MaxClaims {
		t.Errorf("got %+v, want %d added and the rest refused", res, fdb.MaxClaims)
	}
	u.Source, u.Identifier, u.Holdtime = fdb.Operator, 0, fdb.Static
	if r := tab.Apply(0, []fdb.Update{u}); r.Added != 1 {
		t.Errorf("got %+v for the operator's entry, want it added", r)
	}
	if got := tab.Members(0, 1, nil); len(got) != 1 {
		t.Errorf("got members %v, want one", got)
	}
}

// A full table says so to each packet without the write lock.
func TestLearnedCapIsCounted(t *testing.T) {
	tab := fdb.New(fdb.Options{Limits: fdb.Limits{Learned: 1}, Learning: fdb.LearnAny, LearnHoldtime: time.Minute})
	tab.Learn(0, []fdb.Learned{{VNI: 1, Addr: v4a}})
	ls := []fdb.Lookup{{VNI: 1, Source: v4b}, {VNI: 2, Source: v4b}, {VNI: 1, Source: v4a}}
	tab.LookupBatch(0, ls)
	for i := range ls {
		if ls[i].Learn {
			t.Errorf("lookup %d: got Learn, want none", i)
		}
	}
	if got := tab.Stats().Refused[fdb.RefusedLearned]; got != 2 {
		t.Errorf("got %d refused, want 2", got)
	}
}
