// SPDX-License-Identifier: Apache-2.0

package e2e

// Nodes of ours compare their tables now and then.

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	msgRepaired = "members that were lacking taken from peer"
	msgReminded = "peer told of withdrawals that it missed"
)

// What was lost on the way to a peer it has a moment later; what was withdrawn
// there stays withdrawn.
func TestRepairHealsLostRelays(t *testing.T) {
	t.Parallel()
	const many = 50
	l := newLab(t, 0)
	vs := l.vteps(3)
	ns := l.group(2, "learning = off", "resync_interval = 1", markerConfig(vs...))
	withFirst, withSecond := vs[0].agent(ns[0]), vs[1].agent(ns[1])
	withSecond.register(groupVNI, 900, 5)
	withSecond.register(groupVNI, 900, 6, vs[2].addr)
	ns[0].waitMembers(groupVNI, vs[1].addr, vs[2].addr)
	withFirst.register(groupVNI+4, vxfld.HoldtimeStatic, 8)
	ns[1].waitMembers(groupVNI+4, vs[0].addr)

	// From now on nothing that is relayed arrives.
	ns[0].lose(ns[1].addr, unix.IPPROTO_UDP)
	ns[1].lose(ns[0].addr, unix.IPPROTO_UDP)
	withSecond.register(groupVNI, 0, 5)
	ns[1].waitMembers(groupVNI, vs[2].addr)
	withFirst.register(groupVNI+4, 0, 8)
	var want []netip.Addr
	for i := range many {
		want = append(want, bigAddr(i))
		withFirst.register(groupVNI+1, 900, uint64(100+i), want[i])
	}
	ns[1].waitMembers(groupVNI+1, want...)
	withSecond.register(groupVNI+2, vxfld.HoldtimeStatic, 7)
	ns[0].waitMembers(groupVNI+2, vs[1].addr)
	for _, e := range ns[1].entries(groupVNI + 1) {
		if e.Source != "peer" || e.Identifier < 100 || e.Seconds == nil || *e.Seconds > 900 {
			t.Errorf("got %+v, want an entry of a peer with its identifier and time", e)
		}
	}

	// A second repair, after the first one had every chance to bring it back.
	withFirst.register(groupVNI+3, 900, 200)
	ns[1].waitMembers(groupVNI+3, vs[0].addr)
	if got := ns[1].held(); got[holding{groupVNI, vs[1].addr, 5}] || !got[holding{groupVNI, vs[2].addr, 6}] {
		t.Errorf("got %v, want what was withdrawn here to stay away", got)
	}
	if got := ns[0].held(); !got[holding{groupVNI, vs[1].addr, 5}] {
		t.Errorf("got %v, want the node that missed the withdrawal to keep the member for its time", got)
	}
	// What would never end there is withdrawn there.
	ns[1].waitMembers(groupVNI + 4)
	ns[0].waitFor("word of it in the log", func() bool {
		return slices.Equal(values(with(lines(ns[0].proc.Output()), msgReminded), "count"), []string{"1"})
	})
	taken := 0
	for _, f := range with(lines(ns[1].proc.Output()), msgRepaired) {
		taken += must(strconv.Atoi(f["count"]))(t)
	}
	if taken != many+1 {
		t.Errorf("got %d members taken from the peer, want %d", taken, many+1)
	}
	// It registers again: that is no repair.
	withSecond.register(groupVNI, 900, 5)
	ns[1].waitMembers(groupVNI, vs[1].addr, vs[2].addr)
}

// A member that an operator has made for ever is no matter of repairs: only who
// has it from the operator's own node holds it.
func TestRepairLeavesStaticMembersAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	d := l.deployed(1)
	first, second := l.snode(1), l.snode(2)
	common := []string{"learning = off", "resync_interval = 1", markerConfig(vs...)}
	second.join([]*machine{first.machine, d.machine}, common...)
	first.join([]*machine{second.machine}, common...)
	d.tell(second, encode(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{entriesOf(groupVNI,
		vxfld.SyncEntry{Addr: vs[0].addr, Holdtime: vxfld.HoldtimeStatic},
		vxfld.SyncEntry{Addr: vs[1].addr, Holdtime: 900},
		vxfld.SyncEntry{Addr: vs[2].addr, Holdtime: vxfld.HoldtimeStatic, Identifier: 5})}}))
	second.waitMembers(groupVNI, vs[0].addr, vs[1].addr, vs[2].addr)
	first.waitMembers(groupVNI, vs[1].addr, vs[2].addr)
	for _, e := range second.entries(groupVNI) {
		if want := e.Address == vs[0].addr; (e.Via == d.addr) != want {
			t.Errorf("got %+v, want the operator's alone by way of %s", e, d.addr)
		}
	}
}

// A deployed peer is never compared with.
func TestRepairLeavesDeployedPeersAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d := l.deployed(1)
	n, other := l.snode(1), l.snode(2)
	peers := []*machine{d.machine, other.machine}
	other.join([]*machine{n.machine}, "learning = off", markerConfig(vs...))
	n.join(peers, "learning = off", "resync_interval = 1", markerConfig(vs...))
	a := vs[0].agent(other)
	// The peer of ours would not tell it by itself.
	n.lose(other.addr, unix.IPPROTO_UDP)
	for i := range uint64(2) {
		a.register(groupVNI+vxlan.VNI(i), 900, i+1)
		n.waitMembers(groupVNI+vxlan.VNI(i), vs[0].addr)
	}
	if got := d.compared(); got > 0 {
		t.Errorf("got %d digests at a deployed peer, want none", got)
	}
}
