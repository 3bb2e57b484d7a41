// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An Addr is an address of a link.
type Addr struct {
	Prefix netip.Prefix
	// Left is how long the kernel keeps the address yet, in whole seconds; it
	// does not count where Forever is set.
	Left    time.Duration
	Forever bool
}

// Addrs returns the addresses of a link, link-local ones among them.
func (n *Namespace) Addrs(dev string) ([]Addr, error) {
	list := func(l netlink.Link) ([]netlink.Addr, error) { return n.nl.AddrList(l, netlink.FAMILY_ALL) }
	return listed(n, dev, "addresses", list, func(a netlink.Addr) Addr {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		return Addr{
			Prefix:  netip.PrefixFrom(ip.Unmap(), bits),
			Left:    time.Duration(a.ValidLft) * time.Second,
			Forever: a.Flags&unix.IFA_F_PERMANENT != 0,
		}
	})
}

// Gateways returns the gateways of the routes to exactly this prefix in a table;
// 0 is main. A route without one, such as to a link or a local one, counts as an
// address that is not valid. Several of one route with as many hops are all there.
func (n *Namespace) Gateways(to netip.Prefix, table int) ([]netip.Addr, error) {
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	family := netlink.FAMILY_V4
	if to.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	rs, err := undisturbed(func() ([]netlink.Route, error) {
		return n.nl.RouteListFiltered(family, &netlink.Route{Dst: ipNet(to), Table: table}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	})
	var out []netip.Addr
	for _, r := range rs {
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{Gw: r.Gw}}
		}
		for _, h := range hops {
			a, _ := netip.AddrFromSlice(h.Gw)
			out = append(out, a.Unmap())
		}
	}
	return out, n.fail(err, "list routes to %s", to)
}

// listed returns what the link has of the kind, as the kernel lists it, each turned
// into what a caller of this package sees.
func listed[E, T any](n *Namespace, dev, kind string, list func(netlink.Link) ([]E, error), turn func(E) T) ([]T, error) {
	var out []T
	err := n.withLink(dev, "list "+kind+" of", func(l netlink.Link) error {
		es, err := undisturbed(func() ([]E, error) { return list(l) })
		for _, e := range es {
			out = append(out, turn(e))
		}
		return err
	})
	return out, err
}

// undisturbed repeats a listing until no change has disturbed it.
func undisturbed[T any](list func() ([]T, error)) ([]T, error) {
	for {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
}
