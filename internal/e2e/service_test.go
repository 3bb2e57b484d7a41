// SPDX-License-Identifier: Apache-2.0

package e2e

// What comes from service nodes, and from this one, is not flooded; two nodes
// that do not know each other do not circle packets for ever.
//
//	node 192.0.2.254   other 192.0.2.253
//	      │              │
//	── switch ──────────────────
//	  │       │       │
//	  1       2       3             192.0.2.N

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const serviceVNI vxlan.VNI = 40

// serviceAddr is a service address, as on a loopback link.
const serviceAddr = "198.51.100.53"

func TestPacketsFromServiceNodesAreDropped(t *testing.T) {
	overEngines(t, testPacketsFromServiceNodesAreDropped)
}

func testPacketsFromServiceNodesAreDropped(t *testing.T, e engine) {
	tests := []struct {
		name   string
		source string
		reason string
	}{
		{name: "own address, which is src_ip", source: nodeAddr, reason: "service_node"},
		{name: "own address on another link", source: "203.0.113.9", reason: "own"},
		{name: "loopback", source: "127.0.0.1", reason: "own"},
		{name: "service address that is elsewhere now", source: serviceAddr, reason: "service_node"},
		{name: "peer", source: "192.0.2.3", reason: "service_node"},
		{name: "peer named with a port", source: "192.0.2.77", reason: "service_node"},
		{name: "multicast", source: "224.0.0.5", reason: "source"},
		{name: "unspecified", source: "0.0.0.0", reason: "source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(2)
			n := l.idle()
			check(t, n.AddAddr("lo", netip.MustParsePrefix("203.0.113.9/32")))
			// Else the kernel itself drops what claims to be from here.
			check(t, n.SetSysctl("net.ipv4.conf.all.accept_local", "1"))
			check(t, n.SetSysctl("net.ipv4.conf.all.route_localnet", "1"))
			n.start("workers = 1", "svcnode_ip = "+serviceAddr, "src_ip = "+nodeAddr,
				"svcnode_peers = 192.0.2.3, 192.0.2.77:12345", markerConfig(vs...), memberConfig([]vxlan.VNI{serviceVNI}, vs...))
			p := vs[0].packet(n, serviceVNI, frame(netlab.Broadcast, 1, 64))
			p.Src = netip.AddrPortFrom(netip.MustParseAddr(tt.source), 50000)
			vs[0].send(n, p)
			vs[0].flush(n, vs...)
			wantNone(t, vs...)
			c := n.stop()
			// Some of it the kernel does not let in at all.
			kernel := tt.reason == "source" || tt.source == "127.0.0.1"
			if got := c.drops(tt.reason); got != 1 && !(kernel && got == 0) {
				t.Errorf("got %d drops %q, want 1: %v", got, tt.reason, c.fields)
			}
		})
	}
}

// A program on the node's own machine that sends to the node is no VTEP either.
func TestLocalSenderIsDropped(t *testing.T) { overEngines(t, testLocalSenderIsDropped) }

func testLocalSenderIsDropped(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{serviceVNI}, vs...))
	for _, dst := range []string{nodeAddr, "127.0.0.1"} {
		c := must(n.ListenUDP(netip.MustParseAddrPort("0.0.0.0:0")))(t)
		to := netip.AddrPortFrom(netip.MustParseAddr(dst), dataPort)
		must(c.WriteToUDPAddrPort(netlab.Encapsulate(serviceVNI, frame(netlab.Broadcast, 1, 64)), to))(t)
		c.Close()
	}
	vs[0].flush(n, vs...)
	wantNone(t, vs...)
	n.stop().wantDrops("own", 2)
}

// No copy goes to the node's own addresses or to a service node, even if
// somebody made it a member.
func TestServiceNodesAreNoMembers(t *testing.T) { overEngines(t, testServiceNodesAreNoMembers) }

func testServiceNodesAreNoMembers(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(4)
	n := l.node("src_ip = "+nodeAddr, "svcnode_peers = 192.0.2.3", markerConfig(vs[0], vs[1], vs[3]),
		memberConfig([]vxlan.VNI{serviceVNI}, vs...), absent(serviceVNI, nodeAddr))
	a := vs[3].agent(n)
	a.register(serviceVNI, 90, 5, vs[2].addr, vs[3].addr)
	a.register(serviceVNI, 90, 0, n.addr, netip.MustParseAddr("224.0.0.1"),
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("0.0.0.0"))
	n.settled()
	in := frame(netlab.Broadcast, 1, 64)
	vs[0].flood(n, serviceVNI, in)
	vs[0].flush(n, vs[1], vs[3])
	want := sent{src: vs[0].packet(n, serviceVNI, in).Src, ttl: 64, vni: serviceVNI, inner: in}
	wantCopies(t, vs[1], want)
	wantCopies(t, vs[3], want)
	wantNone(t, vs[2])
	if got := a.ask(serviceVNI)[serviceVNI]; len(got) != 3 {
		t.Errorf("got members %v, want the VTEPs 1, 2 and 4", got)
	}
	c := n.stop()
	if got := c.get("copies"); got != 4 { // with the marker
		t.Errorf("got %d copies counted, want 4", got)
	}
}

// An address of the machine that comes later is its own from then on.
func TestOwnAddressesAreFollowed(t *testing.T) { overEngines(t, testOwnAddressesAreFollowed) }

func testOwnAddressesAreFollowed(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{serviceVNI}, vs...))
	wantMember(t, n, vs[0], vs[2], serviceVNI, true)
	// VTEP 3's address moves to the node.
	check(t, vs[2].DeleteAddr("eth0", netip.MustParsePrefix("192.0.2.3/24")))
	check(t, n.AddAddr("lo", netip.MustParsePrefix("192.0.2.3/32")))
	check(t, netlab.Wait(within(t), "the new address to be known", func() bool {
		vs[1].forget()
		p := vs[0].packet(n, serviceVNI, frame(netlab.Broadcast, 1, 64))
		before := must(n.Link("lo"))(t).ReceivedPackets
		vs[0].send(n, p)
		vs[0].flush(n, vs[1])
		return must(n.Link("lo"))(t).ReceivedPackets == before
	}))
	wantMember(t, n, vs[0], vs[1], serviceVNI, true)
}

// A received TTL of 1 or 0 leaves nothing for a copy.
// Addresses that are local without being listed: a local route (AnyIP). What
// goes there comes back by the loopback device and must not be flooded again.
func TestLocalRouteIsNoWayBack(t *testing.T) { overEngines(t, testLocalRouteIsNoWayBack) }

func testLocalRouteIsNoWayBack(t *testing.T, e engine) {
	const vni vxlan.VNI = 62
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	check(t, n.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.50.0.0/24"), Device: "lo", Kind: netlab.Local, Table: unix.RT_TABLE_LOCAL}))
	n.start("workers = 1", "learning = off", markerConfig(vs...), absent(vni, "10.50.0.1", "10.50.0.2"), memberConfig([]vxlan.VNI{vni}, vs...))
	const packets = 5
	var want []sent
	for i := range packets {
		in := frame(netlab.Broadcast, i, 64)
		vs[0].flood(n, vni, in)
		want = append(want, sent{src: vs[0].packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
	}
	vs[0].flush(n, vs...)
	wantCopies(t, vs[1], want...)
	n.stop().wantDrops("own", 2*packets)
}

func TestTTLUsedUp(t *testing.T) { overEngines(t, testTTLUsedUp) }

func testTTLUsedUp(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{serviceVNI}, vs...))
	for _, ttl := range []uint8{0, 1} {
		p := vs[0].packet(n, serviceVNI, frame(netlab.Broadcast, 1, 64))
		p.TTL = ttl
		vs[0].send(n, p)
	}
	vs[0].flush(n, vs...)
	wantNone(t, vs...)
	n.stop().wantDrops("ttl", 2)
}

// Two nodes have each other as members and do not know it. A packet goes to
// and fro until its TTL is used up, VTEP 2 gets one copy per turn, and the loop
// is reported.
func TestTwoNodesThatAreEachOthersVTEPs(t *testing.T) {
	overEngines(t, testTwoNodesThatAreEachOthersVTEPs)
}

func testTwoNodesThatAreEachOthersVTEPs(t *testing.T, e engine) {
	const ttl = 10
	const packets = 150 // the loop is noticed on a sample of about one in 16
	l := e.lab(t, 0)
	vs := l.vteps(2)
	other := &node{machine: l.machine("other", "192.0.2.253/24")}
	n := l.idle()
	members := func(ms ...*machine) string { return memberConfig([]vxlan.VNI{serviceVNI}, ms...) }
	n.start("workers = 1", "learning = off", markerConfig(vs...), members(vs[0], vs[1], other.machine))
	other.start("workers = 1", "learning = off", markerConfig(vs...), members(vs[0], n.machine))
	for i := range packets {
		p := vs[0].packet(n, serviceVNI, frame(netlab.Broadcast, i, 64))
		p.TTL = ttl
		vs[0].send(n, p)
	}
	// The node gets each packet with TTL 10, 8, 6, 4 and 2, the other one with
	// 9, 7, 5, 3 and 1, at which it ends.
	const turns = ttl / 2
	got := vs[1].await(packets * turns)
	byTTL := make(map[uint8]int)
	for _, g := range got {
		byTTL[g.TTL]++
		if g.Source().Addr() != vs[0].addr {
			t.Errorf("got a copy from %s, want the VTEP that sent it, %s", g.Source(), vs[0].addr)
		}
	}
	for _, left := range []uint8{9, 7, 5, 3, 1} {
		if byTTL[left] != packets {
			t.Errorf("got %d copies with TTL %d, want %d", byTTL[left], left, packets)
		}
	}
	must(n.proc.WaitLine(within(t), func(line string) bool {
		f := fields(line)
		return f["level"] == "warning" && f["vni"] == serviceVNI.String() && f["src"] == fmt.Sprint(vs[0].packet(n, 0, nil).Src)
	}))(t)
	vs[0].flush(n, vs...)
	if got := vs[1].got(); len(got) != packets*turns {
		t.Errorf("got %d copies, want %d", len(got), packets*turns)
	}
	wantNone(t, vs[0])
	other.stop().wantDrops("ttl", packets)
}

// A service address on the loopback link, src_ip beside it: both serve, each
// answers for itself, and copies look the same by either way.
func TestServiceAddressOnLoopback(t *testing.T) { overEngines(t, testServiceAddressOnLoopback) }

func testServiceAddressOnLoopback(t *testing.T, e engine) {
	tests := []struct {
		name   string
		config []string
		also   bool // whether the machine's own address is served
	}{
		{name: "with src_ip", config: []string{"svcnode_ip = " + serviceAddr, "src_ip = " + nodeAddr}, also: true},
		{name: "older names", config: []string{"address = " + serviceAddr, "src_ip = " + nodeAddr}, also: true},
		{name: "wildcard", also: true},
		{name: "wildcard with src_ip", config: []string{"src_ip = " + nodeAddr}, also: true},
		{name: "service address alone", config: []string{"svcnode_ip = " + serviceAddr}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(3)
			n := l.idle()
			service := netip.MustParseAddr(serviceAddr)
			check(t, n.AddAddr("lo", netip.PrefixFrom(service, 32)))
			for _, v := range vs {
				check(t, v.AddRoute(netlab.Route{To: netip.PrefixFrom(service, 32), Via: n.addr}))
			}
			n.start(append(tt.config, "workers = 1", "learning = off", markerConfig(vs...))...)
			// The same node by its service address.
			s := &node{machine: &machine{Namespace: n.Namespace, lab: l, addr: service, mac: n.mac}, dir: n.dir}

			a := vs[1].agent(s)
			a.register(serviceVNI, 90, 5) // answered from the address that was asked
			wantMember(t, s, vs[0], vs[1], serviceVNI, true)
			if tt.also {
				b := vs[2].agent(n)
				b.register(serviceVNI, 90, 6)
				wantMember(t, n, vs[0], vs[1], serviceVNI, true)
				wantMember(t, n, vs[0], vs[2], serviceVNI, true)
				wantMember(t, s, vs[0], vs[2], serviceVNI, true)
				return
			}
			vs[1].forget()
			vs[0].flood(n, serviceVNI, frame(netlab.Broadcast, 1, 64))
			vs[0].flush(s, vs...)
			wantNone(t, vs...)
		})
	}
}

// With ports of its own the node listens on one and sends to the other.
func TestPorts(t *testing.T) { overEngines(t, testPorts) }

func testPorts(t *testing.T, e engine) {
	l := e.lab(t, 0)
	v1, v2 := l.vtep(1), l.vtep(2)
	n := l.node("vxlan_listen_port = 8472", "vxlan_dest_port = 4789", "vxfld_port = 10009",
		memberConfig([]vxlan.VNI{serviceVNI}, v1, v2))
	p := v1.packet(n, serviceVNI, frame(netlab.Broadcast, 1, 64))
	p.Dst = netip.AddrPortFrom(n.addr, 8472)
	v1.send(n, p)
	v2.await(1)
	a := v2.agent(n)
	a.to = netip.AddrPortFrom(n.addr, 10009)
	a.write([]byte("\x02\x01\x00\x01\x00\x5a\x00\x01\x00\x00\x00\x28\x00\x00")) // version 2, asks for VNI 40
	if _, r := a.receive(); len(members(r)[serviceVNI]) != 2 {
		t.Errorf("got %v, want two members of VNI 40", r.VNIs)
	}
}

// A second node behind the same wildcard cannot start and does not disturb the
// first, even on another machine address.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{serviceVNI}, vs...))
	for _, config := range [][]string{nil, {"vxfld_port = 10002"}, {"svcnode_ip = " + nodeAddr}} {
		second := *n
		p := second.launch(exec.Command(program(t)), config...)
		if status := must(p.Wait(within(t)))(t); status != exitBind {
			t.Errorf("%v: got status %d, want %d; output:\n%s", config, status, exitBind, p.Output())
		}
	}
	wantMember(t, n, vs[0], vs[1], serviceVNI, true)
}
