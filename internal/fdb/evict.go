// SPDX-License-Identifier: Apache-2.0

package fdb

// The table keeps two lists of segments, so that something to evict is found
// without a search.
const (
	withLearned = iota // has Data entries
	onlyLearned        // has no others
	numLists
)

// list puts s on the lists where it belongs and takes it off the others.
func (t *Table) list(s *segment) {
	t.enlist(withLearned, s, s.data > 0)
	t.enlist(onlyLearned, s, s.data > 0 && s.data == s.held)
}

func (t *Table) enlist(l int, s *segment, on bool) {
	if on == (s.in[l] > 0) {
		return
	}
	if on {
		t.lists[l] = append(t.lists[l], s)
		s.in[l] = len(t.lists[l])
		return
	}
	last := len(t.lists[l]) - 1
	moved := t.lists[l][last]
	t.lists[l][s.in[l]-1] = moved
	moved.in[l] = s.in[l]
	t.lists[l][last] = nil
	t.lists[l] = t.lists[l][:last]
	s.in[l] = 0
	if last == 0 {
		t.lists[l] = nil
	}
}

// victim returns a segment of list l, in turn, or nil if there is none.
func (t *Table) victim(l int) *segment {
	if len(t.lists[l]) == 0 {
		return nil
	}
	t.turn++
	return t.lists[l][t.turn%len(t.lists[l])]
}

// room says what a new entry of a source other than Data has to displace. Its
// fields are independent.
type room struct {
	vni    *segment // all of this VNI
	member bool     // a learned member of the entry's own VNI
	entry  bool     // any learned entry
}

// find tells whether an entry fits, and what has to go for it. s is the entry's
// VNI, nil if it is new; freed says what the entry replaces.
func (r *room) find(t *Table, s *segment, newMember, memberFreed, entryFreed bool) (Refusal, bool) {
	if s == nil && t.inUse >= t.o.VNIs {
		if r.vni = t.victim(onlyLearned); r.vni == nil {
			return RefusedVNIs, false
		}
		return 0, true
	}
	if s != nil && newMember && !memberFreed && s.live >= t.o.Members {
		if s.sole == 0 {
			return RefusedMembers, false
		}
		r.member = true
		return 0, true
	}
	if !entryFreed && t.held() >= t.o.Entries {
		if t.bySource[Data] == 0 {
			return RefusedEntries, false
		}
		r.entry = true
	}
	return 0, true
}

// clear evicts what find named. It follows the adding, so that whatever it hits,
// the new entry stands on settled ground.
func (r *room) clear(w *writer, s *segment) {
	if r.vni != nil {
		for e := range r.vni.entries {
			if r.vni.entries[e].own != freeOwn {
				w.remove(r.vni, uint32(e), Evicted)
			}
		}
	}
	if r.member {
		w.evict(s, true)
	}
	if r.entry {
		if s.data == 0 {
			s = w.t.victim(withLearned)
		}
		w.evict(s, false)
	}
}

// evict removes the next Data entry of s in turn; where sole is set, the next
// that is a member's only one. There must be one.
func (w *writer) evict(s *segment, sole bool) {
	for range s.entries {
		s.hand++
		if s.hand >= len(s.entries) {
			s.hand = 0
		}
		w.cost += costScan
		e := &s.entries[s.hand]
		if e.own != freeOwn && e.source() == Data && (!sole || s.isSole(e.member())) {
			w.remove(s, uint32(s.hand), Evicted)
			return
		}
	}
}

// roomToLearn tells whether a learned entry fits. It displaces nothing.
func (t *Table) roomToLearn(s *segment, newMember bool) (Refusal, bool) {
	switch {
	case t.bySource[Data] >= t.o.Learned:
		return RefusedLearned, false
	case s == nil && t.inUse >= t.o.VNIs:
		return RefusedVNIs, false
	case s != nil && newMember && s.live >= t.o.Members:
		return RefusedMembers, false
	case t.held() >= t.o.Entries:
		return RefusedEntries, false
	}
	return 0, true
}
