// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

// Attributes that golang.org/x/sys/unix does not name: linux/if_link.h
// (VXLAN_VNIFILTER_…) and linux/if_bridge.h (BRIDGE_VLANDB_…).
const (
	filterEntry = 1

	filterEntryStart  = 1
	filterEntryEnd    = 2
	filterEntryGroup  = 3
	filterEntryGroup6 = 4

	vlanEntry = 1

	vlanEntryInfo   = 1
	vlanEntryRange  = 2
	vlanEntryTunnel = 4

	vlanTunnelID = 1
)

// deviceMsg is the length of both struct tunnel_msg and struct br_vlan_msg,
// which begin with a family and end with the index of a device.
const deviceMsg = 8

// vnis lists the VNIs of an external device, ascending and distinct.
func (c *conn) vnis(l link) ([]DeviceVNI, error) {
	typ, parse := uint16(unix.RTM_GETVLAN), appendTunnels
	if l.vx.filter {
		typ, parse = unix.RTM_GETTUNNEL, func(vs []DeviceVNI, b []byte) []DeviceVNI {
			return appendFiltered(vs, b, l.vx.remote)
		}
	}
	body := make([]byte, deviceMsg)
	body[0] = unix.AF_BRIDGE
	ne.PutUint32(body[4:], uint32(l.index))
	vs, err := retry(func() (vs []DeviceVNI, err error) {
		_, err = c.list(request{typ: typ, flags: unix.NLM_F_DUMP, body: body}, func(b []byte) { vs = parse(vs, b) })
		return vs, err
	})
	// A device that is no port of a bridge, or is gone; a kernel too old.
	for _, none := range []error{unix.EINVAL, unix.ENODEV, unix.EOPNOTSUPP} {
		if errors.Is(err, none) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list VNIs of %s: %w", l.name, err)
	}
	slices.SortStableFunc(vs, func(a, b DeviceVNI) int { return int(a.VNI) - int(b.VNI) })
	return slices.CompactFunc(vs, func(a, b DeviceVNI) bool { return a.VNI == b.VNI }), nil
}

// appendFiltered reads a part of a device's VNI filter. What has no remote of
// its own has that of the device.
func appendFiltered(vs []DeviceVNI, b []byte, remote netip.Addr) []DeviceVNI {
	for typ, entry := range attributes(b, deviceMsg) {
		if typ != filterEntry {
			continue
		}
		var start, end vxlan.VNI
		to := remote
		for typ, v := range attributes(entry, 0) {
			switch typ {
			case filterEntryStart:
				start = vxlan.VNI(number(v))
			case filterEntryEnd:
				end = vxlan.VNI(number(v))
			case filterEntryGroup, filterEntryGroup6:
				if a := address(v); a.IsValid() {
					to = a
				}
			}
		}
		vs = appendRange(vs, start, max(start, end), to)
	}
	return vs
}

// appendTunnels reads VLANs of a bridge port and what they are mapped to. The
// VNIs of a range of VLANs follow one another. They have no default
// destination: the device's own is that of VNI 0.
func appendTunnels(vs []DeviceVNI, b []byte) []DeviceVNI {
	for typ, entry := range attributes(b, deviceMsg) {
		if typ != vlanEntry {
			continue
		}
		var vid, last, id uint32
		mapped := false
		for typ, v := range attributes(entry, 0) {
			switch typ {
			case vlanEntryInfo: // struct bridge_vlan_info: flags, VLAN
				if len(v) == 4 {
					vid = number(v[2:])
				}
			case vlanEntryRange:
				last = number(v)
			case vlanEntryTunnel:
				for typ, v := range attributes(v, 0) {
					if typ == vlanTunnelID {
						id, mapped = number(v), true
					}
				}
			}
		}
		if mapped {
			vs = appendRange(vs, vxlan.VNI(id), vxlan.VNI(id+max(vid, last)-vid), netip.Addr{})
		}
	}
	return vs
}

func appendRange(vs []DeviceVNI, first, last vxlan.VNI, remote netip.Addr) []DeviceVNI {
	for v := first; v <= min(last, vxlan.MaxVNI); v++ {
		vs = append(vs, DeviceVNI{VNI: v, Remote: remote})
	}
	return vs
}
