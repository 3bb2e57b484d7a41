// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// network returns an IPv4 address as it lies in a packet.
func network(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// address is the reverse of network.
func address(n uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// network4 is network of a destination, which must be IPv4.
func network4(d *fdb.Mirrored) uint32 {
	b := d.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// block returns the records of a block.
func (m *mirror) block(at position, count int) []programMember {
	if count == 0 {
		return nil
	}
	return m.maps.members(at.segment())[at.index():][:count]
}

// because notes why raw has a VNI, or that it has not.
func (m *mirror) because(v *vni, why reason) {
	m.raws[v.why]--
	m.raws[why]++
	v.why = why
}

// update makes the maps say of a VNI what the table says. It returns how many
// members were not as they should be, where the program had the VNI before.
func (m *mirror) update(id vxlan.VNI) (mended int) {
	v := m.vnis[id]
	now := m.clock()
	most := m.now.most
	if m.now.raw {
		most = 0 // that there are members is all that counts
	}
	if v != nil && v.count > 0 {
		// What the program has seen keeps members in the table.
		m.foldVNI(v)
		m.look(v)
	}
	var all bool
	m.buffer, all = m.table.Mirror(now, id, most, m.buffer[:0])
	m.work += len(m.buffer) + 16
	if all && len(m.buffer) == 0 {
		if v != nil {
			mended = m.alive(v, now)
			m.remove(v)
		}
		return mended
	}
	if v == nil {
		v = &vni{id: id, index: len(m.list), why: notReplicated}
		m.vnis[id], m.list = v, append(m.list, v)
		m.raws[v.why]++
	}
	why := m.reasonFor(id, all)
	if why != inKernel && why != held {
		m.toRaw(v, why)
		m.keep(v, nil)
		m.forgetLate(v)
		return 0
	}
	same, ok := m.match(v)
	if !ok {
		m.toRaw(v, noRoom)
		m.keep(v, nil)
		m.forgetLate(v)
		return 0
	}
	if v.count > 0 {
		mended = m.joined(v) + m.left(now, m.block(v.at, v.count))
	}
	m.leaveOut(now, v, why)
	mtu := 0
	if why == inKernel {
		mtu, why = m.ways(m.next)
	}
	if why != inKernel {
		m.toRaw(v, why)
		m.keep(v, m.next)
		return mended
	}
	return mended + m.place(now, v, same, mtu)
}

// reasonFor tells why raw has to have a VNI, as far as its members tell.
func (m *mirror) reasonFor(id vxlan.VNI, all bool) reason {
	switch _, on := m.holds[id]; {
	case m.now.raw:
		return notReplicated
	case !all:
		return tooMany
	case slices.ContainsFunc(m.buffer, func(d fdb.Mirrored) bool { return !d.Is4() }):
		return otherFamily
	case on:
		return held
	}
	return inKernel
}

// match finds the destinations of the members in the buffer, and where each was
// in the list of before, -1 where it was not. Those that go on are the same ones,
// those that are new are held, and those that go are let go of later. same tells
// that all of before are where they were. It is not ok if there is no room.
func (m *mirror) match(v *vni) (same, ok bool) {
	m.next, m.from = m.next[:0], m.from[:0]
	d, old := m.dests, v.dests
	same = true
	at := 0 // the list of before is gone through to here
	for i := range m.buffer {
		addr := network4(&m.buffer[i])
		if at < len(old) && d.all[old[at]].addr == addr {
			m.next, m.from = append(m.next, old[at]), append(m.from, int32(at))
			at++
			continue
		}
		same = same && at == len(old)
		// Members join at the end and leave anywhere, so what is not there has gone.
		if n, ok := d.byAddr[addr]; ok && at < len(old) {
			if k := slices.Index(old[at:], n); k >= 0 {
				m.gone.dests = append(m.gone.dests, old[at:at+k]...)
				m.next, m.from = append(m.next, n), append(m.from, int32(at+k))
				at += k + 1
				continue
			}
		}
		n, err := d.hold(m.clock(), addr)
		if err != nil {
			m.full(err)
			m.dropNew()
			// Those of before that are let go of already are not let go of again.
			v.dests = append(m.kept(), old[at:]...)
			return false, false
		}
		m.next, m.from = append(m.next, n), append(m.from, -1)
	}
	m.gone.dests = append(m.gone.dests, old[at:]...)
	return same && at == len(old), true
}

// dropNew lets go of destinations that match has just held.
func (m *mirror) dropNew() {
	for i, n := range m.next {
		if m.from[i] < 0 {
			m.gone.dests = append(m.gone.dests, n)
		}
	}
}

// kept returns the destinations that match has found in the list of before.
func (m *mirror) kept() []uint32 {
	var out []uint32
	for i, n := range m.next {
		if m.from[i] >= 0 {
			out = append(out, n)
		}
	}
	return out
}

// full reports that the maps are.
func (m *mirror) full(err error) {
	m.repeats.Do("full", func(count int) {
		m.log.WithError(err).WithField("count", count).Warn("no room in the kernel, raw floods what does not fit")
	})
}

// keep makes dests those that a VNI holds. Where they are others than match
// found, those of before are let go of.
func (m *mirror) keep(v *vni, dests []uint32) {
	if dests == nil {
		m.gone.dests = append(m.gone.dests, v.dests...)
		v.dests = nil
		return
	}
	if cap(v.dests) < len(dests) || cap(v.dests) > 2*len(dests)+8 {
		v.dests = make([]uint32, 0, len(dests)+len(dests)/8)
	}
	v.dests = append(v.dests[:0], dests...)
}

// toRaw has the program hand up all packets of a VNI.
func (m *mirror) toRaw(v *vni, why reason) {
	m.because(v, why)
	if v.count == 0 {
		return
	}
	atomic.StoreUint64(&m.maps.slots[v.slot].Word, 0)
	m.discard(v, block{v.id, v.at, v.class, v.count})
	v.count = 0
}

// discard lets go of a block of a VNI, at which no word points any more.
func (m *mirror) discard(v *vni, b block) {
	m.gone.blocks = append(m.gone.blocks, b)
	m.stats.Members -= b.count
}

// remove has the program hand up the packets of a VNI as unknown.
func (m *mirror) remove(v *vni) {
	m.toRaw(v, v.why)
	m.keep(v, nil)
	m.forgetLate(v)
	if v.listed {
		if err := m.maps.deleteVNI(uint32(v.id)); err != nil {
			m.repeats.Do("delete", func(count int) {
				m.log.WithError(err).WithField("count", count).Warn("vni not removed from the kernel")
			})
			return // it has no members there, and is removed with the next comparison
		}
		m.fold(v.id, v.slot) // and again when no packet finds it any more
		m.gone.slots = append(m.gone.slots, v.slot)
	}
	m.raws[v.why]--
	last := m.list[len(m.list)-1]
	m.list[v.index], last.index = last, v.index
	m.list[len(m.list)-1] = nil
	m.list = m.list[:len(m.list)-1]
	delete(m.vnis, v.id)
}

// list has the program find a slot for a VNI, which has no members yet.
func (m *mirror) enlist(v *vni) error {
	if v.listed {
		return nil
	}
	slot := m.unused
	if n := len(m.spare); n > 0 {
		slot = m.spare[n-1]
	} else if int(slot) == len(m.maps.slots) {
		return errFull
	}
	s := &m.maps.slots[slot]
	atomic.StoreUint64(&s.Word, 0)
	atomic.StoreUint32(&s.Vni, uint32(v.id))
	if err := m.maps.setVNI(uint32(v.id), slot); err != nil {
		return err
	}
	if n := len(m.spare); n > 0 {
		m.spare = m.spare[:n-1]
	} else {
		m.unused++
	}
	v.slot, v.listed = slot, true
	return nil
}
