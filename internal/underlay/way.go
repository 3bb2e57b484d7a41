// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Way is how a packet leaves the machine towards an address.
type Way struct {
	// Device is the outgoing device, and MTU its own, in bytes: that of the route
	// may be smaller.
	Device string
	MTU    int
	// Gateway is the next hop; not valid where that is the address itself.
	Gateway netip.Addr
	// Local says that the packet comes back, since a route makes the address one of
	// this machine; Broadcast that it would go to all of a link.
	Local, Broadcast bool
}

// Ways answers for the routes of an underlay at about one moment. It is not safe
// for concurrent use.
type Ways struct {
	conn    *conn
	vrf     int // index of the VRF device, 0 for none
	devices map[int]Way
}

// Ways returns who answers for the routes of now.
func (u *Underlay) Ways() (*Ways, error) {
	w := &Ways{conn: u.conn, devices: make(map[int]Way)}
	if u.vrf == "" {
		return w, nil
	}
	b := appendAttribute(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, append([]byte(u.vrf), 0))
	if _, err := w.conn.list(request{typ: unix.RTM_GETLINK, flags: unix.NLM_F_ACK, body: b}, func(b []byte) {
		if l, ok := parseLink(b); ok {
			w.vrf = l.index
		}
	}); err != nil {
		return nil, fmt.Errorf("vrf %s: %w", u.vrf, err)
	}
	return w, nil
}

// To returns the way that a packet to an address takes that leaves the choice of
// it to the kernel. Where there is none, the error matches what the kernel says to
// the sender of such a packet: ENETUNREACH, EHOSTUNREACH, EINVAL for a blackhole,
// EACCES for a prohibition (fib_props of net/ipv4/fib_semantics.c).
func (w *Ways) To(a netip.Addr) (Way, error) {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = unix.AF_INET6, byte(a.BitLen())
	if a.Is4() {
		b[0] = unix.AF_INET
	}
	b = appendAttribute(b, unix.RTA_DST, a.AsSlice())
	if w.vrf != 0 {
		b = appendAttribute(b, unix.RTA_OIF, ne.AppendUint32(nil, uint32(w.vrf)))
	}
	var way Way
	index := 0
	_, err := w.conn.list(request{typ: unix.RTM_GETROUTE, flags: unix.NLM_F_ACK, body: b}, func(b []byte) {
		if len(b) < unix.SizeofRtMsg {
			return
		}
		kind := b[7]
		way.Local, way.Broadcast = kind == unix.RTN_LOCAL, kind == unix.RTN_BROADCAST
		for typ, v := range attributes(b, unix.SizeofRtMsg) {
			switch {
			case typ == unix.RTA_OIF:
				index = int(number(v))
			case typ == unix.RTA_GATEWAY:
				way.Gateway, _ = fromIP(v)
			case typ == unix.RTA_VIA && len(v) > 2:
				way.Gateway, _ = fromIP(v[2:]) // of another family (struct rtvia)
			}
		}
	})
	if err != nil {
		return Way{}, fmt.Errorf("route to %s: %w", a, err)
	}
	d, err := w.device(index)
	if err != nil {
		return Way{}, fmt.Errorf("device %d of the route to %s: %w", index, a, err)
	}
	way.Device, way.MTU = d.Device, d.MTU
	return way, nil
}

// device returns the name and the MTU of a device.
func (w *Ways) device(index int) (Way, error) {
	d, known := w.devices[index]
	if known {
		return d, nil
	}
	_, err := w.conn.list(linkRequest(index, unix.NLM_F_ACK), func(b []byte) {
		for typ, v := range attributes(b, unix.SizeofIfInfomsg) {
			switch typ {
			case unix.IFLA_IFNAME:
				d.Device = text(v)
			case unix.IFLA_MTU:
				d.MTU = int(number(v))
			}
		}
	})
	if err == nil {
		w.devices[index] = d
	}
	return d, err
}
