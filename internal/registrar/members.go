// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// maxMembers bounds the members of one VNI that are kept.
const maxMembers = 16384

// A memberList is what the service nodes say of the members of one VNI. Each
// service node has a slot, whose list its newest answer replaces, and all other
// addresses have one in common: deployed nodes answer from another address than
// the one that was asked. The list is the union of the slots. What a service node
// said stays while it is silent, but for a member that another one named and then
// left out: that one is the newer news. The list knows no clock: times are handed
// in. Slices that it gets or returns are never changed by anybody.
type memberList struct {
	nodes []netip.Addr // that have a slot of their own; none where there is only one node
	slots []slot       // as nodes, and then that of all others; nil before the first answer

	// base is what stood in the list before the slots could say: what was in the
	// kernel at the start, or what other service nodes said. It goes once they can.
	base  []netip.Addr
	since time.Time // of base

	// dropped are members of some slots, or of base, that another slot named before
	// its newest answer left them out.
	dropped map[netip.Addr]struct{}

	heard  time.Time // of the newest answer, or when the list began
	woken  time.Time // when answers were to be expected again; zero if always
	spoken bool      // there was an answer
}

// A slot is what one service node says, or some.
type slot struct {
	members []netip.Addr
	from    netip.Addr // the newest answer's sender; zero before there is one
	heard   time.Time
	whole   bool // an answer said all of it, so that others may be forgotten
}

// newMemberList returns a list that holds base until the service nodes speak.
func newMemberList(nodes, base []netip.Addr, now time.Time) memberList {
	l := memberList{base: base, since: now, heard: now}
	l.setNodes(nodes, now)
	return l
}

// setNodes makes nodes the service nodes that have a slot. What others said stays
// until these speak.
func (l *memberList) setNodes(nodes []netip.Addr, now time.Time) {
	if len(nodes) == 1 {
		nodes = nil // whoever answers speaks for it
	}
	if slices.Equal(nodes, l.nodes) {
		return
	}
	l.base, l.since = l.members(), now
	l.nodes, l.slots, l.dropped = nodes, nil, nil
}

// take takes in the members that an answer names, sorted and distinct. partial
// says that there may be more. hold is how long an answer counts. It tells
// whether the list is another one now.
func (l *memberList) take(now time.Time, hold time.Duration, from netip.Addr, named []netip.Addr, partial bool) bool {
	before := l.members()
	if l.slots == nil {
		l.slots = make([]slot, len(l.nodes)+1)
	}
	at := slices.Index(l.nodes, from)
	if at < 0 {
		at = len(l.nodes)
	}
	s := &l.slots[at]
	if partial {
		named = merge(s.members, named)
	}
	if len(named) > maxMembers {
		named = named[:maxMembers]
	}
	if !slices.Equal(named, s.members) {
		named = slices.Clone(named)
		l.noteDropped(at, s.members, named)
		s.members = named
	}
	s.from, s.heard, s.whole = from, now, s.whole || !partial
	l.heard, l.spoken = now, true
	for _, a := range named {
		if len(l.dropped) == 0 {
			break
		}
		delete(l.dropped, a)
	}
	l.strike(at, now, hold)
	if l.settled(now, hold) {
		l.base = nil
	}
	return !slices.Equal(before, l.members())
}

// noteDropped notes what a slot names no more and others still do.
func (l *memberList) noteDropped(at int, former, named []netip.Addr) {
	for _, a := range former {
		if _, ok := slices.BinarySearchFunc(named, a, netip.Addr.Compare); ok || !l.named(at, a) {
			continue
		}
		if l.dropped == nil {
			l.dropped = make(map[netip.Addr]struct{})
		}
		l.dropped[a] = struct{}{}
	}
}

// named tells whether base or another slot than the one at an index names a
// member.
func (l *memberList) named(but int, a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(l.base, a, netip.Addr.Compare)
	for i := 0; i < len(l.slots) && !ok; i++ {
		if i != but {
			_, ok = slices.BinarySearchFunc(l.slots[i].members, a, netip.Addr.Compare)
		}
	}
	return ok
}

// strike takes what was dropped out of what is silent for hold, when the slot at
// an index has spoken.
func (l *memberList) strike(at int, now time.Time, hold time.Duration) {
	silent := func(t time.Time) bool { return now.Sub(later(t, l.woken)) >= hold }
	for i := range l.slots {
		s := &l.slots[i]
		switch {
		case i == at || !silent(s.heard):
		case i == len(l.nodes) && !slices.ContainsFunc(l.slots[:i], func(s slot) bool { return !s.from.IsValid() }):
			*s = slot{} // of nobody who was asked: those answer themselves
		default:
			s.members, _ = strip(s.members, l.dropped)
		}
	}
	if silent(l.since) {
		l.base, _ = strip(l.base, l.dropped)
	}
	maps.DeleteFunc(l.dropped, func(a netip.Addr, _ struct{}) bool { return !l.named(-1, a) })
}

// settled tells whether the slots can say by themselves who is a member: every
// service node has, or those that have not answered from other addresses, and had
// the time for it.
func (l *memberList) settled(now time.Time, hold time.Duration) bool {
	whole := func(s slot) bool { return s.whole }
	own, others := l.slots[:len(l.nodes)], l.slots[len(l.nodes)]
	if slices.ContainsFunc(own, func(s slot) bool { return !s.whole }) {
		return others.whole && now.Sub(l.since) >= hold
	}
	return slices.ContainsFunc(l.slots, whole)
}

// members returns the list, sorted.
func (l *memberList) members() []netip.Addr {
	out := l.base
	for i := range l.slots {
		out = merge(out, l.slots[i].members)
	}
	return out
}

// without removes addresses that cannot be members any more, and tells whether
// the list is another one now.
func (l *memberList) without(gone map[netip.Addr]struct{}) bool {
	var changed, is bool
	l.base, changed = strip(l.base, gone)
	for i := range l.slots {
		l.slots[i].members, is = strip(l.slots[i].members, gone)
		changed = changed || is
	}
	return changed
}

// strip returns a list without what is gone, and whether it had any of it.
func strip(list []netip.Addr, gone map[netip.Addr]struct{}) ([]netip.Addr, bool) {
	is := func(a netip.Addr) bool { _, ok := gone[a]; return ok }
	if len(gone) == 0 || !slices.ContainsFunc(list, is) {
		return list, false
	}
	return slices.DeleteFunc(slices.Clone(list), is), true
}

// expire forgets what was said longer ago than limit by who has been silent since.
// It tells whether the list is another one now, and when it may be again, zero for
// never.
func (l *memberList) expire(now time.Time, limit time.Duration) (changed bool, next time.Time) {
	before := l.members()
	expire := func(list *[]netip.Addr, last time.Time) {
		switch end := later(last, l.woken).Add(limit); {
		case len(*list) == 0:
		case !now.Before(end):
			*list = nil
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	for i := range l.slots {
		expire(&l.slots[i].members, l.slots[i].heard)
	}
	if len(l.nodes) == 0 {
		expire(&l.base, l.heard) // whoever answers vouches for it
	} else {
		expire(&l.base, l.since)
	}
	return !slices.Equal(before, l.members()), next
}

// wake says that answers are to be expected again, after a time without.
func (l *memberList) wake(now time.Time) { l.woken = now }

// quiet returns since when no answer came that was to be expected.
func (l *memberList) quiet() time.Time { return later(l.heard, l.woken) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// stale tells whether no answer came for as long as one counts.
func (l *memberList) stale(now time.Time, hold time.Duration) bool { return now.Sub(l.quiet()) >= hold }

// from returns the addresses that the answers came from.
func (l *memberList) from() []netip.Addr {
	var out []netip.Addr
	for i := range l.slots {
		if a := l.slots[i].from; a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// merge returns the union of two sorted lists; one of them where it is that.
func merge(a, b []netip.Addr) []netip.Addr {
	switch {
	case len(b) == 0:
		return a
	case len(a) == 0, slices.Equal(a, b):
		return b
	}
	out := make([]netip.Addr, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		c := a[0].Compare(b[0])
		if c <= 0 {
			out = append(out, a[0])
			a = a[1:]
		} else {
			out = append(out, b[0])
		}
		if c >= 0 {
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}
