// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// maxVia bounds the owners that are remembered, of all static members together.
const maxVia = 1 << 18

// A via remembers who holds the static members of identifier 0 that peers told
// of: the nodes whose configuration names them, or the group as a whole. It is
// safe for concurrent use.
type via struct {
	mu    sync.Mutex
	words map[member]word
	// owners is how many all words have.
	owners int
	// round counts the surveys of the table.
	round uint64
}

// A word is what peers told of a member.
type word struct {
	// from told of it last.
	from netip.Addr
	// owners is never empty.
	owners []owner
	// round is the last one that can have seen the member in the table, or in
	// which it was told of.
	round uint64
}

// An owner holds a member until it says otherwise.
type owner struct {
	// addr is the owner's address. The zero one is the group's: a member that was
	// told without an owner is an operator's, or came by way of a deployed node.
	addr netip.Addr
	// round is the owner's own round in which it told of the member last, 0 for
	// none.
	round uint64
}

// told records that a peer told of a member that never ages, and whose it is;
// round is 0 but in rounds of the owner itself. It is called after the table has
// taken the member in. What finds no room is not remembered, and so the group's.
func (v *via) told(m member, from, addr netip.Addr, round uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w, known := v.words[m]
	i := slices.IndexFunc(w.owners, func(o owner) bool { return o.addr == addr })
	switch {
	case i >= 0 && round != 0:
		w.owners[i].round = round
	case i >= 0:
	case v.owners < maxVia:
		w.owners = append(w.owners, owner{addr, round})
		v.owners++
	case !known:
		return
	}
	if v.words == nil {
		v.words = make(map[member]word)
	}
	w.from, w.round = from, v.round
	v.words[m] = w
}

// forget says that the table does not hold a member any more.
func (v *via) forget(m member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(m)
}

// drop is forget with mu held.
func (v *via) drop(m member) {
	v.owners -= len(v.words[m].owners)
	delete(v.words, m)
}

// lapse ends a round of an owner: what it did not tell of in it is not its any
// more. It returns the members that are nobody's then.
func (v *via) lapse(addr netip.Addr, round uint64) (gone []member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for m, w := range v.words {
		i := slices.IndexFunc(w.owners, func(o owner) bool { return o.addr == addr && o.round != round })
		switch {
		case i < 0:
		case len(w.owners) == 1:
			v.drop(m)
			gone = append(gone, m)
		default:
			w.owners = slices.Delete(w.owners, i, i+1)
			v.owners--
			v.words[m] = w
		}
	}
	return gone
}

// ownersOf appends the owners of a member to dst: one that is not valid for the
// group, whose is also what nothing is known of.
func (v *via) ownersOf(m member, dst []netip.Addr) []netip.Addr {
	v.mu.Lock()
	defer v.mu.Unlock()
	w, known := v.words[m]
	if !known {
		return append(dst, netip.Addr{})
	}
	for _, o := range w.owners {
		dst = append(dst, o.addr)
	}
	return dst
}

// knows tells whether anything is remembered of a member.
func (v *via) knows(m member) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, known := v.words[m]
	return known
}

// begin begins a survey of the table, in which keep is called for each static
// member of a peer, and end at its end. It tells whether anything is remembered.
func (v *via) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.round++
	return len(v.words) > 0
}

// keep says that the table holds a member.
func (v *via) keep(m member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w, ok := v.words[m]; ok {
		w.round = v.round
		v.words[m] = w
	}
}

// end forgets the members that the table does not hold any more.
func (v *via) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for m, w := range v.words {
		if w.round != v.round {
			v.drop(m)
		}
	}
}

// Via returns the address of the node whose configuration names a static member
// of identifier 0 that the table holds as a peer's, or, where that is not known,
// of the peer that told of it last. What has left the table is forgotten after a
// while; what was told of by too many is not known.
func (g *Group) Via(vni vxlan.VNI, a netip.Addr) (netip.Addr, bool) {
	g.via.mu.Lock()
	defer g.via.mu.Unlock()
	w, ok := g.via.words[member{vni, a}]
	for _, o := range w.owners {
		if o.addr.IsValid() {
			return o.addr, true
		}
	}
	return w.from, ok
}

// Owned tells whether the configuration of another node names a static member of
// identifier 0 that the table holds as a peer's, as far as that is known. What is
// not owned leaves the table when this node withdraws it.
func (g *Group) Owned(vni vxlan.VNI, a netip.Addr) bool {
	return slices.ContainsFunc(g.via.ownersOf(member{vni, a}, nil), netip.Addr.IsValid)
}

// lapse ends a round of a peer: members that its configuration does not name any
// more leave the table, if nobody else holds them.
func (g *Group) lapse(from netip.Addr, round uint64) {
	gone := g.via.lapse(from, round)
	if n := g.release(gone); n > 0 {
		g.log.WithFields(logrus.Fields{"peer": from, "count": n}).Info("static members of peer are gone")
	}
}

// release takes static members of peers out of the table, and returns how many
// there were. Nobody withdrew them.
func (g *Group) release(ms []member) int {
	us := make([]fdb.Update, len(ms))
	for i, m := range ms {
		us[i] = fdb.Update{VNI: m.vni, Addr: m.addr, Source: fdb.Peer, StaticOnly: true}
	}
	res := g.table.Apply(g.now(), us)
	g.counters.count(&res)
	return res.Withdrawn
}
