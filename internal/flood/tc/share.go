// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"math/bits"

	"vxsnd/internal/vxlan"
)

// tell tells of the members of a VNI that have sent, which are in m.sightings. The
// program counts bytes and drops for the VNI alone: those who sent since it was
// looked at last share what it counted, drops and bytes by their packets, and
// bytes of copies by their copies. So the sums are right, and what a member has is
// where no other one sent. Where nobody did it is left for the next time.
func (m *mirror) tell(id vxlan.VNI, share *slotCount) {
	if len(m.sightings) == 0 {
		return
	}
	var packets, copies, drops uint64
	for i := range m.sightings {
		packets += uint64(m.sightings[i].packets)
		copies += uint64(m.sightings[i].copies)
	}
	for i, n := range share.drops {
		drops += n
		share.drops[i] = 0
	}
	for i := range m.sightings {
		s := &m.sightings[i]
		s.bytes = part(&share.bytes, uint64(s.packets), packets)
		s.drops = part(&drops, uint64(s.packets), packets)
		s.copyBytes = part(&share.copyBytes, uint64(s.copies), copies)
		packets -= uint64(s.packets)
		copies -= uint64(s.copies)
		m.sink.sent(id, s.addr, *s)
	}
	m.sightings = m.sightings[:0]
}

// part takes the part of what is left that is to the whole as of is to all.
func part(left *uint64, of, all uint64) uint64 {
	if all == 0 {
		return 0
	}
	hi, lo := bits.Mul64(*left, of)
	p, _ := bits.Div64(hi, lo, all)
	*left -= p
	return p
}
