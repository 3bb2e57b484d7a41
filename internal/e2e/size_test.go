// SPDX-License-Identifier: Apache-2.0

package e2e

// Size: what fits passes whole, what does not is fragmented or dropped.
//
//	node 192.0.2.254
//	      │ mtu 1500
//	── switch ──────────
//	  │       │       │ mtu 1500
//	  1       2       3

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// Overhead of VXLAN over IPv4 in a packet: IP, UDP and VXLAN headers, bytes.
const overhead4 = 20 + 8 + vxlan.HeaderLen

// floodLarge sends an inner frame as flood does, in fragments where it does not
// fit the MTU.
func (m *machine) floodLarge(n *node, vni vxlan.VNI, inner []byte) {
	m.lab.t.Helper()
	// Else the kernel asks for the address first, and what is sent as frames
	// meanwhile overtakes the packet.
	check(m.lab.t, m.AddNeighbour("eth0", n.addr, n.mac))
	m.sendLarge(m.packet(n, vni, inner))
}

// sendLarge sends a packet through a UDP socket: the kernel fragments it.
func (m *machine) sendLarge(d netlab.Datagram) {
	m.lab.t.Helper()
	var c *net.UDPConn
	var err error
	// A process that another test starts has the socket of the packet before, too,
	// until it runs its program.
	check(m.lab.t, netlab.Wait(within(m.lab.t), "a port that is free", func() bool {
		c, err = m.ListenUDP(d.Src)
		return !errors.Is(err, unix.EADDRINUSE)
	}))
	check(m.lab.t, err)
	defer c.Close()
	opts := [][3]int{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT},
		{unix.IPPROTO_IP, unix.IP_TTL, int(d.TTL)},
		{unix.IPPROTO_IP, unix.IP_TOS, int(d.TOS)},
	}
	if d.Src.Addr().Is6() {
		opts = [][3]int{
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT},
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int(d.TTL)},
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(d.TOS)},
		}
	}
	raw := must(c.SyscallConn())(m.lab.t)
	check(m.lab.t, raw.Control(func(fd uintptr) {
		for _, o := range opts {
			check(m.lab.t, unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
		}
	}))
	must(c.WriteToUDPAddrPort(d.Payload, d.Dst))(m.lab.t)
}

// fragments returns the fragments that the machine has received.
func (m *machine) fragments() []netlab.Packet {
	m.lab.t.Helper()
	return must(m.cap.Packets(func(p *netlab.Packet) bool { return m.toMe(p) && p.Fragment() }))(m.lab.t)
}

// Sizes of the inner frame around what exactly fills the MTU of 1500, and far
// beyond. What arrives in fragments leaves in fragments.
func TestSizes(t *testing.T) { overEngines(t, testSizes) }

func testSizes(t *testing.T, e engine) {
	const vni vxlan.VNI = 5
	const fits = 1500 - overhead4
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	tests := []struct {
		name      string
		size      int
		fragments int
	}{
		{name: "smallest frame", size: 60, fragments: 1},
		{name: "fills the MTU", size: fits, fragments: 1},
		{name: "one byte too large", size: fits + 1, fragments: 2},
		{name: "full inner frame", size: 1514, fragments: 2},
		{name: "three fragments", size: 4000, fragments: 3},
		{name: "jumbo frame", size: 9014, fragments: 7},
		{name: "largest", size: 65507 - vxlan.HeaderLen, fragments: 45},
	}
	total, fragmented := 0, 0
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range vs {
				v.forget()
			}
			in := frame(netlab.Broadcast, i, tt.size)
			vs[0].floodLarge(n, vni, in)
			vs[0].flush(n, vs...)
			total++
			if tt.fragments > 1 {
				fragmented++
			}
			for _, to := range vs[1:] {
				wantCopies(t, to, sent{src: vs[0].packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
				ps := to.fragments()
				if want := tt.fragments; want > 1 && len(ps) != want {
					t.Errorf("%s: got %d fragments, want %d", to.Name, len(ps), want)
				}
				for _, p := range ps {
					if p.TTL != 63 || p.DontFragment {
						t.Errorf("%s: got a fragment with TTL %d, DF %t, want 63 and clear", to.Name, p.TTL, p.DontFragment)
					}
				}
			}
			wantNone(t, vs[0])
		})
	}
	c := n.stop()
	if got, want := c.get("copies"), 2*2*total; got != want { // each with a marker, to two others
		t.Errorf("got %d copies counted, want %d", got, want)
	}
	if got, want := c.get("fragmented"), 2*fragmented; got != want {
		t.Errorf("got %d fragmented copies counted, want %d", got, want)
	}
}

// With oversize = drop copies that do not fit are counted, others pass.
func TestOversizeDrop(t *testing.T) { overEngines(t, testOversizeDrop) }

func testOversizeDrop(t *testing.T, e engine) {
	const vni vxlan.VNI = 5
	const fits = 1500 - overhead4
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("oversize = drop", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	vs[0].floodLarge(n, vni, frame(netlab.Broadcast, 1, fits+1))
	vs[0].floodLarge(n, vni, frame(netlab.Broadcast, 2, 60000))
	small := frame(netlab.Broadcast, 3, fits)
	vs[0].floodLarge(n, vni, small)
	vs[0].flush(n, vs...)
	for _, to := range vs[1:] {
		wantCopies(t, to, sent{src: vs[0].packet(n, vni, small).Src, ttl: 64, vni: vni, inner: small})
	}
	n.stop().wantDrops("oversize", 4)
}

// A smaller MTU on the way out fragments what came in one piece: that of the
// node's link, and that of the route to one member alone.
func TestSmallerMTUOnTheWayOut(t *testing.T) { overEngines(t, testSmallerMTUOnTheWayOut) }

func testSmallerMTUOnTheWayOut(t *testing.T, e engine) {
	const vni vxlan.VNI = 5
	tests := []struct {
		name        string
		link, route int
	}{
		{name: "of the link", link: 1000},
		{name: "of the route", route: 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			n := l.idle()
			vs := []*machine{l.vtep(1), l.cable("far", "198.51.100.1/24", n.machine, "eth1", "198.51.100.254/24", tt.link)}
			if tt.route != 0 {
				check(t, n.AddRoute(netlab.Route{To: netip.PrefixFrom(vs[1].addr, 32), Device: "eth1", MTU: tt.route}))
			}
			n.start("workers = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
			in := frame(netlab.Broadcast, 1, 900)
			large := frame(netlab.Broadcast, 2, 1400)
			vs[0].flood(n, vni, in, large, in)
			vs[0].flush(n, vs...)
			src := vs[0].packet(n, vni, in).Src
			small := sent{src: src, ttl: 64, vni: vni, inner: in}
			wantCopies(t, vs[1], small, sent{src: src, ttl: 64, vni: vni, inner: large}, small)
			if ps := vs[1].fragments(); len(ps) != 2 {
				t.Errorf("got %d fragments, want 2", len(ps))
			}
		})
	}
}

// Copies that leave in fragments carry what the others do: marks, TTL, source.
func TestFragmentsKeepMarks(t *testing.T) { overEngines(t, testFragmentsKeepMarks) }

func testFragmentsKeepMarks(t *testing.T, e engine) {
	const vni vxlan.VNI = 5
	tests := []struct {
		name string
		v6   bool
	}{{name: "IPv4"}, {name: "IPv6", v6: true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := e
			if tt.v6 && e == engineTC {
				e = "" // the kernel floods IPv4 alone
			}
			l := e.lab(t, 0)
			var vs []*machine
			var n *node
			wildcard := "svcnode_ip = 0.0.0.0"
			if tt.v6 {
				vs, n, wildcard = l.vteps6(2), l.node6(), "svcnode_ip = ::"
			} else {
				vs, n = l.vteps(2), l.idle()
			}
			n.start("workers = 1", wildcard, markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
			var want []sent
			for i, m := range []struct{ ttl, tos uint8 }{{64, 0xb8}, {64, 0xb9}, {64, 0x03}, {64, 0xff}, {2, 0}, {255, 0}, {64, 0}} {
				in := frame(netlab.Broadcast, i, 3000)
				d := vs[0].packet(n, vni, in)
				d.TTL, d.TOS = m.ttl, m.tos
				d.Src = netip.AddrPortFrom(d.Src.Addr(), uint16(50000+i))
				vs[0].sendLarge(d)
				want = append(want, sent{src: d.Src, ttl: m.ttl, tos: m.tos, vni: vni, inner: in})
			}
			vs[0].flush(n, vs...)
			wantCopies(t, vs[1], want...)
			for _, p := range vs[1].fragments() {
				if p.TTL != 63 && p.TTL != 1 && p.TTL != 254 {
					t.Errorf("got a fragment with TTL %d", p.TTL)
				}
			}
		})
	}
}
