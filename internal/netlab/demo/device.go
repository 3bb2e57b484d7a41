// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A device is a kernel VXLAN device, with a capture of what comes out of it.
type device struct {
	name string
	addr netip.Addr
	mac  net.HardwareAddr
	out  *netlab.Capture
}

// A design says what devices are like.
type design struct {
	vni    vxlan.VNI
	remote bool // the service node is where it floods to
	notify bool // it introduces itself by a gratuitous ARP
}

// addDevice makes a VXLAN device the way commands says.
func (m *machine) addDevice(s design) error {
	d := &device{name: "vxlan" + s.vni.String(), addr: guestAddr(s.vni, m.number)}
	o := netlab.VXLAN{VNI: uint32(s.vni), Local: m.addr, TOS: tosInherit, NoChecksum: true}
	if s.remote {
		o.Remote = nodeAddr
	}
	err := m.AddVXLAN(d.name, o)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel has no VXLAN devices (CONFIG_VXLAN, 'modprobe vxlan'): %w", err)
	}
	if err != nil {
		return err
	}
	link, err := m.Link(d.name)
	if err != nil {
		return err
	}
	d.mac = link.MAC
	if s.notify {
		// AddVXLAN brings the device up; what notifies is coming up with an address.
		err = errors.Join(m.SetDown(d.name), m.SetSysctl("net/ipv4/conf/"+d.name+"/arp_notify", "1"))
	}
	err = errors.Join(err, m.AddAddr(d.name, netip.PrefixFrom(d.addr, 24)), m.SetUp(d.name))
	if err != nil {
		return err
	}
	m.devices[s.vni] = d
	d.out, err = m.Capture(d.name) // a capture does not outlive SetDown
	return err
}

// deleteDevice removes a VXLAN device.
func (m *machine) deleteDevice(vni vxlan.VNI) error {
	d := m.devices[vni]
	delete(m.devices, vni)
	return errors.Join(d.out.Close(), m.DeleteLink(d.name))
}

// tosInherit makes a VXLAN device mark the outer packet as the inner one is.
const tosInherit = 1

// commands are those of iproute2 that make the device which addDevice makes.
func (m *machine) commands(s design) []string {
	dev := "vxlan" + s.vni.String()
	ends := "local " + m.addr.String()
	if s.remote {
		ends += " remote " + nodeAddr.String()
	}
	out := []string{
		fmt.Sprintf("ip link add %s type vxlan id %s dstport %d \\\n           %s tos inherit noudpcsum", dev, s.vni, vxlan.Port, ends),
		fmt.Sprintf("ip address add %s/24 dev %s", guestAddr(s.vni, m.number), dev),
	}
	if s.notify {
		out = append(out, "sysctl -qw net.ipv4.conf."+dev+".arp_notify=1")
	}
	return append(out, "ip link set "+dev+" up")
}

// typed shows the commands that make a VXLAN device.
func (l *lab) typed(m *machine, s design) {
	for _, c := range m.commands(s) {
		l.command(m.Name, c)
	}
}

// floods returns where a device sends what it cannot place, sorted: the entries
// of the all-zero MAC.
func (m *machine) floods(vni vxlan.VNI) (out []netip.Addr, err error) {
	es, err := m.FDB(m.devices[vni].name)
	for _, e := range es {
		if slices.Equal(e.MAC, everyMAC) {
			out = append(out, e.VTEP)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, err
}

var everyMAC = make(net.HardwareAddr, 6)

// wantFloods checks where a device sends what it cannot place.
func (m *machine) wantFloods(vni vxlan.VNI, want ...netip.Addr) error {
	got, err := m.floods(vni)
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("%s floods VNI %s to %s, want %s", m.Name, vni, addrList(got), addrList(want))
	}
	return err
}

// waitFloods waits until a device sends what it cannot place to these machines.
func (m *machine) waitFloods(ctx context.Context, vni vxlan.VNI, want ...*machine) error {
	return until(ctx, "the flood list of "+m.Name, func() (bool, error) {
		got, err := m.floods(vni)
		return slices.Equal(got, addrs(want)), err
	})
}

// typeFloods shows a device's flood list as iproute2 does.
func (l *lab) typeFloods(m *machine, vni vxlan.VNI) error {
	to, err := m.floods(vni)
	if err != nil {
		return err
	}
	l.command(m.Name, fmt.Sprintf("bridge fdb show dev %s | grep ^%s", m.devices[vni].name, everyMAC))
	for _, a := range to {
		l.row("%s dst %s self permanent", everyMAC, a)
	}
	if len(to) == 0 {
		l.row("(nothing)")
	}
	return nil
}
