// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// via waits until a node holds a static member of another's configuration.
func (n *node) via(vni vxlan.VNI, a, owner netip.Addr) {
	n.lab.t.Helper()
	n.waitFor("a static member by way of its owner", func() bool {
		for _, e := range n.entries(vni) {
			if e.Address == a && e.Source == "peer" && e.Seconds == nil && e.Via == owner {
				return true
			}
		}
		return false
	})
}

// A static member that is taken out of the file while its node is down leaves
// the group when the node is back: also a third node that got it from the table
// of the second one.
func TestStaticMemberThatLeftTheFileLeavesTheGroup(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	a, b, c := l.snode(1), l.snode(2), l.snode(3)
	ms := []*machine{a.machine, b.machine, c.machine}
	stays := memberConfig([]vxlan.VNI{groupVNI}, vs[1])
	// Rounds that come by the clock are far apart, and the tables never compared.
	const rare = "resync_interval = 0"
	b.join(ms, rare)
	a.join(ms, rare, stays, memberConfig([]vxlan.VNI{groupVNI}, vs[0]))
	b.via(groupVNI, vs[0].addr, a.addr)
	b.via(groupVNI, vs[1].addr, a.addr)

	a.stop()
	c.join(ms, rare)
	c.via(groupVNI, vs[0].addr, a.addr)

	a.join(ms, rare, stays)
	for _, n := range []*node{a, b, c} {
		n.waitMembers(groupVNI, vs[1].addr)
		if got := n.ctl("fdb", groupVNI.String()).printed(); strings.Contains(got, vs[0].addr.String()) || !strings.Contains(got, vs[1].addr.String()) {
			t.Errorf("%s: got\n%s\nwant %s alone", n.Name, got, vs[1].addr)
		}
	}
	for _, n := range []*node{b, c} {
		n.via(groupVNI, vs[1].addr, a.addr)
		n.waitFor("word of it in the log", func() bool {
			return len(with(lines(n.proc.Output()), "static members of peer are gone")) == 1
		})
	}
}

// Nobody takes away what a node's configuration holds by having another node
// relay a message without an identifier, nor has it age.
func TestStrangersMessageLeavesStaticMembersAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	a, b, c := l.snode(1), l.snode(2), l.snode(3)
	ms := []*machine{a.machine, b.machine, c.machine}
	b.join(ms)
	c.join(ms)
	a.join(ms, memberConfig([]vxlan.VNI{groupVNI}, vs[0]))
	for _, n := range []*node{b, c} {
		n.via(groupVNI, vs[0].addr, a.addr)
	}
	stranger := vs[1].agent(b)
	for i, holdtime := range []uint32{3, 0} {
		stranger.send(vxfld.V2, &vxfld.Refresh{Originator: true, Holdtime: holdtime,
			VNIs: []vxfld.VNIMembers{{VNI: groupVNI, Addrs: []netip.Addr{vs[0].addr}}}})
		// What is relayed comes in order.
		last := groupVNI + 1 + vxlan.VNI(i)
		stranger.register(last, 90, 7)
		c.waitMembers(last, vs[1].addr)
		for _, n := range []*node{b, c} {
			if !slices.ContainsFunc(n.entries(groupVNI), func(e control.FDBEntry) bool { return e.Source == "peer" && e.Seconds == nil }) {
				t.Errorf("%s: got %+v after holdtime %d, want the static member", n.Name, n.entries(groupVNI), holdtime)
			}
		}
	}
	// A registration without an identifier is for ever until its VTEP withdraws it.
	stranger.send(vxfld.V2, &vxfld.Refresh{Originator: true, Holdtime: vxfld.HoldtimeStatic,
		VNIs: []vxfld.VNIMembers{{VNI: groupVNI + 9, Addrs: []netip.Addr{vs[1].addr}}}})
	c.waitMembers(groupVNI+9, vs[1].addr)
	stranger.register(groupVNI+9, 0, 0)
	c.waitMembers(groupVNI + 9)
}
