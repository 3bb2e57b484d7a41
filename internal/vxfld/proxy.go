// SPDX-License-Identifier: Apache-2.0

package vxfld

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxlan"
)

// ProxyTTLDefault is meant where a PROXY message has no ttl
// (docs/protocol.md section 5).
const ProxyTTLDefault uint32 = 4

// Field numbers of the PROXY body (docs/protocol.md section 5).
const (
	proxyTTL     protowire.Number = 1
	proxyHops    protowire.Number = 2
	proxySrcPort protowire.Number = 3
	proxySrcIP   protowire.Number = 4
	proxyArea    protowire.Number = 5
	proxyIPs     protowire.Number = 6
	proxyPacket  protowire.Number = 7
)

// A Proxy hands a flooded packet from one tier of service nodes to another
// (docs/protocol.md section 5).
type Proxy struct {
	// TTL is how many service nodes the message may still pass. TTLOnWire
	// tells whether the message says so itself: the first sender leaves it
	// out. It is written where it is not ProxyTTLDefault, too.
	TTL       uint32
	TTLOnWire bool

	// Hops is the number of proxies passed, which ProxyIPs names.
	Hops uint32

	// SrcIP and SrcPort are the outer source of the packet as its VTEP sent
	// it. SrcIP is the zero Addr where the message has none.
	SrcIP   netip.Addr
	SrcPort uint16

	// Area is the area of the first sender, 0 for none.
	Area uint32

	// ProxyIPs are the proxy ids that the message has passed, first to last.
	ProxyIPs []netip.Addr

	// Packet is the VXLAN header and inner frame as received, at least
	// vxlan.HeaderLen bytes, or nil where the message has none. The header's
	// flags are for whoever floods it to check.
	Packet []byte
}

// Type returns TypeProxy.
func (*Proxy) Type() Type { return TypeProxy }

// parseProxy decodes a PROXY message of any version.
func parseProxy(b []byte) (*Proxy, error) {
	p := &Proxy{TTL: ProxyTTLDefault}
	var src octets
	srcAt := headerLen
	fs := fields{b: b, off: headerLen, in: "body"}
	for fs.next() {
		var err error
		switch {
		case fs.is(proxyTTL, protowire.VarintType):
			p.TTL, err = fs.uint32("ttl")
			p.TTLOnWire = true
		case fs.is(proxyHops, protowire.VarintType):
			p.Hops, err = fs.uint32("proxy_hops")
		case fs.is(proxySrcPort, protowire.VarintType):
			if fs.varint > math.MaxUint16 {
				err = &ParseError{"body.srcport", fs.start, ErrProtobuf}
			}
			p.SrcPort = uint16(fs.varint)
		case fs.is(proxySrcIP, protowire.BytesType):
			srcAt = fs.start
			err = src.parse(b[:fs.off], fs.start, "body.srcip_n")
		case fs.is(proxyArea, protowire.VarintType):
			p.Area, err = fs.uint32("area")
		case fs.is(proxyIPs, protowire.BytesType):
			var a octets
			if err = a.parse(b[:fs.off], fs.start, "body.proxy_ips"); err == nil {
				var addr netip.Addr
				addr, err = a.addr("body.proxy_ips", fs.start)
				p.ProxyIPs = append(p.ProxyIPs, addr)
			}
		case fs.is(proxyPacket, protowire.BytesType):
			p.Packet = b[fs.start:fs.off:fs.off]
			if len(p.Packet) < vxlan.HeaderLen {
				err = &ParseError{"body.vxlan_pkt", fs.start, ErrPacket}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if fs.err != nil {
		return nil, fs.err
	}
	if src.found {
		var err error
		if p.SrcIP, err = src.addr("body.srcip_n", srcAt); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// appendTo appends the body. Fields that hold their default are left out, as
// deployed senders do in this message.
func (p *Proxy) appendTo(dst []byte, _ Version) ([]byte, error) {
	if p.TTLOnWire || p.TTL != ProxyTTLDefault {
		dst = appendVarintField(dst, proxyTTL, uint64(p.TTL))
	}
	if p.Hops != 0 {
		dst = appendVarintField(dst, proxyHops, uint64(p.Hops))
	}
	if p.SrcPort != 0 {
		dst = appendVarintField(dst, proxySrcPort, uint64(p.SrcPort))
	}
	if p.SrcIP.IsValid() {
		if !p.SrcIP.Is4() {
			return nil, fmt.Errorf("srcip %s: %w", p.SrcIP, ErrRange)
		}
		dst = appendAddrField(dst, proxySrcIP, p.SrcIP)
	}
	if p.Area != 0 {
		dst = appendVarintField(dst, proxyArea, uint64(p.Area))
	}
	for _, a := range p.ProxyIPs {
		if !a.Is4() {
			return nil, fmt.Errorf("proxy_ips %s: %w", a, ErrRange)
		}
		dst = appendAddrField(dst, proxyIPs, a)
	}
	if p.Packet != nil {
		if len(p.Packet) < vxlan.HeaderLen {
			return nil, fmt.Errorf("vxlan_pkt: %w", ErrPacket)
		}
		dst = protowire.AppendTag(dst, proxyPacket, protowire.BytesType)
		dst = protowire.AppendBytes(dst, p.Packet)
	}
	return dst, nil
}
