// SPDX-License-Identifier: Apache-2.0

package e2e

// An underlay of IPv6: the same promises, with what IPv6 does otherwise. A copy
// keeps its family, since its source could not be kept.
//
//	node 2001:db8::fe
//	      │
//	── switch ──────────────────
//	  │        │        │
//	  1        2        3          2001:db8::N; 3 has 192.0.2.3 too

import (
	"fmt"
	"net/netip"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const ipv6VNI vxlan.VNI = 80

// overhead6 is that of VXLAN over IPv6 in a packet, bytes.
const overhead6 = 40 + 8 + vxlan.HeaderLen

// node6 adds the machine 2001:db8::fe with further addresses.
func (l *lab) node6(addrs ...string) *node {
	l.t.Helper()
	return &node{machine: l.machine("node", append([]string{"2001:db8::fe/64"}, addrs...)...)}
}

// vteps6 adds the VTEPs 2001:db8::1 to 2001:db8::n.
func (l *lab) vteps6(n int) []*machine {
	l.t.Helper()
	var ms []*machine
	for i := 1; i <= n; i++ {
		m := l.machine(fmt.Sprintf("vtep%d", i), fmt.Sprintf("2001:db8::%d/64", i))
		m.listen(dataPort)
		ms = append(ms, m)
	}
	return ms
}

func TestIPv6Copies(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps6(3)
	n := l.node6()
	n.start("workers = 1", "svcnode_ip = ::", markerConfig(vs...), memberConfig([]vxlan.VNI{ipv6VNI}, vs...))
	tests := []struct {
		name     string
		size     int
		tos, ttl uint8
		sum      bool
	}{
		{name: "without checksum", size: 64, ttl: 64},
		{name: "with checksum", size: 64, ttl: 64, sum: true},
		{name: "odd size", size: 333, ttl: 64},
		{name: "traffic class", size: 64, ttl: 64, tos: 0xb9},
		{name: "all of the traffic class", size: 64, ttl: 64, tos: 0xff},
		{name: "smallest hop limit", size: 64, ttl: 2},
		{name: "largest hop limit", size: 64, ttl: 255},
		{name: "fills the MTU", size: 1500 - overhead6, ttl: 64},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range vs {
				v.forget()
			}
			in := frame(netlab.Broadcast, i, tt.size)
			p := vs[0].packet(n, ipv6VNI, in)
			p.TOS, p.TTL, p.NoChecksum = tt.tos, tt.ttl, !tt.sum
			vs[0].send(n, p)
			vs[0].flush(n, vs...)
			for _, to := range vs[1:] {
				wantCopies(t, to, sent{src: p.Src, ttl: tt.ttl, tos: tt.tos, vni: ipv6VNI, inner: in})
				for _, g := range to.got() {
					if !g.ChecksumValid() {
						t.Errorf("%s: got checksum %#x, want the right one", to.Name, g.Checksum)
					}
				}
			}
			wantNone(t, vs[0])
		})
	}
	used := vs[0].packet(n, ipv6VNI, frame(netlab.Broadcast, 99, 64))
	for _, v := range vs {
		v.forget()
	}
	used.TTL = 1
	vs[0].send(n, used)
	vs[0].flush(n, vs...)
	wantNone(t, vs...)
	n.stop().wantDrops("ttl", 1)
}

func TestIPv6Sizes(t *testing.T) {
	t.Parallel()
	const fits = 1500 - overhead6
	l := newLab(t, 0)
	vs := l.vteps6(3)
	n := l.node6()
	n.start("workers = 1", "svcnode_ip = ::", markerConfig(vs...), memberConfig([]vxlan.VNI{ipv6VNI}, vs...))
	src := vs[0].packet(n, ipv6VNI, nil).Src
	var want []sent
	for i, size := range []int{fits, fits + 1, 1514, 4000, 9014, 60000, 60} {
		in := frame(netlab.Broadcast, i, size)
		vs[0].floodLarge(n, ipv6VNI, in)
		want = append(want, sent{src: src, ttl: 64, vni: ipv6VNI, inner: in})
	}
	vs[0].flush(n, vs...)
	for _, to := range vs[1:] {
		wantCopies(t, to, want...)
		for i, g := range to.got() {
			if !g.ChecksumValid() {
				t.Errorf("%s: packet %d: got checksum %#x, want the right one", to.Name, i, g.Checksum)
			}
		}
	}
	c := n.stop()
	if got := c.get("fragmented"); got != 2*5 {
		t.Errorf("got %d fragmented copies counted, want 10", got)
	}
}

// Members that are learned, not only configured ones, and kernel VTEPs.
func TestIPv6KernelVTEPs(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.node6()
	n.start("svcnode_ip = ::")
	var gs []guest
	for i := 1; i <= 3; i++ {
		m := l.machine(fmt.Sprintf("vtep%d", i), fmt.Sprintf("2001:db8::%d/64", i))
		dev := m.device(n, ipv6VNI, netlab.VXLAN{Device: "eth0"})
		check(t, m.AddAddr(dev, guestAddr(i)))
		gs = append(gs, guest{m.Namespace, dev, guestAddr(i).Addr(), must(m.Link(dev))(t).MAC, m})
		check(t, m.Send(dev, frame(netlab.Broadcast, 0, 60)))
	}
	for _, a := range gs {
		for _, b := range gs {
			if a.addr == b.addr {
				continue
			}
			must(a.Ping(within(t), b.addr, 56))(t)
			if got := a.learned(t, ipv6VNI, b.mac); got != b.vtep.addr {
				t.Errorf("%s has %s behind %s, want %s", a.vtep.Name, b.addr, got, b.vtep.addr)
			}
		}
	}
}

// A VNI whose members are of both families: each gets what its own family
// sends, and the rest is counted.
func TestMixedFamilies(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps6(3)
	n := l.node6(nodeAddr + "/24")
	check(t, vs[2].AddAddr("eth0", netip.MustParsePrefix("192.0.2.3/24")))
	n.start("workers = 1", "learning = off", "svcnode_ip = ::", "src_ip = "+nodeAddr,
		markerConfig(vs[:2]...), memberConfig([]vxlan.VNI{ipv6VNI}, vs[:2]...),
		absent(ipv6VNI, "192.0.2.3", "192.0.2.4"))
	in := frame(netlab.Broadcast, 1, 64)
	vs[0].flood(n, ipv6VNI, in)
	vs[0].flush(n, vs[:2]...)
	wantCopies(t, vs[1], sent{src: vs[0].packet(n, ipv6VNI, in).Src, ttl: 64, vni: ipv6VNI, inner: in})
	wantNone(t, vs[2])
	n.stop().wantDrops("family", 2)
}
