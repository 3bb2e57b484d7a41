// SPDX-License-Identifier: Apache-2.0

package e2e

// Underlays on devices that stand on others.
//
//	node br, or vlan7
//	      │ eth0
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 10.7.0.N in the VLAN

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
	"vxsnd/internal/vxlan"
)

// The underlay's device is a bridge, one of whose ports is the network.
func TestBridgeAsUnderlay(t *testing.T) { overEngines(t, testBridgeAsUnderlay) }

func testBridgeAsUnderlay(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	check(t, n.DeleteAddr("eth0", netip.MustParsePrefix(nodeAddr+"/24")))
	check(t, n.AddBridge("br", 0))
	check(t, n.SetMaster("eth0", "br"))
	check(t, n.AddAddr("br", netip.MustParsePrefix(nodeAddr+"/24")))
	n.mac = must(n.Link("br"))(t).MAC
	n.start("workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs...))
	for range 10 {
		wantMember(t, n, vs[0], vs[1], wayVNI, true)
	}
	n.wantKernel(10)
	if e == engineTC {
		if got := n.status().Devices; !slices.Equal(got, []string{"br"}) {
			t.Errorf("got devices %q, want the bridge", got)
		}
	}
}

// The underlay's device is a VLAN of the link, which VTEPs are in, too. Where the
// kernel has no VLANs user-mode Linux has; its kernel floods, too, by a filter.
func TestVLANAsUnderlay(t *testing.T) {
	t.Parallel()
	vlan := func(m *machine, a string) error {
		return m.Do(func() error {
			parent, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			v := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: parent.Attrs().Index}, VlanId: 7}
			if err := errors.Join(netlink.LinkAdd(v), netlink.LinkSetUp(v)); err != nil {
				return err
			}
			return m.AddAddr("vlan7", netip.MustParsePrefix(a))
		})
	}
	l := newLab(t, 0)
	n := l.idle()
	err := vlan(n.machine, "10.7.0.254/24")
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && !uml.Inside():
		inUML(t, "8021q", err, uml.Program{Modules: []string{"veth", "bridge", "vxlan", "8021q", "sch_ingress", "cls_bpf"}})
		return
	}
	check(t, err)
	n.addr = netip.MustParseAddr("10.7.0.254")
	vs := l.vteps(3)
	for i, v := range vs {
		addr := fmt.Sprintf("10.7.0.%d", i+1)
		check(t, vlan(v, addr+"/24"))
		v.addr = netip.MustParseAddr(addr)
		v.cap = must(v.Capture("vlan7"))(t)
		v.listen(dataPort)
	}
	n.startAuto("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs...))
	for i := range 10 {
		d := vs[0].packet(n, wayVNI, frame(netlab.Broadcast, i, 64))
		check(t, vs[0].Send("vlan7", d.Frame(n.mac, vs[0].mac)))
		for _, v := range vs[1:] {
			v.await(i + 1)
		}
	}
	n.wantKernel(10)
	if got := n.status().Devices; !slices.Equal(got, []string{"vlan7"}) {
		t.Errorf("got devices %q, want the VLAN", got)
	}
}
