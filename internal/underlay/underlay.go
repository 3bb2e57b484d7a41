// SPDX-License-Identifier: Apache-2.0

// Package underlay follows what the kernel knows of the network that VXLAN
// packets travel on, over netlink: the machine's own addresses, which devices
// belong to a VRF, the neighbours that do not resolve, and the VXLAN devices. It
// changes where these send what they cannot place, as it is told. It decides
// nothing.
package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"vxsnd/internal/logging"
)

// An Underlay is the part of the machine's network that one daemon works in: one
// VRF, or what is in none. It is of the network namespace of the thread that Open
// ran on. Its methods may be called concurrently; Run at most once.
type Underlay struct {
	vrf        string
	neighbours bool
	log        logrus.FieldLogger
	conn       *conn
	feed       *feed // for Run alone
	unresolved atomic.Pointer[map[netip.Addr]struct{}]
	broadcasts atomic.Pointer[map[netip.Addr]struct{}]
	ask        chan chan struct{} // requests to read the neighbours again
}

// Open connects to the kernel. vrf names a VRF device, or is empty for the
// devices that are in none. It needs no capability.
func Open(vrf string, log logrus.FieldLogger) (*Underlay, error) { return open(vrf, true, log) }

// OpenAddresses is Open for who has no need of Unresolved, and so none to read
// what the kernel tells of neighbours.
func OpenAddresses(vrf string, log logrus.FieldLogger) (*Underlay, error) {
	return open(vrf, false, log)
}

func open(vrf string, neighbours bool, log logrus.FieldLogger) (*Underlay, error) {
	if vrf != "" {
		l, err := netlink.LinkByName(vrf)
		switch {
		case errors.As(err, new(netlink.LinkNotFoundError)):
			err = errors.New("there is no such device")
		case err == nil && l.Type() != "vrf":
			err = errors.New("not a VRF device")
		}
		if err != nil {
			return nil, fmt.Errorf("vrf %s: %w", vrf, err)
		}
	}
	c, err := dial()
	if err != nil {
		return nil, err
	}
	f, err := openFeed(receiveBuffer)
	if err != nil {
		c.close()
		return nil, err
	}
	return &Underlay{
		vrf: vrf, neighbours: neighbours, log: logging.OrDiscard(log).WithField("task", task),
		conn: c, feed: f, ask: make(chan chan struct{}),
	}, nil
}

const task = "underlay"

// String names the task.
func (u *Underlay) String() string { return task }

// Close ends the connection to the kernel. Run must have returned.
func (u *Underlay) Close() {
	u.conn.close()
	u.feed.close()
}

// Addresses returns the addresses of this machine in the underlay, unmapped,
// without zones, sorted. One that has come only just may be missing while
// addresses come and go.
func (u *Underlay) Addresses() ([]netip.Addr, error) {
	links, err := u.conn.links(nil)
	if err != nil && !interrupted(err) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	addrs, err := u.conn.addresses(nil)
	if err != nil && !interrupted(err) {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	broadcasts := broadcastsOf(addrs)
	u.broadcasts.Store(&broadcasts)
	return selectAddrs(addrs, links, u.vrf), nil
}

func fromIP(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}
