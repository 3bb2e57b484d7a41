// SPDX-License-Identifier: Apache-2.0

package e2e

// Members that cannot be reached cost the others nothing.
//
//	node 192.0.2.254
//	      │
//	── switch ────────────
//	  │       │       │
//	  1       2       3      192.0.2.N, and members that are not there

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// absent returns configuration that makes addresses members of a VNI.
func absent(vni vxlan.VNI, addrs ...string) string {
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "vtep_membership = %s %s\n", a, vni)
	}
	return b.String()
}

func TestUnreachableMemberCostsOthersNothing(t *testing.T) {
	overEngines(t, testUnreachableMemberCostsOthersNothing)
}

func testUnreachableMemberCostsOthersNothing(t *testing.T, e engine) {
	const vni vxlan.VNI = 30
	tests := []struct {
		name   string
		member []string // that is not there
		route  *netlab.Route
		refuse string // what the node's firewall refuses
		reason string
		kernel string // the reason that the kernel program has for it; "" for the same
	}{
		{name: "no route", member: []string{"203.0.113.1"}, reason: "unreachable"},
		{name: "blackhole route", member: []string{"203.0.113.1"}, reason: "unreachable",
			route: &netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Kind: netlab.Blackhole}},
		{name: "unreachable route", member: []string{"203.0.113.1"}, reason: "unreachable",
			route: &netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Kind: netlab.Unreachable}},
		{name: "prohibit route", member: []string{"203.0.113.1"}, reason: "refused",
			route: &netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Kind: netlab.Prohibit}},
		{name: "firewall", member: []string{"192.0.2.99"}, refuse: "192.0.2.99/32", reason: "refused",
			kernel: "unresolved"}, // its copies pass no firewall
		{name: "broadcast address of the link", member: []string{"192.0.2.255"}, reason: "refused"},
		{name: "first, middle and last of the list", reason: "unreachable",
			// Lists are sorted by address, or in the order of configuration: these
			// are before and behind the others either way.
			member: []string{"10.1.1.1", "203.0.113.1"}},
		{name: "several in a row", reason: "unreachable",
			member: []string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(3)
			n := l.idle()
			if tt.route != nil {
				check(t, n.AddRoute(*tt.route))
			}
			if tt.refuse != "" {
				err := n.Refuse(netip.MustParsePrefix(tt.refuse))
				if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
					netlab.Lacks(t, "nf_tables", err)
				}
				check(t, err)
			}
			half := len(tt.member) / 2
			n.start("workers = 1", "learning = off", markerConfig(vs...), absent(vni, tt.member[:half]...),
				memberConfig([]vxlan.VNI{vni}, vs...), absent(vni, tt.member[half:]...))
			const packets = 20
			var want []sent
			for i := range packets {
				in := frame(netlab.Broadcast, i, 64)
				vs[0].flood(n, vni, in)
				want = append(want, sent{src: vs[0].packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
			}
			large := frame(netlab.Broadcast, packets, 4000)
			vs[0].floodLarge(n, vni, large)
			want = append(want, sent{src: vs[0].packet(n, vni, large).Src, ttl: 64, vni: vni, inner: large})
			vs[0].flush(n, vs...)
			wantCopies(t, vs[1], want...)
			wantCopies(t, vs[2], want...)
			if e == engineTC && tt.kernel != "" {
				n.wantKernel(packets)
				c := n.stop()
				c.wantDrops(tt.kernel, packets*len(tt.member))
				c.wantDrops(tt.reason, len(tt.member)) // it was too large
				return
			}
			n.stop().wantDrops(tt.reason, (packets+1)*len(tt.member))
		})
	}
}

// Members whose link-layer address nobody answers for. The kernel queues some
// packets per neighbour (unres_qlen_bytes, arp(7)) and charges them to the
// sender's buffer for seconds: many of them must not use it up for those who live.
func TestDeadNeighbours(t *testing.T) { overEngines(t, testDeadNeighbours) }

func testDeadNeighbours(t *testing.T, e engine) {
	const vni vxlan.VNI = 31
	tests := []struct {
		name          string
		dead, packets int
		known         bool // that they are dead, when the load comes
		rawAlone      bool // CAP_NET_RAW alone: the send buffer stays within net.core.wmem_max
	}{
		{name: "one", dead: 1, packets: 400},
		// The others are as many as would fill the node's send buffer.
		{name: "many at once", dead: 400, packets: 600},
		{name: "many in a small send buffer", dead: 60, packets: 600, rawAlone: true},
		{name: "many, known to be dead", dead: 330, packets: 300, known: true},
	}
	for _, tt := range tests {
		// Not in parallel: all labs share the kernel's neighbour table (gc_thresh3).
		t.Run(tt.name, func(t *testing.T) {
			l := e.lab(t, 0)
			if tt.rawAlone {
				l.engine = engineRaw
			}
			vs := l.vteps(3)
			var dead []string
			for i := range tt.dead {
				dead = append(dead, fmt.Sprintf("10.9.%d.%d", 1+i/200, 1+i%200))
			}
			half := len(dead) / 2
			n := l.idle()
			check(t, n.AddAddr("eth0", netip.MustParsePrefix("10.9.0.1/16")))
			config := []string{"workers = 1", "learning = off", markerConfig(vs...), absent(vni, dead[:half]...),
				memberConfig([]vxlan.VNI{vni}, vs...), absent(vni, dead[half:]...)}
			if tt.rawAlone {
				n.proc = n.launch(asNobody(t, unix.CAP_NET_RAW), config...)
				n.ready()
			} else {
				n.start(config...)
			}
			if tt.known {
				// Tried again: while labs that have ended still fill the kernel's
				// table of neighbours, not all of these find room in it.
				var tried time.Time
				failed := make(map[netip.Addr]bool)
				check(t, netlab.Wait(within(t), "neighbours to fail", func() bool {
					if time.Since(tried) > time.Second {
						tried = time.Now()
						vs[0].flood(n, vni, frame(netlab.Broadcast, 0, 64))
					}
					for _, e := range must(n.Neighbours("eth0"))(t) {
						if e.Failed {
							failed[e.Addr] = true
						}
					}
					return len(failed) == tt.dead
				}))
				vs[0].flush(n, vs...)
				for _, v := range vs {
					v.forget()
				}
			}
			var want []sent
			for i := range tt.packets {
				in := frame(netlab.Broadcast, i, 1400)
				vs[0].flood(n, vni, in)
				want = append(want, sent{src: vs[0].packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
				if i%20 == 19 {
					vs[0].flush(n, vs...)
				}
			}
			vs[0].flush(n, vs...)
			wantCopies(t, vs[1], want...)
			wantCopies(t, vs[2], want...)
		})
	}
}

// A member that loses its link gets nothing, and gets copies again when it is
// back; the others see no difference.
func TestMemberComesBack(t *testing.T) { overEngines(t, testMemberComesBack) }

func testMemberComesBack(t *testing.T, e engine) {
	const vni vxlan.VNI = 32
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	wantMember(t, n, vs[0], vs[1], vni, true)
	check(t, l.SetDown(vs[1].port))
	for range 5 {
		wantMember(t, n, vs[0], vs[2], vni, true)
	}
	check(t, l.SetUp(vs[1].port))
	// The bridge forwards to it again soon after.
	check(t, netlab.Wait(within(t), "a copy at the member that is back", func() bool {
		vs[0].flood(n, vni, frame(netlab.Broadcast, 0, 64))
		return len(vs[1].got()) > 0
	}))
}

// The link to some members is gone altogether; those on the other link live on.
func TestLinkDown(t *testing.T) { overEngines(t, testLinkDown) }

func testLinkDown(t *testing.T, e engine) {
	const vni vxlan.VNI = 33
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	far := l.cable("far", "198.51.100.1/24", n.machine, "eth1", "198.51.100.254/24", 0)
	n.start("workers = 1", "learning = off", markerConfig(append(vs, far)...), memberConfig([]vxlan.VNI{vni}, append(vs, far)...))
	wantMember(t, n, vs[0], far, vni, true)
	check(t, n.SetDown("eth1"))
	wantMember(t, n, vs[0], vs[1], vni, true)
	check(t, n.SetUp("eth1"))
	check(t, netlab.Wait(within(t), "a copy over the link that is back", func() bool {
		vs[0].flood(n, vni, frame(netlab.Broadcast, 0, 64))
		return len(far.got()) > 1
	}))
}
