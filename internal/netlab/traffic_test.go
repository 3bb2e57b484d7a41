// SPDX-License-Identifier: Apache-2.0

package netlab_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// Two machines on a segment:
//
//	a 192.0.2.1, 2001:db8::1 ── switch ── b 192.0.2.2, 2001:db8::2
func pair(t *testing.T) (a, b *netlab.Namespace) {
	t.Helper()
	a, b = pair4(t)
	check(t, a.AddAddr("eth0", prefix("2001:db8::1/64")))
	check(t, b.AddAddr("eth0", prefix("2001:db8::2/64")))
	return a, b
}

// pair4 is pair without IPv6, which makes machines tell what groups they are in.
func pair4(t *testing.T) (a, b *netlab.Namespace) {
	t.Helper()
	l := netlab.Test(t)
	s := must(l.Switch("switch", 0))(t)
	a = must(l.Namespace("a"))(t)
	b = must(l.Namespace("b"))(t)
	must(s.Attach(a, "eth0", prefix("192.0.2.1/24")))(t)
	must(s.Attach(b, "eth0", prefix("192.0.2.2/24")))(t)
	return a, b
}

// What a socket sends is captured with every field as it was on the wire, in
// one piece and in fragments.
func TestCaptureOfASocket(t *testing.T) {
	a, b := pair(t)
	tests := []struct {
		name      string
		src, dst  string
		size      int
		fragments int
	}{
		{name: "IPv4", src: "192.0.2.1:5000", dst: "192.0.2.2:4789", size: 100},
		{name: "IPv4 in fragments", src: "192.0.2.1:5001", dst: "192.0.2.2:4789", size: 4000, fragments: 3},
		{name: "IPv6", src: "[2001:db8::1]:5000", dst: "[2001:db8::2]:4789", size: 100},
		{name: "IPv6 in fragments", src: "[2001:db8::1]:5001", dst: "[2001:db8::2]:4789", size: 4000, fragments: 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := netip.MustParseAddrPort(tt.src), netip.MustParseAddrPort(tt.dst)
			c := must(b.Capture("eth0"))(t)
			s := must(a.ListenUDP(src))(t)
			defer s.Close()
			if src.Addr().Is4() {
				check(t, ipv4.NewConn(s).SetTOS(0xb9))
				check(t, ipv4.NewConn(s).SetTTL(17))
			}
			payload := bytes.Repeat([]byte("0123456789"), tt.size/10)
			must(s.WriteToUDPAddrPort(payload, dst))(t)

			toPort := func(p *netlab.Packet) bool { return p.Src == src.Addr() && p.Protocol == 17 }
			ps := must(c.Wait(within(t), max(1, tt.fragments), toPort))(t)
			whole := must(netlab.Reassemble(ps))(t)
			if len(whole) != 1 {
				t.Fatalf("got %d datagrams, want 1", len(whole))
			}
			p := whole[0]
			if p.Source() != src || p.Dst != dst.Addr() || !p.UDPTo(dst.Port()) {
				t.Errorf("got %s -> %s:%d, want %s -> %s", p.Source(), p.Dst, p.DstPort, src, dst)
			}
			if src.Addr().Is4() && (p.TOS != 0xb9 || p.TTL != 17) {
				t.Errorf("got tos %#x ttl %d, want 0xb9 and 17", p.TOS, p.TTL)
			}
			if !bytes.Equal(p.Payload, payload) {
				t.Errorf("got payload of %d bytes, want the %d sent", len(p.Payload), len(payload))
			}
			if !p.ChecksumValid() {
				t.Errorf("got checksum %#x, want a valid one", p.Checksum)
			}
			check(t, c.Close())
		})
	}
}

// A hand-made datagram is what a socket of the other machine takes in, and the
// decoder reads back what the builder wrote.
func TestHandMadeDatagram(t *testing.T) {
	a, b := pair(t)
	link := must(b.Link("eth0"))(t)
	mac := must(a.Link("eth0"))(t).MAC
	for _, src := range []string{"192.0.2.77:1234", "[2001:db8::77]:1234"} {
		t.Run(src, func(t *testing.T) {
			d := netlab.Datagram{Src: netip.MustParseAddrPort(src), TTL: 1, TOS: 0x2e, Payload: []byte("odd length!")}
			d.Dst = netip.MustParseAddrPort("192.0.2.2:9999")
			if d.Src.Addr().Is6() {
				d.Dst = netip.MustParseAddrPort("[2001:db8::2]:9999")
			}
			s := must(b.ListenUDP(d.Dst))(t)
			defer s.Close()
			p := must(netlab.Decode(d.Frame(link.MAC, mac)))(t)
			if p.Source() != d.Src || p.TTL != 1 || p.TOS != 0x2e || !p.ChecksumValid() || !bytes.Equal(p.Payload, d.Payload) {
				t.Errorf("got %+v, want what was built", p)
			}
			check(t, a.Send("eth0", d.Frame(link.MAC, mac)))
			ctx := within(t)
			deadline, _ := ctx.Deadline()
			check(t, s.SetReadDeadline(deadline))
			buf := make([]byte, 100)
			k, from, err := s.ReadFromUDPAddrPort(buf)
			check(t, err)
			if got := netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); got != d.Src || string(buf[:k]) != "odd length!" {
				t.Errorf("got %q from %s, want the payload from %s", buf[:k], got, d.Src)
			}
		})
	}
}

// Two kernel VTEPs that know each other: each learns the other's address.
func TestVXLANDevices(t *testing.T) {
	a, b := pair(t)
	zero := make(net.HardwareAddr, 6)
	for i, n := range []*netlab.Namespace{a, b} {
		local, remote, inner := addr("192.0.2.1"), addr("192.0.2.2"), prefix("10.0.0.1/24")
		if i == 1 {
			local, remote, inner = remote, local, prefix("10.0.0.2/24")
		}
		check(t, n.AddVXLAN("vxlan5", netlab.VXLAN{VNI: 5, Local: local}))
		check(t, n.AddFDB("vxlan5", zero, remote))
		check(t, n.AddAddr("vxlan5", inner))
	}
	c := must(b.Capture("eth0"))(t)
	must(a.Ping(within(t), addr("10.0.0.2"), 1000))(t)
	ps := must(c.Wait(within(t), 1, func(p *netlab.Packet) bool { return p.UDPTo(4789) }))(t)
	vni, inner, err := ps[0].VXLAN()
	check(t, err)
	if vni != 5 || !bytes.Equal(inner[:6], netlab.Broadcast) {
		t.Errorf("got VNI %s to % x, want an ARP request in 5", vni, inner[:6])
	}
	mac := must(a.Link("vxlan5"))(t).MAC
	found := false
	for _, e := range must(b.FDB("vxlan5"))(t) {
		if bytes.Equal(e.MAC, mac) {
			found = true
			if e.VTEP != addr("192.0.2.1") || e.Permanent {
				t.Errorf("got %+v, want a learned entry behind 192.0.2.1", e)
			}
		}
	}
	if !found {
		t.Errorf("got no entry for %s", mac)
	}
	neighbours := must(b.Neighbours("vxlan5"))(t)
	if len(neighbours) != 1 || neighbours[0].Addr != addr("10.0.0.1") {
		t.Errorf("got neighbours %v, want 10.0.0.1", neighbours)
	}
}

// Routes that refuse do so at the sender.
func TestRoutes(t *testing.T) {
	a, _ := pair(t)
	s := must(a.ListenUDP(netip.MustParseAddrPort("0.0.0.0:0")))(t)
	defer s.Close()
	far := netip.MustParseAddrPort("198.51.100.1:1")
	for _, k := range []netlab.RouteKind{netlab.Blackhole, netlab.Unreachable, netlab.Prohibit} {
		r := netlab.Route{To: prefix("198.51.100.0/24"), Kind: k}
		check(t, a.AddRoute(r))
		if _, err := s.WriteToUDPAddrPort([]byte("x"), far); err == nil {
			t.Errorf("kind %d: got no error, want a refusal", k)
		}
		check(t, a.DeleteRoute(r))
	}
	check(t, a.AddRoute(netlab.Route{To: prefix("198.51.100.0/24"), Via: addr("192.0.2.2")}))
	must(s.WriteToUDPAddrPort([]byte("x"), far))(t)
}

// A firewall refuses what it is told to and passes the rest.
func TestFirewall(t *testing.T) {
	a, _ := pair4(t)
	check(t, a.Refuse(prefix("192.0.2.2/32")))
	s := must(a.ListenUDP(netip.MustParseAddrPort("0.0.0.0:0")))(t)
	defer s.Close()
	if _, err := s.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("192.0.2.2:1")); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want %v", err, unix.EPERM)
	}
	must(s.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("192.0.2.3:1")))(t)
}

// Nothing but what a test sends is on a segment, so that frames can be counted.
func TestSegmentIsQuiet(t *testing.T) {
	a, b := pair4(t)
	for _, n := range []*netlab.Namespace{a, b} {
		if got := must(n.Sysctl("net/ipv6/conf/eth0/disable_ipv6"))(t); got != "1" {
			t.Errorf("%s: got disable_ipv6 %s, want 1", n.Name, got)
		}
	}
	c := must(b.Capture("eth0"))(t)
	own := must(a.Capture("eth0"))(t)
	check(t, a.Send("eth0", netlab.Ethernet(netlab.Broadcast, must(a.Link("eth0"))(t).MAC, 0x88b5, []byte("marker"))))
	ps := must(c.Wait(within(t), 1, nil))(t)
	if len(ps) != 1 || ps[0].EtherType != 0x88b5 {
		t.Errorf("got %d frames, first % x, want the marker alone", len(ps), ps[0].Frame)
	}
	if ps := must(own.Packets(nil))(t); len(ps) != 0 {
		t.Errorf("got %d frames captured at their sender, want 0", len(ps))
	}
	check(t, c.Reset())
	if ps := must(c.Packets(nil))(t); len(ps) != 0 {
		t.Errorf("got %d frames after Reset, want 0", len(ps))
	}
}

// Addresses are listed with what is left of them, and routes with their gateways.
func TestAddressesAndGateways(t *testing.T) {
	l := netlab.Test(t)
	n := must(l.Namespace("n"))(t)
	check(t, netlab.Veth(n, "eth0", must(l.Namespace("m"))(t), "eth0", 0))
	check(t, n.AddAddr("eth0", prefix("192.0.2.1/24")))
	check(t, n.AddAddr("lo", prefix("2001:db8::1/128")))
	if got := must(n.Addrs("eth0"))(t); len(got) != 1 || got[0].Prefix != prefix("192.0.2.1/24") || !got[0].Forever {
		t.Errorf("got addresses %+v, want 192.0.2.1/24 for ever", got)
	}
	if got := must(n.Addrs("lo"))(t); !slices.ContainsFunc(got, func(a netlab.Addr) bool {
		return a.Prefix == prefix("2001:db8::1/128") && a.Forever
	}) {
		t.Errorf("got addresses %+v, want 2001:db8::1/128 among them", got)
	}
	to, via := prefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.9")
	check(t, n.AddRoute(netlab.Route{To: to, Via: via}))
	for _, tt := range []struct {
		to    string
		table int
		want  []netip.Addr
	}{
		{"198.51.100.0/24", 0, []netip.Addr{via}},
		{"198.51.100.0/25", 0, nil},
		{"192.0.2.0/24", 0, []netip.Addr{{}}},
		{"192.0.2.1/32", unix.RT_TABLE_LOCAL, []netip.Addr{{}}},
		{"2001:db8::1/128", unix.RT_TABLE_LOCAL, []netip.Addr{{}}},
		{"2001:db8::2/128", unix.RT_TABLE_LOCAL, nil},
	} {
		if got := must(n.Gateways(prefix(tt.to), tt.table))(t); !slices.Equal(got, tt.want) {
			t.Errorf("%s in table %d: got gateways %v, want %v", tt.to, tt.table, got, tt.want)
		}
	}
}
