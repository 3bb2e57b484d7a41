// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// The lengths of the headers around a VXLAN packet.
const (
	ipv4Header = 20
	ipv6Header = 40
	udpHeader  = 8
)

// A packetFile writes received packets as pcapng, each as it was on the wire from
// the IP header on: the daemon's sockets give the payload of UDP and what is to be
// known of the headers, so these are made again. A packet's comment is its
// verdict.
type packetFile struct {
	w        *pcapgo.NgWriter
	b        gopacket.SerializeBuffer
	started  time.Time
	captured uint64
	lost     uint64 // since the start
	told     uint64 // of lost, with packets before
}

// newPacketFile begins a file: where and what say on which machine and in which
// VNI the packets are received, snap is how much of a payload is in it at most, 0
// for all.
func newPacketFile(w io.Writer, where, what string, snap int, now time.Time) (*packetFile, error) {
	face := pcapgo.NgInterface{Name: "vxsnd", Description: what, Comment: what, LinkType: layers.LinkTypeRaw}
	if snap > 0 {
		face.SnapLength = uint32(snap + ipv6Header + udpHeader)
	}
	ng, err := pcapgo.NewNgWriterInterface(w, face, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: versionLine("vxsndctl"), Comment: where,
	}})
	if err != nil {
		return nil, err
	}
	// Whoever reads the file as it grows waits for its head.
	return &packetFile{w: ng, b: gopacket.NewSerializeBuffer(), started: now}, ng.Flush()
}

// add writes a packet, and lets go of nothing of it.
func (f *packetFile) add(p *control.Captured) error {
	data, whole, err := f.headed(p)
	if err != nil {
		return fmt.Errorf("a packet of %s: %w", p.Source, err)
	}
	o := pcapgo.NgPacketOptions{
		Comments: []string{verdict(p)},
		Flags:    &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound},
	}
	if missing := f.lost - f.told; missing > 0 {
		o.DropCount, f.told = &missing, f.lost
	}
	f.captured++
	err = f.w.WritePacketWithOptions(gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(data), Length: whole}, data, o)
	if err != nil {
		return err
	}
	return f.w.Flush()
}

// end writes how many packets are in the file, and how many are not.
func (f *packetFile) end(now time.Time) error {
	err := f.w.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: f.started, EndTime: now, PacketsReceived: f.captured + f.lost, PacketsDropped: f.lost,
	})
	if err != nil {
		return err
	}
	return f.w.Flush()
}

// headed returns a packet with its outer headers, and how long it was when it was
// received. What it returns is overwritten by the next.
func (f *packetFile) headed(p *control.Captured) (data []byte, whole int, err error) {
	source, to := p.Source.Addr(), p.Destination.Addr()
	if !to.IsValid() {
		to = netip.IPv6Unspecified()
		if source.Is4() {
			to = netip.IPv4Unspecified()
		}
	}
	if source.BitLen() != to.BitLen() || source.BitLen() == 0 {
		return nil, 0, fmt.Errorf("from %v to %v", source, to)
	}
	// A packet may be cut. Its headers have the lengths that it had.
	length := udpHeader + max(p.Length, len(p.Payload))
	if length > 0xffff-ipv4Header {
		return nil, 0, fmt.Errorf("a payload of %d bytes", p.Length)
	}
	udp := &layers.UDP{
		SrcPort: layers.UDPPort(p.Source.Port()), DstPort: layers.UDPPort(cmp.Or(p.Destination.Port(), vxlan.Port)), Length: uint16(length),
	}
	var ip gopacket.SerializableLayer
	// What the checksum of UDP was is not known. With IPv4 it is 0 most often and
	// says nothing (RFC 7348, section 4.1), with IPv6 0 looks wrong to many; that
	// of a packet which is cut is checked by nobody.
	checksum := gopacket.SerializeOptions{}
	if source.Is4() {
		length += ipv4Header
		ip = &layers.IPv4{
			Version: 4, IHL: ipv4Header / 4, TOS: p.TOS, Length: uint16(length), TTL: p.TTL, Protocol: layers.IPProtocolUDP,
			SrcIP: source.AsSlice(), DstIP: to.AsSlice(),
		}
	} else {
		v6 := &layers.IPv6{
			Version: 6, TrafficClass: p.TOS, Length: uint16(length), HopLimit: p.TTL, NextHeader: layers.IPProtocolUDP,
			SrcIP: source.AsSlice(), DstIP: to.AsSlice(),
		}
		length += ipv6Header
		if err := udp.SetNetworkLayerForChecksum(v6); err != nil {
			return nil, 0, err
		}
		ip, checksum.ComputeChecksums = v6, true
	}
	if err := f.b.Clear(); err != nil {
		return nil, 0, err
	}
	if err := gopacket.Payload(p.Payload).SerializeTo(f.b, checksum); err != nil {
		return nil, 0, err
	}
	if err := udp.SerializeTo(f.b, checksum); err != nil {
		return nil, 0, err
	}
	err = ip.SerializeTo(f.b, gopacket.SerializeOptions{ComputeChecksums: true})
	return f.b.Bytes(), length, err
}
