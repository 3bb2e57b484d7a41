// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"sync/atomic"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// activity takes in what the program counted, and what it saw of members that
// sent.
func (m *mirror) activity() {
	for _, v := range m.list {
		// The program counts a packet for the VNI after it has for the member.
		if v.listed && m.foldVNI(v) && v.count > 0 {
			m.look(v)
		}
	}
}

// foldVNI takes in what the program counted for a VNI, and tells whether there was
// anything.
func (m *mirror) foldVNI(v *vni) bool {
	c := m.fold(v.id, v.slot)
	v.share.bytes += c.bytes
	v.share.copyBytes += c.copyBytes
	for i, n := range c.drops {
		v.share.drops[i] += n
	}
	return c != (slotCount{})
}

// fold takes in what the program counted in a slot, and returns it.
func (m *mirror) fold(id vxlan.VNI, slot uint32) slotCount {
	s := &m.maps.slots[slot]
	c := slotCount{packets: take(&s.Packets), bytes: take(&s.Bytes), copies: take(&s.Copies), copyBytes: take(&s.CopyBytes)}
	for i := range s.Drops {
		c.drops[i] = take(&s.Drops[i])
	}
	if c != (slotCount{}) {
		m.sink.flooded(id, c)
	}
	return c
}

// take returns a counter and sets it to zero.
func take(p *uint64) uint64 {
	if atomic.LoadUint64(p) == 0 {
		return 0
	}
	return atomic.SwapUint64(p, 0)
}

// look takes in what the program saw of the members of a VNI.
func (m *mirror) look(v *vni) {
	records := m.block(v.at, v.count)
	m.work += len(records) / 16
	for i := range records {
		m.sighted(v.id, &records[i])
	}
	m.tell(v.id, &v.share)
}

// lookBack takes in what the program saw of the members in a block that it does
// not look at any more, and has what it saw last count for those of now.
func (m *mirror) lookBack(b *block) {
	v := m.vnis[b.vni]
	records := m.block(b.at, b.count)
	for i := range records {
		r := &records[i]
		if !m.sighted(b.vni, r) || r.Dest&memberLearned == 0 || v == nil {
			continue
		}
		if now := m.find(v, r.Addr); now != nil && atomic.LoadUint32(&now.Dest)&memberLearned != 0 {
			raise(&now.Expires, uint64(fdb.Time(r.Seen).Add(m.holdtime())))
		}
	}
	share := new(slotCount)
	if v != nil && v.listed {
		m.foldVNI(v)
		share = &v.share
	}
	m.tell(b.vni, share)
}

// sighted takes in what the program saw of one member, for tell, and tells whether
// that was anything.
func (m *mirror) sighted(id vxlan.VNI, r *programMember) bool {
	if atomic.LoadUint32(&r.Packets) == 0 {
		return false
	}
	s := sighting{
		addr: address(r.Addr), packets: atomic.SwapUint32(&r.Packets, 0), copies: atomic.SwapUint32(&r.Copies, 0),
		seen: fdb.Time(atomic.LoadUint64(&r.Seen)),
	}
	l := &m.lookup[0]
	*l = fdb.Lookup{VNI: id, Source: s.addr}
	m.table.LookupBatch(s.seen, m.lookup[:])
	// What the program saw comes with delay: the table may have let go of a learned
	// member that has just sent. Of others it knows better.
	if l.Learn && atomic.LoadUint32(&r.Dest)&memberLearned != 0 && s.seen.Add(m.holdtime()) > m.clock() {
		m.learn[0] = fdb.Learned{VNI: id, Addr: s.addr}
		m.table.Learn(s.seen, m.learn[:])
	}
	m.sightings = append(m.sightings, s)
	return true
}

// find returns the record of a member that the program floods to, nil if there is
// none.
func (m *mirror) find(v *vni, addr uint32) *programMember {
	if v.count == 0 {
		return nil
	}
	n, ok := m.dests.byAddr[addr]
	if !ok {
		return nil
	}
	for i, d := range v.dests {
		if d == n {
			return &m.block(v.at, v.count)[i]
		}
	}
	return nil
}

// raise stores v unless a larger value stands there.
func raise(p *uint64, v uint64) {
	for {
		old := atomic.LoadUint64(p)
		if old >= v || atomic.CompareAndSwapUint64(p, old, v) {
			return
		}
	}
}
