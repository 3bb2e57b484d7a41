// SPDX-License-Identifier: Apache-2.0

package anycast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol marks the route that serves while the address is gone
// (rtm_protocol, rtnetlink(7); "proto 47" for ip-route(8)): a number that neither
// the kernel's rtnetlink.h nor iproute2's rt_protos has given away.
const RouteProtocol = 47

const (
	// routeMetric lets that route stand beside the kernel's own for the address,
	// which has metric 0: over IPv4 two of one metric exclude each other.
	routeMetric = 1024

	// loopback is the index of lo in every network namespace (LOOPBACK_IFINDEX).
	loopback = 1

	// prefixMetric is that of the IPv6 routes which the kernel makes with an
	// address (IP6_RT_PRIO_ADDRCONF).
	prefixMetric = 256
)

func ifaceOf(vrf string) string {
	if vrf == "" {
		return "lo"
	}
	return vrf
}

// A site is the place of the address in the kernel. It is for one goroutine.
// Its socket stays open, so that a process that is out of files still renews.
type site struct {
	nl   *netlink.Handle
	addr netip.Addr
	vrf  string
}

func openSite(addr netip.Addr, vrf string) (*site, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &site{nl: h, addr: addr.Unmap(), vrf: vrf}, nil
}

func (s *site) close() { s.nl.Close() }

// A device is the interface that the address is on.
type device struct {
	index int
	up    bool
	local int // routing table of what is delivered here
	main  int // routing table of the rest
}

// device looks the interface up: a VRF device may be made anew at any time.
func (s *site) device() (device, error) {
	name := ifaceOf(s.vrf)
	l, err := s.nl.LinkByName(name)
	if err != nil {
		return device{}, fmt.Errorf("look up %s: %w", name, err)
	}
	d := device{l.Attrs().Index, l.Attrs().Flags&net.FlagUp != 0, unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN}
	if s.vrf == "" {
		return d, nil
	}
	v, ok := l.(*netlink.Vrf)
	if !ok {
		return device{}, fmt.Errorf("look up %s: not a VRF device", name)
	}
	d.local, d.main = int(v.Table), int(v.Table)
	return d, nil
}

// prefix is the address with its longest prefix.
func (s *site) prefix() *net.IPNet {
	n := s.addr.BitLen()
	return &net.IPNet{IP: s.addr.AsSlice(), Mask: net.CIDRMask(n, n)}
}

// owner looks whose the address is.
func (s *site) owner(d device) (Owner, error) {
	family := netlink.FAMILY_V4
	if s.addr.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := s.nl.AddrList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: d.index}}, family)
	// A listing that other changes disturbed may lack the address. That does no
	// harm: to add what is there is an error.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return None, fmt.Errorf("list addresses: %w", err)
	}
	found := None
	for _, a := range list {
		if !s.is(a.IP) {
			continue
		}
		if !ours(a.Flags, a.IPNet) {
			return Operator, nil
		}
		found = Ours
	}
	return found, nil
}

// is tells whether ip is the address.
func (s *site) is(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && a.Unmap() == s.addr
}

// ours tells whether the service address is one that this package put there.
// The kernel marks as permanent what lives for ever.
func ours(flags int, n *net.IPNet) bool {
	ones, bits := n.Mask.Size()
	return flags&unix.IFA_F_PERMANENT == 0 && ones == bits
}

// address returns the address as it is asked for. Its lifetimes are equal: one
// that is deprecated earlier might be announced no more.
func (s *site) address(d device, lifetime time.Duration) *netlink.Addr {
	seconds := int((lifetime + time.Second - 1) / time.Second)
	a := &netlink.Addr{IPNet: s.prefix(), LinkIndex: d.index, ValidLft: seconds, PreferedLft: seconds}
	if s.addr.Is6() {
		// Several machines have the address: that is no mistake to detect.
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// add puts the address there. It is EEXIST if there is one.
func (s *site) add(d device, lifetime time.Duration) error {
	if err := s.nl.AddrAdd(nil, s.address(d, lifetime)); err != nil {
		return fmt.Errorf("put %s on %s: %w", s.addr, ifaceOf(s.vrf), err)
	}
	return nil
}

// renew lets the lifetime begin anew. The kernel announces that as if the
// address were added, which routing daemons take for what it is.
func (s *site) renew(d device, lifetime time.Duration) error {
	if err := s.nl.AddrReplace(nil, s.address(d, lifetime)); err != nil {
		return fmt.Errorf("renew %s on %s: %w", s.addr, ifaceOf(s.vrf), err)
	}
	return nil
}

// remove takes an address of ours away, if it is there.
func (s *site) remove(d device) error {
	err := s.nl.AddrDel(nil, &netlink.Addr{IPNet: s.prefix(), LinkIndex: d.index})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s from %s: %w", s.addr, ifaceOf(s.vrf), err)
	}
	if s.addr.Is4() {
		return nil
	}
	// The kernel leaves the prefix route of an IPv6 address whose lifetime ends to
	// expire (ipv6_del_addr), but one by way of lo becomes a route that rejects
	// and has lost its expiry (ip6_route_info_create). To ask for none with
	// IFA_F_NOPREFIXROUTE is no way out: FRR 10 takes that for an address that is
	// not to be announced.
	_, err = s.deleteRoute(&netlink.Route{
		LinkIndex: d.index, Dst: s.prefix(), Table: d.main, Type: unix.RTN_UNICAST,
		Protocol: unix.RTPROT_KERNEL, Priority: prefixMetric,
	})
	return err
}

// route is the one that keeps the address local without the address itself. It
// goes by lo in a VRF too: the kernel disables IPv4 on a device whose last
// address was removed, with all routes by way of it (fib_inetaddr_event), and lo
// has another one.
func (s *site) route(d device) *netlink.Route {
	return &netlink.Route{
		LinkIndex: loopback, Dst: s.prefix(), Table: d.local, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST, Protocol: RouteProtocol, Priority: routeMetric,
	}
}

func (s *site) addRoute(d device) error {
	if err := s.nl.RouteReplace(s.route(d)); err != nil {
		return fmt.Errorf("add local route for %s: %w", s.addr, err)
	}
	return nil
}

// deleteRoute deletes a route, and tells whether it was there.
func (s *site) deleteRoute(r *netlink.Route) (found bool, err error) {
	err = s.nl.RouteDel(r)
	if err == nil || errors.Is(err, unix.ESRCH) {
		return err == nil, nil
	}
	return false, fmt.Errorf("delete route to %s: %w", s.addr, err)
}

// allowed returns an error if the kernel would not let the address be changed.
// It deletes it from a device that cannot exist: what is permitted is looked at
// first (rtnetlink_rcv_msg).
func (s *site) allowed() error {
	err := s.nl.AddrDel(nil, &netlink.Addr{IPNet: s.prefix()})
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("put %s on %s: %w", s.addr, ifaceOf(s.vrf), err)
}
