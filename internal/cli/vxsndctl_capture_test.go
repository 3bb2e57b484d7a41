// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"vxsnd/internal/control"
)

func TestFramesAreToldInFewWords(t *testing.T) {
	ethernet := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: mac(1), DstMAC: mac(2), EthernetType: kind}
	}
	v4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 9, Protocol: p, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 255}}
	}
	v6 := func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: p, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")}
	}
	udp := func(ip gopacket.NetworkLayer) *layers.UDP {
		u := &layers.UDP{SrcPort: 68, DstPort: 67}
		if err := u.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return u
	}
	icmp6 := func(ip gopacket.NetworkLayer) *layers.ICMPv6 {
		i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
		if err := i.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return i
	}
	fragment := v4(layers.IPProtocolUDP)
	fragment.FragOffset = 100
	u4, u6, i6 := v4(layers.IPProtocolUDP), v6(layers.IPProtocolUDP), v6(layers.IPProtocolICMPv6)
	const macs = "02:00:00:00:00:01 > 02:00:00:00:00:02 "
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"arp", arpFrame(), "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP who-has 192.0.2.2 tell 192.0.2.1"},
		{"udp", serialize(ethernet(layers.EthernetTypeIPv4), u4, udp(u4)), macs + "IPv4 192.0.2.1:68 > 192.0.2.255:67 UDP"},
		{"udp over IPv6", serialize(ethernet(layers.EthernetTypeIPv6), u6, udp(u6)), macs + "IPv6 [fe80::1]:68 > [ff02::1]:67 UDP"},
		{"icmp", serialize(ethernet(layers.EthernetTypeIPv4), v4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0)}),
			macs + "IPv4 192.0.2.1 > 192.0.2.255 ICMP EchoRequest"},
		{"icmpv6", serialize(ethernet(layers.EthernetTypeIPv6), i6, icmp6(i6)), macs + "IPv6 fe80::1 > ff02::1 ICMPv6 NeighborSolicitation"},
		{"fragment", serialize(ethernet(layers.EthernetTypeIPv4), fragment, gopacket.Payload("x")),
			macs + "IPv4 192.0.2.1 > 192.0.2.255 UDP fragment"},
		{"protocol", serialize(ethernet(layers.EthernetTypeIPv4), v4(200), gopacket.Payload("x")), macs + "IPv4 192.0.2.1 > 192.0.2.255 protocol 200"},
		{"vlan", serialize(ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: 0x88cc}, gopacket.Payload("x")),
			macs + "vlan 7 ethertype 0x88cc"},
		{"other", serialize(ethernet(0x9999), gopacket.Payload("\x1b[31mred")), macs + "ethertype 0x9999"},
		{"stp", serialize(&layers.Ethernet{SrcMAC: mac(1), DstMAC: mac(2), EthernetType: layers.EthernetTypeLLC, Length: 38},
			&layers.LLC{DSAP: 0x42, SSAP: 0x42, Control: 3}, gopacket.Payload(make([]byte, 35))), macs + "STP"},
		{"cut off IPv4", arpCut(t, serialize(ethernet(layers.EthernetTypeIPv4), u4, udp(u4)), 20), macs + "ethertype 0x0800"},
		{"no frame", []byte{1, 2, 3}, "no Ethernet frame in 3 bytes"},
		{"nothing", nil, "no Ethernet frame in 0 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := frameText(vxlanPacket(tt.frame)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := frameText(nil); got != "no frame" {
		t.Errorf("got %q, want no frame", got)
	}
}

func arpCut(t *testing.T, frame []byte, n int) []byte {
	t.Helper()
	if len(frame) < n {
		t.Fatalf("got a frame of %d bytes, want %d to be left", len(frame), n)
	}
	return frame[:n]
}

func TestVerdictsAreToldInFewWords(t *testing.T) {
	want := []string{"12 copies", "dropped: ttl", "1 copy, 2 family, 1 unreachable, learned", "1 copy", "no copies", "no copies"}
	for i, p := range cannedCapture() {
		if got := verdict(&p); got != want[i] {
			t.Errorf("got %q, want %q", got, want[i])
		}
	}
}

// FuzzFrameText looks for frames that end the program, or that write what is not
// ours to a terminal.
func FuzzFrameText(f *testing.F) {
	f.Add(arpFrame())
	f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x14"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, r := range frameText(vxlanPacket(frame)) {
			if r < ' ' || r > '~' {
				t.Fatalf("got %q in %q", r, frameText(vxlanPacket(frame)))
			}
		}
	})
}

// TestManyMissingPacketsAreFewLines has some missing between any two packets.
func TestManyMissingPacketsAreFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		k := &capture{ctlCall: &ctlCall{out: &out}, started: true}
		lost := uint64(3)
		for range 30 {
			if err := k.text(&control.CaptureEvent{Lost: &lost, Packets: cannedCapture()[:1]}); err != nil {
				t.Fatal(err)
			}
			pass(lostTime / 10)
		}
		if got, want := strings.Join(regexp.MustCompile(`.* not shown`).FindAllString(out.String(), -1), ", "),
			"3 packets are not shown, 30 packets are not shown, 30 packets are not shown"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
