// SPDX-License-Identifier: Apache-2.0

package e2e

// Kernel VTEPs that flood by the service node: what the man page promises.
//
//	        node 192.0.2.254
//	              │
//	──────────── switch ──────────────
//	  │ .1        │ .2         │ .3       192.0.2.N
//	vtep1       vtep2        vtep3
//	  │ vxlan100  │ …          │          with an IP: 10.0.0.N/24
//	 (br)        (br)         (br)        bridged:
//	  │           │            │
//	host1       host2        host3        10.0.0.N/24

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A guest is an end of the overlay: a VTEP's own VXLAN device or a host behind it.
type guest struct {
	*netlab.Namespace
	dev  string
	addr netip.Addr
	mac  net.HardwareAddr
	vtep *machine
}

// guestAddr returns the overlay address of guest i.
func guestAddr(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i)) }

// device gives the VTEP a VXLAN device named after its VNI whose frames without
// a known destination go to the service node.
func (m *machine) device(n *node, vni vxlan.VNI, o netlab.VXLAN) string {
	m.lab.t.Helper()
	name := "vxlan" + vni.String()
	o.VNI, o.Local, o.Remote = uint32(vni), m.addr, n.addr
	check(m.lab.t, m.AddVXLAN(name, o))
	return name
}

// addressed makes VTEP i's VXLAN device a guest itself.
func (l *lab) addressed(i int, n *node, vni vxlan.VNI, o netlab.VXLAN) guest {
	l.t.Helper()
	m := l.kernelVTEP(i)
	dev := m.device(n, vni, o)
	check(l.t, m.AddAddr(dev, guestAddr(i)))
	return guest{m.Namespace, dev, guestAddr(i).Addr(), must(m.Link(dev))(l.t).MAC, m}
}

// bridged puts a host behind VTEP i: host, bridge, VXLAN device.
func (l *lab) bridged(i int, n *node, vni vxlan.VNI, o netlab.VXLAN) guest {
	l.t.Helper()
	m := l.kernelVTEP(i)
	dev := m.device(n, vni, o)
	mtu := must(m.Link(dev))(l.t).MTU
	check(l.t, m.AddBridge("br", mtu))
	check(l.t, m.SetMaster(dev, "br"))
	h := must(l.Lab.Namespace(fmt.Sprintf("host%d", i)))(l.t)
	check(l.t, netlab.Veth(m.Namespace, "host", h, "eth0", mtu))
	check(l.t, m.SetMaster("host", "br"))
	check(l.t, h.AddAddr("eth0", guestAddr(i)))
	return guest{h, "eth0", guestAddr(i).Addr(), must(h.Link("eth0"))(l.t).MAC, m}
}

// learned returns the VTEP that the guest's VTEP learned a MAC behind.
func (g guest) learned(t *testing.T, vni vxlan.VNI, mac net.HardwareAddr) netip.Addr {
	t.Helper()
	for _, e := range must(g.vtep.FDB("vxlan" + vni.String()))(t) {
		if e.VTEP.IsValid() && bytes.Equal(e.MAC, mac) {
			return e.VTEP
		}
	}
	return netip.Addr{}
}

func TestKernelVTEPs(t *testing.T) { overEngines(t, testKernelVTEPs) }

func testKernelVTEPs(t *testing.T, e engine) {
	const vni vxlan.VNI = 100
	tests := []struct {
		name  string
		guest func(l *lab, i int, n *node, vni vxlan.VNI, o netlab.VXLAN) guest
		o     netlab.VXLAN
		mtu   int // of the underlay; 0 is 1500
		size  int
	}{
		{name: "address on the device", guest: (*lab).addressed, o: netlab.VXLAN{Device: "eth0"}, size: 56},
		{name: "bridged", guest: (*lab).bridged, o: netlab.VXLAN{Device: "eth0"}, size: 56},
		{name: "without checksums, with marks", guest: (*lab).addressed, o: netlab.VXLAN{NoChecksum: true, TOS: 1, TTL: 9}, size: 56},
		{name: "full frames that need fragments", guest: (*lab).bridged, o: netlab.VXLAN{MTU: 1500}, size: 1472},
		{name: "jumbo underlay", guest: (*lab).addressed, o: netlab.VXLAN{Device: "eth0"}, mtu: 9000, size: 8950 - 28},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, tt.mtu)
			n := l.idle()
			n.start() // nothing but the defaults
			var gs []guest
			for i := 1; i <= 3; i++ {
				gs = append(gs, tt.guest(l, i, n, vni, tt.o))
			}
			// Nobody is known to the node before a VTEP has sent something.
			for _, g := range gs {
				check(t, g.Send(g.dev, frame(netlab.Broadcast, 0, 60)))
			}
			for _, a := range gs {
				for _, b := range gs {
					if a.addr != b.addr {
						must(a.Ping(within(t), b.addr, tt.size))(t)
					}
				}
			}
			for _, a := range gs {
				for _, b := range gs {
					if a.addr == b.addr {
						continue
					}
					if got, want := a.learned(t, vni, b.mac), b.vtep.addr; got != want {
						t.Errorf("%s has %s behind %s, want %s", a.vtep.Name, b.addr, got, want)
					}
				}
				for _, e := range must(a.vtep.FDB("vxlan" + vni.String()))(t) {
					if e.VTEP == n.addr && !e.Permanent {
						t.Errorf("%s learned %s behind the service node", a.vtep.Name, e.MAC)
					}
				}
			}
			if e == engineTC {
				wantByKernel(t, n, gs, vni, tt.o.NoChecksum)
			}
			// Unicast went between the VTEPs and not by the node.
			c := n.stop()
			if got := c.get("packets"); got > 40 {
				t.Errorf("got %d packets by the node, want only what floods", got)
			}
		})
	}
}

// wantByKernel fails the test unless a frame of a kernel VTEP is flooded by the
// kernel program where it has no checksum. Another one comes in by a veth link, and
// nobody has verified it yet.
func wantByKernel(t *testing.T, n *node, gs []guest, vni vxlan.VNI, want bool) {
	t.Helper()
	n.waitMembers(vni, gs[0].vtep.addr, gs[1].vtep.addr, gs[2].vtep.addr)
	before := n.status().Kernel
	in := frame(netlab.Broadcast, 1, 60)
	check(t, gs[0].Send(gs[0].dev, in))
	for _, g := range gs[1:] {
		must(g.vtep.cap.Wait(within(t), 1, func(p *netlab.Packet) bool { return p.UDPTo(dataPort) && bytes.HasSuffix(p.Payload, in) }))(t)
	}
	after := n.status().Kernel
	if got := after.Packets > before.Packets; got != want {
		t.Errorf("got a packet flooded in the kernel: %t, want %t; left to raw: %v", got, want, after.HandedUp)
	}
	if got := after.HandedUp["checksum"] > before.HandedUp["checksum"]; got == want {
		t.Errorf("got a packet left to raw for its checksum: %t, want %t; left to raw: %v", got, !want, after.HandedUp)
	}
}

// Every kind of frame that a kernel VTEP floods comes out of the other VTEPs'
// devices once, byte for byte, and not out of its own.
func TestKernelVTEPsFloodEachKind(t *testing.T) { overEngines(t, testKernelVTEPsFloodEachKind) }

func testKernelVTEPsFloodEachKind(t *testing.T, e engine) {
	const vni vxlan.VNI = 100
	l := e.lab(t, 0)
	n := l.idle()
	n.start()
	var gs []guest
	var caps []*netlab.Capture
	for i := 1; i <= 3; i++ {
		g := l.bridged(i, n, vni, netlab.VXLAN{Device: "eth0"})
		gs = append(gs, g)
		caps = append(caps, must(g.Capture(g.dev))(t))
	}
	own := func(p *netlab.Packet) bool { return p.EtherType == experimental }
	// Everybody makes itself known, and neighbours are resolved.
	for _, g := range gs {
		check(t, g.Send(g.dev, netlab.Ethernet(netlab.Broadcast, g.mac, experimental, []byte("here"))))
	}
	for _, a := range gs {
		for _, b := range gs {
			if a.addr != b.addr {
				must(a.Ping(within(t), b.addr, 56))(t)
			}
		}
	}
	for _, c := range caps {
		check(t, c.Reset())
	}
	var want [][]byte
	for i, dst := range []net.HardwareAddr{netlab.Broadcast, unknownMAC, multicastMAC} {
		for j, size := range []int{60, 1000, 1464} { // 1450 of MTU and an Ethernet header
			want = append(want, frame(dst, 10*i+j, size))
		}
	}
	check(t, gs[0].Send(gs[0].dev, want...))
	check(t, gs[0].Send(gs[0].dev, frame(netlab.Broadcast, 99, 60))) // behind all of them
	for i, c := range caps[1:] {
		got := must(c.Wait(within(t), len(want)+1, own))(t)
		if len(got) != len(want)+1 {
			t.Fatalf("host%d: got %d frames, want %d", i+2, len(got), len(want)+1)
		}
		for j, w := range want {
			if !bytes.Equal(got[j].Frame, w) {
				t.Errorf("host%d: frame %d: got % x…, want % x…", i+2, j, got[j].Frame[:32], w[:32])
			}
		}
	}
	if got := must(caps[0].Packets(own))(t); len(got) != 0 {
		t.Errorf("host1: got %d of its own frames back, want none", len(got))
	}
}

// VTEPs in networks of their own, with routers between them and the node: all
// that is asked of the underlay is IP reachability.
//
//	          node 192.0.2.254
//	            │
//	───────── switch ─────────
//	            │ 192.0.2.1
//	         router ── 198.51.100.1/30 ── 2 vtep1
//	            └───── 198.51.100.5/30 ── 6 vtep2
func TestRoutedUnderlay(t *testing.T) { overEngines(t, testRoutedUnderlay) }

func testRoutedUnderlay(t *testing.T, e engine) {
	const vni vxlan.VNI = 101
	l := e.lab(t, 0)
	n := l.idle()
	router := l.machine("router", "192.0.2.1/24")
	check(t, router.SetSysctl("net.ipv4.ip_forward", "1"))
	check(t, n.AddRoute(netlab.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: router.addr}))
	n.start()
	var gs []guest
	for i := 1; i <= 2; i++ {
		m := &machine{Namespace: must(l.Lab.Namespace(fmt.Sprintf("vtep%d", i)))(t), lab: l}
		dev := fmt.Sprintf("eth%d", i)
		check(t, netlab.Veth(router.Namespace, dev, m.Namespace, "eth0", 0))
		check(t, router.AddAddr(dev, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/30", 4*i-3))))
		m.addr = netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 4*i-2))
		check(t, m.AddAddr("eth0", netip.PrefixFrom(m.addr, 30)))
		check(t, m.AddRoute(netlab.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 4*i-3))}))
		m.cap = must(m.Capture("eth0"))(t)
		vx := m.device(n, vni, netlab.VXLAN{MTU: 1450})
		check(t, m.AddAddr(vx, guestAddr(i)))
		gs = append(gs, guest{m.Namespace, vx, guestAddr(i).Addr(), must(m.Link(vx))(t).MAC, m})
		check(t, m.Send(vx, frame(netlab.Broadcast, 0, 60)))
	}
	must(gs[0].Ping(within(t), gs[1].addr, 1422))(t)
	for i, g := range gs {
		other := gs[1-i]
		if got := g.learned(t, vni, other.mac); got != other.vtep.addr {
			t.Errorf("%s has %s behind %s, want %s", g.vtep.Name, other.addr, got, other.vtep.addr)
		}
	}
	// 64, less one at the router, at the node, and at the router again.
	copies := must(gs[1].vtep.cap.Wait(within(t), 1, func(p *netlab.Packet) bool {
		return p.UDPTo(dataPort) && bytes.HasPrefix(p.Payload[vxlan.HeaderLen:], netlab.Broadcast)
	}))(t)
	if got := copies[0]; got.TTL != 61 || got.Src != gs[0].vtep.addr {
		t.Errorf("got a copy with TTL %d from %s, want 61 from %s", got.TTL, got.Src, gs[0].vtep.addr)
	}
}
