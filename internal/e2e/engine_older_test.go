// SPDX-License-Identifier: Apache-2.0

package e2e

// The engine tc on Linux 6.1, in user-mode Linux: a clsact filter instead of TCX,
// which stays when the process is killed; and what other kernels were built
// without, VRFs, bonds and VLANs.
//
//	node 192.0.2.254 ══ bond ════ br far 10.8.0.1, and 10.7.0.1 in VLAN 7
//	      │ eth0
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
	"vxsnd/internal/vxlan"
)

const olderVNI vxlan.VNI = 540

func TestEngineOnAnOlderKernel(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if !uml.Inside() {
		inUML(t, "clsact", nil, uml.Program{Modules: []string{
			"veth", "bridge", "vxlan", "vrf", "bonding", "8021q", "sch_ingress", "cls_bpf",
		}})
		return
	}
	t.Run("filter", testOlderFilter)
	t.Run("VRF", testOlderVRF)
	t.Run("bond and VLAN", testOlderBond)
}

// startAuto starts a node that chooses by itself and is to choose tc, by a filter in
// user-mode Linux.
func (n *node) startAuto(config ...string) {
	t := n.lab.t
	t.Helper()
	n.lab.engine = "auto"
	n.start(append([]string{"workers = 1"}, config...)...)
	n.lab.engine = engineTC
	n.settled()
	hook := "tcx"
	if uml.Inside() {
		hook = "clsact"
	}
	if s := n.status(); s.Engine != string(engineTC) || s.Kernel == nil || s.Kernel.Hook != hook {
		t.Fatalf("got engine %s, %+v, want tc by %s", s.Engine, s.Kernel, hook)
	}
}

// addFilter puts a filter of others behind the hook of a device: it lets
// everything by.
func (m *machine) addFilter(dev string) {
	t := m.lab.t
	t.Helper()
	p := must(ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	}))(t)
	defer p.Close()
	check(t, m.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		at := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
		if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: at}); err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL,
			},
			Fd: p.FD(), Name: "others", DirectAction: true,
		})
	}))
}

// The filter floods, follows what changes, and what of it a killed process leaves
// is harmless and found. A filter of others is left alone throughout.
func testOlderFilter(t *testing.T) {
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	n.addFilter("eth0")
	first, second := l.twoWays(n)
	check(t, n.AddRoute(by("eth1")))
	config := []string{"learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{olderVNI}, append(vs[:2:2], first)...)}
	n.startAuto(config...)
	if out := n.ctl("show").printed(); !strings.Contains(out, "clsact") {
		t.Errorf("got no clsact in\n%s", out)
	}
	wantPrograms := func(want int) {
		t.Helper()
		if got := n.programs("eth0"); got != want+1 {
			t.Errorf("got %d filters, want %d and that of others", got, want)
		}
	}
	wantPrograms(1)
	for range 3 {
		wantMember(t, n, vs[0], vs[1], olderVNI, true)
		wantNone(t, vs[0], vs[2])
	}
	n.wantKernel(3)
	copies := func(what string, to *machine) {
		t.Helper()
		to.forget()
		check(t, netlab.Wait(within(t), what, func() bool {
			vs[0].flood(n, olderVNI, frame(netlab.Broadcast, 1, 64))
			return len(to.got()) > 0
		}))
	}
	copies("a copy by a route", first)
	check(t, n.AddRoute(by("eth2")))
	copies("a copy by the other route", second)
	check(t, n.setNeighbour("eth0", vs[1].addr, vs[2].mac, netlink.NUD_REACHABLE))
	copies("a copy at the other MAC address", vs[2])
	check(t, n.setNeighbour("eth0", vs[1].addr, vs[1].mac, netlink.NUD_REACHABLE))
	copies("a copy at the MAC address of before", vs[1])
	n.stop()
	wantPrograms(0)

	n.startAuto(config...)
	wantMember(t, n, vs[0], vs[1], olderVNI, true)
	killed := time.Now()
	n.end(syscall.SIGKILL)
	wantPrograms(1)
	vs[1].forget()
	var sent []time.Duration // after the end of the process
	copied := func() int {
		gs := vs[1].got()
		if len(gs) == 0 {
			return 0
		}
		return number(gs[len(gs)-1].inner) + 1
	}
	check(t, netlab.Wait(within(t), "the end of what was left behind", func() bool {
		sent = append(sent, time.Since(killed))
		vs[0].flood(n, olderVNI, frame(netlab.Broadcast, len(sent)-1, 64))
		return len(sent) > copied()+30
	}))
	if last := sent[max(copied(), 1)-1]; last < 3*time.Second || last > 6*time.Second {
		t.Errorf("got a packet copied that was sent %s after the end of the process, and none later, want some 5 s", last)
	}

	n.startAuto(config...)
	wantPrograms(1)
	wantMember(t, n, vs[0], vs[1], olderVNI, true)
	n.wantKernel(1)
	n.end(syscall.SIGKILL)
	n.cleanup(0, "removed the program on device eth0\n")
	wantPrograms(0)
	n.cleanup(0, "nothing to clean up\n")
	wantPrograms(0)
}

// With a VRF its members are flooded to, in the kernel, and nobody else's packets
// are taken; a device that leaves the VRF is none of the node's any more.
func testOlderVRF(t *testing.T) {
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	check(t, n.AddVRF("blue", 10))
	check(t, n.SetMaster("eth0", "blue"))
	second := &lab{Lab: l.Lab, Switch: must(l.Lab.Switch("second", 0))(t), t: t}
	shadows := second.vteps(2)
	must(second.Attach(n.Namespace, "eth1"))(t)
	check(t, n.AddAddr("eth1", netip.PrefixFrom(n.addr, 24)))
	n.startAuto("learning = off", "vrf = blue", markerConfig(vs...), memberConfig([]vxlan.VNI{olderVNI}, vs...))
	floods := func() {
		t.Helper()
		before := n.status().Kernel.Packets
		wantMember(t, n, vs[0], vs[1], olderVNI, true)
		n.wantKernel(int(before) + 1)
	}
	fromOutside := func() {
		t.Helper()
		mac := must(n.Link("eth1"))(t).MAC
		check(t, shadows[0].Send("eth0", shadows[0].packet(n, olderVNI, frame(netlab.Broadcast, 1, 64)).Frame(mac, shadows[0].mac)))
	}
	floods()
	vs[1].forget()
	fromOutside()
	vs[0].flush(n, vs...)
	wantNone(t, append(shadows, vs...)...)
	wantDevices := func(want ...string) {
		t.Helper()
		check(t, netlab.Wait(within(t), "the devices "+strings.Join(want, " "), func() bool { return slices.Equal(n.status().Devices, want) }))
	}
	wantDevices("eth0")

	check(t, n.SetNoMaster("eth0"))
	wantDevices()
	if got := n.programs("eth0"); got != 0 {
		t.Errorf("got %d filters on a device that is in no VRF, want none", got)
	}
	before := n.status().Kernel.Packets
	vs[0].flood(n, olderVNI, frame(netlab.Broadcast, 2, 64))
	fromOutside()
	check(t, n.SetMaster("eth0", "blue"))
	wantDevices("eth0")
	floods()
	wantNone(t, shadows...)
	if got := n.status().Kernel.Packets; got != before+1 {
		t.Errorf("got %d packets flooded in the kernel, want 1", got-before)
	}
}

// Members by a bond and by a VLAN on it: copies go by the port that is active, and
// what comes in by it is flooded.
func testOlderBond(t *testing.T) {
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	far := &machine{Namespace: must(l.Lab.Namespace("far"))(t), lab: l}
	check(t, netlab.Veth(far.Namespace, "eth0", n.Namespace, "eth1", 0))
	check(t, netlab.Veth(far.Namespace, "eth1", n.Namespace, "eth2", 0))
	check(t, far.AddBridge("br", 0))
	for _, port := range []string{"eth0", "eth1"} {
		check(t, far.SetMaster(port, "br"))
	}
	check(t, n.Do(func() error {
		b := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond"})
		b.Mode, b.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 50
		return netlink.LinkAdd(b)
	}))
	for _, port := range []string{"eth1", "eth2"} {
		check(t, n.SetDown(port))
		check(t, n.SetMaster(port, "bond"))
	}
	check(t, n.SetUp("bond"))
	vlan := func(m *machine, on string) {
		t.Helper()
		check(t, m.Do(func() error {
			parent, err := netlink.LinkByName(on)
			if err != nil {
				return err
			}
			v := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: parent.Attrs().Index}, VlanId: 7}
			if err := netlink.LinkAdd(v); err != nil {
				return err
			}
			return netlink.LinkSetUp(v)
		}))
	}
	vlan(far, "br")
	vlan(n.machine, "bond")
	check(t, n.AddAddr("bond", netip.MustParsePrefix("10.8.0.254/24")))
	check(t, n.AddAddr("vlan7", netip.MustParsePrefix("10.7.0.254/24")))
	// The far machine as it is seen by either.
	at := func(dev, addr string) *machine {
		m := &machine{Namespace: far.Namespace, lab: l, addr: netip.MustParseAddr(addr)}
		check(t, m.AddAddr(dev, netip.PrefixFrom(m.addr, 24)))
		m.mac = must(m.Link(dev))(t).MAC
		m.cap = must(m.Capture(dev))(t)
		m.listen(dataPort)
		return m
	}
	plain, tagged := at("br", "10.8.0.1"), at("vlan7", "10.7.0.1")
	n.startAuto("learning = off", markerConfig(vs[0], vs[1], plain, tagged), memberConfig([]vxlan.VNI{olderVNI}, vs[0], vs[1], plain, tagged))

	others := *n.machine // the node as the far machine sees it
	others.mac = must(n.Link("bond"))(t).MAC
	theirs := *n
	theirs.machine = &others
	sentBy := func(m *machine, dev string, i int) {
		t.Helper()
		d := m.packet(&theirs, olderVNI, frame(netlab.Broadcast, i, 64))
		check(t, m.Send(dev, d.Frame(others.mac, m.mac)))
	}
	// The bridge shows what is in the VLAN too.
	got := func(m *machine) []received {
		return slices.DeleteFunc(m.got(), func(g received) bool { return g.Dst != m.addr })
	}
	floods := func(i int) {
		t.Helper()
		n.settled()
		before := n.status().Kernel.Packets
		all := []*machine{vs[0], vs[1], plain, tagged}
		for from, send := range []func(){
			func() { vs[0].flood(n, olderVNI, frame(netlab.Broadcast, i, 64)) },
			func() { sentBy(plain, "br", i) },
			func() { sentBy(tagged, "vlan7", i) },
		} {
			for _, m := range all {
				m.forget()
			}
			send()
			sender := []*machine{vs[0], plain, tagged}[from]
			for _, m := range without(all, sender) {
				check(t, netlab.Wait(within(t), "a copy at "+m.addr.String(), func() bool { return len(got(m)) > 0 }))
			}
			vs[0].flush(n, vs[1])
			for _, m := range without(all, sender) {
				if gs := got(m); len(gs) != 1 || gs[0].Source().Addr() != sender.addr || gs[0].TTL != 63 {
					t.Errorf("%s %s: got %d packets, %v, want one copy of what %s sent", m.Name, m.addr, len(gs), gs, sender.addr)
				}
			}
		}
		if got := n.status().Kernel.Packets - before; got != 3 {
			t.Errorf("got %d packets flooded in the kernel, want 3", got)
		}
	}
	floods(1)
	if got, want := n.status().Devices, []string{"bond", "eth0", "vlan7"}; !slices.Equal(got, want) {
		t.Errorf("got devices %q, want %q", got, want)
	}
	active := func() (name string) {
		t.Helper()
		check(t, n.Do(func() error {
			b, err := netlink.LinkByName("bond")
			if err != nil {
				return err
			}
			if p, err := netlink.LinkByIndex(b.(*netlink.Bond).ActiveSlave); err == nil {
				name = p.Attrs().Name
			}
			return nil
		}))
		return name
	}
	before := active()
	check(t, far.SetDown(map[string]string{"eth1": "eth0", "eth2": "eth1"}[before])) // the other end of its cable
	check(t, netlab.Wait(within(t), "another port of the bond", func() bool { a := active(); return a != "" && a != before }))
	floods(2)
}
