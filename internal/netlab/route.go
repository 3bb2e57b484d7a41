// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A RouteKind says what a route does with a packet.
type RouteKind int

// The kinds of routes. What a sending program sees of the latter three is
// EINVAL, EHOSTUNREACH and EACCES (ip-route(8)).
const (
	Unicast     RouteKind = unix.RTN_UNICAST
	Local       RouteKind = unix.RTN_LOCAL
	Blackhole   RouteKind = unix.RTN_BLACKHOLE
	Unreachable RouteKind = unix.RTN_UNREACHABLE
	Prohibit    RouteKind = unix.RTN_PROHIBIT
)

// A Route is an entry of a namespace's routing table.
type Route struct {
	// To is the destination; 0.0.0.0/0 or ::/0 is the default route.
	To netip.Prefix
	// Via is the gateway, if any.
	Via netip.Addr
	// Device names the outgoing link; it may be empty where Via is set.
	Device string
	// Source is the preferred source address, if any.
	Source netip.Addr
	// Kind is Unicast where it is 0.
	Kind RouteKind
	// Table is the routing table; 0 is main.
	Table int
	// MTU of the route in bytes; 0 is that of the device.
	MTU int
}

// netlink converts r to the form of the netlink package.
func (r Route) netlink(n *Namespace) (*netlink.Route, error) {
	if r.Kind == 0 {
		r.Kind = Unicast
	}
	out := &netlink.Route{
		Dst:   ipNet(r.To),
		Type:  int(r.Kind),
		Table: r.Table,
		MTU:   r.MTU,
		Src:   r.Source.AsSlice(),
		Gw:    r.Via.AsSlice(),
	}
	if r.Kind == Local {
		out.Scope = netlink.SCOPE_HOST // as ip-route(8) does
	}
	if r.Kind == Unicast && !r.Via.IsValid() {
		out.Scope = netlink.SCOPE_LINK
	}
	if r.Device != "" {
		l, err := n.nl.LinkByName(r.Device)
		if err != nil {
			return nil, err
		}
		out.LinkIndex = l.Attrs().Index
	}
	return out, nil
}

// AddRoute adds a route, in place of an existing one to the same destination
// in the same table.
func (n *Namespace) AddRoute(r Route) error {
	nr, err := r.netlink(n)
	if err == nil {
		err = n.nl.RouteReplace(nr)
	}
	return n.fail(err, "add route to %s", r.To)
}

// DeleteRoute removes the route that AddRoute made from the same value.
func (n *Namespace) DeleteRoute(r Route) error {
	nr, err := r.netlink(n)
	if err == nil {
		err = n.nl.RouteDel(nr)
	}
	return n.fail(err, "delete route to %s", r.To)
}

// AddNeighbour adds a permanent neighbour entry.
func (n *Namespace) AddNeighbour(dev string, a netip.Addr, mac net.HardwareAddr) error {
	return n.withLink(dev, "add neighbour "+a.String()+" on", func(l netlink.Link) error {
		return n.nl.NeighSet(&netlink.Neigh{
			LinkIndex:    l.Attrs().Index,
			State:        netlink.NUD_PERMANENT,
			IP:           a.AsSlice(),
			HardwareAddr: mac,
		})
	})
}

// A Neighbour is an entry of the neighbour table (ARP, NDP).
type Neighbour struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
	// Failed tells that nobody answered.
	Failed bool
}

// Neighbours returns the neighbour entries of a link.
func (n *Namespace) Neighbours(dev string) ([]Neighbour, error) {
	list := func(l netlink.Link) ([]netlink.Neigh, error) {
		es, err := n.nl.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
		return slices.DeleteFunc(es, func(e netlink.Neigh) bool { return e.Family == unix.AF_BRIDGE }), err
	}
	return listed(n, dev, "neighbours", list, func(e netlink.Neigh) Neighbour {
		a, _ := netip.AddrFromSlice(e.IP)
		return Neighbour{Addr: a.Unmap(), MAC: e.HardwareAddr, Failed: e.State&netlink.NUD_FAILED != 0}
	})
}

// An FDBEntry is an entry of a VXLAN device's or bridge's forwarding table.
type FDBEntry struct {
	MAC net.HardwareAddr
	// VTEP is the address that the MAC is behind. It is not valid for entries
	// of a bridge.
	VTEP netip.Addr
	// Permanent tells that the entry was configured and not learned.
	Permanent bool
}

// FDB returns the forwarding table of a VXLAN device or a bridge port. The
// entry for all-zero MACs, where a VXLAN device sends what it cannot place, is
// among them.
func (n *Namespace) FDB(dev string) ([]FDBEntry, error) {
	list := func(l netlink.Link) ([]netlink.Neigh, error) { return n.nl.NeighList(l.Attrs().Index, unix.AF_BRIDGE) }
	return listed(n, dev, "fdb", list, fdbOf)
}

func fdbOf(e netlink.Neigh) FDBEntry {
	a, _ := netip.AddrFromSlice(e.IP)
	return FDBEntry{MAC: e.HardwareAddr, VTEP: a.Unmap(), Permanent: e.State&netlink.NUD_PERMANENT != 0}
}

// AddFDB tells a VXLAN device that mac is behind vtep. The all-zero MAC adds a
// destination for what the device cannot place.
func (n *Namespace) AddFDB(dev string, mac net.HardwareAddr, vtep netip.Addr) error {
	return n.withLink(dev, "add fdb entry to", func(l netlink.Link) error {
		return n.nl.NeighAppend(&netlink.Neigh{
			LinkIndex:    l.Attrs().Index,
			Family:       unix.AF_BRIDGE,
			State:        netlink.NUD_PERMANENT,
			Flags:        netlink.NTF_SELF,
			IP:           vtep.AsSlice(),
			HardwareAddr: mac,
		})
	})
}
