// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// group runs n nodes that are each other's peers.
func group(tb testing.TB, n int) []*server {
	tb.Helper()
	nodes := make([]*server, n)
	for i := range nodes {
		nodes[i] = serving(tb, byte(1+i))
	}
	for i, node := range nodes {
		var peers []netip.AddrPort
		for j, other := range nodes {
			if i != j {
				peers = append(peers, other.Local())
			}
		}
		node.meet(peers...)
		run(tb, node.Group)
	}
	for _, node := range nodes {
		<-node.Synced()
	}
	return nodes
}

// holds tells whether a node has a member from a peer, and until when.
func (n *server) holds(m member) (until fdb.Time, ok bool) {
	for _, e := range n.table.Entries(n.now(), m.vni, nil) {
		if e.Addr == m.addr && e.Source == fdb.Peer {
			until, ok = max(until, e.Expires), true
		}
	}
	return until, ok
}

func TestGroupKnowsWhatOneLearned(t *testing.T) {
	const members = 1000
	nodes := group(t, 3)
	a := nodes[0]
	var ls []fdb.Learned
	for i := range members {
		ls = append(ls, fdb.Learned{VNI: vxlan.VNI(i % 10), Addr: vtep(i)})
	}
	a.table.Learn(a.now(), ls)
	for _, n := range nodes[1:] {
		eventually(t, "all are known", func() bool { return n.table.Stats().BySource[fdb.Peer] == members })
		if until, _ := n.holds(member{ls[0].VNI, ls[0].Addr}); until > n.now().Add(time.Minute) {
			t.Errorf("got a learned member until %d, want a minute at most", until)
		}
	}
	// What a peer told is told to nobody: another member takes the same way after.
	for _, n := range nodes {
		n.put(fdb.Operator, 99, vtep(9000), 0, fdb.Static)
	}
	for _, n := range nodes {
		eventually(t, "the last member is known", func() bool { _, ok := n.holds(member{99, vtep(9000)}); return ok })
	}
	for i, n := range nodes[1:] {
		for _, s := range n.States() {
			if s.Updates >= members {
				t.Errorf("node %d: got %d members told to %s, want those of its own", i+1, s.Updates, s.Addr)
			}
		}
	}
	if got := a.table.Stats().BySource[fdb.Peer]; got != 1 {
		t.Errorf("got %d members told back to the node that learned them, want 1 of another", got)
	}
}

// Identifier 0 has one entry at each node for all peers that vouch for a member:
// who still does says so when one of them lets go.
func TestGroupKeepsAStaticOfTwoNodesUntilBothRemoveIt(t *testing.T) {
	nodes := group(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	m := member{10, vtep(1)}
	known := func(n *server) func() bool {
		return func() bool { until, ok := n.holds(m); return ok && until == fdb.Never }
	}
	a.put(fdb.Operator, m.vni, m.addr, 0, fdb.Static)
	eventually(t, "b knows it", known(b))
	eventually(t, "c knows it", known(c))
	if from, ok := c.Via(m.vni, m.addr); !ok || from != host(1) {
		t.Errorf("got it via %v, %v, want %s", from, ok, host(1))
	}
	b.put(fdb.Operator, m.vni, m.addr, 0, fdb.Static)
	eventually(t, "a knows it", known(a))

	a.put(fdb.Operator, m.vni, m.addr, 0, 0)
	eventually(t, "b hears of it", func() bool { _, ok := b.holds(m); return !ok })
	eventually(t, "c knows it from b", func() bool {
		from, ok := c.Via(m.vni, m.addr)
		return ok && from == host(2) && known(c)()
	})
	b.put(fdb.Operator, m.vni, m.addr, 0, 0)
	for _, n := range []*server{a, c} {
		eventually(t, "it is gone", func() bool { _, ok := n.holds(m); return !ok })
	}
}

// BenchmarkLearn measures the time from learning a member to all of two peers
// knowing it.
func BenchmarkLearn(b *testing.B) {
	nodes := group(b, 3)
	a := nodes[0]
	var feeds []*fdb.Feed
	for _, n := range nodes[1:] {
		feeds = append(feeds, n.table.Subscribe(1, fdb.KindAdded))
	}
	var longest time.Duration
	i := 0
	for b.Loop() {
		begin := time.Now()
		a.table.Learn(a.now(), []fdb.Learned{{VNI: 1, Addr: vtep(i)}})
		i++
		for _, f := range feeds {
			select {
			case <-f.C():
				f.Take(nil)
			case <-time.After(patience):
				b.Fatal("waited in vain for a member to be known")
			}
		}
		longest = max(longest, time.Since(begin))
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest")
}
