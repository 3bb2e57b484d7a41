// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"sync/atomic"

	"vxsnd/internal/vxlan"
)

const (
	// maxMembers and maxEntries are what the numbers below can name in one VNI.
	maxMembers = 1 << 28
	maxEntries = 1 << 30

	// sourceBits of entry.own hold the source; freeOwn marks a free record.
	sourceBits = 3
	sourceMask = 1<<sourceBits - 1
	freeOwn    = none
)

// A member is one address of a VNI.
type member struct {
	addr [16]byte
	// first is the first of its entries; none in a free record.
	first uint32
	// dest is its place among the destinations, none where it is excluded. In a
	// free record it is the next free one.
	dest uint32
}

// An entry is one reason for a member to be one.
type entry struct {
	id uint64
	// exp is the expiry. Of a Data entry it is stored to atomically under the read
	// lock, so readers load it atomically.
	exp int64
	// next is the next entry of the member, or the next free record.
	next uint32
	// own is the member, shifted, and the source.
	own uint32
}

func (e *entry) source() Source { return Source(e.own & sourceMask) }
func (e *entry) member() uint32 { return e.own >> sourceBits }

// claims tells whether e stands under the rules of identifiers.
func (e *entry) claims() bool { return e.id != 0 && e.source().registrant() }

// A segment is one VNI. Members and entries are dense arrays of records without
// pointers, with the free ones chained; two indexes find a member by address and an
// entry by identifier. dests, exps and owners run parallel: what snapshots show, the
// latest expiry of the member's entries, and the member. Snapshots share dests and exps:
// an element within the length of a published slice is never changed (exps: but
// atomically), appending behind it is safe, and a removal makes new arrays.
type segment struct {
	vni vxlan.VNI
	// ref is its place in Table.refs.
	ref int

	members    []member
	freeMember uint32
	live       int // members in use

	entries   []entry
	heard     []uint32 // parallel to entries: second of the clock in which each was told last; of Data stored atomically
	freeEntry uint32
	held      int // entries in use
	data      int // Data entries among them
	sole      int // members with a Data entry alone
	hand      int // where the search for an entry to evict goes on

	byAddr index // member by address
	byID   index // a registrant's entry by identifier and family

	dests  []Destination
	exps   []int64
	owners []uint32

	// due is no later than the earliest expiry of the entries.
	due Time
	// known is the latest expiry of the entries that are not Data.
	known Time

	// in is the place in each of the table's lists, plus one.
	in [numLists]int

	// The rest is settled before the write lock is let go of (see writer.settle).
	touched bool // has something to settle
	gone    int  // destinations whose owner is none
	stale   bool // known may be too late
	charge  int  // see writer.charge
}

func newSegment(vni vxlan.VNI) *segment {
	return &segment{vni: vni, freeMember: none, freeEntry: none, due: Never, known: math.MinInt64}
}

// snapshot returns what a lookup shows. The capacities end with the lengths, so
// that nobody appends into the shared arrays.
func (s *segment) snapshot() Snapshot {
	n := len(s.dests)
	return Snapshot{Destinations: s.dests[:n:n], expires: s.exps[:n:n], due: s.due}
}

func (t *Table) hashAddr(addr *[16]byte) uint64 { return maphash.Bytes(t.seed, addr[:]) }

func (t *Table) hashID(id uint64, v4 bool) uint64 {
	var b [9]byte
	binary.LittleEndian.PutUint64(b[:], id)
	if v4 {
		b[8] = 1
	}
	return maphash.Bytes(t.seed, b[:])
}

// memberHash and entryHash return the function that the indexes ask for the
// hash of a record.
func (t *Table) memberHash(s *segment) func(uint32) uint64 {
	return func(m uint32) uint64 { return t.hashAddr(&s.members[m].addr) }
}

func (t *Table) entryHash(s *segment) func(uint32) uint64 {
	return func(e uint32) uint64 {
		return t.hashID(s.entries[e].id, isV4(s.members[s.entries[e].member()].addr))
	}
}

// find returns the member with this address, or none.
func (t *Table) find(s *segment, addr *[16]byte) uint32 {
	p := s.byAddr.probe(t.hashAddr(addr))
	for {
		m := p.next()
		if m == none || s.members[m].addr == *addr {
			return m
		}
	}
}

// owner returns the member that holds id in this family, or none.
func (t *Table) owner(s *segment, id uint64, v4 bool) uint32 {
	if s.byID.used == 0 {
		return none
	}
	p := s.byID.probe(t.hashID(id, v4))
	for {
		e := p.next()
		if e == none {
			return none
		}
		m := s.entries[e].member()
		if s.entries[e].id == id && isV4(s.members[m].addr) == v4 {
			return m
		}
	}
}

// entryOf returns the entry of member m with this identifier and source, or
// none.
func (s *segment) entryOf(m uint32, id uint64, src Source) uint32 {
	for e := s.members[m].first; e != none; e = s.entries[e].next {
		if s.entries[e].id == id && s.entries[e].source() == src {
			return e
		}
	}
	return none
}

// isSole tells whether m has a Data entry alone.
func (s *segment) isSole(m uint32) bool {
	e := s.members[m].first
	return e != none && s.entries[e].source() == Data && s.entries[e].next == none
}

// latest returns the latest expiry of m's entries.
func (s *segment) latest(m uint32) int64 {
	exp := int64(math.MinInt64)
	for e := s.members[m].first; e != none; e = s.entries[e].next {
		exp = max(exp, s.entries[e].exp)
	}
	return exp
}

// isKnown tells whether the VNI has a live entry that is not Data.
func (s *segment) isKnown(now Time) bool { return s.held > s.data && now < s.known }

// rebuild makes a new list of destinations without those that are gone. owners
// is not shared and stays where it is.
func (s *segment) rebuild() {
	n := len(s.dests) - s.gone
	first := slices.Index(s.owners, none)
	// Appending to nothing spares clearing what is written over right away.
	dests := append([]Destination(nil), s.dests[:n+1]...)[:first]
	exps := append([]int64(nil), s.exps[:n+1]...)[:first]
	for i := first; i < len(s.owners); i++ {
		m := s.owners[i]
		if m == none {
			continue
		}
		s.members[m].dest = uint32(len(dests))
		s.owners[len(dests)] = m
		dests = append(dests, s.dests[i])
		exps = append(exps, s.exps[i])
	}
	s.dests, s.exps, s.owners, s.gone = dests, exps, s.owners[:n], 0
	if cap(s.owners) > 2*n+8 {
		s.owners = slices.Clone(s.owners)
	}
}

// reexpire stores the latest expiry of m's entries where snapshots see it.
func (s *segment) reexpire(m uint32) {
	if d := s.members[m].dest; d != none {
		atomic.StoreInt64(&s.exps[d], s.latest(m))
	}
}

// sparse tells whether most of the records are free ones.
func (s *segment) sparse() bool {
	return len(s.members) > 64 && s.live < len(s.members)/4 ||
		len(s.entries) > 64 && s.held < len(s.entries)/4
}

// compact moves the records together. Its work is that of the live records, plus
// one look at each free one.
func (t *Table) compact(s *segment) {
	members, entries := make([]member, 0, s.live), make([]entry, 0, s.held)
	heard := make([]uint32, 0, s.held)
	for _, m := range s.members {
		if m.first == none {
			continue
		}
		n := uint32(len(members))
		link := &m.first
		for e := m.first; e != none; {
			moved := s.entries[e]
			heard = append(heard, s.heard[e])
			e = moved.next
			moved.own = n<<sourceBits | uint32(moved.source())
			*link = uint32(len(entries))
			entries = append(entries, moved)
			link = &entries[len(entries)-1].next
		}
		if m.dest != none {
			s.owners[m.dest] = n
		}
		members = append(members, m)
	}
	s.members, s.entries, s.heard = members, entries, heard
	s.freeMember, s.freeEntry, s.hand = none, none, 0
	s.byAddr, s.byID = index{}, index{}
	for m := range members {
		s.byAddr.insert(t.hashAddr(&members[m].addr), uint32(m), t.memberHash(s))
	}
	for e := range entries {
		if entries[e].claims() {
			t.claim(s, uint32(e))
		}
	}
}

// claim puts e into the index of identifiers, unless the other carrier's entry
// for the same member stands there. It returns what insert does.
func (t *Table) claim(s *segment, e uint32) (moved int) {
	v4 := isV4(s.members[s.entries[e].member()].addr)
	if t.owner(s, s.entries[e].id, v4) == none {
		moved = s.byID.insert(t.hashID(s.entries[e].id, v4), e, t.entryHash(s))
	}
	return moved
}
