// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// resolving gives a node peers and a number of others whose address is not known.
func (n *server) resolving(unresolved int, peers ...netip.AddrPort) {
	n.o.Unresolved = unresolved
	n.meet(peers...)
}

// Where no address of a peer is known, a node waits as long as it may, from its
// start, and says that it has no table.
func TestUnresolvedPeersAreWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration // 0: the one of the start stays
		at      time.Duration // when it is ready
	}{
		{"the time passes", 0, 30 * time.Second},
		{"less time", 10 * time.Second, 10 * time.Second},
		{"more time", time.Minute, time.Minute},
		{"time that has passed", time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, hook := logtest.NewNullLogger()
				o := options(table(time.Minute), clock())
				o.Log, o.Unresolved = log, 2
				g := peer.New(o)
				begin := time.Now()
				stop := run(t, g)
				defer stop()
				peer.Pass(5 * time.Second)
				if !g.Asking() || len(hook.AllEntries()) > 0 {
					t.Errorf("got asking %v and %d lines, want a node that waits", g.Asking(), len(hook.AllEntries()))
				}
				if tt.timeout > 0 {
					o.SyncTimeout = tt.timeout
					g.Configure(o.Settings)
				}
				<-g.Synced()
				if got := time.Since(begin); got != tt.at {
					t.Errorf("got ready after %v, want %v", got, tt.at)
				}
				synctest.Wait()
				warnings := said(hook, logrus.WarnLevel, "ready without the table of a peer")
				if len(warnings) != 1 || warnings[0].Data["count"] != 0 || warnings[0].Data["interval"] != tt.at || !g.Asking() {
					t.Errorf("got asking %v and warnings %v, want one after %v", g.Asking(), warnings, tt.at)
				}
			})
		})
	}
}

// Nothing that the other peers say but a table makes a node ready before each
// name is looked up. Then that counts.
func TestUnresolvedPeersAreUntried(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer []byte
		asking bool // once ready
	}{
		{"no table", []byte{}, true},
		{"not ready", one(t, vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}), true},
		{"empty", vector(t, "sync_reply_empty_fdb"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			n.Limit(peer.Limits{Again: time.Hour})
			n.o.SyncTimeout = time.Hour
			p := answering(t, 20, tt.answer)
			n.resolving(1, p.addr)
			run(t, n.Group)
			eventually(t, "an answer", func() bool { return state(n.Group).LastDump.When != 0 && state(n.Group).Asked == 0 })
			p2 := answering(t, 21, []byte{})
			n.resolving(1, p.addr, p2.addr)
			eventually(t, "another answer", func() bool { return n.States()[1].LastDump.When != 0 })
			if isSynced(n) || !n.Asking() {
				t.Errorf("got ready %v, asking %v, want a wait for the name", isSynced(n), n.Asking())
			}
			n.resolving(0, p.addr) // the others are this node itself
			synced(t, n)
			if n.Asking() != tt.asking {
				t.Errorf("got asking %v, want %v", n.Asking(), tt.asking)
			}
		})
	}
}

// A table makes a node ready whatever names do not resolve.
func TestUnresolvedPeersHoldUpNoTable(t *testing.T) {
	n := serving(t, 10)
	n.o.SyncTimeout, n.o.SyncTargets = time.Hour, 2
	p := answering(t, 20, one(t, vxfld.Sync{}))
	n.resolving(3, p.addr)
	run(t, n.Group)
	synced(t, n)
	if got := n.table.Stats().Entries; got != 1 || n.Asking() {
		t.Errorf("got %d entries, asking %v, want the table of the peer that is known", got, n.Asking())
	}
}

// A peer is asked when its address is known, not at the next round. One that has
// failed is not asked for that.
func TestResolvedPeerIsAskedAtOnce(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: time.Hour})
	n.o.SyncTimeout = time.Hour
	down := answering(t, 20, []byte{})
	n.resolving(1, down.addr)
	run(t, n.Group)
	down.next(t)
	eventually(t, "the end of a question", func() bool { return state(n.Group).LastDump.When != 0 && state(n.Group).Asked == 0 })
	p := answering(t, 21, one(t, vxfld.Sync{}))
	n.resolving(0, down.addr, p.addr)
	synced(t, n)
	if got := n.table.Stats().Entries; got != 1 || len(down.questions) > 0 {
		t.Errorf("got %d entries and %d more questions to the other peer, want 1 and none", got, len(down.questions))
	}
}

// When the last peer goes there is nothing to wait for.
func TestStartWithoutPeersAnyMore(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: time.Hour})
	n.o.SyncTimeout = time.Hour
	p := answering(t, 20, nil)
	n.resolving(1, p.addr)
	run(t, n.Group)
	p.next(t)
	n.resolving(0)
	synced(t, n)
	eventually(t, "the end of the questions", func() bool { return !n.Asking() })
}
