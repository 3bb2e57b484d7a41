// SPDX-License-Identifier: Apache-2.0

package e2e

// What a node learns from data, or has from its configuration, it tells its
// peers over TCP.

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// A VTEP that sends to one node is a member at the others, and stays one as
// long as it sends, also where it sends nothing.
func TestLearnedMembersAreKnownToPeers(t *testing.T) {
	t.Parallel()
	const holdtime = 6 * time.Second
	l := newLab(t, 0)
	vs := l.vteps(2)
	ns := l.group(2, "holdtime = 6", markerConfig(vs...))
	begin := time.Now()
	vs[0].flood(ns[0], groupVNI, frame(netlab.Broadcast, 0, 64))
	ns[1].waitMembers(groupVNI, vs[0].addr)
	t.Logf("known at the peer within %v", time.Since(begin))
	if got := ns[1].entries(groupVNI); len(got) != 1 || got[0].Source != "peer" || got[0].Identifier != 0 || got[0].Seconds == nil {
		t.Errorf("got %+v, want one entry that a peer vouches for and that ages", got)
	}
	wantMember(t, ns[1], vs[1], vs[0], groupVNI, true)

	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := 1; time.Since(begin) < 2*holdtime; i++ {
		<-tick.C
		vs[0].flood(ns[0], groupVNI, frame(netlab.Broadcast, i, 64))
		if !ns[1].held()[holding{groupVNI, vs[0].addr, 0}] {
			t.Fatalf("got no member at the peer after %v, want the one that goes on sending", time.Since(begin))
		}
	}
	// Now it is silent, and vs[1] has been heard by the peer itself.
	ns[0].waitMembers(groupVNI)
	ns[1].waitMembers(groupVNI)
}

// A thousand members that are learned at once take a handful of connections,
// and each is told of once with its time.
func TestManyLearnedMembersTakeFewConnections(t *testing.T) {
	t.Parallel()
	const vnis, each = 100, 10
	// A slow machine learns them one after the other: then there is one
	// connection for those of each 50 ms.
	const grain = 50 * time.Millisecond
	l := newLab(t, 0)
	vs := l.vteps(2)
	ds := []*deployed{l.deployed(1), l.deployed(2)}
	n := l.snode(1)
	n.join([]*machine{ds[0].machine, ds[1].machine}, "holdtime = 600", markerConfig(vs...))
	for _, d := range ds { // at its start the node tells all that there is
		n.waitFor("the first update", func() bool { return len(d.told()) > 0 })
	}
	begin := time.Now()
	for i := range vnis {
		vs[0].claim(n, groupVNI+vxlan.VNI(i), each)
	}
	for _, d := range ds {
		got := make(map[holding]int)
		n.waitFor("all members at "+d.Name, func() bool {
			clear(got)
			for _, s := range d.told() {
				for _, rec := range s.VNIs {
					if rec.VNI == markerVNI {
						continue
					}
					for _, e := range rec.Entries {
						got[holding{rec.VNI, e.Addr, e.Identifier}]++
						if e.Holdtime < 500 || e.Holdtime > 600 || e.Identifier != 0 {
							t.Fatalf("%s: got %+v, want identifier 0 and about 600 s", d.Name, e)
						}
					}
				}
			}
			return len(got) == vnis*each
		})
		took := time.Since(begin)
		for h, times := range got {
			if times != 1 {
				t.Errorf("%s: got %v told %d times, want once", d.Name, h, times)
			}
		}
		connections, most := len(d.told())-1, 3+int(took/grain)
		t.Logf("%s: %d members in %d connections within %v", d.Name, vnis*each, connections, took)
		if connections > most {
			t.Errorf("%s: got %d connections in %v, want %d at most", d.Name, connections, took, most)
		}
		if got := d.relayed(n); len(got) > 0 {
			t.Errorf("%s: got %d messages over UDP, want none for learned members", d.Name, len(got))
		}
	}
}

// Static members of the configuration are told at the start and when they come
// or go. A deployed node is told by both ways of those that go.
func TestStaticMembersAreToldToPeers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, other := l.deployed(1), l.snode(2)
	n := l.snode(1)
	peers := []*machine{d.machine, other.machine}
	stay, come := memberConfig([]vxlan.VNI{groupVNI}, vs[0]), memberConfig([]vxlan.VNI{groupVNI}, vs[1])
	other.join([]*machine{n.machine})
	n.join(peers, stay)
	told := func(a netip.Addr, want uint32) {
		t.Helper()
		n.waitFor("an update", func() bool {
			got, ok := d.last(groupVNI, a)
			return ok && got == want
		})
	}
	told(vs[0].addr, vxfld.HoldtimeStatic)
	other.waitMembers(groupVNI, vs[0].addr)
	if got := other.entries(groupVNI)[0]; got.Source != "peer" || got.Seconds != nil || got.Via != n.addr {
		t.Errorf("got %+v, want an entry that does not age, by way of %s", got, n.addr)
	}

	n.reload(n.grouped(peers, stay, come)...)
	told(vs[1].addr, vxfld.HoldtimeStatic)
	other.waitMembers(groupVNI, vs[0].addr, vs[1].addr)

	n.reload(n.grouped(peers, come)...)
	told(vs[0].addr, vxfld.HoldtimeWithdraw)
	other.waitMembers(groupVNI, vs[1].addr)
	n.waitFor("a withdrawal over UDP", func() bool { return len(d.relayed(n)) > 0 })
	got := d.relayed(n)
	if len(got) != 1 || got[0].Holdtime != vxfld.HoldtimeWithdraw || got[0].Identifier != 0 {
		t.Fatalf("got %+v, want one withdrawal of identifier 0", got)
	}
	wantMembers(t, members(got[0]), map[vxlan.VNI][]netip.Addr{groupVNI: {vs[0].addr}})
	if got := other.datagrams(n.machine); len(got) > 0 {
		t.Errorf("got %d messages at a node of ours, want the update alone", len(got))
	}
}

// A peer that was away is told, when it is back, how things are by then.
func TestPeerThatWasAwayGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	d := l.deployed(1)
	n := l.snode(1)
	static := func(ms ...*machine) string { return memberConfig([]vxlan.VNI{groupVNI}, ms...) }
	peers := []*machine{d.machine}
	n.join(peers, static(vs[0]))
	n.waitFor("the first update", func() bool {
		_, ok := d.last(groupVNI, vs[0].addr)
		return ok
	})

	d.shutdown()
	before := len(d.told())
	vs[2].flood(n, groupVNI, frame(netlab.Broadcast, 1, 64))
	n.reload(n.grouped(peers, static(vs[1]))...)
	n.waitFor("a peer that is not reachable", func() bool {
		p := n.peers()[0]
		return !p.Reachable && p.UpdateErrors > 0 && p.Problem != "" && p.Waiting >= 3
	})

	d.listen()
	t.Cleanup(d.shutdown)
	want := map[netip.Addr]uint32{
		vs[0].addr: vxfld.HoldtimeWithdraw, vs[1].addr: vxfld.HoldtimeStatic, vs[2].addr: 90,
	}
	n.waitFor("all that was missed", func() bool {
		for a, h := range want {
			got, ok := d.last(groupVNI, a)
			if aged := h != vxfld.HoldtimeWithdraw && h != vxfld.HoldtimeStatic; !ok || got > h || !aged && got != h {
				return false
			}
		}
		return true
	})
	if got := len(d.told()) - before; got > 2 {
		t.Errorf("got %d updates when it was back, want what was missed in one or two", got)
	}
	n.waitFor("a peer that is back", func() bool { return n.peers()[0].Reachable })
}
