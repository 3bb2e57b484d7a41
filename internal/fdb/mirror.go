// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"net/netip"
	"sync/atomic"

	"vxsnd/internal/vxlan"
)

// A Mirrored is what somebody who answers for the table elsewhere, such as a
// program in the kernel, has to know of one destination.
type Mirrored struct {
	Destination
	// Expires is the latest expiry of its entries.
	Expires Time
	// Known tells that nothing is to be learned from packets that it sends.
	Known bool
	// Learned tells that packets which it sends extend its life, by the holdtime of
	// learned members.
	Learned bool
}

const (
	// mirrorSlice is how many destinations Mirror reads under one read lock: some
	// 50 us where none of them is in a cache.
	mirrorSlice = 1024

	// mirrorTries is how often Mirror begins again with a list that changes between
	// two slices, before it reads on to the end.
	mirrorTries = 3
)

// Mirror appends the live destinations of vni to dst, in the order in which they
// became members, and returns the result. Where there are more than most, it
// appends none, and all is false. What it tells of a destination changes with
// changes that the feed carries, with time, and with packets that raise the
// expiry of a learned one (see LookupBatch). Safe for concurrent use; long lists are
// read in slices.
func (t *Table) Mirror(now Time, vni vxlan.VNI, most int, dst []Mirrored) (_ []Mirrored, all bool) {
	start := len(dst)
	var list *Destination // where the list lies that dst has the beginning of
	for i, tries := 0, 0; ; {
		t.mu.RLock()
		s := t.vnis[vni]
		if s == nil || len(s.dests) == 0 {
			t.mu.RUnlock()
			return dst[:start], true
		}
		// What is within the length of a list never moves: it is made anew for that.
		if list != &s.dests[0] {
			list, dst, i = &s.dests[0], dst[:start], 0
			tries++
		}
		end := len(s.dests)
		if tries <= mirrorTries {
			end = min(end, i+mirrorSlice)
		}
		off := t.nothingToLearn(s, now)
		for ; i < end; i++ {
			exp := Time(atomic.LoadInt64(&s.exps[i]))
			if exp <= now {
				continue
			}
			if len(dst)-start == most {
				t.mu.RUnlock()
				return dst[:start], false
			}
			dst = append(dst, s.mirrored(i, exp, now, off))
		}
		done := i == len(s.dests)
		t.mu.RUnlock()
		if done {
			return dst, true
		}
	}
}

// MirrorOne is Mirror for one address. It is false where that is no live
// destination of vni. Safe for concurrent use.
func (t *Table) MirrorOne(now Time, vni vxlan.VNI, addr netip.Addr) (Mirrored, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.vnis[vni]
	if s == nil {
		return Mirrored{}, false
	}
	a := addr.As16()
	m := t.find(s, &a)
	if m == none || s.members[m].dest == none {
		return Mirrored{}, false
	}
	i := int(s.members[m].dest)
	exp := Time(atomic.LoadInt64(&s.exps[i]))
	if exp <= now {
		return Mirrored{}, false
	}
	return s.mirrored(i, exp, now, t.nothingToLearn(s, now)), true
}

// nothingToLearn tells whether no sender in s can become a member by sending.
func (t *Table) nothingToLearn(s *segment, now Time) bool {
	return t.o.Learning == LearnOff || t.o.Learning == LearnKnown && !s.isKnown(now)
}

// mirrored returns destination i of s, which expires at exp. It decides as lookup
// does.
func (s *segment) mirrored(i int, exp, now Time, off bool) Mirrored {
	v := s.view(s.owners[i], now)
	return Mirrored{
		Destination: s.dests[i],
		Expires:     exp,
		Known:       off || v.claimed || v.static || v.data != none,
		Learned:     !off && !v.claimed && v.data != none,
	}
}
