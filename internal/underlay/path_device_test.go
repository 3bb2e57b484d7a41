// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// Devices on top of others are outgoing devices as any, by whatever the routes
// say.
func TestPathsOverOtherDevices(t *testing.T) {
	if inUML(t, "vrf", "8021q", "bonding", "vrf", "veth", "bridge", "vxlan") {
		return
	}
	t.Run("VLAN", func(t *testing.T) {
		r := newPathRig(t)
		for n, a := range map[*netlab.Namespace]string{r.Namespace: "10.2.0.1/24", r.one: "10.2.0.2/24"} {
			parent := must(n.Link("eth0"))(t)
			addLink(t, n, func() netlink.Link {
				return &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: parent.Index}, VlanId: 7}
			})
			check(t, n.AddAddr("vlan7", netip.MustParsePrefix(a)))
		}
		r.p.Want(addrs("10.2.0.2", "10.0.0.2"), nil)
		r.want(t, "10.2.0.2", r.by(t, "vlan7", r.one, 1500))
		r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))
		r.wantDevices(t, "eth0", "vlan7")
		check(t, r.SetMTU("vlan7", 1400))
		r.want(t, "10.2.0.2", r.by(t, "vlan7", r.one, 1400))
		check(t, r.DeleteLink("vlan7"))
		r.want(t, "10.2.0.2", underlay.Path{State: underlay.PathUnreachable})
		r.wantDevices(t, "eth0")
	})
	t.Run("bond", func(t *testing.T) {
		r := newPathRig(t)
		addLink(t, r.Namespace, func() netlink.Link {
			b := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
			b.Mode, b.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 100
			return b
		})
		check(t, r.SetDown("eth0"))
		check(t, r.SetMaster("eth0", "bond0"))
		check(t, r.DeleteAddr("eth0", netip.MustParsePrefix("10.0.0.1/24")))
		check(t, r.AddAddr("bond0", netip.MustParsePrefix("10.0.0.1/24")))
		r.p.Want(addrs("10.0.0.2"), nil)
		r.want(t, "10.0.0.2", r.by(t, "bond0", r.one, 1500))
		r.wantDevices(t, "bond0")
	})
	t.Run("VRF", func(t *testing.T) {
		r := idlePathRig(t)
		// Else what is not in the VRF's table is looked up in the main one.
		for _, table := range []int{10, 11} {
			check(t, r.AddRoute(netlab.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Kind: netlab.Unreachable, Table: table}))
		}
		check(t, r.AddVRF("blue", 10))
		r.follow(t, "blue", receiveBuffer, never)
		r.p.Want(addrs("10.0.0.2", "10.1.0.2"), nil)
		none := underlay.Path{State: underlay.PathUnreachable}
		r.want(t, "10.0.0.2", none)
		check(t, r.SetMaster("eth0", "blue"))
		r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))
		r.want(t, "10.1.0.2", none)
		r.wantDevices(t, "eth0")
		check(t, r.DeleteLink("blue"))
		r.want(t, "10.0.0.2", none)
		check(t, r.AddVRF("blue", 11))
		check(t, r.SetMaster("eth0", "blue"))
		r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))

		// A route into a VRF from outside is one for the IP stack.
		outside := &pathRig{Namespace: r.Namespace, ways: make(map[netip.Addr]underlay.Path), states: make(map[netip.Addr][]underlay.PathState)}
		check(t, r.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.0.0.0/24"), Device: "blue"}))
		outside.follow(t, "", receiveBuffer, never)
		outside.p.Want(addrs("10.0.0.2", "10.1.0.2"), nil)
		outside.want(t, "10.0.0.2", underlay.Path{State: underlay.PathUnfit})
		outside.want(t, "10.1.0.2", r.by(t, "eth1", r.two, 1500))
	})
	// The table of neighbours is one for all namespaces, so it is filled here.
	t.Run("full table of neighbours", func(t *testing.T) {
		check(t, os.WriteFile("/proc/sys/net/ipv4/neigh/default/gc_thresh3", []byte("20"), 0))
		r := newPathRig(t)
		var as []netip.Addr
		for i := range 100 {
			as = append(as, addr(fmt.Sprint("10.0.0.", 100+i)))
		}
		r.p.Want(as, nil)
		for _, a := range as {
			r.want(t, a.String(), underlay.Path{State: underlay.PathUnresolved, MTU: 1500})
		}
		r.p.Want(addrs("10.1.0.2"), as)
		r.want(t, "10.1.0.2", r.by(t, "eth1", r.two, 1500))
	})
}

func addLink(t *testing.T, n *netlab.Namespace, l func() netlink.Link) {
	t.Helper()
	check(t, n.Do(func() error { return netlink.LinkAdd(l()) }))
	check(t, n.SetUp(l().Attrs().Name))
}
