// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VXLAN is the configuration of a kernel VXLAN device. Zero values leave the
// kernel's defaults, but for Port.
type VXLAN struct {
	// VNI is the VXLAN network identifier, up to 24 bits.
	VNI uint32
	// Local is the VTEP's address. Every device should have one: without it
	// the kernel picks the source by route.
	Local netip.Addr
	// Remote is where frames go whose destination the device does not know: the
	// service node. Without it they are dropped.
	Remote netip.Addr
	// Port is the UDP port on both sides; 0 is 4789.
	Port uint16
	// NoLearning keeps the device from learning MAC addresses from the outer
	// source of what it receives.
	NoLearning bool
	// MTU of the device; 0 leaves the kernel's: 1450 on a 1500 byte underlay
	// where Device is set, else 1500.
	MTU int
	// TTL of the outer packet; 0 is the namespace's default, 64.
	TTL uint8
	// TOS of the outer packet; 1 takes over that of the inner.
	TOS uint8
	// NoChecksum makes the device leave the outer UDP checksum zero over IPv4
	// (noudpcsum). Else, and over IPv6, it is computed, which is the kernel's default.
	NoChecksum bool
	// Device names the underlay link; empty leaves it to the routes.
	Device string
	// MAC is the device's hardware address; nil is a random one.
	MAC net.HardwareAddr
}

// AddVXLAN makes a VXLAN device: a kernel VTEP.
func (n *Namespace) AddVXLAN(name string, o VXLAN) error {
	if o.Port == 0 {
		o.Port = 4789
	}
	info, data := linkInfo("vxlan")
	flag := func(attr int, on bool) { data.AddRtAttr(attr, []byte{map[bool]byte{true: 1}[on]}) }
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(o.VNI))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, o.Port))
	data.AddRtAttr(nl.IFLA_VXLAN_TTL, []byte{o.TTL})
	data.AddRtAttr(nl.IFLA_VXLAN_TOS, []byte{o.TOS})
	flag(nl.IFLA_VXLAN_LEARNING, !o.NoLearning)
	flag(nl.IFLA_VXLAN_UDP_CSUM, !o.NoChecksum)
	addAddresses(data, o.Local, o.Remote)
	if o.Device != "" {
		d, err := n.nl.LinkByName(o.Device)
		if err != nil {
			return n.fail(err, "add vxlan %s over %s", name, o.Device)
		}
		data.AddRtAttr(nl.IFLA_VXLAN_LINK, nl.Uint32Attr(uint32(d.Attrs().Index)))
	}
	var more []nl.NetlinkRequestData
	if o.MTU != 0 {
		more = append(more, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(o.MTU))))
	}
	if o.MAC != nil {
		more = append(more, nl.NewRtAttr(unix.IFLA_ADDRESS, o.MAC))
	}
	return n.addVXLAN(name, info, more...)
}

// addVXLAN makes a VXLAN device of which the netlink package cannot say all, and
// brings it up.
func (n *Namespace) addVXLAN(name string, info *nl.RtAttr, more ...nl.NetlinkRequestData) error {
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)), info}, more...)
	if err := n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...); err != nil {
		return n.fail(err, "add vxlan %s", name)
	}
	return n.SetUp(name)
}

// ExternalVXLAN is the configuration of a VXLAN device that carries many VNIs
// (collect metadata).
type ExternalVXLAN struct {
	// Local, Remote and Port are as those of VXLAN.
	Local, Remote netip.Addr
	Port          uint16
	// Filter makes a device that carries the VNIs that AddVNIs gives it (Linux
	// 5.18). Another carries what VLANs of its bridge port are mapped to.
	Filter bool
}

// AddExternalVXLAN makes a VXLAN device that carries many VNIs.
func (n *Namespace) AddExternalVXLAN(name string, o ExternalVXLAN) error {
	if o.Port == 0 {
		o.Port = 4789
	}
	info, data := linkInfo("vxlan")
	data.AddRtAttr(nl.IFLA_VXLAN_FLOWBASED, []byte{1})
	data.AddRtAttr(nl.IFLA_VXLAN_LEARNING, []byte{0})
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, o.Port))
	if o.Filter {
		data.AddRtAttr(unix.IFLA_VXLAN_VNIFILTER, []byte{1})
	}
	addAddresses(data, o.Local, o.Remote)
	return n.addVXLAN(name, info)
}

// request has the kernel do what the netlink package has no call for.
func (n *Namespace) request(typ, flags int, parts ...nl.NetlinkRequestData) error {
	return n.Do(func() error {
		r := nl.NewNetlinkRequest(typ, unix.NLM_F_ACK|flags)
		for _, p := range parts {
			r.AddData(p)
		}
		_, err := r.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

// tunnelMsg is struct tunnel_msg of linux/if_link.h.
type tunnelMsg struct{ index uint32 }

func (m tunnelMsg) Len() int { return 8 }
func (m tunnelMsg) Serialize() []byte {
	return binary.NativeEndian.AppendUint32([]byte{unix.AF_BRIDGE, 0, 0, 0}, m.index)
}

// AddVNIs adds the VNIs from first to last to the filter of a device, with the
// destination of what it cannot place, if remote is valid (bridge(8), vni).
func (n *Namespace) AddVNIs(dev string, first, last uint32, remote netip.Addr) error {
	return n.changeVNIs(unix.RTM_NEWTUNNEL, dev, first, last, remote)
}

// DeleteVNIs removes VNIs from the filter of a device.
func (n *Namespace) DeleteVNIs(dev string, first, last uint32) error {
	return n.changeVNIs(unix.RTM_DELTUNNEL, dev, first, last, netip.Addr{})
}

func (n *Namespace) changeVNIs(typ int, dev string, first, last uint32, remote netip.Addr) error {
	const entry, start, end, group, group6 = 1, 1, 2, 3, 4 // VXLAN_VNIFILTER_… of linux/if_link.h
	return n.withLink(dev, "change VNIs of", func(l netlink.Link) error {
		e := nl.NewRtAttr(unix.NLA_F_NESTED|entry, nil)
		e.AddRtAttr(start, nl.Uint32Attr(first))
		e.AddRtAttr(end, nl.Uint32Attr(last))
		if remote.Is4() {
			e.AddRtAttr(group, remote.AsSlice())
		} else if remote.Is6() {
			e.AddRtAttr(group6, remote.AsSlice())
		}
		return n.request(typ, 0, tunnelMsg{uint32(l.Attrs().Index)}, e)
	})
}

// MapVLANs has VLANs of a bridge's port, a VXLAN device, travel as the VNIs from
// vni on. The bridge is made one that knows VLANs, and is in the first of them
// itself. A last of 0 is one VLAN alone.
func (n *Namespace) MapVLANs(bridge, port string, first, last uint16, vni uint32) error {
	err := n.withLink(bridge, "filter VLANs of", func(l netlink.Link) error {
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(l.Attrs().Index)
		info, data := linkInfo("bridge")
		data.AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, []byte{1})
		if err := n.request(unix.RTM_NEWLINK, 0, msg, info); err != nil {
			return err
		}
		return n.nl.BridgeVlanAdd(l, first, false, false, true, false)
	})
	if err != nil {
		return err
	}
	return n.withLink(port, "map VLANs of", func(l netlink.Link) error {
		if err := n.nl.LinkSetVlanTunnel(l, true); err != nil {
			return err
		}
		if last == 0 {
			if err := n.nl.BridgeVlanAdd(l, first, false, false, false, true); err != nil {
				return err
			}
			return n.nl.BridgeVlanAddTunnelInfo(l, first, 0, vni, 0, false, true)
		}
		if err := n.nl.BridgeVlanAddRange(l, first, last, false, false, false, true); err != nil {
			return err
		}
		return n.nl.BridgeVlanAddTunnelInfo(l, first, last, vni, vni+uint32(last-first), false, true)
	})
}

// UnmapVLAN ends what MapVLANs began, for one VLAN.
func (n *Namespace) UnmapVLAN(port string, vlan uint16, vni uint32) error {
	return n.withLink(port, "unmap VLAN of", func(l netlink.Link) error {
		return n.nl.BridgeVlanDelTunnelInfo(l, vlan, 0, vni, 0, false, true)
	})
}

// AddManagedFDB is AddFDB of a daemon that says that the entry is its own
// (extern_learn), as routing daemons do.
func (n *Namespace) AddManagedFDB(dev string, mac net.HardwareAddr, vtep netip.Addr) error {
	return n.withLink(dev, "add fdb entry to", func(l netlink.Link) error {
		return n.nl.NeighAppend(fdbEntry(l, mac, vtep, netlink.NTF_EXT_LEARNED))
	})
}

// DeleteFDB removes an entry that AddFDB or AddManagedFDB has made.
func (n *Namespace) DeleteFDB(dev string, mac net.HardwareAddr, vtep netip.Addr) error {
	return n.withLink(dev, "delete fdb entry from", func(l netlink.Link) error {
		return n.nl.NeighDel(fdbEntry(l, mac, vtep, 0))
	})
}

func fdbEntry(l netlink.Link, mac net.HardwareAddr, vtep netip.Addr, flags int) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex:    l.Attrs().Index,
		Family:       unix.AF_BRIDGE,
		State:        netlink.NUD_PERMANENT,
		Flags:        netlink.NTF_SELF | flags,
		IP:           vtep.AsSlice(),
		HardwareAddr: mac,
	}
}

// ChangeVXLAN changes the local and the remote address of a VXLAN device, those
// that are valid.
func (n *Namespace) ChangeVXLAN(dev string, local, remote netip.Addr) error {
	return n.withLink(dev, "change", func(l netlink.Link) error {
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(l.Attrs().Index)
		info, data := linkInfo("vxlan")
		addAddresses(data, local, remote)
		return n.request(unix.RTM_NEWLINK, 0, msg, info)
	})
}

// linkInfo returns the attributes of a kind of link, and the part that is for
// that kind alone.
func linkInfo(kind string) (info, data *nl.RtAttr) {
	info = nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	return info, info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
}

func addAddresses(data *nl.RtAttr, local, remote netip.Addr) {
	for _, a := range []struct {
		addr   netip.Addr
		v4, v6 int
	}{
		{local, nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6},
		{remote, nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6},
	} {
		if a.addr.Is4() {
			data.AddRtAttr(a.v4, a.addr.AsSlice())
		} else if a.addr.Is6() {
			data.AddRtAttr(a.v6, a.addr.AsSlice())
		}
	}
}

// Rename gives a link another name. It may be up (Linux 6.2).
func (n *Namespace) Rename(dev, name string) error {
	return n.withLink(dev, "rename", func(l netlink.Link) error { return n.nl.LinkSetName(l, name) })
}

// SetNoMaster takes a link out of its bridge or VRF.
func (n *Namespace) SetNoMaster(dev string) error {
	return n.withLink(dev, "free", func(l netlink.Link) error { return n.nl.LinkSetNoMaster(l) })
}

// MoveLink moves a link to another namespace, where it is down.
func (n *Namespace) MoveLink(dev string, to *Namespace) error {
	return n.withLink(dev, "move", func(l netlink.Link) error { return n.nl.LinkSetNsFd(l, int(to.fd.Fd())) })
}

// SetVLANTunnel lets VLANs of a bridge's port be mapped to VNIs, or forgets
// all that are.
func (n *Namespace) SetVLANTunnel(port string, on bool) error {
	return n.withLink(port, "map VLANs of", func(l netlink.Link) error { return n.nl.LinkSetVlanTunnel(l, on) })
}

// A Way is how an entry's packets go where its device does not say it.
type Way struct {
	Port   uint16
	VNI    uint32
	Device string
}

// AddFDBVia adds a destination for what a VXLAN device cannot place, in a way
// of its own.
func (n *Namespace) AddFDBVia(dev string, vtep netip.Addr, w Way) error {
	return n.withLink(dev, "add fdb entry to", func(l netlink.Link) error {
		msg := &netlink.Ndmsg{
			Family: unix.AF_BRIDGE,
			Index:  uint32(l.Attrs().Index),
			State:  unix.NUD_PERMANENT,
			Flags:  unix.NTF_SELF,
		}
		parts := []nl.NetlinkRequestData{msg,
			nl.NewRtAttr(unix.NDA_LLADDR, make([]byte, 6)),
			nl.NewRtAttr(unix.NDA_DST, vtep.AsSlice()),
		}
		if w.Port != 0 {
			parts = append(parts, nl.NewRtAttr(unix.NDA_PORT, binary.BigEndian.AppendUint16(nil, w.Port)))
		}
		if w.VNI != 0 {
			parts = append(parts, nl.NewRtAttr(unix.NDA_VNI, nl.Uint32Attr(w.VNI)))
		}
		if w.Device != "" {
			d, err := n.nl.LinkByName(w.Device)
			if err != nil {
				return err
			}
			parts = append(parts, nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(d.Attrs().Index))))
		}
		return n.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, parts...)
	})
}
