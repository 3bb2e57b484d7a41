// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// gated returns a speaker that says this once the gate is open.
func gated(gate <-chan struct{}, answer []byte) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) {
		select {
		case <-ctx.Done():
		case <-gate:
			_, _ = c.Write(answer)
		}
	}
}

// trickle sends a byte now and then: a table that never ends.
func trickle(ctx context.Context, c net.Conn) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	_, err := c.Write([]byte{3, 3})
	for err == nil {
		_, err = c.Write([]byte{0x78, 0}) // an unknown field
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// logged returns a server and what it logs.
func logged(tb testing.TB, i byte) (*server, *logtest.Hook) {
	tb.Helper()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	return serving(tb, i, func(o *peer.Options) { o.Log = log }), hook
}

// said returns the lines with a message at a level.
func said(h *logtest.Hook, l logrus.Level, message string) (es []*logrus.Entry) {
	for _, e := range h.AllEntries() {
		if e.Level == l && e.Message == message {
			es = append(es, e)
		}
	}
	return es
}

const taken = "table of peer taken in"

// A node does not wait for peers that are slow where another one answers.
func TestSlowPeersDoNotHoldUpTheStart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits peer.Limits
		speak  func(context.Context, net.Conn)
	}{
		{"silent", peer.Limits{Lag: 5 * time.Millisecond, Long: time.Hour}, func(ctx context.Context, _ net.Conn) { <-ctx.Done() }},
		{"a byte now and then", peer.Limits{Lag: time.Hour, Long: 5 * time.Millisecond}, trickle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			n.Limit(peer.Limits{Idle: time.Hour, First: time.Hour, Whole: time.Hour, Again: time.Hour})
			n.Limit(tt.limits)
			var addrs []netip.AddrPort
			for i := range byte(9) {
				addrs = append(addrs, speaking(t, 20+i, nil, tt.speak).addr)
			}
			p := answering(t, 40, one(t, vxfld.Sync{}))
			n.meet(append(addrs, p.addr)...)
			run(t, n.Group)
			synced(t, n)
			if got := n.table.Stats().Entries; got != 1 {
				t.Errorf("got %d entries when ready, want that of the peer that answers", got)
			}
			eventually(t, "the end of the questions", func() bool {
				return !n.Asking() && !slices.ContainsFunc(n.States(), func(s peer.State) bool { return s.Asked != 0 })
			})
		})
	}
}

// An empty table does not count before a slow peer has answered, or failed. A
// deployed node may take longer for its first byte than for any other.
func TestSlowPeerIsHeardOut(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: 20 * time.Millisecond, Lag: time.Millisecond, Again: 10 * time.Millisecond})
	gate := make(chan struct{})
	slow := speaking(t, 20, nil, gated(gate, one(t, vxfld.Sync{})))
	void := answering(t, 21, vector(t, "sync_reply_empty_fdb"))
	n.meet(slow.addr, void.addr)
	run(t, n.Group)
	slow.next(t)
	for range 5 {
		void.next(t) // goes on being asked
	}
	if st := n.States()[0]; isSynced(n) || len(slow.questions) > 0 || st.LastDump.When != 0 || st.Asked == 0 || !n.Asking() {
		t.Errorf("got ready %v, %d more questions and state %+v, want one question that goes on", isSynced(n), len(slow.questions), st)
	}
	close(gate)
	synced(t, n)
	if got := n.table.Stats().Entries; got != 1 {
		t.Errorf("got %d entries when ready, want that of the slow peer", got)
	}
	eventually(t, "the end of the questions", func() bool { return !n.Asking() && n.States()[0].Asked == 0 })
}

// Of two tables that are wanted, one will do where the other is long in coming,
// which is taken in when it comes.
func TestOneTableIsEnoughToBeReady(t *testing.T) {
	n := serving(t, 10)
	n.o.SyncTargets = 2
	n.Limit(peer.Limits{Lag: 5 * time.Millisecond, Again: time.Hour})
	gate := make(chan struct{})
	slow := speaking(t, 20, nil, gated(gate, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(8, vxfld.SyncEntry{Addr: vtep(2), Holdtime: 60})}})))
	p := answering(t, 21, one(t, vxfld.Sync{}))
	n.meet(slow.addr, p.addr)
	run(t, n.Group)
	synced(t, n)
	slow.next(t)
	close(gate)
	eventually(t, "the late table", func() bool { return n.table.Stats().Entries == 2 })
}

// A node that is ready without any table says so once, asks on, and says when
// the table has come.
func TestReadyWithoutATableIsTold(t *testing.T) {
	const without = "ready without the table of a peer"
	gate := make(chan struct{})
	for _, tt := range []struct {
		name  string
		peer  func(i byte) *answerer
		warns int
	}{
		{"silent", func(i byte) *answerer { return speaking(t, i, nil, gated(gate, one(t, vxfld.Sync{}))) }, 1},
		{"no table", func(i byte) *answerer { return answering(t, i, []byte{}) }, 1},
		{"empty", func(i byte) *answerer { return answering(t, i, vector(t, "sync_reply_empty_fdb")) }, 0},
		{"good", func(i byte) *answerer { return answering(t, i, one(t, vxfld.Sync{})) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, logs := logged(t, 10)
			n.Limit(peer.Limits{Again: 5 * time.Millisecond, Lag: time.Millisecond})
			if tt.warns > 0 {
				n.o.SyncTimeout = 50 * time.Millisecond
			}
			n.meet(tt.peer(20).addr, tt.peer(21).addr)
			stop := run(t, n.Group)
			synced(t, n)
			if tt.name == "silent" {
				if st := state(n.Group); !n.Asking() || st.Asked == 0 {
					t.Errorf("got state %+v, want one that is asked on", st)
				}
				close(gate)
				eventually(t, "the late table", func() bool { return len(said(logs, logrus.InfoLevel, taken)) > 0 && !n.Asking() })
			}
			rounds(t, n)
			stop()
			warnings := said(logs, logrus.WarnLevel, without)
			if len(warnings) != tt.warns {
				t.Errorf("got %d warnings, want %d", len(warnings), tt.warns)
			}
			for _, e := range warnings {
				if interval, ok := e.Data["interval"].(time.Duration); e.Data["count"] != 2 || !ok || interval <= 0 {
					t.Errorf("got fields %v, want a count of 2 peers and an interval", e.Data)
				}
			}
		})
	}
}

// A node that is stopped while it waits was never ready.
func TestStopBeforeReadyIsSilent(t *testing.T) {
	n, logs := logged(t, 10)
	p := answering(t, 20, nil)
	n.meet(p.addr)
	stop := run(t, n.Group)
	p.next(t)
	stop()
	if got := logs.AllEntries(); isSynced(n) || len(got) > 0 {
		t.Errorf("got ready %v and %d lines, want neither", isSynced(n), len(got))
	}
}

// Tables without news are not told of again and again.
func TestIdleGroupIsSilent(t *testing.T) {
	n, logs := logged(t, 10)
	n.Limit(peer.Limits{Again: 5 * time.Millisecond})
	p, dead := answering(t, 20, vector(t, "sync_reply_empty_fdb")), serving(t, 11)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	n.meet(p.addr, dead.Local())
	run(t, n.Group)
	for range 5 {
		p.next(t)
	}
	eventually(t, "silent rounds", func() bool { return len(said(logs, logrus.DebugLevel, taken)) > 1 })
	if got := len(said(logs, logrus.InfoLevel, taken)); got != 1 {
		t.Errorf("got %d lines on an empty table, want 1", got)
	}
	p.say(one(t, vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}))
	eventually(t, "word of what is new", func() bool { return len(said(logs, logrus.InfoLevel, taken)) == 2 })
}

// A peer whose answers are of no use is not asked each time; the others are.
func TestLiarIsLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer []byte
	}{
		{"malformed", vector(t, "bad_sync_ip_empty")},
		{"cut off", one(t, vxfld.Sync{Node: vxfld.SyncNode})},
		{"too large", append(sync3(t, vxfld.Sync{}), make([]byte, 1<<20)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			n.Limit(peer.Limits{Again: 5 * time.Millisecond, Body: 1 << 20})
			liar, other := answering(t, 20, tt.answer), answering(t, 21, []byte{})
			n.meet(liar.addr, other.addr)
			run(t, n.Group)
			for range 10 {
				other.next(t)
			}
			asked := 0
			for range len(liar.questions) {
				if liar.next(t).Response == vxfld.ResponseAll {
					asked++
				}
			}
			if asked != 1 {
				t.Errorf("got %d questions to the liar, want 1", asked)
			}
		})
	}
}

// A peer that does not take SYNC from this node closes its questions: the state
// says what is most likely wrong, until that is mended.
func TestPeerThatDoesNotKnowThisNode(t *testing.T) {
	n, p := serving(t, 10), serving(t, 11)
	n.Limit(peer.Limits{Again: 5 * time.Millisecond})
	p.o.Allowed = func(netip.Addr) bool { return false }
	p.meet()
	run(t, p.Group)
	n.meet(p.Local())
	run(t, n.Group)
	synced(t, n)
	p.verdict(t, peer.VerdictStranger, p.Counters().Verdicts[peer.VerdictStranger].Load())
	if st := state(n.Group); !st.Refuses || st.Reachable || !errors.Is(st.Err, peer.ErrAway) || !errors.Is(st.LastDump.Err, peer.ErrAway) {
		t.Errorf("got state %+v, want a peer that refuses", st)
	}
	// What it is told changes nothing, although that seems to arrive.
	n.put(fdb.Operator, 7, vtep(1), 0, fdb.Static)
	eventually(t, "an update", func() bool { st := state(n.Group); return st.Updates+st.UpdateErrors > 0 })
	if st := state(n.Group); !st.Refuses || !errors.Is(st.Err, peer.ErrAway) {
		t.Errorf("got state %+v after an update, want a peer that refuses", st)
	}
	p.o.Allowed = func(netip.Addr) bool { return true }
	p.meet()
	eventually(t, "a peer that answers", func() bool { st := state(n.Group); return !st.Refuses && st.Err == nil && st.Reachable && st.Ours })
}
