// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// experimental is an EtherType for local experiments (IEEE 802, 88b5).
const experimental = 0x88b5

// Inner addresses: one that nobody has, and a multicast group.
var (
	unknownMAC   = net.HardwareAddr{0x02, 0xaa, 0xaa, 0xaa, 0xaa, 0x01}
	multicastMAC = net.HardwareAddr{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}
	hostMAC      = net.HardwareAddr{0x02, 0x00, 0x00, 0x00, 0x00, 0x01}
)

// frame returns an inner frame of size bytes, at least 22, that differs for
// each n and in each of its bytes' neighbourhood.
func frame(dst net.HardwareAddr, n, size int) []byte {
	b := make([]byte, max(size-14, 8))
	binary.BigEndian.PutUint64(b, uint64(n))
	for i := 8; i < len(b); i++ {
		b[i] = byte(i*7 + i>>8 + n)
	}
	return netlab.Ethernet(dst, hostMAC, experimental, b)
}

// number returns the n of a frame that frame made.
func number(inner []byte) int {
	return int(binary.BigEndian.Uint64(inner[14:]))
}

// A sent packet is what copies are compared with.
type sent struct {
	src   netip.AddrPort
	ttl   uint8 // as sent by the VTEP
	tos   uint8
	vni   vxlan.VNI
	inner []byte
}

// wantCopies fails the test unless m has received exactly one copy of each
// packet, in order, with the fields that the data plane promises, and nothing
// else.
func wantCopies(t *testing.T, m *machine, want ...sent) {
	t.Helper()
	got := m.got()
	if len(got) != len(want) {
		t.Errorf("%s: got %d packets, want %d", m.Name, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if d := want[i].differs(got[i], m); d != "" {
			t.Errorf("%s: packet %d: %s", m.Name, i, d)
		}
	}
}

// differs says in what a received copy is not what the data plane promises.
func (w sent) differs(g received, m *machine) string {
	switch {
	case g.Source() != w.src:
		return fmt.Sprintf("got outer source %s, want %s", g.Source(), w.src)
	case g.Dst != m.addr || g.DstPort != dataPort:
		return fmt.Sprintf("got outer destination %s:%d, want %s:%d", g.Dst, g.DstPort, m.addr, dataPort)
	case g.TTL != w.ttl-1:
		return fmt.Sprintf("got TTL %d, want %d", g.TTL, w.ttl-1)
	case g.TOS != w.tos:
		return fmt.Sprintf("got TOS %#x, want %#x", g.TOS, w.tos)
	case g.DontFragment:
		return "got DF set, want it clear"
	case !bytes.Equal(g.Payload, netlab.Encapsulate(w.vni, w.inner)):
		return fmt.Sprintf("got VXLAN packet of %d bytes (% x…), want the %d sent (% x…)",
			len(g.Payload), g.Payload[:min(40, len(g.Payload))], len(w.inner)+vxlan.HeaderLen, w.inner[:min(32, len(w.inner))])
	}
	return ""
}

// wantNone fails the test if a machine has received a VXLAN packet.
func wantNone(t *testing.T, ms ...*machine) {
	t.Helper()
	for _, m := range ms {
		for _, g := range m.got() {
			t.Errorf("%s: got a packet of VNI %s from %s to %s (TTL %d), want none", m.Name, g.vni, g.Source(), g.Dst, g.TTL)
		}
	}
}
