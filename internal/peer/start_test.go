// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// synced waits until a node holds what it needs to be ready.
func synced(tb testing.TB, n *server) {
	tb.Helper()
	select {
	case <-n.Synced():
	case <-time.After(patience):
		tb.Fatal("waited in vain for the table")
	}
}

// isSynced tells whether a node holds what it needs to be ready.
func isSynced(n *server) bool {
	select {
	case <-n.Synced():
		return true
	default:
		return false
	}
}

// one returns an answer with one member, from a node of ours if node is set.
func one(tb testing.TB, s vxfld.Sync) []byte {
	tb.Helper()
	s.VNIs = []vxfld.VNIEntries{record(7, vxfld.SyncEntry{Addr: vtep(1), Holdtime: 60, Identifier: 4711})}
	return sync3(tb, s)
}

// A node that starts has the table of a peer before it is ready. It may be that
// of a deployed node.
func TestStartTakesTheTable(t *testing.T) {
	n := serving(t, 10)
	p := answering(t, 20, vector(t, "captured_sync_reply_full"))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	if q := p.next(t); q.Response != vxfld.ResponseAll || q.VNIs != nil || q.Node != vxfld.SyncNode {
		t.Errorf("got question %+v, want a request of ours", q)
	}
	m, err := vxfld.Parse(vector(t, "captured_sync_reply_full"))
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, rec := range m.Body.(*vxfld.Sync).VNIs {
		want += len(rec.Entries)
		for _, e := range rec.Entries {
			if !slices.ContainsFunc(n.entries(), func(got fdb.Entry) bool {
				return got.VNI == rec.VNI && got.Addr == e.Addr && got.Identifier == e.Identifier && got.Source == fdb.Peer &&
					got.Expires == n.now().Add(vxfld.HoldtimeDuration(e.Holdtime))
			}) {
				t.Errorf("got no entry for %+v in vni %s", e, rec.VNI)
			}
		}
	}
	st := state(n.Group)
	if st.LastDump.Entries != want || st.LastDump.Err != nil || st.LastDump.When == 0 || st.Ours || !st.Reachable || st.LastHeard == 0 {
		t.Errorf("got state %+v, want a dump of %d entries of a deployed peer", st, want)
	}
	if st.Dumps != 1 || st.DumpErrors != 0 {
		t.Errorf("got %d dumps, %d failed, want 1 and none", st.Dumps, st.DumpErrors)
	}
}

// Static members of an operator are listed with the peer that told of them.
func TestStaticMembersAreListedWithThePeer(t *testing.T) {
	n := serving(t, 10)
	p := answering(t, 20, vector(t, "captured_sync_static_add"))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	if from, ok := n.Via(91, netip.MustParseAddr("10.1.1.1")); !ok || from != host(20) {
		t.Errorf("got %v, %v, want %v", from, ok, host(20))
	}
	n.say(t, 21, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(5, vxfld.SyncEntry{Addr: vtep(1), Holdtime: vxfld.HoldtimeStatic})}}))
	n.verdict(t, peer.VerdictUpdate, 1)
	if from, ok := n.Via(5, vtep(1)); !ok || from != host(21) {
		t.Errorf("got %v, %v for an update, want %v", from, ok, host(21))
	}
}

// Where one peer fails the others are asked, whatever is wrong with it.
func TestStartAsksTheOthers(t *testing.T) {
	ours := vxfld.Sync{Node: vxfld.SyncNode}
	whole := one(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true})
	tests := []struct {
		name   string
		answer []byte
		err    error // nil: any
	}{
		{"closed without a word", []byte{}, nil},
		{"silent", nil, nil},
		{"malformed", vector(t, "bad_sync_ip_empty"), vxfld.ErrAddress},
		{"malformed at the end", append(one(t, vxfld.Sync{}), 0x80), vxfld.ErrProtobuf},
		{"cut off between records", one(t, ours), nil},
		{"not ready", one(t, vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}), nil},
		{"empty", sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}), nil},
		{"empty and deployed", vector(t, "sync_reply_empty_fdb"), nil},
		{"huge", append(sync3(t, ours), make([]byte, 2<<20)...), nil},
		{"REFRESH", vector(t, "v3_refresh_vxrd_snd_mode"), vxfld.ErrType},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The order is random: one that has not met the bad one proves nothing.
			for met := false; !met; {
				func() {
					n := serving(t, 10)
					defer n.Close()
					n.Limit(peer.Limits{Body: 1 << 20, Again: time.Hour, Lag: time.Hour, Long: time.Hour})
					if tt.answer == nil {
						n.Limit(peer.Limits{First: time.Second})
					}
					bad, good := answering(t, 20, tt.answer), answering(t, 21, whole)
					n.meet(bad.addr, good.addr)
					defer run(t, n.Group)()
					synced(t, n)
					if got := n.table.Members(n.now(), 7, nil); !slices.Contains(got, vtep(1)) {
						t.Errorf("got members %v, want those of the good peer", got)
					}
					met = len(bad.questions) > 0 && (<-bad.questions).Response == vxfld.ResponseAll
					if met && tt.err != nil && !errors.Is(n.States()[0].LastDump.Err, tt.err) {
						t.Errorf("got error %v, want %v", n.States()[0].LastDump.Err, tt.err)
					}
					if good := n.States()[1]; good.LastDump.Entries != 1 || !good.Ours {
						t.Errorf("got %+v, want a table of one of ours", good)
					}
				}()
			}
		})
	}
}

// sync_targets peers are asked, and no more; the others are greeted.
func TestStartAsksAsManyAsItShould(t *testing.T) {
	n := serving(t, 10)
	n.o.SyncTargets = 2
	var peers []*answerer
	var addrs []netip.AddrPort
	for i := range byte(4) {
		p := answering(t, 20+i, one(t, vxfld.Sync{}))
		peers, addrs = append(peers, p), append(addrs, p.addr)
	}
	n.Limit(peer.Limits{Again: 10 * time.Millisecond, Lag: time.Hour, Long: time.Hour})
	n.meet(addrs...)
	run(t, n.Group)
	asked, greeted := 0, 0
	for _, p := range peers {
		switch q := p.next(t); {
		case q.Response == vxfld.ResponseAll:
			asked++
		case q.Node == vxfld.SyncNode && q.Response == vxfld.ResponseNone && q.VNIs == nil:
			greeted++
		}
	}
	if asked != 2 || greeted != 2 {
		t.Errorf("got %d asked and %d greeted, want 2 of each", asked, greeted)
	}
	// From then on they are left alone.
	rounds(t, n)
	for _, p := range peers {
		if len(p.questions) > 0 {
			t.Errorf("got another question %+v", p.next(t))
		}
	}
}

// rounds waits until a node that asks no more has looked at its peers twice more:
// it greets those that it has not met.
func rounds(tb testing.TB, n *server) {
	tb.Helper()
	for i := range byte(2) {
		p := answering(tb, 100+i, []byte{})
		n.meet(append(slices.Clone(n.o.Peers), p.addr)...)
		p.next(tb)
	}
}

// The node asks on until one answers. It is ready once each was tried.
func TestStartAsksOn(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: 10 * time.Millisecond})
	down := answering(t, 20, []byte{})
	n.meet(down.addr)
	run(t, n.Group)
	synced(t, n)
	down.next(t)
	down.next(t)
	down.say(one(t, vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}))
	eventually(t, "a table", func() bool { return n.table.Stats().Entries == 1 })
	for len(down.questions) > 0 {
		<-down.questions
	}
	down.next(t) // was not ready
	down.say(one(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}))
	eventually(t, "a table that counts", func() bool { return !n.Asking() })
	for len(down.questions) > 0 {
		<-down.questions
	}
	rounds(t, n)
	for range len(down.questions) {
		if q := down.next(t); q.Response == vxfld.ResponseAll {
			t.Errorf("got another question %+v", q)
		}
	}
}

// A group of nodes without members is no reason to ask for ever.
func TestStartEndsWithEmptyTables(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: 10 * time.Millisecond})
	p, q := answering(t, 20, vector(t, "sync_reply_empty_fdb")), answering(t, 21, vector(t, "sync_reply_empty_fdb"))
	n.meet(p.addr, q.addr)
	run(t, n.Group)
	p.next(t)
	q.next(t)
	synced(t, n)
	rounds(t, n)
	if len(p.questions)+len(q.questions) > 0 {
		t.Errorf("got %d more questions, want none", len(p.questions)+len(q.questions))
	}
}

// Readiness waits for the table, but not longer than it may.
func TestSyncTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{time.Hour, 10 * time.Millisecond} {
		n := serving(t, 10)
		n.Limit(peer.Limits{Idle: time.Hour, Whole: time.Hour})
		p := answering(t, 20, nil)
		n.o.SyncTimeout = timeout
		n.meet(p.addr)
		stop := run(t, n.Group)
		p.next(t)
		if timeout < time.Hour {
			synced(t, n)
		} else if isSynced(n) {
			t.Error("got ready at once, want a wait for the silent peer")
		}
		stop()
	}
}

// Without peers there is nothing to wait for. Peers that come later are asked.
func TestStartWithoutPeers(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: 10 * time.Millisecond})
	run(t, n.Group)
	synced(t, n)
	p := answering(t, 20, one(t, vxfld.Sync{}))
	n.meet(p.addr)
	eventually(t, "the table of a new peer", func() bool { return n.table.Stats().Entries == 1 })
}

// A dump does not shorten, replace or revive what is here.
func TestStartKeepsWhatIsNewer(t *testing.T) {
	n := serving(t, 10)
	n.put(fdb.Registration, 7, vtep(1), 1, 90*time.Second)
	n.put(fdb.Registration, 7, vtep(1), 1, 0) // withdrawn
	n.put(fdb.Registration, 7, vtep(2), 2, 90*time.Second)
	n.put(fdb.Peer, 7, vtep(3), 0, 90*time.Second)
	n.put(fdb.Peer, 7, vtep(4), 0, 30*time.Second)
	p := answering(t, 20, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7,
		vxfld.SyncEntry{Addr: vtep(1), Holdtime: 60, Identifier: 1},
		vxfld.SyncEntry{Addr: vtep(9), Holdtime: 60, Identifier: 2},
		vxfld.SyncEntry{Addr: vtep(3), Holdtime: 60},
		vxfld.SyncEntry{Addr: vtep(4), Holdtime: 60},
		vxfld.SyncEntry{Addr: vtep(5), Holdtime: 0})}}))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	got := make(map[netip.Addr]time.Duration)
	for _, e := range n.entries() {
		got[e.Addr] = e.Expires.Sub(n.now())
	}
	want := map[netip.Addr]time.Duration{vtep(2): 90 * time.Second, vtep(3): 90 * time.Second, vtep(4): 60 * time.Second}
	if len(got) != len(want) || got[vtep(2)] != want[vtep(2)] || got[vtep(3)] != want[vtep(3)] || got[vtep(4)] != want[vtep(4)] {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Three nodes that start at once become ready, whoever asks whom first, know
// each other, and hold what one of them has.
func TestThreeNodesStartAtOnce(t *testing.T) {
	nodes := []*server{serving(t, 10), serving(t, 11), serving(t, 12)}
	for i, n := range nodes {
		n.Limit(peer.Limits{Again: 10 * time.Millisecond})
		n.put(fdb.Registration, 7, vtep(i), uint64(i+1), 90*time.Second)
	}
	for i, n := range nodes {
		n.meet(nodes[(i+1)%3].Local(), nodes[(i+2)%3].Local())
	}
	for _, n := range nodes {
		run(t, n.Group)
	}
	for _, n := range nodes {
		synced(t, n)
		n.SetReady()
	}
	for i, n := range nodes {
		eventually(t, "all peers known", func() bool {
			return !slices.ContainsFunc(n.States(), func(st peer.State) bool { return !st.Ours })
		})
		for _, st := range n.States() {
			if _, err := n.Repair(t.Context(), st.Addr); err != nil {
				t.Error(err)
			}
		}
		if got := len(n.table.Members(n.now(), 7, nil)); got != 3 {
			t.Errorf("got %d members at node %d, want 3", got, i)
		}
	}
}

// A node whose peer is not there is ready all the same.
func TestStartWithADeadPeer(t *testing.T) {
	n, dead := serving(t, 10), serving(t, 11)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	n.meet(dead.Local())
	run(t, n.Group)
	synced(t, n)
	if st := state(n.Group); !errors.Is(st.Err, syscall.ECONNREFUSED) || !errors.Is(st.LastDump.Err, syscall.ECONNREFUSED) || st.Reachable {
		t.Errorf("got state %+v, want a refused connection", st)
	} else if st.Dumps == 0 || st.DumpErrors != st.Dumps {
		t.Errorf("got %d dumps, %d failed, want some, all failed", st.Dumps, st.DumpErrors)
	}
}
