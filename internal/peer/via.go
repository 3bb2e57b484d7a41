// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"sync"

	"vxsnd/internal/vxlan"
)

// maxVia bounds the static members whose teller is remembered.
const maxVia = 1 << 18

// A via remembers which peer told of the static members of identifier 0: an
// operator's, which that peer alone can remove. It is safe for concurrent use.
type via struct {
	mu     sync.Mutex
	teller map[member]word
	// round counts the surveys of the table.
	round uint64
}

// A word is that a peer told of a member.
type word struct {
	from netip.Addr
	// round is the last one that can have seen the member in the table, or in
	// which it was told of.
	round uint64
}

// told records that a peer told of a member that never ages. It is called after
// the table has taken the member in. What finds no room is not remembered.
func (v *via) told(vni vxlan.VNI, a, from netip.Addr) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := member{vni, a}
	if _, known := v.teller[m]; !known && len(v.teller) >= maxVia {
		return
	}
	if v.teller == nil {
		v.teller = make(map[member]word)
	}
	v.teller[m] = word{from, v.round}
}

// begin begins a survey of the table, in which keep is called for each static
// member of a peer, and end at its end. It tells whether anything is remembered.
func (v *via) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.round++
	return len(v.teller) > 0
}

// keep says that the table holds a member.
func (v *via) keep(m member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w, ok := v.teller[m]; ok {
		w.round = v.round
		v.teller[m] = w
	}
}

// end forgets the members that the table does not hold any more.
func (v *via) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for m, w := range v.teller {
		if w.round != v.round {
			delete(v.teller, m)
		}
	}
}

// Via returns the address of the peer that told last of a static member of
// identifier 0, which the table holds as a peer's. What has left the table is
// forgotten after a while; what was told of by too many is not known.
func (g *Group) Via(vni vxlan.VNI, a netip.Addr) (netip.Addr, bool) {
	g.via.mu.Lock()
	defer g.via.mu.Unlock()
	w, ok := g.via.teller[member{vni, a}]
	return w.from, ok
}
