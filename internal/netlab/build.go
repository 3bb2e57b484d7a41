// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

// Broadcast is the Ethernet address of everybody.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Ethernet returns a frame. It is not padded to Ethernet's minimum.
func Ethernet(dst, src net.HardwareAddr, etherType uint16, payload []byte) []byte {
	b := make([]byte, 0, etherLen+len(payload))
	b = append(b, dst...)
	b = append(b, src...)
	b = binary.BigEndian.AppendUint16(b, etherType)
	return append(b, payload...)
}

// Encapsulate returns the payload of a VXLAN datagram: header and inner frame.
func Encapsulate(vni vxlan.VNI, inner []byte) []byte {
	return append(vxlan.AppendHeader(nil, vni), inner...)
}

// A Datagram is a hand-made UDP datagram: what no socket would send.
type Datagram struct {
	// Src and Dst are of one family.
	Src, Dst netip.AddrPort
	// TTL is taken as it is: 0 is 0.
	TTL, TOS uint8
	// ID and DontFragment are for IPv4.
	ID           uint16
	DontFragment bool
	// NoChecksum leaves the UDP checksum zero.
	NoChecksum bool
	Payload    []byte
}

// Packet returns the datagram from its IP header on, and the EtherType for it.
func (d Datagram) Packet() ([]byte, uint16) {
	src, dst := d.Src.Addr(), d.Dst.Addr()
	u := make([]byte, udpLen, udpLen+len(d.Payload))
	binary.BigEndian.PutUint16(u[0:], d.Src.Port())
	binary.BigEndian.PutUint16(u[2:], d.Dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udpLen+len(d.Payload)))
	u = append(u, d.Payload...)
	if !d.NoChecksum {
		c := ^pseudoSum(src, dst, u)
		if c == 0 {
			c = 0xffff // zero means none: RFC 768
		}
		binary.BigEndian.PutUint16(u[6:], c)
	}
	if src.Is6() {
		h := make([]byte, ipv6Len, ipv6Len+len(u))
		h[0], h[1] = 0x60|d.TOS>>4, d.TOS<<4
		binary.BigEndian.PutUint16(h[4:], uint16(len(u)))
		h[6], h[7] = unix.IPPROTO_UDP, d.TTL
		copy(h[8:], src.AsSlice())
		copy(h[24:], dst.AsSlice())
		return append(h, u...), unix.ETH_P_IPV6
	}
	h := make([]byte, ipv4Len, ipv4Len+len(u))
	h[0], h[1] = 0x45, d.TOS
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+len(u)))
	binary.BigEndian.PutUint16(h[4:], d.ID)
	if d.DontFragment {
		h[6] = 0x40
	}
	h[8], h[9] = d.TTL, unix.IPPROTO_UDP
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum16(0, h))
	return append(h, u...), unix.ETH_P_IP
}

// Frame returns the datagram as an Ethernet frame.
func (d Datagram) Frame(dst, src net.HardwareAddr) []byte {
	p, typ := d.Packet()
	return Ethernet(dst, src, typ, p)
}
