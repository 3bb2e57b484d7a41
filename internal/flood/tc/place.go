// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"vxsnd/internal/fdb"
)

// errFull says that the maps have no room for another VNI.
var errFull = errors.New("more VNIs than the kernel's maps have room for")

// maxHold bounds the holdtime in the maps, so that no sum with it is beyond
// fdb.Never: 73 years.
const maxHold = time.Duration(1 << 61)

// storeHold has the program extend the life of learned members by the holdtime
// that is in force.
func (m *mirror) storeHold() {
	atomic.StoreUint64(&m.maps.settings.LearnHold, uint64(m.holdtime()))
}

func (m *mirror) holdtime() time.Duration { return min(max(m.now.hold, 0), maxHold) }

// place makes the members in the buffer, which match has found, those that the
// program floods to. What a packet finds is the list of before or the one of now:
// a member behind the end of a list is there before the word counts it, and where
// one is to go the list is made anew. It returns how many members had an expiry
// that they should not have.
func (m *mirror) place(now fdb.Time, v *vni, same bool, mtu int) (mended int) {
	n := len(m.buffer)
	due := fdb.Never
	if v.count > 0 && same && n <= classes[v.class] {
		records := m.block(v.at, n)
		for i := range records {
			if i >= v.count {
				m.write(&records[i], &m.buffer[i], m.next[i])
			} else if m.refresh(&records[i], &m.buffer[i]) {
				mended++
			}
			due = min(due, m.dueOf(now, &m.buffer[i]))
		}
		m.stats.Members += n - v.count
		m.point(v, n, mtu)
		v.due = due
		m.keep(v, m.next)
		return mended
	}

	class := classOf(n)
	at, err := m.blocks.take(class)
	if err == nil {
		if err = m.enlist(v); err != nil {
			m.blocks.give(at)
		}
	}
	if err != nil {
		m.full(err)
		m.toRaw(v, noRoom)
		m.keep(v, m.next)
		m.keep(v, nil)
		return 0
	}
	old := *v
	before := m.block(old.at, old.count)
	records := m.block(at, n)
	for i := range records {
		d := &m.buffer[i]
		m.write(&records[i], d, m.next[i])
		due = min(due, m.dueOf(now, d))
		if from := m.from[i]; from >= 0 && old.count > 0 {
			if m.carry(&records[i], &before[from], d) {
				mended++
			}
		}
	}
	v.at, v.class, v.due = at, class, due
	m.stats.Members += n
	m.point(v, n, mtu)
	if old.count > 0 {
		m.discard(v, block{old.id, old.at, old.class, old.count})
	}
	m.keep(v, m.next)
	return mended
}

// joined counts the members in the buffer that match has not found in the list of
// before, and that were not left out of it.
func (m *mirror) joined(v *vni) (n int) {
	for i, from := range m.from {
		if from < 0 && !slices.Contains(v.late, m.next[i]) {
			n++
		}
	}
	return n
}

// left counts the live members of a list of before that match has not found
// in the buffer.
func (m *mirror) left(now fdb.Time, before []programMember) (n int) {
	at := 0
	for i := range before {
		for at < len(m.from) && m.from[at] < int32(i) {
			at++
		}
		if gone := at == len(m.from) || m.from[at] != int32(i); gone && live(&before[i], now) {
			n++
		}
	}
	return n
}

func live(r *programMember, now fdb.Time) bool { return atomic.LoadUint64(&r.Expires) > uint64(now) }

// alive counts the members to which the program floods a VNI.
func (m *mirror) alive(v *vni, now fdb.Time) (n int) {
	records := m.block(v.at, v.count)
	for i := range records {
		if live(&records[i], now) {
			n++
		}
	}
	return n
}

// dueOf returns when the table has to be asked about a member again. The program
// may lower the expiry of a learned member to what follows from its last packet, as
// it stores what user space has just raised.
func (m *mirror) dueOf(now fdb.Time, d *fdb.Mirrored) fdb.Time {
	if d.Learned {
		return min(d.Expires, now.Add(m.holdtime()))
	}
	return d.Expires
}

// point makes the word of a VNI tell of its block.
func (m *mirror) point(v *vni, count, mtu int) {
	v.count, v.mtu = count, mtu
	m.because(v, inKernel)
	w := v.word()
	if p := &m.maps.slots[v.slot].Word; atomic.LoadUint64(p) != w {
		atomic.StoreUint64(p, w)
	}
}

// word returns the word of a VNI in the kernel.
func (v *vni) word() uint64 { return uint64(makeWord(v.count, v.mtu, v.at)) }

// flags returns what a record has beside the index of its destination.
func flags(d *fdb.Mirrored) uint32 {
	var f uint32
	if d.Known {
		f |= memberKnown
	}
	if d.Learned {
		f |= memberLearned
	}
	return f
}

// write makes a record of a member. No word counts it yet, so nobody reads it.
func (m *mirror) write(r *programMember, d *fdb.Mirrored, dest uint32) {
	*r = programMember{Addr: network4(d), Dest: dest | flags(d), Expires: uint64(d.Expires)}
}

// carry has a record that nobody reads yet go on from the one of before. It tells
// whether that was not as it should be.
func (m *mirror) carry(r, before *programMember, d *fdb.Mirrored) (wrong bool) {
	was := atomic.LoadUint64(&before.Expires)
	r.Expires = m.expiry(before, d)
	return !d.Learned && was != r.Expires && atomic.LoadUint32(&before.Dest)&memberLearned == 0
}

// refresh makes a record that the program works with say what the table says. It
// tells whether its expiry was not as it should be.
func (m *mirror) refresh(r *programMember, d *fdb.Mirrored) (wrong bool) {
	was := atomic.LoadUint32(&r.Dest)
	if f := was&destMask | flags(d); was != f {
		atomic.StoreUint32(&r.Dest, f)
	}
	for {
		old := atomic.LoadUint64(&r.Expires)
		expires := m.expiry(r, d)
		if old == expires {
			return wrong
		}
		// Packets change the expiry of learned members alone.
		wrong = (was|flags(d))&memberLearned == 0
		if atomic.CompareAndSwapUint64(&r.Expires, old, expires) {
			return wrong
		}
	}
}

// destMask is the index of the destination in a record.
const destMask = memberKnown - 1

// expiry returns when a member ceases to be one that the table tells of, and that
// r is the record of. What it has sent since the table was told counts.
func (m *mirror) expiry(r *programMember, d *fdb.Mirrored) uint64 {
	expires := uint64(d.Expires)
	if d.Learned && atomic.LoadUint32(&r.Packets) > 0 {
		seen := fdb.Time(atomic.LoadUint64(&r.Seen))
		expires = max(expires, uint64(seen.Add(m.holdtime())))
	}
	return expires
}
