// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// take takes in what the kernel tells; nil is that something was lost.
func (f *pathFollower) take(b []byte) {
	if b == nil {
		f.lost()
	}
	now := time.Now()
	for m := range messages(b) {
		switch m.typ {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if l, ok := parsePathLink(m.body); ok {
				f.link(l, m.typ == unix.RTM_DELLINK)
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			n, s, ok := parseHop(m.body)
			switch h := f.hops[n]; {
			case !ok || h == nil:
			case m.typ == unix.RTM_DELNEIGH:
				f.forgetHop(h, now)
			default:
				f.setHop(h, s, now)
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			f.routeChanged(m.body)
		case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
			f.all = true
		case unix.RTM_DELADDR: // with it go routes that name it as source, silently before Linux 6.6
			f.all = true
		case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
			f.later = true
		}
	}
	if f.questions() || len(f.stale) > 0 || f.moved {
		f.soon(pathSettle)
	}
}

// lost has everything read anew.
func (f *pathFollower) lost() {
	f.all, f.moved = true, true
	clear(f.links)
	for _, h := range f.hops {
		f.doubted[h] = struct{}{}
	}
	if err := f.findVRF(); err != nil {
		f.p.u.log.WithError(err).Debug("VRF not read")
	}
}

// routeChanged has the addresses looked up that a route may be of (struct rtmsg),
// whatever table it is in.
func (f *pathFollower) routeChanged(b []byte) {
	if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET {
		return
	}
	to := netip.IPv4Unspecified()
	for typ, v := range attributes(b, unix.SizeofRtMsg) {
		if typ == unix.RTA_DST {
			to, _ = fromIP(v)
		}
	}
	prefix, err := to.Prefix(int(b[1]))
	if err != nil || prefix.Bits() == 0 {
		f.all = true
	}
	if f.all {
		return
	}
	if prefix.IsSingleIP() {
		if t := f.wanted[to]; t != nil {
			f.routes[t] = struct{}{}
		}
		return
	}
	sorted := f.order()
	from, _ := slices.BinarySearchFunc(sorted, prefix.Addr(), func(t *wanted, a netip.Addr) int { return t.addr.Compare(a) })
	for _, t := range sorted[from:] {
		if !prefix.Contains(t.addr) {
			break
		}
		f.routes[t] = struct{}{}
	}
}

// A pathLink is what ways depend on of any device of the namespace.
type pathLink struct {
	PathDevice
	master int
	flags  uint32 // of pathFlags
	vrf    bool
	ether  bool
	mac    [6]byte
}

// pathFlags are the flags of a device that routes depend on (IFF_…).
const pathFlags = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP

func (l *pathLink) up() bool { return l.flags&unix.IFF_UP != 0 }

// fit tells whether frames can be sent by the device as to the next hop of a
// route. A VRF device takes them to its own table instead.
func (l *pathLink) fit() bool { return l.ether && !l.vrf }

// parsePathLink reads a message about a device (struct ifinfomsg). It returns
// false for one that is not about the device as a whole.
func parsePathLink(b []byte) (pathLink, bool) {
	known, ok := parseLink(b)
	if !ok {
		return pathLink{}, false
	}
	l := pathLink{master: known.master, vrf: known.vrf, flags: ne.Uint32(b[8:]) & pathFlags}
	l.Index, l.Name = known.index, known.name
	for typ, v := range attributes(b, unix.SizeofIfInfomsg) {
		switch typ {
		case unix.IFLA_MTU:
			l.MTU = int(number(v))
		case unix.IFLA_ADDRESS:
			l.ether = ne.Uint16(b[2:]) == unix.ARPHRD_ETHER && len(v) == len(l.mac)
			copy(l.mac[:], v)
		}
	}
	return l, true
}

// link takes in a device as it is now, or that it has gone.
func (f *pathFollower) link(l pathLink, gone bool) {
	before, known := f.links[l.Index]
	if known && !gone && l == before {
		return
	}
	vrf := f.vrf
	if gone {
		f.gone, f.moved = true, true
		delete(f.links, l.Index)
		l.vrf = false
	} else {
		f.links[l.Index] = l
	}
	switch name := f.p.u.vrf; {
	case name != "" && l.vrf && l.Name == name:
		f.vrf = l.Index
	case f.vrf == l.Index:
		f.vrf = 0
	}
	if f.vrf != vrf {
		f.all = true
	}
	f.leavesBy(l.Index)
	if known && !gone && l.flags == before.flags && l.master == before.master || !known && !l.up() {
		return
	}
	// Routes go with their device, and come back. Where one of several equal
	// routes does, the others serve as well for a moment.
	f.later = true
	for _, t := range f.wanted {
		if t.leavesBy(l.Index) || t.route.state == PathUnreachable || t.route.state == PathRefused {
			f.routes[t] = struct{}{}
		}
	}
}

// leavesBy has the ways looked at that leave by a device.
func (f *pathFollower) leavesBy(index int) {
	if f.leaving[index] == 0 {
		return
	}
	f.moved = true
	for _, t := range f.wanted {
		if t.leavesBy(index) {
			f.stale[t] = struct{}{}
		}
	}
}

// missing tells whether there are devices in use of which nothing is known.
func (f *pathFollower) missing() bool {
	for i := range f.leaving {
		if _, known := f.links[i]; !known {
			return true
		}
	}
	return false
}

// readLinks reads the devices in use of which nothing is known, or all in use.
func (f *pathFollower) readLinks(all bool) {
	for _, i := range slices.Collect(maps.Keys(f.leaving)) {
		if _, known := f.links[i]; known && !all {
			continue
		}
		_, err := f.p.u.conn.list(linkRequest(i, unix.NLM_F_ACK), func(b []byte) {
			l, ok := parsePathLink(b)
			if _, known := f.links[i]; ok && known {
				f.link(l, false)
			} else if ok {
				f.links[i] = l
				f.leavesBy(i)
			}
		})
		if err != nil { // one that is gone is told of
			f.p.u.log.WithError(err).Debug("device not read")
		}
	}
}

// findVRF looks the VRF device up, which may have gone.
func (f *pathFollower) findVRF() error {
	w, err := f.p.u.Ways()
	if errors.Is(err, unix.ENODEV) {
		f.vrf = 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("look the VRF up: %w", err)
	}
	f.vrf = w.vrf
	return nil
}
