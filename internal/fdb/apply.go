// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"time"
)

// maxClaims bounds the entries that one member may have of registrants, and of
// operator and configuration each: whoever makes up identifiers for an address
// must not make the lookups of its packets long. A VTEP has one or two.
const maxClaims = 16

// Apply takes in us in order: of two addresses that one message names for one
// identifier the last counts (PROTOCOL section 3). It takes the lock in slices
// of bounded length, so readers may see the first part of a long us before the
// rest. Nothing in us can make it fail; what it does not take in it counts.
func (t *Table) Apply(now Time, us []Update) Result {
	var res Result
	w := writer{t: t, now: now, res: &res}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range us {
		if w.full() {
			w.yield()
		}
		w.apply(&us[i])
	}
	w.settle()
	return res
}

// Learn makes each of ls a member of its VNI, or refreshes it. It is asked
// where a lookup said Learn, and looks at everything again, since some time has
// passed.
func (t *Table) Learn(now Time, ls []Learned) Result {
	var res Result
	w := writer{t: t, now: now, res: &res}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range ls {
		if w.full() {
			w.yield()
		}
		w.learn(&ls[i])
	}
	w.settle()
	return res
}

func (w *writer) refuse(why Refusal) {
	w.cost += costUpdate
	w.res.Refused[why]++
	w.t.refused[why].Add(1)
}

func (w *writer) apply(u *Update) {
	switch {
	case !u.VNI.Valid(), u.Source == Data, u.Source >= NumSources, u.Repair && u.Holdtime <= 0:
		w.refuse(RefusedInvalid)
		return
	case !Usable(u.Addr):
		w.refuse(RefusedAddress)
		return
	}
	addr := u.Addr.As16()
	tomb := tombKey{addr: addr, id: u.Identifier, vni: u.VNI}
	if u.Holdtime <= 0 {
		w.withdraw(u, &tomb)
		return
	}
	if _, excluded := w.t.excluded[addr]; excluded && u.Source.registrant() {
		w.refuse(RefusedExcluded)
		return
	}
	if !u.Repair {
		w.t.tombs.remove(w.t, &tomb)
	} else if w.t.tombs.has(w.t, &tomb, w.now) {
		w.refuse(RefusedTombstone)
		return
	}
	w.put(u, &addr)
}

// put adds an entry or refreshes it.
func (w *writer) put(u *Update, addr *[16]byte) {
	t := w.t
	exp := w.now.Add(t.o.holdtime(u))
	if exp <= w.now {
		w.refuse(RefusedInvalid)
		return
	}
	s, m := t.vnis[u.VNI], none
	if s != nil {
		if m = t.find(s, addr); m != none {
			m = w.purge(s, m)
		}
	}
	if m != none {
		if e := s.entryOf(m, u.Identifier, u.Source); e != none {
			if u.KeepStatic && Time(s.entries[e].exp) == Never {
				exp = Never
			}
			if !u.Repair {
				w.refresh(s, e, exp)
				w.curb(s, m, u, exp)
			} else if exp > Time(s.entries[e].exp) {
				w.refresh(s, e, exp)
			}
			w.cost += costUpdate
			return
		}
		if u.Repair && s.covers(m, u, exp) {
			w.cost += costUpdate
			return
		}
		if s.crowded(m, u.Source) {
			w.refuse(RefusedEntries)
			return
		}
	}

	rival, memberFreed := w.rival(s, u, isV4(*addr), m)
	if rival != none && u.Repair {
		w.refuse(RefusedOwned)
		return
	}
	held := s
	if s != nil && s.held == 0 {
		held = nil // emptied in this slice
	}
	var r room
	if why, ok := r.find(t, held, m == none, memberFreed, rival != none); !ok {
		w.refuse(why)
		return
	}
	s = w.segment(u.VNI)
	if rival != none {
		w.replace(s, rival, u, addr, exp)
	}
	if m == none {
		m = w.addMember(s, addr)
	}
	w.add(s, m, u.Identifier, u.Source, exp)
	w.res.Added++
	if !u.Repair {
		w.curb(s, m, u, exp)
	}
	r.clear(w, s)
}

// rival returns the live member other than m that u's identifier is taken from,
// or none, and whether nothing else holds that member.
func (w *writer) rival(s *segment, u *Update, v4 bool, m uint32) (_ uint32, alone bool) {
	if s == nil || u.Identifier == 0 || !u.Source.registrant() {
		return none, false
	}
	o := w.t.owner(s, u.Identifier, v4)
	if o == none || o == m || w.purge(s, o) == none {
		return none, false
	}
	claimed := false
	alone = true
	for e := s.members[o].first; e != none; e = s.entries[e].next {
		if s.entries[e].claims() && s.entries[e].id == u.Identifier {
			claimed = true
		} else {
			alone = false
		}
	}
	if !claimed {
		return none, false
	}
	return o, alone
}

// replace takes u's identifier from member o, since it registered addr.
func (w *writer) replace(s *segment, o uint32, u *Update, addr *[16]byte, exp Time) {
	w.t.turns.note(turnKey{vni: u.VNI, id: u.Identifier, v4: isV4(*addr)},
		s.members[o].addr, *addr, w.now, exp)
	for e := s.members[o].first; e != none; {
		next := s.entries[e].next
		if s.entries[e].claims() && s.entries[e].id == u.Identifier {
			w.remove(s, e, ReplacedBy)
		}
		e = next
	}
}

// curb lets no other carrier's entry outlive what the registrant said last: who
// registered for ever and now asks for a minute is held for a minute, whichever
// way the two messages came. Identifier 0 names nobody, so each carrier's entry
// stands for itself there.
func (w *writer) curb(s *segment, m uint32, u *Update, exp Time) {
	if u.Identifier == 0 || !u.Source.registrant() {
		return
	}
	if e := s.entryOf(m, u.Identifier, other(u.Source)); e != none && exp < Time(s.entries[e].exp) {
		w.set(s, e, exp)
		w.emit(Refreshed, NoReason, s, e)
	}
}

// withdraw removes what u names and remembers that it did. The tombstone stands
// also where there was nothing to remove: a dump under way may still bring it.
func (w *writer) withdraw(u *Update, tomb *tombKey) {
	t := w.t
	w.cost += costUpdate
	until := w.now.Add(t.o.MaxHoldtime)
	s, m := t.vnis[u.VNI], none
	if s != nil {
		if m = t.find(s, &tomb.addr); m != none {
			m = w.purge(s, m)
		}
	}
	if m != none {
		sources := [2]Source{u.Source, u.Source}
		if u.Source.registrant() && !u.StaticOnly {
			sources[1] = other(u.Source)
		}
		for i, src := range sources {
			if s.members[m].first == none {
				break
			}
			e := s.entryOf(m, u.Identifier, src)
			if e == none {
				continue
			}
			exp := Time(s.entries[e].exp)
			if i == 1 && src == Peer && u.Identifier == 0 && exp == Never {
				continue // an operator's static entry, told by a peer
			}
			if u.StaticOnly && exp != Never || u.KeepStatic && src == u.Source && exp == Never {
				continue
			}
			until = max(until, exp)
			w.remove(s, e, Withdrawn)
		}
	}
	if !u.StaticOnly {
		t.tombs.add(t, tomb, until)
	}
}

func (w *writer) learn(l *Learned) {
	t := w.t
	switch {
	case t.o.Learning == LearnOff:
		w.cost += costUpdate
		return
	case !l.VNI.Valid():
		w.refuse(RefusedInvalid)
		return
	case !Usable(l.Addr):
		w.refuse(RefusedAddress)
		return
	}
	addr := l.Addr.As16()
	if _, excluded := t.excluded[addr]; excluded {
		w.refuse(RefusedExcluded)
		return
	}
	w.cost += costUpdate
	exp := w.now.Add(t.o.LearnHoldtime)
	s, m := t.vnis[l.VNI], none
	if s != nil {
		if m = t.find(s, &addr); m != none {
			m = w.purge(s, m)
		}
	}
	if t.o.Learning == LearnKnown && (s == nil || !s.isKnown(w.now)) {
		return
	}
	if m != none {
		v := s.view(m, w.now)
		switch {
		case v.claimed:
			return
		case v.data != none:
			if exp > Time(s.entries[v.data].exp) {
				w.refresh(s, v.data, exp)
			}
			return
		case v.static:
			return
		}
	}
	held := s
	if s != nil && s.held == 0 {
		held = nil
	}
	if why, ok := t.roomToLearn(held, m == none); !ok {
		w.refuse(why)
		return
	}
	s = w.segment(l.VNI)
	if m == none {
		m = w.addMember(s, &addr)
	}
	w.add(s, m, 0, Data, exp)
	w.res.Added++
}

// covers tells whether the other carrier of a registrant's word has m for as
// long as a repair says: then nothing is missing.
func (s *segment) covers(m uint32, u *Update, exp Time) bool {
	if u.Identifier == 0 || !u.Source.registrant() {
		return false
	}
	e := s.entryOf(m, u.Identifier, other(u.Source))
	return e != none && exp <= Time(s.entries[e].exp)
}

// crowded tells whether member m has as many entries of this kind of source as
// one may have.
func (s *segment) crowded(m uint32, src Source) bool {
	n := 0
	for e := s.members[m].first; e != none; e = s.entries[e].next {
		if o := s.entries[e].source(); o == src || o.registrant() && src.registrant() {
			n++
		}
	}
	return n >= maxClaims
}

// other returns the other carrier of a registrant's word.
func other(src Source) Source {
	if src == Peer {
		return Registration
	}
	return Peer
}

// wireStatic is the holdtime that means static on the wire (PROTOCOL section 3).
const wireStatic = 65535 * time.Second

// holdtime returns the time that u may have under the cap.
func (o *Options) holdtime(u *Update) time.Duration {
	if !u.Source.registrant() || u.Holdtime == Static && o.MaxHoldtime >= wireStatic {
		return u.Holdtime
	}
	return min(u.Holdtime, o.MaxHoldtime)
}
