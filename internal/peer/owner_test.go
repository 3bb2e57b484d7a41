// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// mine is the owner as the owner itself says it.
var mine = netip.IPv4Unspecified()

// owned returns a static member of an owner.
func owned(a, owner netip.Addr) vxfld.SyncEntry {
	return vxfld.SyncEntry{Addr: a, Holdtime: vxfld.HoldtimeStatic, Owner: owner}
}

// join starts a node with these members in its configuration among other nodes,
// which get to know it. It returns once the node has their table.
func join(tb testing.TB, i byte, others []*server, configured ...member) (n *server, stop func()) {
	tb.Helper()
	n = serving(tb, i)
	for _, m := range configured {
		n.put(fdb.Configuration, m.vni, m.addr, 0, fdb.Static)
	}
	for _, o := range others {
		n.o.Peers = append(n.o.Peers, o.Local())
		// A node that comes back has another port here.
		o.meet(append(slices.DeleteFunc(slices.Clone(o.o.Peers), func(a netip.AddrPort) bool { return a.Addr() == host(i) }), n.Local())...)
	}
	n.meet(n.o.Peers...)
	stop = run(tb, n.Group)
	synced(tb, n)
	return n, stop
}

// knows waits until a node holds a member for ever, as that of an owner.
func (n *server) knows(tb testing.TB, m member, owner netip.Addr) {
	tb.Helper()
	eventually(tb, "a static member is known", func() bool {
		until, ok := n.holds(m)
		from, known := n.Via(m.vni, m.addr)
		return ok && until == fdb.Never && known && from == owner
	})
}

// lacks waits until a node has let go of a member.
func (n *server) lacks(tb testing.TB, m member) {
	tb.Helper()
	eventually(tb, "a member is gone", func() bool { _, ok := n.holds(m); return !ok })
}

// A static member that leaves a configuration while the node is down leaves the
// group when it is back, also where it came from a third node's table.
func TestConfiguredMemberLeavesWithItsConfiguration(t *testing.T) {
	gone, stays, both, operators := member{10, vtep(1)}, member{10, vtep(2)}, member{11, vtep(3)}, member{12, vtep(4)}
	b, _ := join(t, 2, nil, both)
	a, stop := join(t, 1, []*server{b}, gone, stays, both)
	a.put(fdb.Operator, operators.vni, operators.addr, 0, fdb.Static)
	for _, m := range []member{gone, stays, both, operators} {
		b.knows(t, m, host(1))
	}
	stop()

	c, _ := join(t, 3, []*server{b})
	c.knows(t, gone, host(1)) // from b alone: a is down
	c.knows(t, stays, host(1))

	a, _ = join(t, 1, []*server{b, c}, stays)
	for _, n := range []*server{b, c} {
		n.lacks(t, gone)
		n.knows(t, stays, host(1))
		n.knows(t, operators, operatorsFrom(n))
	}
	b.lacks(t, both) // but for b's own configuration
	for _, n := range []*server{a, c} {
		n.knows(t, both, host(2))
	}
	a.knows(t, operators, operatorsFrom(a))
	for _, m := range []member{gone, stays} {
		if _, ok := a.holds(m); ok {
			t.Errorf("got %v from a peer, want nothing that belongs to the node itself", m)
		}
	}
}

// operatorsFrom returns who told a node of the operator's member.
func operatorsFrom(n *server) netip.Addr {
	from, _ := n.Via(12, vtep(4))
	return from
}

// What a node had got back from its peers goes when it lets go of the member
// itself.
func TestOwnWithdrawalTakesWhatPeersToldBack(t *testing.T) {
	for _, src := range []fdb.Source{fdb.Configuration, fdb.Operator} {
		t.Run(src.String(), func(t *testing.T) {
			nodes := group(t, 2)
			a, b := nodes[0], nodes[1]
			m := member{10, vtep(1)}
			a.put(fdb.Peer, m.vni, m.addr, 0, fdb.Static)
			a.put(src, m.vni, m.addr, 0, fdb.Static)
			b.knows(t, m, host(1))
			a.put(src, m.vni, m.addr, 0, 0)
			a.lacks(t, m)
			b.lacks(t, m)
		})
	}
}

// A round takes from the table what its sender alone owns and did not name.
func TestRoundEndsWhatItsSenderOwns(t *testing.T) {
	m := member{7, vtep(1)}
	type message struct {
		from byte
		vxfld.Sync
	}
	update := func(from byte, round uint64, complete bool, es ...vxfld.SyncEntry) message {
		s := vxfld.Sync{Node: vxfld.SyncNode, Round: round, Complete: complete}
		if len(es) > 0 {
			s.VNIs = []vxfld.VNIEntries{record(m.vni, es...)}
		}
		return message{from, s}
	}
	group := owned(m.addr, netip.Addr{})
	own := owned(m.addr, mine)
	for _, tt := range []struct {
		name string
		says []message
		want bool
		// withdrawn says that a peer took back what is registered, too.
		withdrawn bool
	}{
		{"named", []message{update(20, 5, true, own)}, true, false},
		{"named before the end", []message{update(20, 5, false, own), update(20, 5, true)}, true, false},
		{"named between rounds, and in the next", []message{update(20, 0, false, own), update(20, 5, true, own)}, true, false},
		{"not named", []message{update(20, 5, true, own), update(20, 6, true, owned(vtep(2), mine))}, false, false},
		{"nothing named", []message{update(20, 5, true, own), update(20, 6, true)}, false, false},
		{"told between rounds, and not named", []message{update(20, 0, false, own), update(20, 6, true)}, false, false},
		{"round not at its end", []message{update(20, 5, true, own), update(20, 6, false, owned(vtep(2), mine))}, true, false},
		{"round that begins and another that ends", []message{update(20, 5, false, own), update(20, 6, true)}, false, false},
		{"no round", []message{update(20, 5, true, own), update(20, 0, true)}, true, false},
		{"another's round", []message{update(20, 5, true, own), update(21, 6, true)}, true, false},
		{"another's name", []message{update(21, 5, true, owned(m.addr, host(20))), update(20, 6, true)}, true, false},
		{"one's own under another's name", []message{update(21, 5, true, owned(m.addr, host(20))), update(21, 6, true)}, false, false},
		{"one of two owners", []message{update(20, 5, true, own), update(21, 5, true, own), update(20, 6, true)}, true, false},
		{"both owners", []message{update(20, 5, true, own), update(21, 5, true, own), update(20, 6, true), update(21, 6, true)}, false, false},
		{"the group's too", []message{update(20, 5, true, own), update(21, 0, false, group), update(20, 6, true)}, true, false},
		{"the sender told of it as the group's", []message{update(20, 5, true, group), update(20, 6, true)}, true, false},
		{"not the group's any more", []message{
			update(20, 0, false, group), update(20, 0, false, vxfld.SyncEntry{Addr: m.addr}, own), update(20, 6, true)}, false, true},
		{"ages since", []message{
			update(20, 5, true, own), update(21, 0, false, vxfld.SyncEntry{Addr: m.addr, Holdtime: 60}), update(20, 6, true)}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			run(t, n.Group)
			// A registration of the same without an identifier does not go with it.
			n.put(fdb.Registration, m.vni, m.addr, 0, time.Minute)
			for _, say := range tt.says {
				answer, err := vxfld.Parse(n.say(t, say.from, sync3(t, say.Sync)))
				if s, ok := answer.Body.(*vxfld.Sync); err != nil || !ok || s.Node == 0 || !s.Complete || s.VNIs != nil {
					t.Fatalf("got answer %+v, %v, want an empty one", answer.Body, err)
				}
			}
			if _, ok := n.holds(m); ok != tt.want {
				t.Errorf("got member held: %v, want %v", ok, tt.want)
			}
			registered := slices.ContainsFunc(n.entries(), func(e fdb.Entry) bool { return e.Addr == m.addr && e.Source == fdb.Registration })
			if registered == tt.withdrawn {
				t.Errorf("got it registered: %v, want %v", registered, !tt.withdrawn)
			}
		})
	}
}

// A round has all members of the configuration, and its end comes with the last.
// One that fails has none.
func TestRoundEndsAfterTheLastMember(t *testing.T) {
	const members = 25_000
	n := serving(t, 10)
	for i := range members {
		n.put(fdb.Configuration, 7, vtep(i), 0, fdb.Static)
	}
	n.put(fdb.Operator, 8, vtep(1), 0, fdb.Static)
	n.put(fdb.Configuration, 8, vtep(1), 0, fdb.Static)
	ours := sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true})
	var answers atomic.Int32
	var back atomic.Bool
	p := speaking(t, 20, nil, func(_ context.Context, c net.Conn) {
		// It gives its table and takes one message of the round, and then is away.
		if answers.Add(1) <= 2 || back.Load() {
			_, _ = c.Write(ours)
		}
	})
	n.meet(p.addr)
	run(t, n.Group)

	wait := func() (q *vxfld.Sync) {
		for q == nil || len(q.VNIs) == 0 {
			q = p.next(t)
		}
		return q
	}
	for q := wait(); q.Round != 0; q = wait() {
		if q.Complete {
			t.Fatal("got the end of a round that has failed, want none")
		}
	}
	back.Store(true)
	n.say(t, 20, sync3(t, vxfld.Sync{Node: vxfld.SyncNode}))
	named := make(map[uint64]map[member]netip.Addr)
	for {
		q := wait()
		if q.Round == 0 {
			continue // from when the peer was away
		}
		if named[q.Round] == nil {
			named[q.Round] = make(map[member]netip.Addr)
		}
		for _, rec := range q.VNIs {
			for _, e := range rec.Entries {
				named[q.Round][member{rec.VNI, e.Addr}] = e.Owner
			}
		}
		if !q.Complete {
			continue
		}
		got := named[q.Round]
		if len(got) != members+1 || got[member{7, vtep(1)}] != mine || got[member{8, vtep(1)}].IsValid() {
			t.Errorf("got %d members in a round, %v and %v the owners of two, want %d, the sender and nobody",
				len(got), got[member{7, vtep(1)}], got[member{8, vtep(1)}], members+1)
		}
		return
	}
}

// A node without members of its own says so: peers may hold former ones.
func TestRoundOfNothing(t *testing.T) {
	n := serving(t, 10)
	p := answering(t, 20, sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}))
	n.meet(p.addr)
	run(t, n.Group)
	for q := p.next(t); q.Round == 0; q = p.next(t) {
		if q.Complete {
			t.Errorf("got %+v, want no end without a round", q)
		}
	}
}

// The configuration holds on to what the operator lets go of: the group does not
// any more.
func TestOperatorsMemberBecomesTheConfigurations(t *testing.T) {
	nodes := group(t, 2)
	a, b := nodes[0], nodes[1]
	m := member{10, vtep(1)}
	a.put(fdb.Configuration, m.vni, m.addr, 0, fdb.Static)
	a.put(fdb.Operator, m.vni, m.addr, 0, fdb.Static)
	owners := func() (out []netip.Addr) {
		for _, rec := range b.ask(t, vxfld.Sync{Node: vxfld.SyncNode, Response: vxfld.ResponseAll}).VNIs {
			for _, e := range rec.Entries {
				out = append(out, e.Owner)
			}
		}
		return out
	}
	eventually(t, "it is the group's", func() bool { return slices.Equal(owners(), []netip.Addr{{}}) })
	a.put(fdb.Operator, m.vni, m.addr, 0, 0)
	eventually(t, "it is the configuration's", func() bool { return slices.Equal(owners(), []netip.Addr{host(1)}) })
}

// A node of this kind is told whose each static member is.
func TestAnswerTellsTheOwners(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	tell := func(from byte, es ...vxfld.SyncEntry) {
		n.say(t, from, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7, es...)}}))
	}
	tell(20, owned(vtep(2), mine), owned(vtep(3), mine), owned(vtep(4), mine), owned(vtep(6), mine))
	tell(21, owned(vtep(3), mine), owned(vtep(4), netip.Addr{}))
	n.verdict(t, peer.VerdictUpdate, 2)
	for _, i := range []int{1, 5, 6} {
		n.put(fdb.Configuration, 7, vtep(i), 0, fdb.Static)
	}
	n.put(fdb.Operator, 7, vtep(5), 0, fdb.Static)
	n.put(fdb.Peer, 7, vtep(7), 0, fdb.Static) // nothing is known of it
	n.put(fdb.Peer, 7, vtep(8), 0, time.Minute)
	want := []vxfld.VNIEntries{record(7,
		owned(vtep(1), mine),
		owned(vtep(2), host(20)),
		owned(vtep(3), host(20)), owned(vtep(3), host(21)),
		owned(vtep(4), netip.Addr{}),
		owned(vtep(5), netip.Addr{}),
		owned(vtep(6), mine), owned(vtep(6), host(20)),
		owned(vtep(7), netip.Addr{}),
		vxfld.SyncEntry{Addr: vtep(8), Holdtime: 60},
	)}
	if diff := cmp.Diff(want, n.ask(t, vxfld.Sync{Node: vxfld.SyncNode, Response: vxfld.ResponseAll}).VNIs, equateAddrs); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// An answer may speak for others, but not for the node that asks.
func TestAnswerSpeaksForOthers(t *testing.T) {
	n := serving(t, 10)
	n.table.Exclude(map[netip.Addr]fdb.Exclusion{host(11): fdb.ExcludedOwn})
	p := answering(t, 20, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7,
		owned(vtep(1), host(10)), owned(vtep(2), mine), owned(vtep(3), host(30)), owned(vtep(4), netip.Addr{}),
		owned(vtep(5), host(11)), owned(vtep(6), host(10)), owned(vtep(6), host(30)))}}))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	got := make(map[netip.Addr]netip.Addr)
	for _, e := range n.entries() {
		got[e.Addr], _ = n.Via(e.VNI, e.Addr)
	}
	want := map[netip.Addr]netip.Addr{vtep(2): host(20), vtep(3): host(30), vtep(4): host(20), vtep(6): host(30)}
	if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
		t.Errorf("members and owners (-want +got):\n%s", diff)
	}
}

// Who has a static registration without an identifier from a table hears of its
// withdrawal, which relayed messages cannot tell. A member that others hold for
// ever stays.
func TestStaticRegistrationWithoutIdentifierIsWithdrawn(t *testing.T) {
	m, operators, marker := member{10, vtep(1)}, member{10, vtep(2)}, member{11, vtep(3)}
	a := serving(t, 1) // with a table, so that it does not ask b for what it has told b
	a.meet(answering(t, 30, one(t, vxfld.Sync{})).addr)
	run(t, a.Group)
	eventually(t, "a table", func() bool { return a.table.Stats().Entries > 0 && !a.Asking() })
	a.put(fdb.Registration, m.vni, m.addr, 0, fdb.Static)
	b, _ := join(t, 2, []*server{a})
	b.knows(t, m, host(1))
	b.put(fdb.Operator, operators.vni, operators.addr, 0, fdb.Static)
	a.knows(t, operators, host(2))

	a.put(fdb.Registration, operators.vni, operators.addr, 0, fdb.Static)
	for _, gone := range []member{operators, m} {
		a.put(fdb.Registration, gone.vni, gone.addr, 0, 0)
	}
	b.lacks(t, m)
	a.put(fdb.Operator, marker.vni, marker.addr, 0, fdb.Static)
	b.knows(t, marker, host(1))
	a.knows(t, operators, host(2))
}

// An owner that no node can have is nobody: else the member would have an owner
// whose round never comes.
func TestOwnerThatIsNoNode(t *testing.T) {
	owners := map[netip.Addr]netip.Addr{
		vtep(1): netip.MustParseAddr("224.0.0.1"), vtep(2): netip.MustParseAddr("255.255.255.255"),
		vtep(3): netip.MustParseAddr("0.1.2.3"), vtep(4): netip.MustParseAddr("192.0.2.1"),
	}
	var es []vxfld.SyncEntry
	for a, o := range owners {
		es = append(es, owned(a, o))
	}
	n := serving(t, 10)
	p := answering(t, 20, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7, es...)}}))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	got := make(map[netip.Addr]netip.Addr)
	for _, rec := range n.ask(t, vxfld.Sync{Node: vxfld.SyncNode, Response: vxfld.ResponseAll}).VNIs {
		for _, e := range rec.Entries {
			got[e.Addr] = e.Owner
		}
	}
	want := maps.Clone(owners)
	for i := range 3 {
		want[vtep(1+i)] = netip.Addr{}
	}
	if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
}
