// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"math"
	"sync/atomic"
)

// LookupBatch answers each of ls, under one read lock and without allocating.
// A source that is a learned member is refreshed on the way: its expiry is
// stored atomically, so any number of workers may call this at once. An expired one
// is not: it has to be learned anew.
func (t *Table) LookupBatch(now Time, ls []Lookup) {
	// Counted here and added once: the workers share the counters' cache line.
	var refused [NumRefusals]uint32
	t.mu.RLock()
	touch := touch{exp: int64(now.Add(t.o.LearnHoldtime)), heard: now.second()}
	// In steps over the whole batch: within a step the packets do not depend on each
	// other, so the processor waits for the memory of many at once.
	for i := range ls {
		t.locate(&ls[i])
	}
	for i := range ls {
		ls[i].guess()
	}
	for i := range ls {
		t.verify(&ls[i])
	}
	for i := range ls {
		t.lookup(now, touch, &ls[i], &refused)
	}
	t.mu.RUnlock()
	for why, n := range refused {
		if n > 0 {
			t.refused[why].Add(uint64(n))
		}
	}
}

// Peek answers l as LookupBatch does, and changes and counts nothing: it is for
// who asks what would happen. Where the table would refuse to learn Source,
// refused is true and why the reason.
func (t *Table) Peek(now Time, l *Lookup) (why Refusal, refused bool) {
	var counts [NumRefusals]uint32
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.locate(l)
	l.guess()
	t.verify(l)
	t.lookup(now, touch{exp: math.MinInt64}, l, &counts)
	for why, n := range counts {
		if n > 0 {
			return Refusal(why), true
		}
	}
	return 0, false
}

// A touch is what a packet of a learned member raises: the expiry, and the second
// in which it was heard.
type touch struct {
	exp   int64
	heard uint32
}

// locate finds the VNI, unless the source is excluded.
func (t *Table) locate(l *Lookup) {
	l.Learn, l.Snapshot, l.seg = false, Snapshot{}, nil
	addr := l.Source.As16()
	if l.Refused = t.excluded[addr]; l.Refused == NotExcluded {
		l.seg = t.vnis[l.VNI]
		l.hash = t.hashAddr(&addr)
	}
}

// guess finds where the source is, if it is a member, by the index alone.
func (l *Lookup) guess() {
	if l.seg != nil {
		l.Snapshot = l.seg.snapshot()
		p := l.seg.byAddr.probe(l.hash)
		l.at = p.next()
	}
}

// verify looks at the member that was guessed, and for the right one if it is
// another.
func (t *Table) verify(l *Lookup) {
	if l.seg == nil || l.at == none {
		return
	}
	if addr := l.Source.As16(); l.seg.members[l.at].addr != addr {
		l.at = t.find(l.seg, &addr)
	}
}

func (t *Table) lookup(now Time, touch touch, l *Lookup, refused *[NumRefusals]uint32) {
	if l.Refused != NotExcluded {
		return
	}
	s := l.seg
	l.seg = nil // the caller may keep l for long
	if t.o.Learning == LearnOff || t.o.Learning == LearnKnown && (s == nil || !s.isKnown(now)) {
		return
	}
	isNew := true
	if s != nil {
		if m := l.at; m != none {
			isNew = false
			v := s.view(m, now)
			switch {
			case v.claimed:
				return
			case v.data != none:
				storeMax(&s.entries[v.data].exp, touch.exp)
				if atomic.LoadUint32(&s.heard[v.data]) < touch.heard {
					atomic.StoreUint32(&s.heard[v.data], touch.heard)
				}
				if d := s.members[m].dest; d != none {
					storeMax(&s.exps[d], touch.exp)
				}
				return
			case v.static:
				return
			}
		}
	}
	switch {
	case !l.VNI.Valid():
		refused[RefusedInvalid]++
	case !Usable(l.Source):
		refused[RefusedAddress]++
	default:
		why, ok := t.roomToLearn(s, isNew)
		if !ok {
			refused[why]++
		}
		l.Learn = ok
	}
}

// A view is what learning wants to know about a member.
type view struct {
	data    uint32 // its live Data entry, or none
	claimed bool   // a registrant holds it under an identifier and speaks for it
	static  bool   // it has an entry that does not age: nothing to learn
}

func (s *segment) view(m uint32, now Time) view {
	v := view{data: none}
	for n := s.members[m].first; n != none; {
		e := &s.entries[n]
		exp := Time(atomic.LoadInt64(&e.exp))
		if now < exp {
			if e.source() == Data {
				v.data = n
			}
			v.claimed = v.claimed || e.claims()
			v.static = v.static || exp == Never
		}
		n = e.next
	}
	return v
}

// storeMax stores v unless a larger value stands there.
func storeMax(p *int64, v int64) {
	for {
		old := atomic.LoadInt64(p)
		if old >= v || atomic.CompareAndSwapInt64(p, old, v) {
			return
		}
	}
}
