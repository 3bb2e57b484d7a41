// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

const (
	etherLen = 14
	ipv4Len  = 20
	ipv6Len  = 40
	fragLen  = 8 // IPv6 fragment header, RFC 8200, section 4.5
	udpLen   = 8
)

// errShort says that a frame ends before its headers do.
var errShort = errors.New("frame is cut short")

// A Packet is a decoded frame. Fields of headers that the frame does not have
// are zero. Its slices point into Frame, except in what Reassemble made.
type Packet struct {
	// Frame is all of it, from the Ethernet header; nil once reassembled.
	Frame []byte

	// EtherDst, EtherSrc and EtherType are the Ethernet header.
	EtherDst, EtherSrc net.HardwareAddr
	EtherType          uint16

	// Src and Dst are the IP addresses; not valid where it is not IP.
	Src, Dst netip.Addr
	// Protocol is the IP protocol, behind an IPv6 fragment header if there is one.
	Protocol uint8
	// TOS holds DSCP and ECN; TTL is the hop limit in IPv6.
	TOS, TTL uint8
	// ID is the IPv4 identification, or that of an IPv6 fragment header.
	ID uint32
	// DontFragment and MoreFragments are the IPv4 flags, or IPv6's M flag.
	DontFragment, MoreFragments bool
	// FragmentOffset is in bytes.
	FragmentOffset int
	// Body is what follows the IP headers, cut at the length that they give.
	Body []byte

	// SrcPort, DstPort and Checksum are the UDP header. They and Payload are
	// set for UDP unless the packet is a fragment.
	SrcPort, DstPort uint16
	Checksum         uint16
	Payload          []byte

	udp bool
}

// Decode reads a frame from its Ethernet header on. It returns an error where a
// header is cut short or a length does not fit. What is not IP ends after the
// EtherType, and an ARP packet is one of those.
func Decode(frame []byte) (Packet, error) {
	p := Packet{Frame: frame}
	if len(frame) < etherLen {
		return p, errShort
	}
	p.EtherDst, p.EtherSrc = frame[0:6], frame[6:12]
	p.EtherType = binary.BigEndian.Uint16(frame[12:])
	b := frame[etherLen:]
	var err error
	switch p.EtherType {
	case unix.ETH_P_IP:
		err = p.decodeIPv4(b)
	case unix.ETH_P_IPV6:
		err = p.decodeIPv6(b)
	default:
		return p, nil
	}
	if err != nil || p.Fragment() || p.Protocol != unix.IPPROTO_UDP {
		return p, err
	}
	return p, p.decodeUDP()
}

func (p *Packet) decodeIPv4(b []byte) error {
	if len(b) < ipv4Len {
		return errShort
	}
	hl, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	if hl < ipv4Len || total < hl || total > len(b) {
		return fmt.Errorf("IPv4 lengths: header %d, total %d, frame has %d", hl, total, len(b))
	}
	if s := sum16(0, b[:hl]); s != 0xffff {
		return fmt.Errorf("IPv4 header checksum is wrong")
	}
	p.TOS, p.TTL, p.Protocol = b[1], b[8], b[9]
	p.ID = uint32(binary.BigEndian.Uint16(b[4:]))
	frag := binary.BigEndian.Uint16(b[6:])
	p.DontFragment, p.MoreFragments = frag&0x4000 != 0, frag&0x2000 != 0
	p.FragmentOffset = int(frag&0x1fff) * 8
	p.Src = netip.AddrFrom4([4]byte(b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	p.Body = b[hl:total]
	return nil
}

func (p *Packet) decodeIPv6(b []byte) error {
	if len(b) < ipv6Len {
		return errShort
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if ipv6Len+n > len(b) {
		return fmt.Errorf("IPv6 payload length %d, frame has %d", n, len(b)-ipv6Len)
	}
	p.TOS = b[0]<<4 | b[1]>>4
	p.Protocol, p.TTL = b[6], b[7]
	p.Src = netip.AddrFrom16([16]byte(b[8:24]))
	p.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	p.Body = b[ipv6Len : ipv6Len+n]
	if p.Protocol == unix.IPPROTO_FRAGMENT {
		if n < fragLen {
			return errShort
		}
		f := p.Body
		p.Protocol = f[0]
		off := binary.BigEndian.Uint16(f[2:])
		p.FragmentOffset, p.MoreFragments = int(off&^7), off&1 != 0
		p.ID = binary.BigEndian.Uint32(f[4:])
		p.Body = f[fragLen:]
	}
	return nil
}

func (p *Packet) decodeUDP() error {
	if len(p.Body) < udpLen {
		return errShort
	}
	n := int(binary.BigEndian.Uint16(p.Body[4:]))
	if n < udpLen || n > len(p.Body) {
		return fmt.Errorf("UDP length %d, packet has %d", n, len(p.Body))
	}
	p.SrcPort = binary.BigEndian.Uint16(p.Body)
	p.DstPort = binary.BigEndian.Uint16(p.Body[2:])
	p.Checksum = binary.BigEndian.Uint16(p.Body[6:])
	p.Payload = p.Body[udpLen:n]
	p.udp = true
	return nil
}

// Fragment tells whether the packet is a part of a larger one.
func (p *Packet) Fragment() bool { return p.MoreFragments || p.FragmentOffset != 0 }

// UDP tells whether the packet is a whole UDP datagram.
func (p *Packet) UDP() bool { return p.udp }

// UDPTo tells whether the packet is a whole UDP datagram to the given port.
func (p *Packet) UDPTo(port uint16) bool { return p.udp && p.DstPort == port }

// Source returns the outer source address and port of a UDP datagram.
func (p *Packet) Source() netip.AddrPort { return netip.AddrPortFrom(p.Src, p.SrcPort) }

// ChecksumValid tells whether a UDP datagram's checksum is the right one. Zero,
// which means that there is none, is not.
func (p *Packet) ChecksumValid() bool {
	return p.udp && p.Checksum != 0 && pseudoSum(p.Src, p.Dst, p.Body[:udpLen+len(p.Payload)]) == 0xffff
}

// VXLAN splits the payload into the VXLAN header and the inner frame.
func (p *Packet) VXLAN() (vni vxlan.VNI, inner []byte, err error) {
	if vni, err = vxlan.ParseHeader(p.Payload); err != nil {
		return 0, nil, err
	}
	return vni, p.Payload[vxlan.HeaderLen:], nil
}

// Reassemble returns the packets with the fragments of each datagram put
// together, in the order in which the datagrams became complete. A datagram
// has the header fields of its first fragment, Body in full and its UDP header
// decoded. Incomplete and overlapping ones are an error.
func Reassemble(ps []Packet) ([]Packet, error) {
	type key struct {
		src, dst netip.Addr
		proto    uint8
		id       uint32
	}
	var out []Packet
	parts := make(map[key][]Packet)
	for _, p := range ps {
		if !p.Fragment() {
			out = append(out, p)
			continue
		}
		k := key{p.Src, p.Dst, p.Protocol, p.ID}
		parts[k] = append(parts[k], p)
		whole, ok := join(parts[k])
		if !ok {
			continue
		}
		delete(parts, k)
		if whole.Protocol == unix.IPPROTO_UDP {
			if err := whole.decodeUDP(); err != nil {
				return out, err
			}
		}
		out = append(out, whole)
	}
	for k, fs := range parts {
		return out, fmt.Errorf("datagram %d from %s to %s is incomplete: %d fragments", k.id, k.src, k.dst, len(fs))
	}
	return out, nil
}

// join puts the fragments of one datagram together, if they are all there
// without a gap or overlap.
func join(fs []Packet) (Packet, bool) {
	fs = slices.Clone(fs)
	slices.SortFunc(fs, func(a, b Packet) int { return a.FragmentOffset - b.FragmentOffset })
	whole := fs[0]
	whole.Frame, whole.Body, whole.MoreFragments = nil, nil, false
	for _, f := range fs {
		if f.FragmentOffset != len(whole.Body) {
			return Packet{}, false
		}
		whole.Body = append(whole.Body, f.Body...)
	}
	return whole, !fs[len(fs)-1].MoreFragments
}

// sum16 adds b to a ones' complement sum (RFC 1071).
func sum16(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// pseudoSum is the ones' complement sum of a UDP datagram and its pseudo
// header: 0xffff where the datagram's checksum is right.
func pseudoSum(src, dst netip.Addr, udp []byte) uint16 {
	s := uint32(sum16(0, src.AsSlice())) + uint32(sum16(0, dst.AsSlice()))
	return sum16(s+unix.IPPROTO_UDP+uint32(len(udp)), udp)
}
