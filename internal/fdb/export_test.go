// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"fmt"
	"math"
)

// MaxClaims is maxClaims for the tests.
const MaxClaims = maxClaims

// Check looks at the table's own structure and returns what is wrong with it
// first.
func (t *Table) Check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var members, inUse int
	var bySource [NumSources]int
	if len(t.refs) != len(t.vnis) {
		return fmt.Errorf("%d refs, %d VNIs", len(t.refs), len(t.vnis))
	}
	if len(t.touched) != 0 {
		return fmt.Errorf("%d segments are not settled", len(t.touched))
	}
	for i, r := range t.refs {
		s := r.seg
		if s.ref != i || t.vnis[s.vni] != s || r.due != s.due {
			return fmt.Errorf("vni %v: ref %d, due %d: is at %d with %d", s.vni, s.ref, s.due, i, r.due)
		}
		if err := t.checkSegment(s, &bySource); err != nil {
			return fmt.Errorf("vni %v: %w", s.vni, err)
		}
		members += s.live
		inUse++
	}
	if members != t.members || inUse != t.inUse || bySource != t.bySource {
		return fmt.Errorf("counted %d members, %d VNIs, %v; held %d, %d, %v",
			members, inUse, bySource, t.members, t.inUse, t.bySource)
	}
	return t.tombs.check(t)
}

func (t *Table) checkSegment(s *segment, bySource *[NumSources]int) error {
	live, held, data, sole, shown, claims := 0, 0, 0, 0, 0, 0
	due, known := Never, Time(math.MinInt64)
	for m := range s.members {
		r := &s.members[m]
		if r.first == none {
			continue
		}
		live++
		sole += count(s.isSole(uint32(m)))
		if t.find(s, &r.addr) != uint32(m) {
			return fmt.Errorf("member %d is not found", m)
		}
		_, excluded := t.excluded[r.addr]
		if excluded != (r.dest == none) {
			return fmt.Errorf("member %d: excluded %v, destination %d", m, excluded, r.dest)
		}
		if d := r.dest; d != none {
			shown++
			if s.owners[d] != uint32(m) || s.dests[d].addr != r.addr || s.dests[d].VNI != s.vni {
				return fmt.Errorf("member %d is not destination %d", m, d)
			}
			if s.exps[d] != s.latest(uint32(m)) {
				return fmt.Errorf("destination %d expires at %d, its entries at %d", d, s.exps[d], s.latest(uint32(m)))
			}
		}
		for e := r.first; e != none; e = s.entries[e].next {
			x := &s.entries[e]
			held++
			bySource[x.source()]++
			due = min(due, Time(x.exp))
			if x.source() == Data {
				data++
			} else {
				known = max(known, Time(x.exp))
			}
			if x.member() != uint32(m) {
				return fmt.Errorf("entry %d of member %d points to %d", e, m, x.member())
			}
			if x.claims() {
				if o := t.owner(s, x.id, isV4(r.addr)); o != uint32(m) {
					return fmt.Errorf("identifier %d of member %d belongs to %d", x.id, m, o)
				}
				if s.entryOf(uint32(m), x.id, Registration) == e || s.entryOf(uint32(m), x.id, Registration) == none {
					claims++
				}
			}
		}
	}
	free := 0
	for m := s.freeMember; m != none; m = s.members[m].dest {
		free++
	}
	for e := s.freeEntry; e != none; e = s.entries[e].next {
		free++
	}
	switch {
	case live == 0:
		return fmt.Errorf("no member")
	case live != s.live, held != s.held, data != s.data, sole != s.sole:
		return fmt.Errorf("counted %d %d %d %d, held %d %d %d %d", live, held, data, sole, s.live, s.held, s.data, s.sole)
	case free != len(s.members)+len(s.entries)-live-held:
		return fmt.Errorf("%d free records are chained", free)
	case shown != len(s.dests), shown != len(s.exps), shown != len(s.owners):
		return fmt.Errorf("%d destinations, counted %d", len(s.dests), shown)
	case s.byAddr.used != live, s.byID.used != claims:
		return fmt.Errorf("indexes of %d and %d, counted %d and %d", s.byAddr.used, s.byID.used, live, claims)
	case s.due > due:
		return fmt.Errorf("due at %d, bound %d", due, s.due)
	case held > data && s.known != known:
		return fmt.Errorf("known until %d, bound %d", known, s.known)
	case (s.in[withLearned] > 0) != (data > 0), (s.in[onlyLearned] > 0) != (data > 0 && data == held):
		return fmt.Errorf("lists %v with %d of %d entries learned", s.in, data, held)
	}
	for l, at := range s.in {
		if at > 0 && t.lists[l][at-1] != s {
			return fmt.Errorf("not on list %d", l)
		}
	}
	return nil
}

func (ts *tombstones) check(t *Table) error {
	n, last := 0, none
	for i := ts.oldest; i != none; last, i = i, ts.slots[i].newer {
		n++
		if ts.slots[i].older != last || ts.find(t, &ts.slots[i].key) != i {
			return fmt.Errorf("tombstone %d is not linked or found", i)
		}
	}
	if n != ts.n || n != ts.byKey.used || last != ts.newest {
		return fmt.Errorf("%d tombstones, counted %d", ts.n, n)
	}
	return nil
}

// Forgotten tells whether nothing is left of what the table held, tombstones
// and turns aside.
func (t *Table) Forgotten() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.vnis)+len(t.refs)+len(t.touched)+len(t.lists[0])+len(t.lists[1]) > 0 {
		return fmt.Errorf("%d VNIs, %d refs, %d touched, %d and %d listed",
			len(t.vnis), len(t.refs), len(t.touched), len(t.lists[0]), len(t.lists[1]))
	}
	return nil
}
