// SPDX-License-Identifier: Apache-2.0

package e2e

// A VRF is an underlay of its own: the node serves one, and what has the same
// addresses elsewhere sees nothing of it.
//
//	          node
//	  vrf blue │   (or vrf red, or none)
//	 eth0 .254 │   eth1 .254
//	     ──────┘   └──────
//	  │      │      │            all of 192.0.2.0/24
//	  1      2      1'  2'

import (
	"net/netip"
	"os/exec"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
	"vxsnd/internal/vxlan"
)

func TestVRF(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if err := netlab.HasVRF(); err != nil && !uml.Inside() {
		inUML(t, "vrf", err, uml.Program{Modules: []string{"vrf", "vxlan", "veth", "bridge", "sch_ingress", "cls_bpf"}})
		return
	}
	const vni vxlan.VNI = 70
	tests := []struct {
		name  string
		other string // VRF of the other underlay, if it is in one
	}{
		{name: "beside the default table"},
		{name: "beside another VRF", other: "red"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := &node{machine: l.machine("node")}
			n.addr = netip.MustParseAddr(nodeAddr)
			check(t, n.AddVRF("blue", 10))
			check(t, n.SetMaster("eth0", "blue"))
			check(t, n.AddAddr("eth0", netip.PrefixFrom(n.addr, 24)))

			second := &lab{Lab: l.Lab, Switch: must(l.Lab.Switch("second", 0))(t), t: t}
			shadows := second.vteps(2)
			must(second.Attach(n.Namespace, "eth1"))(t)
			if tt.other != "" {
				check(t, n.AddVRF(tt.other, 11))
				check(t, n.SetMaster("eth1", tt.other))
			}
			check(t, n.AddAddr("eth1", netip.PrefixFrom(n.addr, 24)))

			n.startAuto("vrf = blue", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
			in, large := frame(netlab.Broadcast, 1, 64), frame(netlab.Broadcast, 2, 5000)
			vs[0].flood(n, vni, in)
			vs[0].floodLarge(n, vni, large)
			vs[0].flush(n, vs...)
			src := vs[0].packet(n, vni, in).Src
			wantCopies(t, vs[1], sent{src: src, ttl: 64, vni: vni, inner: in}, sent{src: src, ttl: 64, vni: vni, inner: large})
			wantNone(t, vs[0])
			wantNone(t, shadows...)

			// Registrations are of the VRF too.
			a := vs[1].agent(n)
			a.register(vni+1, 90, 5)
			wantMember(t, n, vs[0], vs[1], vni+1, true)

			// What comes in by the other underlay is not the node's.
			mac := must(n.Link("eth1"))(t).MAC
			check(t, shadows[0].Send("eth0", shadows[0].packet(n, vni, in).Frame(mac, shadows[0].mac)))
			vs[0].flush(n, vs...)
			wantNone(t, shadows...)
			if got := len(vs[1].got()); got != 1 { // since wantMember looked
				t.Errorf("got %d packets at VTEP 2, want 1", got)
			}
			n.wantKernel(1)
		})
	}
}

// A VRF that is not there is an error of the start, not of the first packet.
func TestVRFMissing(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.idle()
	for _, dev := range []string{"nosuchvrf", "eth0"} {
		p := n.launch(exec.Command(program(t)), "vrf = "+dev)
		if status := must(p.Wait(within(t)))(t); status == 0 {
			t.Errorf("vrf = %s: got status 0, want an error", dev)
		}
	}
}
