// SPDX-License-Identifier: Apache-2.0

package e2e

// Order: packets of a flow arrive in the order in which they were sent.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────────
//	  │     │          │
//	  1     2   …      8       192.0.2.N

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// Numbered packets of mixed sizes, some of which leave in fragments and so by
// another way than the rest.
func TestOrderWithinAFlow(t *testing.T) { overEngines(t, testOrderWithinAFlow) }

func testOrderWithinAFlow(t *testing.T, e engine) {
	const vni vxlan.VNI = 9
	const packets, burst = 4000, 100
	l := e.lab(t, 0)
	vs := l.vteps(4)
	n := l.idle()
	far := l.cable("far", "198.51.100.1/24", n.machine, "eth1", "198.51.100.254/24", 1000)
	n.start("workers = 1", markerConfig(append(vs, far)...), memberConfig([]vxlan.VNI{vni}, append(vs, far)...))
	rnd := rand.New(rand.NewPCG(1, 2))
	sizes := []int{60, 128, 576, 940, 1000, 1200, 1464}
	for i := 0; i < packets; i += burst {
		var fs [][]byte
		for j := range burst {
			fs = append(fs, frame(netlab.Broadcast, i+j, sizes[rnd.IntN(len(sizes))]))
		}
		vs[0].flood(n, vni, fs...)
		// Not more under way than buffers hold: loss is not what this is about.
		vs[0].flush(n, vs...)
	}
	n.wantKernel(1) // most are behind ones that are too large for it
	for _, to := range append(without(vs, vs[0]), far) {
		got := to.await(packets)
		if len(got) != packets {
			t.Errorf("%s: got %d packets, want %d", to.Name, len(got), packets)
		}
		for i, g := range got {
			if number(g.inner) != i {
				t.Fatalf("%s: got packet %d at position %d", to.Name, number(g.inner), i)
			}
		}
	}
}

// Several workers share the flows; each flow stays in order and is complete.
func TestOrderWithSeveralWorkers(t *testing.T) { overEngines(t, testOrderWithSeveralWorkers) }

func testOrderWithSeveralWorkers(t *testing.T, e engine) {
	const vni vxlan.VNI = 9
	const flows, rounds, each = 64, 12, 4
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	n.start("workers = 2", memberConfig([]vxlan.VNI{vni}, vs...))
	for r := range rounds {
		var ds []netlab.Datagram
		for i := range each {
			for f := range flows {
				d := vs[0].packet(n, vni, frame(netlab.Broadcast, r*each+i, 64))
				d.Src = netip.AddrPortFrom(vs[0].addr, uint16(40000+f))
				ds = append(ds, d)
			}
		}
		vs[0].send(n, ds...)
		// Not more under way than buffers hold.
		for _, to := range vs[1:] {
			to.await((r + 1) * each * flows)
		}
	}
	for _, to := range vs[1:] {
		next := make(map[uint16]int)
		for _, g := range to.got() {
			if got, want := number(g.inner), next[g.SrcPort]; got != want {
				t.Fatalf("%s: flow %d: got packet %d, want %d", to.Name, g.SrcPort, got, want)
			}
			next[g.SrcPort]++
		}
		for f := range flows {
			if got := next[uint16(40000+f)]; got != rounds*each {
				t.Errorf("%s: flow %d: got %d packets, want %d", to.Name, 40000+f, got, rounds*each)
			}
		}
	}
	n.wantKernel(flows * rounds * each)
	c := n.stop()
	if got, want := c.get("packets"), flows*rounds*each; got != want {
		t.Errorf("got %d packets counted, want %d: %v", got, want, c.fields)
	}
}
