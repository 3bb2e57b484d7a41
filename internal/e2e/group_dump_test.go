// SPDX-License-Identifier: Apache-2.0

package e2e

// The table that a node asks of its peers when it starts.

import (
	"maps"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// entriesOf returns a record of a SYNC.
func entriesOf(vni vxlan.VNI, es ...vxfld.SyncEntry) vxfld.VNIEntries {
	return vxfld.VNIEntries{VNI: vni, Entries: es}
}

// What a deployed peer holds is there when the node is ready: each entry with
// its identifier and time, but for what no VTEP can have.
func TestStartTakesTheTableOfDeployedPeer(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	d, n := l.deployed(1), l.snode(1)
	d.holds(vxfld.Sync{VNIs: []vxfld.VNIEntries{
		entriesOf(groupVNI,
			vxfld.SyncEntry{Addr: vs[0].addr, Holdtime: vxfld.HoldtimeStatic},
			vxfld.SyncEntry{Addr: vs[1].addr, Holdtime: 70, Identifier: 5},
			vxfld.SyncEntry{Addr: vs[1].addr, Holdtime: 60, Identifier: 6},
			vxfld.SyncEntry{Addr: vs[2].addr, Holdtime: 0},
			vxfld.SyncEntry{Addr: netip.MustParseAddr("127.0.0.1"), Holdtime: 60},
			vxfld.SyncEntry{Addr: n.addr, Holdtime: 60},
			vxfld.SyncEntry{Addr: d.addr, Holdtime: 60}),
		entriesOf(groupVNI+1, vxfld.SyncEntry{Addr: vs[2].addr, Holdtime: 50}),
	}})
	n.join([]*machine{d.machine}, markerConfig(vs...))
	wantMember(t, n, vs[2], vs[0], groupVNI, true)
	wantMember(t, n, vs[2], vs[1], groupVNI, true)
	wantMember(t, n, vs[0], vs[2], groupVNI+1, true)

	type shown struct {
		holding
		most int64 // seconds left
	}
	got := make(map[shown]bool)
	for _, vni := range []vxlan.VNI{groupVNI, groupVNI + 1} {
		for _, e := range n.entries(vni) {
			if e.Source != "peer" {
				continue // what the packets of this test taught it
			}
			s := shown{holding: holding{vni, e.Address, e.Identifier}}
			if e.Seconds != nil {
				s.most = (*e.Seconds + 9) / 10 * 10
			}
			got[s] = true
		}
	}
	want := map[shown]bool{
		{holding{groupVNI, vs[0].addr, 0}, 0}: true, {holding{groupVNI, vs[1].addr, 5}, 70}: true,
		{holding{groupVNI, vs[1].addr, 6}, 60}: true, {holding{groupVNI + 1, vs[2].addr, 0}, 50}: true,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got entries %v, want %v", got, want)
	}
	if p := n.peers()[0]; p.LastDump == nil || p.LastDump.Entries != 8 || p.LastDump.Problem != "" || p.LastHeard == nil {
		t.Errorf("got peer %+v, want a dump of 8 entries", p)
	}
	// It learned one meanwhile, and tells of that one alone.
	n.waitFor("an update of what was learned", func() bool {
		_, ok := d.last(groupVNI+1, vs[0].addr)
		return ok
	})
	for _, a := range []netip.Addr{vs[0].addr, vs[1].addr} {
		if _, ok := d.last(groupVNI, a); ok {
			t.Errorf("got %s told to the peer, which had told of it", a)
		}
	}
}

// A node that was away has the table of a node of ours when it is ready again:
// what registered, was learned and is configured there, with what came while it
// was away.
func TestStartTakesTheTableOfOurs(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(4)
	first, second := l.snode(1), l.snode(2)
	both := []*machine{first.machine, second.machine}
	marker := markerConfig(vs...)
	first.join(both, marker, memberConfig([]vxlan.VNI{groupVNI}, vs[0]))
	second.join(both, marker)
	a := vs[1].agent(first)
	a.register(groupVNI, 300, 5)
	second.waitMembers(groupVNI, vs[0].addr, vs[1].addr)

	second.stop()
	a.register(groupVNI, 300, 6)                                     // a second identifier
	vs[2].agent(first).register(groupVNI+1, vxfld.HoldtimeStatic, 7) // for ever
	vs[3].flood(first, groupVNI, frame(netlab.Broadcast, 1, 64))     // learned
	first.waitMembers(groupVNI, vs[0].addr, vs[1].addr, vs[3].addr)
	for i := range 3 {
		second.join(both, marker)
		// At this moment, not some time later.
		wantMember(t, second, vs[2], vs[1], groupVNI, true)
		want, got := first.held(), second.held()
		delete(got, holding{groupVNI, vs[2].addr, 0})  // heard just now
		delete(want, holding{groupVNI, vs[2].addr, 0}) // told of it
		if diff := cmp.Diff(want, got, equalAddrs, cmp.AllowUnexported(holding{})); diff != "" {
			t.Errorf("start %d: tables (-first +second):\n%s", i, diff)
		}
		second.stop()
	}
}

// A table that is empty, or of a node that is not ready itself, is taken for
// what it is: the other peer is asked as well, whoever comes first.
func TestStartAsksOnAfterTableThatSaysLittle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		poor vxfld.Sync
		also bool // whether vs[1] is a member by the poor one's word
	}{
		{name: "empty"},
		{name: "empty, of ours", poor: vxfld.Sync{Node: vxfld.SyncNode, Complete: true}},
		{name: "not ready", also: true, poor: vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true,
			VNIs: []vxfld.VNIEntries{entriesOf(groupVNI, vxfld.SyncEntry{Addr: netip.MustParseAddr("192.0.2.2"), Holdtime: 90})}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := l.snode(1)
			rich, poor, silent := l.deployed(1), l.deployed(2), l.machine("silent", "192.0.2.103/24")
			rich.holds(vxfld.Sync{VNIs: []vxfld.VNIEntries{entriesOf(groupVNI, vxfld.SyncEntry{Addr: vs[0].addr, Holdtime: 90})}})
			poor.holds(tt.poor)
			asked := 0
			for i := 0; i < 20 && asked < 3; i++ {
				before := poor.requests()
				n.join([]*machine{poor.machine, rich.machine, silent}, markerConfig(vs...))
				// The order is random: those starts count that asked the poor one first.
				if poor.requests() > before {
					asked++
				}
				if got := n.held(); !got[holding{groupVNI, vs[0].addr, 0}] {
					t.Errorf("got %v when ready, want the member that one peer knows", got)
				} else if tt.also && poor.requests() > before && !got[holding{groupVNI, vs[1].addr, 0}] {
					t.Errorf("got %v when ready, want also what the other one said", got)
				}
				n.stop()
			}
			if asked == 0 {
				t.Error("got no start that asked the poor peer, want some of 20")
			}
		})
	}
}

// With sync_targets two peers are asked, also where the first one has a table.
func TestStartAsksAsManyAsItIsTo(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.snode(1)
	ds := []*deployed{l.deployed(1), l.deployed(2)}
	for i, d := range ds {
		d.holds(vxfld.Sync{VNIs: []vxfld.VNIEntries{entriesOf(groupVNI, vxfld.SyncEntry{Addr: vs[i].addr, Holdtime: 90})}})
	}
	n.join([]*machine{ds[0].machine, ds[1].machine}, "sync_targets = 2")
	if got := n.held(); !got[holding{groupVNI, vs[0].addr, 0}] || !got[holding{groupVNI, vs[1].addr, 0}] {
		t.Errorf("got %v, want what both peers hold", got)
	}
	n.stop()
	n.join([]*machine{ds[0].machine, ds[1].machine})
	if got := ds[0].requests() + ds[1].requests(); got != 3 {
		t.Errorf("got %d requests, want 2 of the first start and 1 of the second", got)
	}
}

// A table of a million entries is taken in while packets are flooded: none of
// them is lost or comes twice.
func TestLargeTableIsTakenInWhilePacketsAreFlooded(t *testing.T) {
	t.Parallel()
	const vnis, each, burst = 1000, 1000, 20
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, n := l.deployed(1), l.snode(1)
	var s vxfld.Sync
	for vni := range vnis {
		es := make([]vxfld.SyncEntry, each)
		for i := range es {
			es[i] = vxfld.SyncEntry{Addr: bigAddr(i), Holdtime: 600, Identifier: uint64(i + 1)}
		}
		s.VNIs = append(s.VNIs, entriesOf(vxlan.VNI(vni+1), es...))
	}
	d.holds(s)
	s.VNIs = nil
	open := d.hold()
	n.proc = n.launch(exec.Command(program(t)), n.grouped([]*machine{d.machine}, "learning = off", "sync_timeout = 300",
		markerConfig(vs...), memberConfig([]vxlan.VNI{vnis + 1}, vs...))...)
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	var want []sent
	flood := func() {
		for range burst {
			in := frame(netlab.Broadcast, len(want), 64)
			vs[0].flood(n, vnis+1, in)
			want = append(want, sent{src: vs[0].packet(n, vnis+1, in).Src, ttl: 64, vni: vnis + 1, inner: in})
		}
		vs[0].flush(n, vs...)
	}
	flood()
	open()
	for ready := false; !ready; {
		flood()
		ready = n.status().Ready
	}
	flood()
	wantCopies(t, vs[1], want...)
	t.Logf("%d packets meanwhile, %d ms for the table", len(want), n.peers()[0].LastDump.Milliseconds)
	if got := n.status().BySource["peer"]; got != vnis*each {
		t.Errorf("got %d entries, want %d", got, vnis*each)
	}
	n.stop()
}
