// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"net/netip"
	"slices"

	"vxsnd/internal/vxlan"
)

// A route is the way of a message: to a service node, about a local address.
type route struct {
	Node, Local netip.Addr
}

func (r route) compare(o route) int {
	return cmp.Or(r.Node.Compare(o.Node), r.Local.Compare(o.Local))
}

// A batch is what is to be said to the service nodes: VNIs in ascending order.
type batch struct {
	Register, Withdraw map[route][]vxlan.VNI
}

func newBatch() *batch {
	return &batch{make(map[route][]vxlan.VNI), make(map[route][]vxlan.VNI)}
}

func (b *batch) empty() bool { return len(b.Register) == 0 && len(b.Withdraw) == 0 }

// register and withdraw add a registration at some service nodes.
func (b *batch) register(r *registration, nodes []netip.Addr) { add(b.Register, r, nodes) }

func (b *batch) withdraw(r *registration, nodes []netip.Addr) { add(b.Withdraw, r, nodes) }

func add(m map[route][]vxlan.VNI, r *registration, nodes []netip.Addr) {
	for _, n := range nodes {
		at := route{n, r.Local}
		m[at] = append(m[at], r.VNI)
	}
}

// everything registers all of rs.
func everything(rs []registration) *batch {
	b := newBatch()
	for i := range rs {
		b.register(&rs[i], rs[i].Nodes)
	}
	return b
}

// changes is what turns one list of registrations, at the service nodes, into
// another.
func changes(old, now []registration) *batch {
	b := newBatch()
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].VNI < now[0].VNI:
			b.withdraw(&old[0], old[0].Nodes)
			old = old[1:]
		case len(old) == 0 || now[0].VNI < old[0].VNI:
			b.register(&now[0], now[0].Nodes)
			now = now[1:]
		default:
			o, n := &old[0], &now[0]
			old, now = old[1:], now[1:]
			b.withdraw(o, lacking(o.Nodes, n.Nodes))
			if o.Local == n.Local {
				b.register(n, lacking(n.Nodes, o.Nodes))
			} else {
				b.register(n, n.Nodes) // replaces what the identifier has there
			}
		}
	}
	return b
}

// lacking returns what of as is not in bs.
func lacking(as, bs []netip.Addr) []netip.Addr {
	if slices.Equal(as, bs) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(as), func(a netip.Addr) bool { return slices.Contains(bs, a) })
}

// still returns what of a batch is still so: a registration that is the same, a
// withdrawal from a service node that the VNI has not been registered with since,
// under whatever address: a node may go by the identifier alone.
func (b *batch) still(registered func(vxlan.VNI) *registration) *batch {
	out := newBatch()
	for at, vnis := range b.Register {
		for _, v := range vnis {
			if r := registered(v); r != nil && r.Local == at.Local && slices.Contains(r.Nodes, at.Node) {
				out.Register[at] = append(out.Register[at], v)
			}
		}
	}
	for at, vnis := range b.Withdraw {
		for _, v := range vnis {
			if r := registered(v); r == nil || !slices.Contains(r.Nodes, at.Node) {
				out.Withdraw[at] = append(out.Withdraw[at], v)
			}
		}
	}
	return out
}
