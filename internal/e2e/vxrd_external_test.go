// SPDX-License-Identifier: Apache-2.0

package e2e

// One device that carries two VNIs, at a VTEP among others that have a device
// for each. See vxrd_test.go for the lab.
//
//	vtep1: bridge br, VLANs 10 and 11 ── vx ── VNIs 110 and 111
//	vtep2: vxlan110, vxlan111
//	vtep3: vxlan110

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
	"vxsnd/internal/vxlan"
)

// tagged returns a frame with a VLAN tag (IEEE 802.1Q).
func tagged(f []byte, vlan uint16) []byte {
	tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q), vlan)
	return slices.Insert(slices.Clone(f), 12, tag...)
}

func TestVxrdWithDeviceOfManyVNIs(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if err := netlab.HasBridgeVLANs(); err != nil && !uml.Inside() {
		inUML(t, "bridge VLANs", err, uml.Program{Modules: []string{"vxlan", "veth", "bridge"}})
		return
	}
	const first, second vxlan.VNI = 110, 111
	for _, tt := range []struct {
		name            string
		headEnd, filter bool
	}{
		{name: "service node, vnifilter", filter: true},
		{name: "head-end, vnifilter", filter: true, headEnd: true},
		{name: "head-end, VLAN mapping alone", headEnd: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.serve(1)[0]
			to := nowhere
			if !tt.headEnd {
				to = n
			}
			a, b, c := l.kernelVTEP(1), l.kernelVTEP(2), l.kernelVTEP(3)
			check(t, a.AddExternalVXLAN("vx", netlab.ExternalVXLAN{Local: a.addr, Filter: tt.filter}))
			check(t, a.AddBridge("br", 0))
			check(t, a.SetMaster("vx", "br"))
			for i, vni := range []vxlan.VNI{first, second} {
				if tt.filter {
					check(t, a.AddVNIs("vx", uint32(vni), uint32(vni), to.addr))
				}
				check(t, a.MapVLANs("br", "vx", uint16(10+i), 0, uint32(vni)))
			}
			b.vxlan(first, to)
			b.vxlan(second, to)
			c.vxlan(first, to)
			config := []string{bothNodes([]*node{n}), fmt.Sprintf("head_rep = %t", tt.headEnd)}
			v := a.vxrd(config...)
			b.vxrd(config...)
			c.vxrd(config...)
			n.waitMembers(first, a.addr, b.addr, c.addr)
			n.waitMembers(second, a.addr, b.addr)
			if tt.headEnd {
				b.waitFloods("vxlan110", a.addr, c.addr)
				b.waitFloods("vxlan111", a.addr)
				c.waitFloods("vxlan110", a.addr, b.addr)
				var got []control.FloodList
				if err := netlab.Wait(within(t), "both lists", func() bool {
					got = v.lists()
					return len(got) == 2 && got[0].VNI == uint32(first) && got[0].Own == 2 &&
						got[1].VNI == uint32(second) && got[1].Own == 1
				}); err != nil {
					t.Fatalf("got %+v, want 2 members of %s and 1 of %s", got, first, second)
				}
			}

			// What goes out in a VLAN arrives in its VNI, and in no other.
			sent := 0
			wantFrames := func(m *machine, dev string, want ...int) {
				t.Helper()
				c := must(m.Capture(dev))(t)
				defer c.Close()
				from := sent // those of the call before may still arrive
				for _, vlan := range []uint16{10, 11, 10, 11} {
					check(t, a.Send("br", tagged(frame(netlab.Broadcast, sent, 100), vlan)))
					sent++
				}
				var got []int
				for _, p := range must(c.Wait(within(t), len(want), func(p *netlab.Packet) bool {
					return experimentalFrame(p) && number(p.Frame) >= from
				}))(t) {
					got = append(got, number(p.Frame)-from)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s %s: got frames %v, want %v", m.Name, dev, got, want)
				}
			}
			wantFrames(b, "vxlan110", 0, 2)
			wantFrames(b, "vxlan111", 1, 3)
			wantFrames(c, "vxlan110", 0, 2)
			// And the other way.
			cap := must(a.Capture("vx"))(t)
			check(t, b.Send("vxlan110", frame(netlab.Broadcast, 1, 100)))
			check(t, c.Send("vxlan110", frame(netlab.Broadcast, 2, 100)))
			check(t, b.Send("vxlan111", frame(netlab.Broadcast, 3, 100)))
			if got := must(cap.Wait(within(t), 3, experimentalFrame))(t); len(got) != 3 {
				t.Errorf("got %d frames, want 3", len(got))
			}

			// A VNI that goes is withdrawn, and the other is not.
			w := a.watchFloods()
			if tt.filter {
				check(t, a.DeleteVNIs("vx", uint32(second), uint32(second)))
			} else {
				check(t, a.UnmapVLAN("vx", 11, uint32(second)))
			}
			n.waitMembers(second, b.addr)
			n.waitMembers(first, a.addr, b.addr, c.addr)
			if tt.headEnd {
				b.waitFloods("vxlan111")
				check(t, netlab.Wait(within(t), "one list", func() bool { return v.status().Programmed == 2 }))
				w.wantChanges("-" + b.addr.String())
			}
			wantFrames(c, "vxlan110", 0, 2)
		})
	}
}
