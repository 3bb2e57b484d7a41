// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/logging"
	"vxsnd/internal/vxlan"
)

// A Device is a VXLAN device of the namespace, as the kernel has it.
type Device struct {
	Name  string
	Index int

	// VNIs are in ascending order and distinct. There is exactly one, unless
	// the device is External: then there may be none.
	VNIs []DeviceVNI

	// External devices (collect metadata) carry many VNIs: those of their VNI
	// filter if they have one (bridge(8), vni), else those that the VLANs of
	// their bridge port are mapped to (bridge(8), vlan tunnel_info).
	External bool

	// Elsewhere devices were made in another namespace and moved here: their
	// packets travel there.
	Elsewhere bool

	// Local is the source address of the packets; it is not valid where the
	// kernel picks it by route.
	Local netip.Addr

	// Port is the UDP destination port.
	Port uint16

	// Up tells that the device is administratively up and operational.
	Up bool

	// VRF is that of the underlay link, empty for none.
	VRF string
}

// A DeviceVNI is a VXLAN that a device carries.
type DeviceVNI struct {
	VNI vxlan.VNI

	// Remote is where the device sends what it cannot place, unicast or
	// multicast. It is not valid where there is no such default destination.
	Remote netip.Addr
}

// Equal tells whether two devices are the same in every respect.
func (d *Device) Equal(o *Device) bool {
	return d.Name == o.Name && d.Index == o.Index && d.External == o.External && d.Elsewhere == o.Elsewhere &&
		d.Local == o.Local && d.Port == o.Port && d.Up == o.Up && d.VRF == o.VRF && slices.Equal(d.VNIs, o.VNIs)
}

// Devices follows the VXLAN devices of a network namespace: that of the thread
// that OpenDevices ran on. Its methods may be called concurrently; Run and
// FollowRoutes at most once. It needs no capability.
type Devices struct {
	log    logrus.FieldLogger
	conn   *conn
	feed   *feed           // for Run alone
	routes *netlink.Handle // for Source

	routeFeed *feed // for FollowRoutes alone
}

const deviceTask = "devices"

// OpenDevices connects to the kernel. A nil log discards.
func OpenDevices(log logrus.FieldLogger) (*Devices, error) { return openDevices(log, receiveBuffer) }

// openDevices is OpenDevices with a receive buffer of so many bytes.
func openDevices(log logrus.FieldLogger, buffer int) (_ *Devices, err error) {
	d := &Devices{log: logging.OrDiscard(log).WithField("task", deviceTask)}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.conn, err = dial(); err != nil {
		return nil, err
	}
	if d.feed, err = openFeed(buffer); err != nil {
		return nil, err
	}
	if d.routeFeed, err = openFeed(routeBuffer); err != nil {
		return nil, err
	}
	if d.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return d, nil
}

// String names the task.
func (d *Devices) String() string { return deviceTask }

// Close ends the connection to the kernel. Run and FollowRoutes must have returned.
func (d *Devices) Close() {
	if d.conn != nil {
		d.conn.close()
	}
	if d.feed != nil {
		d.feed.close()
	}
	if d.routeFeed != nil {
		d.routeFeed.close()
	}
	if d.routes != nil {
		d.routes.Close()
	}
}

// List returns all VXLAN devices, sorted by name.
func (d *Devices) List() ([]Device, error) {
	links, err := d.conn.links(nil)
	if err != nil && !interrupted(err) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	vnis := make(map[int][]DeviceVNI)
	for i, l := range links {
		if l.vx.external {
			if vnis[i], err = d.conn.vnis(l); err != nil {
				return nil, err
			}
		}
	}
	return devices(links, vnis), nil
}

// devices makes Devices of links and the VNIs of external ones.
func devices(links map[int]link, vnis map[int][]DeviceVNI) []Device {
	n, m := 0, 0
	for i, l := range links {
		if l.isVXLAN {
			n, m = n+1, m+max(1, len(vnis[i]))
		}
	}
	out, all := make([]Device, 0, n), make([]DeviceVNI, 0, m)
	for i, l := range links {
		if !l.isVXLAN {
			continue
		}
		start := len(all)
		if l.vx.external {
			all = append(all, vnis[i]...)
		} else {
			all = append(all, DeviceVNI{VNI: l.vx.vni, Remote: l.vx.remote})
		}
		d := Device{
			Name:      l.name,
			Index:     i,
			VNIs:      slices.Clip(all[start:]),
			External:  l.vx.external,
			Elsewhere: l.vx.elsewhere,
			Local:     l.vx.local,
			Port:      l.vx.port,
			Up:        l.up,
		}
		if l.vx.lower != 0 && !l.vx.elsewhere {
			vrf, _ := vrfAbove(l.vx.lower, func(i int) (link, bool) { l, ok := links[i]; return l, ok })
			d.VRF = vrf.name
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return out
}
