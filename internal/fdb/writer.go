// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"math"
	"unsafe"

	"vxsnd/internal/vxlan"
)

const (
	// sliceCost is the work, in nanoseconds as estimated below, after which the
	// write lock is let go of for the readers that wait. Where each record is in
	// memory that was never touched before it becomes ten times as much.
	sliceCost = 50_000

	// The estimates are for records that are in no cache.
	costUpdate  = 500 // an entry found and changed, added or removed
	costSegment = 2   // a look at whether a VNI has something due
	costScan    = 3   // a look at one entry
	costRebuild = 10  // one destination of a list that is built anew
	costCell    = 15  // one cell of an index that grows
	costByte    = 0.4 // one byte of an array that grows, its fresh memory included
)

// A writer is one holding of the write lock: begin, changes, settle.
type writer struct {
	t    *Table
	now  Time
	res  *Result
	cost int
	free int // the largest charge, see full
}

// full tells whether the lock has been held for long enough. What the dearest
// segment costs once in a slice, however little is changed in it, does not count:
// else a segment that costs more than a slice would be built anew for each single
// change. Where that is dear, the changes may take half as long.
func (w *writer) full() bool { return w.cost-w.free >= max(sliceCost, w.free/2) }

// charge adds work that has to be done once in a slice for all of s.
func (w *writer) charge(s *segment, cost int) {
	s.charge += cost
	w.cost += cost
	w.free = max(w.free, s.charge)
	w.touch(s)
}

// touch marks s as having something to settle.
func (w *writer) touch(s *segment) {
	if !s.touched {
		s.touched = true
		w.t.touched = append(w.t.touched, s)
	}
}

// settle makes the touched segments fit for readers, removes the empty ones, and
// begins the next slice. It is called with the write lock held.
func (w *writer) settle() {
	t := w.t
	for i, s := range t.touched {
		t.touched[i] = nil
		s.touched, s.charge = false, 0
		if s.held == 0 {
			t.drop(s)
			continue
		}
		if s.gone > 0 {
			s.rebuild()
		}
		if s.stale {
			s.refit()
		}
		if s.sparse() {
			t.compact(s)
		}
	}
	t.touched = t.touched[:0]
	w.cost, w.free = 0, 0
}

// yield lets waiting readers have the lock. A Go RWMutex hands it to all the
// readers that wait before the next writer gets it.
func (w *writer) yield() {
	w.settle()
	w.t.mu.Unlock()
	w.t.mu.Lock()
}

// segment returns the segment of vni, which it makes if there is none.
func (w *writer) segment(vni vxlan.VNI) *segment {
	t := w.t
	s := t.vnis[vni]
	if s == nil {
		s = newSegment(vni)
		s.ref = len(t.refs)
		t.refs = append(t.refs, ref{due: Never, seg: s})
		t.vnis[vni] = s
	}
	return s
}

// drop removes an empty segment.
func (t *Table) drop(s *segment) {
	last := len(t.refs) - 1
	t.refs[s.ref] = t.refs[last]
	t.refs[s.ref].seg.ref = s.ref
	t.refs[last] = ref{}
	t.refs = t.refs[:last]
	delete(t.vnis, s.vni)
	t.shrink()
}

// addMember makes a record for addr, which no entry stands for yet.
func (w *writer) addMember(s *segment, addr *[16]byte) uint32 {
	m := s.freeMember
	if m != none {
		s.freeMember = s.members[m].dest
	} else {
		m = uint32(len(s.members))
		s.members = push(w, s.members, member{})
	}
	s.members[m] = member{addr: *addr, first: none, dest: none}
	w.cost += costCell * s.byAddr.insert(w.t.hashAddr(addr), m, w.t.memberHash(s))
	s.live++
	w.t.members++
	return m
}

// add gives member m a new entry and publishes m if it is its first.
func (w *writer) add(s *segment, m uint32, id uint64, src Source, exp Time) {
	t := w.t
	sole := s.isSole(m)
	e := s.freeEntry
	if e != none {
		s.freeEntry = s.entries[e].next
	} else {
		e = uint32(len(s.entries))
		s.entries = push(w, s.entries, entry{})
		s.heard = push(w, s.heard, 0)
	}
	fresh := s.members[m].first == none
	s.entries[e] = entry{id: id, exp: int64(exp), next: s.members[m].first, own: m<<sourceBits | uint32(src)}
	s.heard[e] = w.now.second()
	s.members[m].first = e
	if s.entries[e].claims() {
		w.cost += costCell * t.claim(s, e)
	}
	if s.held++; s.held == 1 {
		t.inUse++
	}
	t.bySource[src]++
	if src == Data {
		s.data++
	}
	s.sole += count(s.isSole(m)) - count(sole)
	if fresh {
		if _, excluded := t.excluded[s.members[m].addr]; !excluded {
			w.publish(s, m)
		}
	} else {
		s.reexpire(m)
	}
	t.bound(s, src, exp)
	t.list(s)
	w.cost += costUpdate
	w.emit(Added, NoReason, s, e)
}

// set gives entry e another expiry.
func (w *writer) set(s *segment, e uint32, exp Time) {
	r := &s.entries[e]
	old := Time(r.exp)
	if old == exp {
		return
	}
	r.exp = int64(exp)
	if r.source() != Data && exp < old && old == s.known {
		w.stale(s)
	}
	w.t.bound(s, r.source(), exp)
	s.reexpire(r.member())
}

// refresh is set, told to the feeds.
func (w *writer) refresh(s *segment, e uint32, exp Time) {
	w.set(s, e, exp)
	s.heard[e] = w.now.second()
	w.res.Refreshed++
	w.emit(Refreshed, NoReason, s, e)
}

// remove takes out entry e, and its member if that was its last.
func (w *writer) remove(s *segment, e uint32, why Reason) {
	t := w.t
	w.emit(Removed, why, s, e)
	r := s.entries[e]
	m := r.member()
	sole := s.isSole(m)

	link := &s.members[m].first
	for *link != e {
		link = &s.entries[*link].next
	}
	*link = r.next
	if r.claims() {
		w.release(s, e)
	}
	s.entries[e] = entry{next: s.freeEntry, own: freeOwn}
	s.freeEntry = e
	if s.held--; s.held == 0 {
		t.inUse--
	}
	t.bySource[r.source()]--
	if r.source() == Data {
		s.data--
	} else if Time(r.exp) == s.known {
		w.stale(s)
	}

	if s.members[m].first == none {
		w.removeMember(s, m, sole)
	} else {
		s.sole += count(s.isSole(m)) - count(sole)
		s.reexpire(m)
	}
	t.list(s)
	w.touch(s)
	w.cost += costUpdate
	switch why {
	case Withdrawn:
		w.res.Withdrawn++
		t.withdrawn++
	case ReplacedBy:
		w.res.Replaced++
		t.replaced++
	case Evicted:
		w.res.Evicted++
		t.evicted++
	case Expired:
		t.expired++
	}
}

// release takes e, which is in no chain any more, out of the index of
// identifiers; the other carrier's entry for the same member takes its place.
func (w *writer) release(s *segment, e uint32) {
	t := w.t
	r := &s.entries[e]
	m := r.member()
	h := t.hashID(r.id, isV4(s.members[m].addr))
	p := s.byID.probe(h)
	for n := p.next(); n != e; n = p.next() {
		if n == none {
			return
		}
	}
	s.byID.remove(h, e, t.entryHash(s))
	for o := s.members[m].first; o != none; o = s.entries[o].next {
		if s.entries[o].claims() && s.entries[o].id == r.id {
			w.cost += costCell * s.byID.insert(h, o, t.entryHash(s))
			return
		}
	}
}

func (w *writer) removeMember(s *segment, m uint32, sole bool) {
	t := w.t
	s.byAddr.remove(t.hashAddr(&s.members[m].addr), m, t.memberHash(s))
	if s.members[m].dest != none {
		w.conceal(s, m)
	}
	s.members[m] = member{first: none, dest: s.freeMember}
	s.freeMember = m
	s.sole -= count(sole)
	s.live--
	t.members--
}

// publish appends m to the destinations. Readers hold shorter slices of the
// same arrays, which this does not touch.
func (w *writer) publish(s *segment, m uint32) {
	s.members[m].dest = uint32(len(s.dests))
	s.dests = push(w, s.dests, Destination{addr: s.members[m].addr, VNI: s.vni})
	s.exps = push(w, s.exps, s.latest(m))
	s.owners = push(w, s.owners, m)
}

// conceal takes m off the destinations, which are built anew for it.
func (w *writer) conceal(s *segment, m uint32) {
	if s.gone == 0 {
		w.charge(s, costRebuild*len(s.dests))
	}
	s.owners[s.members[m].dest] = none
	s.members[m].dest = none
	s.gone++
}

// stale has the latest expiry of the entries that are not Data looked for.
func (w *writer) stale(s *segment) {
	if !s.stale {
		s.stale = true
		w.charge(s, costScan*len(s.entries))
	}
}

// purge removes those entries of m whose time has run out, and returns m, or
// none if nothing of it is left.
func (w *writer) purge(s *segment, m uint32) uint32 {
	for e := s.members[m].first; e != none; {
		next := s.entries[e].next
		if Time(s.entries[e].exp) <= w.now {
			w.remove(s, e, Expired)
			if s.members[m].first == none {
				return none
			}
		}
		e = next
	}
	return m
}

// bound keeps the bounds of s true to an entry of src that expires at exp.
func (t *Table) bound(s *segment, src Source, exp Time) {
	if exp < s.due {
		t.setDue(s, exp)
	}
	if src != Data && exp > s.known {
		s.known = exp
	}
}

func (t *Table) setDue(s *segment, due Time) {
	s.due = due
	t.refs[s.ref].due = due
}

// refit finds the latest expiry of the entries that are not Data.
func (s *segment) refit() {
	s.known, s.stale = math.MinInt64, false
	for i := range s.entries {
		if e := &s.entries[i]; e.own != freeOwn && e.source() != Data {
			s.known = max(s.known, Time(e.exp))
		}
	}
}

// push appends v to a. It lets a grow by an eighth, not by the half or more that
// append takes: the unused ends would be the largest part of what a million entries
// cost besides themselves.
func push[T any](w *writer, a []T, v T) []T {
	if len(a) == cap(a) {
		w.cost += costUpdate + int(costByte*float64(uintptr(len(a))*unsafe.Sizeof(v)))
		a = extend(a)
	}
	return append(a, v)
}

// extend returns a copy of a with room for an eighth more.
func extend[T any](a []T) []T {
	return append(make([]T, 0, len(a)+len(a)/8+4), a...)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
