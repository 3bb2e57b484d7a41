// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// arpFrame asks for 192.0.2.2.
func arpFrame() []byte {
	return serialize(
		&layers.Ethernet{SrcMAC: mac(1), DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac(1), SourceProtAddress: []byte{192, 0, 2, 1}, DstHwAddress: mac(0), DstProtAddress: []byte{192, 0, 2, 2},
		})
}

func mac(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func serialize(ls ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	return slices.Clone(b.Bytes())
}

// vxlanPacket is frame in VNI 100.
func vxlanPacket(frame []byte) []byte {
	return append([]byte{8, 0, 0, 0, 0, 0, 100, 0}, frame...)
}

// cannedCapture are packets in VNI 100 with all that may become of one.
func cannedCapture() []control.Captured {
	at := time.Date(2026, 11, 22, 10, 30, 0, 123456000, time.UTC)
	arp := vxlanPacket(arpFrame())
	v6 := netip.MustParseAddrPort("[2001:db8::1]:50006")
	to6 := netip.MustParseAddrPort("[2001:db8::10]:4789")
	v4, to4 := netip.MustParseAddrPort("10.2.1.1:50004"), netip.MustParseAddrPort("10.0.0.10:4789")
	return []control.Captured{
		{Time: at, VNI: 100, Source: v4, Destination: to4, TTL: 64, TOS: 0xb8, Length: len(arp), Payload: arp, Copies: 12},
		{Time: at.Add(time.Microsecond), VNI: 100, Source: v4, Destination: to4, TTL: 1, Length: len(arp), Payload: arp, Drop: "ttl"},
		{Time: at.Add(time.Second), VNI: 100, Source: v6, Destination: to6, TTL: 3, TOS: 1, Length: len(arp), Payload: arp, Copies: 1,
			CopyDrops: map[string]uint32{"unreachable": 1, "family": 2}, Learned: true},
		{Time: at.Add(time.Minute), VNI: 100, Source: v4, Destination: to4, TTL: 255, Length: 1450, Payload: arp[:30], Copies: 1},
		{Time: at.Add(time.Hour), VNI: 100, Source: v6, Destination: to6, TTL: 255, Length: 1450, Payload: arp[:30]},
		{Time: at.Add(time.Hour), VNI: 100, Source: v4, TTL: 2, Length: len(arp), Payload: arp},
	}
}

// packetFileOf writes packets, the last of them after 7 that are missing, and
// returns the file.
func packetFileOf(t *testing.T, packets []control.Captured, snap int) []byte {
	t.Helper()
	var b bytes.Buffer
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f, err := newPacketFile(&b, "vxsnd 1.2.3 on node1", "VNI 100", snap, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range packets {
		before := b.Len()
		if i == len(packets)-1 {
			f.lost = 7
		}
		if err := f.add(&packets[i]); err != nil {
			t.Fatal(err)
		}
		if b.Len() == before {
			t.Errorf("packet %d: got nothing written, want each packet at once", i)
		}
	}
	if err := f.end(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A readPacket is what a reader finds in a file.
type readPacket struct {
	info    gopacket.CaptureInfo
	packet  gopacket.Packet
	options pcapgo.NgPacketOptions
}

func readPackets(t *testing.T, file []byte) (*pcapgo.NgReader, []readPacket) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var all []readPacket
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return r, all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, readPacket{info, gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.Default), options})
	}
}

func TestPacketsAreReadAsTheyWereReceived(t *testing.T) {
	want := cannedCapture()
	r, got := readPackets(t, packetFileOf(t, want, 0))
	if len(got) != len(want) {
		t.Fatalf("got %d packets, want %d", len(got), len(want))
	}
	for i := range want {
		w, g := &want[i], &got[i]
		if !g.info.Timestamp.Equal(w.Time) {
			t.Errorf("packet %d: got time %v, want %v", i, g.info.Timestamp, w.Time)
		}
		if diff := cmp.Diff([]string{verdict(w)}, g.options.Comments); diff != "" {
			t.Errorf("packet %d: comment (-want +got)\n%s", i, diff)
		}
		checkHeaders(t, i, g, w)
		vxlan, ok := g.packet.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if !ok || vxlan.VNI != w.VNI || !bytes.Equal(vxlan.Payload, w.Payload[8:]) {
			t.Errorf("packet %d: got %v, want VNI %d and the frame", i, g.packet, w.VNI)
		}
	}
	if last := got[len(got)-1].options.DropCount; last == nil || *last != 7 {
		t.Errorf("got %v packets missing before the last, want 7", last)
	}
	if s := r.SectionInfo(); s.Comment != "vxsnd 1.2.3 on node1" || !strings.HasPrefix(s.Application, "vxsndctl ") {
		t.Errorf("got section %+v", s)
	}
	face, err := r.Interface(0)
	if err != nil || face.Comment != "VNI 100" || face.Statistics.PacketsReceived != uint64(len(want)+7) || face.Statistics.PacketsDropped != 7 {
		t.Errorf("got interface %+v and %v", face, err)
	}
}

// checkHeaders checks the outer headers of a packet.
func checkHeaders(t *testing.T, i int, g *readPacket, w *control.Captured) {
	t.Helper()
	udp, ok := g.packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || uint16(udp.SrcPort) != w.Source.Port() || udp.DstPort != 4789 || int(udp.Length) != 8+w.Length {
		t.Fatalf("packet %d: got UDP %+v, want that of %+v", i, udp, w)
	}
	var source net.IP
	header := 20
	if w.Source.Addr().Is4() {
		ip := g.packet.NetworkLayer().(*layers.IPv4)
		if source = ip.SrcIP; ip.TTL != w.TTL || ip.TOS != w.TOS || int(ip.Length) != 28+w.Length || udp.Checksum != 0 {
			t.Errorf("packet %d: got IPv4 %+v and checksum %#x", i, ip, udp.Checksum)
		}
		if sum := gopacket.FoldChecksum(gopacket.ComputeChecksum(ip.Contents, 0)); sum != 0 {
			t.Errorf("packet %d: got a wrong checksum of the IPv4 header", i)
		}
	} else {
		ip := g.packet.NetworkLayer().(*layers.IPv6)
		if source = ip.SrcIP; ip.HopLimit != w.TTL || ip.TrafficClass != w.TOS || int(ip.Length) != 8+w.Length || udp.Checksum == 0 {
			t.Errorf("packet %d: got IPv6 %+v and checksum %#x", i, ip, udp.Checksum)
		}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		if err, wrong := udp.VerifyChecksum(); len(w.Payload) == w.Length && (err != nil || !wrong.Valid) {
			t.Errorf("packet %d: got checksum %+v and %v, want a valid one", i, wrong, err)
		}
		header = 40
	}
	if !source.Equal(w.Source.Addr().AsSlice()) {
		t.Errorf("packet %d: got source %s, want %s", i, source, w.Source)
	}
	if g.info.Length != header+8+w.Length || g.info.CaptureLength != header+8+len(w.Payload) {
		t.Errorf("packet %d: got %d bytes of %d, want %d of %d", i, g.info.CaptureLength, g.info.Length, header+8+len(w.Payload), header+8+w.Length)
	}
}

func TestTcpdumpReadsTheFile(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		netlab.Lacks(t, "tcpdump", err)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, packetFileOf(t, cannedCapture(), 1500), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tcpdump", "-n", "-v", "-r", name)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("got %v: %s", err, &problems)
	}
	text := string(out)
	if n := strings.Count(text, "vni 100"); n != len(cannedCapture()) {
		t.Errorf("got %d packets in VNI 100, want %d:\n%s", n, len(cannedCapture()), text)
	}
	for _, bad := range []string{"bad ", "wrong", "invalid"} {
		if strings.Contains(text, bad) {
			t.Errorf("got %q:\n%s", bad, text)
		}
	}
}

func TestAPacketThatIsNoneIsAnError(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("10.2.1.1:1"), netip.MustParseAddrPort("[2001:db8::1]:1")
	for _, tt := range []struct {
		name string
		is   control.Captured
	}{
		{"no addresses", control.Captured{}},
		{"two families", control.Captured{Source: v4, Destination: v6}},
		{"too long", control.Captured{Source: v4, Length: 65535}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := newPacketFile(io.Discard, "", "", 0, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.add(&tt.is); err == nil {
				t.Error("got no error")
			}
		})
	}
}
