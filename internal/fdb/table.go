// SPDX-License-Identifier: Apache-2.0

// Package fdb owns the table that says which VTEPs are members of which VNI,
// who said so, and until when. It does no I/O, keeps no clock and logs nothing:
// time is handed in, and what happened is returned, counted, or told to
// subscribers.
package fdb

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/vxlan"
)

// defaultTombstones is the number of tombstones where the options name none:
// some 4 MB.
const defaultTombstones = 65536

// A Table maps each VNI to the VTEPs that get its packets. It is safe for
// concurrent use. Lookups return a snapshot that the caller must not modify, so no
// lock is held while packets are sent.
type Table struct {
	seed maphash.Seed

	// excluding serialises Exclude, which lets go of mu on its way. It is taken
	// before mu.
	excluding sync.Mutex

	// mu guards what follows. A read lock is enough to raise the expiry of a Data
	// entry and of its destination, atomically; nothing else.
	mu       sync.RWMutex
	o        Options
	vnis     map[vxlan.VNI]*segment
	peak     int // the largest that vnis ever was; see shrink
	refs     []ref
	excluded map[[16]byte]Exclusion
	lists    [numLists][]*segment
	turn     int // whose turn it is to lose an entry
	tombs    tombstones
	turns    turns
	feeds    []*Feed
	touched  []*segment

	inUse, members      int
	bySource            [NumSources]int
	expired, evicted    uint64
	withdrawn, replaced uint64

	refused [NumRefusals]atomic.Uint64
}

// A ref is a segment and its earliest expiry, side by side, so that a sweep
// need not look at the segments that have nothing due.
type ref struct {
	due Time
	seg *segment
}

// New returns an empty table.
func New(o Options) *Table {
	t := &Table{
		seed:     maphash.MakeSeed(),
		vnis:     make(map[vxlan.VNI]*segment),
		excluded: make(map[[16]byte]Exclusion),
		tombs:    newTombstones(),
	}
	t.o = o.sound()
	return t
}

// Configure puts other options in force. What is over a lowered cap stays until
// it expires, but for tombstones, of which the oldest go. Learned entries live for
// another LearnHoldtime from when they were heard last, not from now.
func (t *Table) Configure(now Time, o Options) {
	o = o.sound()
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.o.LearnHoldtime
	t.o = o
	if before != o.LearnHoldtime && o.LearnHoldtime > 0 {
		t.rehold(now)
	}
}

// sound returns o with what is zero filled in.
func (o Options) sound() Options {
	o.VNIs = limit(o.VNIs, int(vxlan.MaxVNI)+1)
	o.Members = limit(o.Members, maxMembers)
	o.Entries = limit(o.Entries, maxEntries)
	o.Learned = limit(o.Learned, maxEntries)
	if o.MaxHoldtime <= 0 {
		o.MaxHoldtime = wireStatic
	}
	if o.Tombstones <= 0 {
		o.Tombstones = defaultTombstones
	}
	if o.LearnHoldtime <= 0 {
		o.Learning = LearnOff
	}
	return o
}

// rehold gives learned entries the expiry that follows from when they were heard
// last. Half a second is what that is off on average.
func (t *Table) rehold(now Time) {
	var res Result
	w := writer{t: t, now: now, res: &res}
	for i := len(t.refs) - 1; i >= 0; i-- {
		if w.full() {
			w.yield()
			if i = min(i, len(t.refs)-1); i < 0 {
				break
			}
		}
		s := t.refs[i].seg
		w.cost += costScan * len(s.entries)
		for e := range s.entries {
			if r := &s.entries[e]; r.own != freeOwn && r.source() == Data && now < Time(r.exp) {
				heard := Time(s.heard[e])*Time(time.Second) + Time(time.Second)
				w.cost += costUpdate
				w.set(s, uint32(e), heard.Add(t.o.LearnHoldtime))
			}
		}
	}
	w.settle()
}

func limit(n, most int) int {
	if n <= 0 {
		return most
	}
	return min(n, most)
}

// held returns the number of entries.
func (t *Table) held() int {
	n := 0
	for _, k := range t.bySource {
		n += k
	}
	return n
}

// shrink gives the memory of the map of VNIs back after most of them have gone:
// a Go map never does by itself. A copy of more than a few thousand VNIs would
// hold the lock for too long.
func (t *Table) shrink() {
	t.peak = max(t.peak, len(t.vnis)+1)
	if t.peak < 64 || len(t.vnis) > t.peak/8 || len(t.vnis) > 4096 {
		return
	}
	vnis := make(map[vxlan.VNI]*segment, len(t.vnis))
	for vni, s := range t.vnis {
		vnis[vni] = s
	}
	t.vnis, t.peak = vnis, len(vnis)
	t.refs = slices.Clone(t.refs)
}

// Members appends the distinct live addresses of vni to dst, without the
// excluded ones, in the order in which they became members, and returns the
// result.
func (t *Table) Members(now Time, vni vxlan.VNI, dst []netip.Addr) []netip.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.vnis[vni]
	if s == nil {
		return dst
	}
	snap := s.snapshot()
	for i := range snap.Destinations {
		if snap.Live(i, now) {
			dst = append(dst, snap.Destinations[i].Addr())
		}
	}
	return dst
}

// vniSlice is how many VNIs are read under one read lock.
const vniSlice = 8192

// VNIs appends every VNI with at least one entry to dst, sorted, and returns
// the result. A VNI whose last entry has expired counts until it is swept.
// What comes or goes during the call may be in it or not.
func (t *Table) VNIs(dst []vxlan.VNI) []vxlan.VNI {
	start := len(dst)
	t.mu.RLock()
	// Backwards for the same reason as in Sweep.
	for i := len(t.refs) - 1; i >= 0; i-- {
		dst = append(dst, t.refs[i].seg.vni)
		if i%vniSlice == 0 {
			t.mu.RUnlock()
			t.mu.RLock()
			i = min(i, len(t.refs))
		}
	}
	t.mu.RUnlock()
	slices.Sort(dst[start:])
	return dst[:start+len(slices.Compact(dst[start:]))]
}

// Entries appends the live entries of vni to dst, in no particular order, and
// returns the result. Those of excluded addresses are among them.
func (t *Table) Entries(now Time, vni vxlan.VNI, dst []Entry) []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.vnis[vni]
	if s == nil {
		return dst
	}
	for i := range s.entries {
		if s.entries[i].own == freeOwn {
			continue
		}
		if exp := Time(atomic.LoadInt64(&s.entries[i].exp)); now < exp {
			dst = append(dst, s.show(uint32(i), exp))
		}
	}
	return dst
}

// show returns entry e, which expires at exp, as callers see it.
func (s *segment) show(e uint32, exp Time) Entry {
	r := &s.entries[e]
	return Entry{
		Heard:      Time(atomic.LoadUint32(&s.heard[e])) * Time(time.Second),
		VNI:        s.vni,
		Addr:       addrOf(s.members[r.member()].addr),
		Identifier: r.id,
		Source:     r.source(),
		Expires:    exp,
	}
}

// Stats are the table's numbers.
type Stats struct {
	// VNIs, Members (distinct pairs of VNI and address), Entries, BySource and
	// Tombstones are what the table holds now, with what has expired but was not
	// swept yet.
	VNIs, Members, Entries int
	BySource               [NumSources]int
	Tombstones             int
	// The rest counts entries since New, as Result does for one call.
	Expired, Evicted    uint64
	Withdrawn, Replaced uint64
	Refused             [NumRefusals]uint64
}

// Stats returns the table's numbers.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := Stats{
		VNIs:       t.inUse,
		Members:    t.members,
		Entries:    t.held(),
		BySource:   t.bySource,
		Tombstones: t.tombs.n,
		Expired:    t.expired,
		Evicted:    t.evicted,
		Withdrawn:  t.withdrawn,
		Replaced:   t.replaced,
	}
	for why := range t.refused {
		out.Refused[why] = t.refused[why].Load()
	}
	return out
}
