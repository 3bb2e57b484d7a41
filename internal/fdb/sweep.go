// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"math"
	"net/netip"
)

// Swept says what a sweep did.
type Swept struct {
	// Expired counts the entries that the sweep removed, by source.
	Expired [NumSources]int
	// Next is no later than the next expiry of what the table held as the sweep
	// passed, Never if none of it ages.
	Next Time
}

// Sweep removes every entry that has expired at now. It takes the lock in
// slices of bounded length. Where nothing is due it reads one number for each VNI.
// Expired entries count as gone also before: the sweep frees their memory
// and tells the feeds. Once a second is often enough.
func (t *Table) Sweep(now Time) Swept {
	out := Swept{Next: Never}
	var res Result
	w := writer{t: t, now: now, res: &res}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tombs.sweep(t, now)
	// Backwards, since dropping a segment moves the last one into its place: what
	// moves between two slices has been seen already, or is new.
	for i := len(t.refs) - 1; i >= 0; {
		if w.full() {
			w.yield()
			i = min(i, len(t.refs)-1)
			continue
		}
		w.cost += costSegment
		if t.refs[i].due <= now {
			if !w.sweep(t.refs[i].seg, &out.Expired) {
				continue // the rest of it in the next slice
			}
		}
		out.Next = min(out.Next, t.refs[i].due)
		i--
	}
	w.settle()
	return out
}

// sweep removes what has expired from s and renews its bounds. It returns false
// if that was too much for one slice.
func (w *writer) sweep(s *segment, expired *[NumSources]int) bool {
	due, known := Never, Time(math.MinInt64)
	w.charge(s, costScan*len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		if e.own == freeOwn {
			continue
		}
		if exp := Time(e.exp); exp > w.now {
			due = min(due, exp)
			if e.source() != Data {
				known = max(known, exp)
			}
			continue
		}
		expired[e.source()]++
		w.remove(s, uint32(i), Expired)
		if w.full() {
			return false
		}
	}
	w.t.setDue(s, due)
	s.known, s.stale = known, false
	return true
}

// Exclude replaces the set of addresses that get no copies and may not send.
// Lookups refuse them as sources at once; the destinations follow in slices of
// bounded length, before the call returns. An excluded member keeps its
// entries, and is a destination again when the exclusion ends. Where the set
// differs from the last one every feed says that changes were lost, since what
// is flooded to changes without a change of any entry.
func (t *Table) Exclude(set map[netip.Addr]Exclusion) {
	t.excluding.Lock()
	defer t.excluding.Unlock()
	next := make(map[[16]byte]Exclusion, len(set))
	for a, e := range set {
		if e != NotExcluded && a.IsValid() {
			next[a.As16()] = e
		}
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	var changed [][16]byte
	for a := range next {
		if _, ok := t.excluded[a]; !ok {
			changed = append(changed, a)
		}
	}
	for a := range t.excluded {
		if _, ok := next[a]; !ok {
			changed = append(changed, a)
		}
	}
	t.excluded = next
	if len(changed) == 0 {
		return
	}
	var res Result
	w := writer{t: t, res: &res}
	for i := len(t.refs) - 1; i >= 0; i-- {
		if w.full() {
			w.yield()
			if i = min(i, len(t.refs)-1); i < 0 {
				break
			}
		}
		w.exclude(t.refs[i].seg, changed)
	}
	w.settle()
	t.lose()
}

// exclude brings the destinations of s in line with the set of excluded
// addresses, of which those in changed came or went.
func (w *writer) exclude(s *segment, changed [][16]byte) {
	if len(changed) < s.live {
		w.cost += costUpdate * len(changed)
		for i := range changed {
			if m := w.t.find(s, &changed[i]); m != none {
				w.show(s, m)
			}
		}
		return
	}
	w.cost += costUpdate * s.live
	for m := range s.members {
		if s.members[m].first != none {
			w.show(s, uint32(m))
		}
	}
}

// show makes m a destination or takes it off, as the set of excluded addresses
// has it.
func (w *writer) show(s *segment, m uint32) {
	_, excluded := w.t.excluded[s.members[m].addr]
	switch listed := s.members[m].dest != none; {
	case excluded && listed:
		w.conceal(s, m)
	case !excluded && !listed:
		w.publish(s, m)
	}
}

// Excluded tells why a is excluded, if it is.
func (t *Table) Excluded(a netip.Addr) Exclusion {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.excluded[a.As16()]
}
