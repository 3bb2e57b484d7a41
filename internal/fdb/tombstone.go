// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"vxsnd/internal/vxlan"
)

// tombSlice is how many tombstones one sweep looks at: at one sweep a second
// 65536 of them are seen every minute.
const tombSlice = 1024

// A tombKey names what was withdrawn. The source is not in it: whoever still
// holds the entry tells it as a peer's, whosever it was here.
type tombKey struct {
	addr [16]byte
	id   uint64
	vni  vxlan.VNI
}

func (k *tombKey) hash(t *Table) uint64 {
	var b [28]byte
	copy(b[:], k.addr[:])
	binary.LittleEndian.PutUint64(b[16:], k.id)
	binary.LittleEndian.PutUint32(b[24:], uint32(k.vni))
	return maphash.Bytes(t.seed, b[:])
}

// A tombstone keeps a dump or a repair from reviving what was withdrawn. It
// stands for as long as anybody could hold the entry: MaxHoldtime, the longest time that
// a registration we did not see could have asked for, or what the entry had left if
// that is longer. Elsewhere a static entry lives for ever, and so does its
// tombstone, until the number of tombstones pushes it out.
type tombstone struct {
	key          tombKey
	until        int64
	older, newer uint32 // none at the ends; in a free record newer is the next free one
	used         bool
}

// tombstones are a bounded queue, found by key. The zero value is not usable.
type tombstones struct {
	slots          []tombstone
	byKey          index
	free           uint32
	oldest, newest uint32
	n              int
	hand           int
}

func newTombstones() tombstones { return tombstones{free: none, oldest: none, newest: none} }

func (ts *tombstones) hash(t *Table) func(uint32) uint64 {
	return func(n uint32) uint64 { return ts.slots[n].key.hash(t) }
}

func (ts *tombstones) find(t *Table, k *tombKey) uint32 {
	if ts.n == 0 {
		return none
	}
	p := ts.byKey.probe(k.hash(t))
	for {
		n := p.next()
		if n == none || ts.slots[n].key == *k {
			return n
		}
	}
}

// has tells whether k has a tombstone that stands at now.
func (ts *tombstones) has(t *Table, k *tombKey, now Time) bool {
	n := ts.find(t, k)
	return n != none && now < Time(ts.slots[n].until)
}

// Withdrawn tells whether a repair would not bring back what this names, since it
// was withdrawn.
func (t *Table) Withdrawn(now Time, vni vxlan.VNI, addr netip.Addr, id uint64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.tombs.has(t, &tombKey{addr: addr.As16(), id: id, vni: vni}, now)
}

// add makes a tombstone for k, as the newest, and drops the oldest ones that
// there is no room for.
func (ts *tombstones) add(t *Table, k *tombKey, until Time) {
	if n := ts.find(t, k); n != none {
		until = max(until, Time(ts.slots[n].until))
		ts.removeSlot(t, n)
	}
	// One more than needed, so that a lowered limit is reached in time.
	for i := 0; i < 2 && ts.n >= t.o.Tombstones; i++ {
		ts.removeSlot(t, ts.oldest)
	}
	n := ts.free
	if n != none {
		ts.free = ts.slots[n].newer
	} else {
		if len(ts.slots) == cap(ts.slots) {
			ts.slots = extend(ts.slots)
		}
		n = uint32(len(ts.slots))
		ts.slots = append(ts.slots, tombstone{})
	}
	ts.slots[n] = tombstone{key: *k, until: int64(until), older: ts.newest, newer: none, used: true}
	if ts.newest != none {
		ts.slots[ts.newest].newer = n
	} else {
		ts.oldest = n
	}
	ts.newest = n
	ts.byKey.insert(k.hash(t), n, ts.hash(t))
	ts.n++
}

// remove takes k's tombstone away, if there is one.
func (ts *tombstones) remove(t *Table, k *tombKey) {
	if n := ts.find(t, k); n != none {
		ts.removeSlot(t, n)
	}
}

func (ts *tombstones) removeSlot(t *Table, n uint32) {
	s := ts.slots[n]
	ts.byKey.remove(s.key.hash(t), n, ts.hash(t))
	if s.older != none {
		ts.slots[s.older].newer = s.newer
	} else {
		ts.oldest = s.newer
	}
	if s.newer != none {
		ts.slots[s.newer].older = s.older
	} else {
		ts.newest = s.older
	}
	ts.slots[n] = tombstone{newer: ts.free}
	ts.free = n
	if ts.n--; ts.n == 0 {
		*ts = newTombstones()
	}
}

// sweep removes what no longer stands among the next tombSlice tombstones.
func (ts *tombstones) sweep(t *Table, now Time) {
	for range min(tombSlice, len(ts.slots)) {
		if ts.hand >= len(ts.slots) {
			ts.hand = 0
		}
		if ts.n == 0 {
			return
		}
		if s := &ts.slots[ts.hand]; s.used && Time(s.until) <= now {
			ts.removeSlot(t, uint32(ts.hand))
		}
		ts.hand++
	}
}
