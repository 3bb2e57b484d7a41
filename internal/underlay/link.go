// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

// skipStats leaves the counters out of what the kernel says of a link
// (RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h).
const skipStats = 1 << 3

// A link is what counts here of any device of the namespace. Two that are
// equal are the same to everybody here.
type link struct {
	index, master int
	name          string
	up            bool
	vrf           bool // it is a VRF device
	isVXLAN       bool
	vx            vxlanData
}

// vxlanData is what only a VXLAN device has.
type vxlanData struct {
	vni           vxlan.VNI
	lower         int // index of the underlay link, 0 for none
	local, remote netip.Addr
	port          uint16
	external      bool
	filter        bool // VNIs are those of its filter (bridge(8), vni)
	elsewhere     bool
}

// links lists all devices of the namespace by index: see gatherLinks.
func (c *conn) links(known map[int]link) (map[int]link, error) {
	return gatherLinks(known, func(take func(link)) error {
		_, err := c.list(linkRequest(0, unix.NLM_F_DUMP), func(b []byte) {
			if l, ok := parseLink(b); ok {
				take(l)
			}
		})
		return err
	}, c.link)
}

// gatherLinks lists all devices. Where devices come and go meanwhile, a listing
// may lack others, so those that were known before are looked up one by one.
// The error is netlink.ErrDumpInterrupted then: what is returned is of use, but
// may lack a device that was not known. Where none was, the listing is repeated.
func gatherLinks(known map[int]link, list func(take func(link)) error, lookUp func(int) (link, error)) (map[int]link, error) {
	tries := 1
	if len(known) == 0 {
		tries = maxTries
	}
	for range tries {
		out := make(map[int]link, len(known))
		if err := list(func(l link) { out[l.index] = l }); !interrupted(err) {
			return out, err
		}
		for i, l := range known {
			if _, listed := out[i]; listed {
				continue
			}
			now, err := lookUp(i)
			if err == nil {
				l = now
			}
			if !errors.Is(err, unix.ENODEV) {
				out[i] = l
			}
		}
		known = out
	}
	return known, netlink.ErrDumpInterrupted
}

// link looks one device up.
func (c *conn) link(index int) (l link, err error) {
	_, err = c.list(linkRequest(index, unix.NLM_F_ACK), func(b []byte) { l, _ = parseLink(b) })
	return l, err
}

func linkRequest(index int, flags uint16) request {
	b := make([]byte, unix.SizeofIfInfomsg)
	ne.PutUint32(b[4:], uint32(index))
	b = appendAttribute(b, unix.IFLA_EXT_MASK, ne.AppendUint32(nil, skipStats))
	return request{typ: unix.RTM_GETLINK, flags: flags, body: b}
}

// parseLink reads a message about a device (struct ifinfomsg). It returns
// false for one that is not about the device as a whole.
func parseLink(b []byte) (link, bool) {
	if len(b) < unix.SizeofIfInfomsg || b[0] != unix.AF_UNSPEC {
		return link{}, false
	}
	l := link{index: int(ne.Uint32(b[4:])), up: ne.Uint32(b[8:])&unix.IFF_UP != 0}
	var info []byte
	for typ, v := range attributes(b, unix.SizeofIfInfomsg) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = text(v)
		case unix.IFLA_MASTER:
			l.master = int(number(v))
		case unix.IFLA_OPERSTATE:
			// A VXLAN device's is unknown as a rule.
			switch netlink.LinkOperState(number(v)) {
			case netlink.OperNotPresent, netlink.OperDown, netlink.OperLowerLayerDown:
				l.up = false
			}
		case unix.IFLA_LINKINFO:
			info = v
		case unix.IFLA_LINK_NETNSID:
			l.vx.elsewhere = true
		}
	}
	var kind string
	var data []byte
	for typ, v := range attributes(info, 0) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			kind = text(v)
		case unix.IFLA_INFO_DATA:
			data = v
		}
	}
	l.vrf, l.isVXLAN = kind == "vrf", kind == "vxlan"
	if l.isVXLAN {
		l.vx.parse(data)
	} else {
		l.vx = vxlanData{}
	}
	return l, l.name != ""
}

// parse reads the attributes of a VXLAN device (linux/if_link.h).
func (d *vxlanData) parse(b []byte) {
	for typ, v := range attributes(b, 0) {
		switch typ {
		case unix.IFLA_VXLAN_ID:
			d.vni = vxlan.VNI(number(v))
		case unix.IFLA_VXLAN_LINK:
			d.lower = int(number(v))
		case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
			d.local = address(v)
		case unix.IFLA_VXLAN_GROUP, unix.IFLA_VXLAN_GROUP6:
			d.remote = address(v)
		case unix.IFLA_VXLAN_PORT:
			if len(v) == 2 {
				d.port = binary.BigEndian.Uint16(v)
			}
		case unix.IFLA_VXLAN_COLLECT_METADATA:
			d.external = number(v) != 0
		case unix.IFLA_VXLAN_VNIFILTER:
			d.filter = number(v) != 0
		}
	}
}

// address reads an address; the unspecified one is none.
func address(b []byte) netip.Addr {
	if a, ok := fromIP(b); ok && !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

// text reads a string that ends with a zero.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// vrfAbove returns the VRF device that the chain of a device's masters ends in,
// if it does; find looks a device up.
func vrfAbove(index int, find func(int) (link, bool)) (link, bool) {
	for range maxMasters {
		l, ok := find(index)
		if !ok {
			break
		}
		if l.vrf {
			return l, true
		}
		index = l.master
	}
	return link{}, false
}

// maxMasters is how far the kernel lets devices be stacked (MAX_NEST_DEV of
// linux/netdevice.h).
const maxMasters = 8
