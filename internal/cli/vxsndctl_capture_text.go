// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// captureTime is how the time of a packet or an event is shown.
const captureTime = "15:04:05.000000"

// verdict says what became of a packet.
func verdict(p *control.Captured) string {
	var text []string
	switch {
	case p.Drop != "":
		text = append(text, "dropped: "+p.Drop)
	case p.Copies > 0:
		text = append(text, amount(p.Copies, "copy", "copies"))
	default:
		text = append(text, "no copies")
	}
	for _, reason := range slices.Sorted(maps.Keys(p.CopyDrops)) {
		if n := p.CopyDrops[reason]; n > 0 {
			text = append(text, fmt.Sprintf("%d %s", n, reason))
		}
	}
	if p.Learned {
		text = append(text, "learned")
	}
	return strings.Join(text, ", ")
}

// isDropped tells whether not all went well with a packet.
func isDropped(p *control.Captured) bool { return p.Drop != "" || len(p.CopyDrops) > 0 }

// capturedLine is one packet without its verdict, as tcpdump would have it.
func capturedLine(p *control.Captured) string {
	return fmt.Sprintf("%s %s ttl %d %s, length %d", p.Time.Local().Format(captureTime), p.Source, p.TTL, frameText(p.Payload), p.Length)
}

// frameText is what can be told of the frame in a VXLAN packet in few words. All
// of it is numbers and fixed words: nothing that a tenant writes reaches a
// terminal.
func frameText(payload []byte) string {
	if len(payload) < vxlan.HeaderLen {
		return "no frame"
	}
	frame := payload[vxlan.HeaderLen:]
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	ethernet, ok := packet.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok {
		return fmt.Sprintf("no Ethernet frame in %d bytes", len(frame))
	}
	text := fmt.Sprintf("%s > %s ", ethernet.SrcMAC, ethernet.DstMAC)
	kind := ethernet.EthernetType
	if tag, ok := packet.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
		text += fmt.Sprintf("vlan %d ", tag.VLANIdentifier)
		kind = tag.Type
	}
	return text + innerText(packet, kind)
}

// innerText is what is in a frame of a kind.
func innerText(packet gopacket.Packet, kind layers.EthernetType) string {
	if arp, ok := packet.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		if text := arpText(arp); text != "" {
			return text
		}
	}
	// What is cut off in the middle of a header comes as a layer without values.
	if ip, ok := packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && ip.SrcIP != nil {
		if ip.FragOffset > 0 {
			return fmt.Sprintf("IPv4 %s > %s %s fragment", ip.SrcIP, ip.DstIP, protocolName(ip.Protocol))
		}
		return "IPv4 " + transportText(packet, ip.SrcIP, ip.DstIP, ip.Protocol)
	}
	if ip, ok := packet.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok && ip.SrcIP != nil {
		return "IPv6 " + transportText(packet, ip.SrcIP, ip.DstIP, ip.NextHeader)
	}
	if kind == layers.EthernetTypeLLC {
		if packet.Layer(layers.LayerTypeSTP) != nil {
			return "STP"
		}
		return "LLC"
	}
	return fmt.Sprintf("ethertype 0x%04x", uint16(kind))
}

// arpText is an ARP message between IPv4 addresses, and nothing for others.
func arpText(arp *layers.ARP) string {
	asks, okAsks := netip.AddrFromSlice(arp.SourceProtAddress)
	asked, okAsked := netip.AddrFromSlice(arp.DstProtAddress)
	switch {
	case !okAsks || !okAsked:
	case arp.Operation == layers.ARPRequest:
		return fmt.Sprintf("ARP who-has %s tell %s", asked, asks)
	case arp.Operation == layers.ARPReply:
		return fmt.Sprintf("ARP %s is-at %s", asks, net.HardwareAddr(arp.SourceHwAddress))
	}
	return ""
}

// transportText is what is between two addresses.
func transportText(packet gopacket.Packet, from, to net.IP, protocol layers.IPProtocol) string {
	ports := func(source, destination uint16, name string) string {
		port := func(ip net.IP, n uint16) string {
			a, _ := netip.AddrFromSlice(ip)
			return netip.AddrPortFrom(a, n).String()
		}
		return fmt.Sprintf("%s > %s %s", port(from, source), port(to, destination), name)
	}
	for _, layer := range packet.Layers() {
		switch l := layer.(type) {
		case *layers.UDP:
			return ports(uint16(l.SrcPort), uint16(l.DstPort), "UDP")
		case *layers.TCP:
			return ports(uint16(l.SrcPort), uint16(l.DstPort), "TCP")
		case *layers.ICMPv4:
			return fmt.Sprintf("%s > %s ICMP %s", from, to, l.TypeCode)
		case *layers.ICMPv6:
			return fmt.Sprintf("%s > %s ICMPv6 %s", from, to, l.TypeCode)
		}
	}
	return fmt.Sprintf("%s > %s %s", from, to, protocolName(protocol))
}

func protocolName(p layers.IPProtocol) string {
	if name := p.String(); !strings.HasPrefix(name, "Unknown") {
		return name
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}
