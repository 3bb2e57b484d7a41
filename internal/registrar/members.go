// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"slices"
	"time"
)

// maxMembers bounds the members of one VNI that are kept.
const maxMembers = 16384

// A memberList is what the service nodes say of the members of one VNI. Each
// service node has a slot, whose list its newest answer replaces, and all other
// addresses have one in common: deployed nodes answer from another address than
// the one that was asked. The list is the union of the slots. It knows no clock:
// times are handed in. Slices that it gets or returns are never changed by
// anybody.
type memberList struct {
	nodes []netip.Addr // that have a slot of their own; none where there is only one node
	slots []slot       // as nodes, and then that of all others; nil before the first answer

	// base is what stood in the list before the slots could say: what was in the
	// kernel at the start, or what other service nodes said. It goes once they can.
	base  []netip.Addr
	since time.Time // of base

	heard   time.Time // of the newest answer, or when the list began
	woken   time.Time // when answers were to be expected again; zero if always
	resumed time.Time // of the first answer after nobody spoke
	spoken  bool      // there was an answer
}

// A slot is what one service node says, or some.
type slot struct {
	members []netip.Addr
	from    netip.Addr // the newest answer's sender
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
	l.nodes, l.slots = nodes, nil
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
		s.members = slices.Clone(named)
	}
	s.from, s.heard, s.whole = from, now, s.whole || !partial
	if l.stale(now, hold) {
		l.resumed = now
	}
	l.heard, l.spoken = now, true
	// A node is silent if others go on speaking. Where all were, each has its time
	// to come back: until then nobody knows better.
	for i := range l.slots {
		if last := l.slots[i].heard; !last.IsZero() && now.Sub(last) >= hold && now.Sub(l.resumed) >= hold {
			l.slots[i] = slot{}
		}
	}
	if l.settled(now, hold) {
		l.base = nil
	}
	return !slices.Equal(before, l.members())
}

// settled tells whether the slots can say by themselves who is a member: every
// service node has, or those that have not had the time for it.
func (l *memberList) settled(now time.Time, hold time.Duration) bool {
	whole, lacking := false, len(l.nodes) > 0
	for i := range l.slots {
		whole = whole || l.slots[i].whole
	}
	if lacking {
		lacking = slices.ContainsFunc(l.slots[:len(l.nodes)], func(s slot) bool { return !s.whole })
	}
	return whole && (!lacking || now.Sub(l.since) >= hold)
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
	changed := false
	strip := func(list []netip.Addr) []netip.Addr {
		is := func(a netip.Addr) bool { _, ok := gone[a]; return ok }
		if !slices.ContainsFunc(list, is) {
			return list
		}
		changed = true
		return slices.DeleteFunc(slices.Clone(list), is)
	}
	l.base = strip(l.base)
	for i := range l.slots {
		l.slots[i].members = strip(l.slots[i].members)
	}
	return changed
}

// empty forgets all members, for want of answers. It tells whether there were
// any.
func (l *memberList) empty() bool {
	had := len(l.members()) > 0
	l.base, l.slots = nil, nil
	return had
}

// wake says that answers are to be expected again, after a time without.
func (l *memberList) wake(now time.Time) { l.woken = now }

// quiet returns since when no answer came that was to be expected.
func (l *memberList) quiet() time.Time {
	if l.woken.After(l.heard) {
		return l.woken
	}
	return l.heard
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
