// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settleTimeout bounds the wait for what the kernel does a little after it was
// asked to: a carrier, for one, may be up to a second late (net/core/link_watch.c).
const settleTimeout = 5 * time.Second

// settled waits until cond is true.
func (n *Namespace) settled(what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if err := Wait(ctx, what, cond); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	return nil
}

// fail wraps err with the namespace and what was being done there. It returns
// nil for nil.
func (n *Namespace) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", n.Name, fmt.Sprintf(format, args...), err)
}

// withLink calls f with the link called dev.
func (n *Namespace) withLink(dev, doing string, f func(netlink.Link) error) error {
	l, err := n.nl.LinkByName(dev)
	if err == nil {
		err = f(l)
	}
	return n.fail(err, "%s %s", doing, dev)
}

// add makes a link and brings it up.
func (n *Namespace) add(l netlink.Link) error {
	if err := n.nl.LinkAdd(l); err != nil {
		return n.fail(err, "add %s %s", l.Type(), l.Attrs().Name)
	}
	return n.SetUp(l.Attrs().Name)
}

// attrs returns the attributes of a new link.
func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = name, mtu
	return a
}

// Veth makes a cable between two namespaces, or within one: a pair of veth
// links, both up, that computes checksums itself. MTU 0 is 1500. It returns
// when both ends have carrier.
func Veth(a *Namespace, aDev string, b *Namespace, bDev string, mtu int) error {
	l := &netlink.Veth{
		LinkAttrs:     attrs(aDev, mtu),
		PeerName:      bDev,
		PeerNamespace: netlink.NsFd(int(b.fd.Fd())),
		PeerMTU:       uint32(mtu),
	}
	if err := a.add(l); err != nil {
		return err
	}
	if err := b.SetUp(bDev); err != nil {
		return err
	}
	if err := a.checksumInSoftware(aDev); err != nil {
		return err
	}
	if err := b.checksumInSoftware(bDev); err != nil {
		return err
	}
	if err := a.waitUp(aDev); err != nil {
		return err
	}
	return b.waitUp(bDev)
}

// waitUp waits until dev is operational.
func (n *Namespace) waitUp(dev string) error {
	return n.settled("carrier of "+dev, func() bool {
		l, err := n.nl.LinkByName(dev)
		return err == nil && l.Attrs().OperState == netlink.OperUp
	})
}

// AddBridge makes a bridge that forwards all multicast (no snooping). MTU 0 is
// 1500; a bridge passes frames up to the size of the leaving port's MTU.
func (n *Namespace) AddBridge(name string, mtu int) error {
	snooping := false
	return n.add(&netlink.Bridge{LinkAttrs: attrs(name, mtu), MulticastSnooping: &snooping})
}

// AddVRF makes a VRF device whose routes are in the given table. The kernel
// must have CONFIG_NET_VRF: see HasVRF.
func (n *Namespace) AddVRF(name string, table uint32) error {
	return n.add(&netlink.Vrf{LinkAttrs: attrs(name, 0), Table: table})
}

// SetUp brings a link up.
func (n *Namespace) SetUp(dev string) error {
	return n.withLink(dev, "bring up", n.nl.LinkSetUp)
}

// SetDown takes a link down; its routes go.
func (n *Namespace) SetDown(dev string) error {
	return n.withLink(dev, "take down", n.nl.LinkSetDown)
}

// SetMTU sets the MTU of a link in bytes.
func (n *Namespace) SetMTU(dev string, mtu int) error {
	return n.withLink(dev, "set mtu of", func(l netlink.Link) error { return n.nl.LinkSetMTU(l, mtu) })
}

// SetMaster makes dev a port of a bridge or a member of a VRF.
func (n *Namespace) SetMaster(dev, master string) error {
	m, err := n.nl.LinkByName(master)
	if err != nil {
		return n.fail(err, "put %s into %s", dev, master)
	}
	return n.withLink(dev, "set master of", func(l netlink.Link) error { return n.nl.LinkSetMaster(l, m) })
}

// DeleteLink removes a link, with its peer if it is a veth.
func (n *Namespace) DeleteLink(dev string) error {
	return n.withLink(dev, "delete", n.nl.LinkDel)
}

// Link describes a link.
type Link struct {
	Name  string
	Index int
	MTU   int
	MAC   net.HardwareAddr
	// ReceivedPackets and SentPackets are the link's own counters.
	ReceivedPackets, SentPackets uint64
}

// Link returns the link called dev.
func (n *Namespace) Link(dev string) (Link, error) {
	var out Link
	err := n.withLink(dev, "look up", func(l netlink.Link) error {
		out = describe(l)
		return nil
	})
	return out, err
}

// Links returns all links, in the order of their indexes.
func (n *Namespace) Links() ([]Link, error) {
	ls, err := n.nl.LinkList()
	if err != nil {
		return nil, n.fail(err, "list links")
	}
	out := make([]Link, len(ls))
	for i, l := range ls {
		out[i] = describe(l)
	}
	return out, nil
}

func describe(l netlink.Link) Link {
	a := l.Attrs()
	out := Link{Name: a.Name, Index: a.Index, MTU: a.MTU, MAC: a.HardwareAddr}
	if a.Statistics != nil {
		out.ReceivedPackets, out.SentPackets = a.Statistics.RxPackets, a.Statistics.TxPackets
	}
	return out
}

// AddAddr adds an address to a link. An IPv6 address turns IPv6 on there,
// without duplicate address detection, and is usable when AddAddr returns.
func (n *Namespace) AddAddr(dev string, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
		if err := n.enableIPv6(dev); err != nil {
			return err
		}
	}
	err := n.withLink(dev, "add "+p.String()+" to", func(l netlink.Link) error { return n.nl.AddrAdd(l, a) })
	if err != nil || p.Addr().Is4() {
		return err
	}
	// The kernel adds the route that makes the address local a little later.
	return n.settled("address "+p.String(), func() bool {
		rs, err := n.nl.RouteGet(p.Addr().AsSlice())
		return err == nil && len(rs) == 1 && rs[0].Type == unix.RTN_LOCAL
	})
}

// enableIPv6 turns IPv6 on, with a link-local address: without one the kernel
// resolves no neighbour for a packet whose source is not its own (ndisc_send_ns).
func (n *Namespace) enableIPv6(dev string) error {
	if dev == "lo" {
		return nil
	}
	const modeEUI64 = "0" // IN6_ADDR_GEN_MODE_EUI64 of linux/if_link.h
	if err := n.SetSysctl("net/ipv6/conf/"+dev+"/addr_gen_mode", modeEUI64); err != nil {
		return err
	}
	if err := n.SetSysctl("net/ipv6/conf/"+dev+"/disable_ipv6", "0"); err != nil {
		return err
	}
	l, err := n.nl.LinkByName(dev)
	if err != nil {
		return n.fail(err, "look up %s", dev)
	}
	return n.settled("link-local address of "+dev, func() bool {
		as, _ := n.nl.AddrList(l, netlink.FAMILY_V6)
		return slices.ContainsFunc(as, func(a netlink.Addr) bool {
			return a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0
		})
	})
}

// DeleteAddr removes an address from a link.
func (n *Namespace) DeleteAddr(dev string, p netip.Prefix) error {
	return n.withLink(dev, "delete "+p.String()+" from", func(l netlink.Link) error {
		return n.nl.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)})
	})
}

// ipNet converts a prefix, keeping the bits of the address below its length.
func ipNet(p netip.Prefix) *net.IPNet {
	a := p.Addr()
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}
