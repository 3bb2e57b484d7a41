// SPDX-License-Identifier: Apache-2.0

package e2e

// VNIs are separate segments, however many there are.
//
//	node 192.0.2.254
//	      │
//	── switch ────────────────
//	  │       │       │       │
//	  1       2       3       4      192.0.2.N

import (
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

func TestVNIsAreIsolated(t *testing.T) { overEngines(t, testVNIsAreIsolated) }

func testVNIsAreIsolated(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(4)
	// Neighbours in number and VNIs that are alike in part of their bits.
	n := l.node("learning = off", markerConfig(vs...),
		memberConfig([]vxlan.VNI{0, 1, 0x010000}, vs[0], vs[1]),
		memberConfig([]vxlan.VNI{2, 0x000100}, vs[0], vs[2]),
		memberConfig([]vxlan.VNI{3, 16777215}, vs[0], vs[3]))
	tests := []struct {
		name string
		vni  vxlan.VNI
		to   *machine // nil for nobody
	}{
		{name: "smallest", vni: 0, to: vs[1]},
		{name: "first", vni: 1, to: vs[1]},
		{name: "second", vni: 2, to: vs[2]},
		{name: "third", vni: 3, to: vs[3]},
		{name: "middle byte", vni: 0x000100, to: vs[2]},
		{name: "high byte", vni: 0x010000, to: vs[1]},
		{name: "largest", vni: 16777215, to: vs[3]},
		{name: "unknown", vni: 4},
		{name: "unknown, shares two bytes with a known one", vni: 0x010100},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range vs {
				v.forget()
			}
			in := frame(netlab.Broadcast, i, 64)
			vs[0].flood(n, tt.vni, in)
			vs[0].flush(n, vs...)
			for _, v := range vs {
				if v != tt.to {
					wantNone(t, v)
					continue
				}
				wantCopies(t, v, sent{src: vs[0].packet(n, tt.vni, in).Src, ttl: 64, vni: tt.vni, inner: in})
			}
		})
	}
	n.wantKernel(len(tests) - 2) // the unknown ones are for raw to count
}

// Learning makes a sender a member of the VNI it sends in and of no other.
func TestLearningIsPerVNI(t *testing.T) { overEngines(t, testLearningIsPerVNI) }

func testLearningIsPerVNI(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node(markerConfig(vs...))
	vs[0].flood(n, 10, frame(netlab.Broadcast, 1, 64))
	vs[1].flood(n, 10, frame(netlab.Broadcast, 2, 64))
	vs[2].flood(n, 11, frame(netlab.Broadcast, 3, 64))
	vs[0].flush(n, vs...)
	for _, v := range vs {
		v.forget()
	}
	in := frame(netlab.Broadcast, 4, 64)
	vs[1].flood(n, 10, in)
	vs[1].flush(n, vs...)
	wantCopies(t, vs[0], sent{src: vs[1].packet(n, 10, in).Src, ttl: 64, vni: 10, inner: in})
	wantNone(t, vs[1:]...)
}

// Each of many VNIs floods to its own members.
func TestManyVNIs(t *testing.T) { overEngines(t, testManyVNIs) }

func testManyVNIs(t *testing.T, e engine) {
	const vnis = 2000
	l := e.lab(t, 0)
	vs := l.vteps(3)
	// VNI v: VTEP 1 is in all, VTEP 2 in the even, VTEP 3 in every third.
	var all, even, third []vxlan.VNI
	for v := vxlan.VNI(1); v <= vnis; v++ {
		w := v * 8191 // spread over the 24 bits
		all = append(all, w)
		if v%2 == 0 {
			even = append(even, w)
		}
		if v%3 == 0 {
			third = append(third, w)
		}
	}
	n := l.node("learning = off", markerConfig(vs...),
		memberConfig(all, vs[0]), memberConfig(even, vs[1]), memberConfig(third, vs[2]))
	for _, v := range all {
		vs[0].flood(n, v, frame(netlab.Broadcast, int(v), 64))
	}
	vs[0].flush(n, vs...)
	n.wantKernel(vnis)
	wantNone(t, vs[0])
	for _, tt := range []struct {
		to   *machine
		want []vxlan.VNI
	}{{vs[1], even}, {vs[2], third}} {
		got := tt.to.got()
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %d packets, want %d", tt.to.Name, len(got), len(tt.want))
			continue
		}
		for i, g := range got {
			if g.vni != tt.want[i] || number(g.inner) != int(g.vni) {
				t.Fatalf("%s: got frame %d in VNI %s, want %s in both", tt.to.Name, number(g.inner), g.vni, tt.want[i])
			}
		}
	}
}
