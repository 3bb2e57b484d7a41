// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// put makes an entry in the table of a server.
func (n *server) put(src fdb.Source, vni vxlan.VNI, a netip.Addr, id uint64, holdtime time.Duration) {
	n.table.Apply(n.now(), []fdb.Update{{VNI: vni, Addr: a, Identifier: id, Source: src, Holdtime: holdtime}})
}

// ask returns the answer of a server, decoded.
func (n *server) ask(tb testing.TB, s vxfld.Sync) *vxfld.Sync {
	tb.Helper()
	m, err := vxfld.Parse(n.say(tb, 20, sync3(tb, s)))
	if err != nil {
		tb.Fatalf("parse answer: %v", err)
	}
	return m.Body.(*vxfld.Sync)
}

// A request is answered with every live entry, the time that it has left and its
// identifier.
func TestAnswerHoldsTheTable(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	n.put(fdb.Registration, 7, vtep(1), 4711, 90*time.Second)
	n.put(fdb.Registration, 7, vtep(2), 1<<63, fdb.Static)
	n.put(fdb.Peer, 7, vtep(3), 0, 100000*time.Second) // capped by the table
	n.put(fdb.Operator, 8, vtep(3), 0, 100000*time.Second)
	n.put(fdb.Configuration, 9, vtep(1), 0, fdb.Static)
	n.table.Learn(n.now(), []fdb.Learned{{VNI: 8, Addr: vtep(4)}})
	// Several entries of one address and identifier: the longest.
	n.put(fdb.Registration, 8, vtep(5), 0, 30*time.Second)
	n.put(fdb.Peer, 8, vtep(5), 0, 40*time.Second)
	n.put(fdb.Peer, 8, vtep(5), 9, 35*time.Second)
	n.put(fdb.Registration, 8, vtep(5), 9, 35*time.Second)
	// What is not told: dead or as good as that, no VTEP's, or without a field.
	n.put(fdb.Peer, 7, vtep(6), 0, 2*time.Second)
	n.put(fdb.Peer, 7, vtep(7), 0, time.Second)
	n.put(fdb.Peer, 7, vtep(8), 0, fdb.Static)
	n.table.Exclude(map[netip.Addr]fdb.Exclusion{vtep(8): fdb.ExcludedDenied})
	n.put(fdb.Peer, 10, netip.MustParseAddr("2001:db8::1"), 0, fdb.Static)
	n.pass(1500 * time.Millisecond)

	want := []vxfld.VNIEntries{
		record(7,
			vxfld.SyncEntry{Addr: vtep(1), Holdtime: 88, Identifier: 4711},
			vxfld.SyncEntry{Addr: vtep(2), Holdtime: vxfld.HoldtimeStatic, Identifier: 1 << 63},
			vxfld.SyncEntry{Addr: vtep(3), Holdtime: 65533}),
		record(8,
			vxfld.SyncEntry{Addr: vtep(3), Holdtime: vxfld.HoldtimeMax},
			vxfld.SyncEntry{Addr: vtep(4), Holdtime: 58},
			vxfld.SyncEntry{Addr: vtep(5), Holdtime: 38},
			vxfld.SyncEntry{Addr: vtep(5), Holdtime: 33, Identifier: 9}),
		record(9, vxfld.SyncEntry{Addr: vtep(1), Holdtime: vxfld.HoldtimeStatic}),
	}
	for _, tt := range []struct {
		name     string
		question vxfld.Sync
		ready    bool
		want     vxfld.Sync
	}{
		{"to a deployed node", vxfld.Sync{}, false, vxfld.Sync{}},
		{"before this node is ready", vxfld.Sync{Node: vxfld.SyncNode}, false, vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}},
		{"to one of ours", vxfld.Sync{Node: vxfld.SyncNode}, true, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ready {
				n.SetReady()
			}
			tt.question.Response, tt.want.VNIs = vxfld.ResponseAll, slices.Clone(want)
			if tt.question.Node != 0 {
				tt.want.VNIs[2] = record(9, owned(vtep(1), mine))
			}
			if diff := cmp.Diff(&tt.want, n.ask(t, tt.question), equateAddrs); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// To a deployed node an answer is what one of its own would be.
func TestAnswerToADeployedNode(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	got := n.say(t, 20, vector(t, "sync_request_all"))
	if want := vector(t, "sync_reply_empty_fdb"); !cmp.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	// The data of a message comes before its question.
	m, err := vxfld.Parse(vector(t, "sync_request_and_data"))
	if err != nil {
		t.Fatal(err)
	}
	want := &vxfld.Sync{VNIs: m.Body.(*vxfld.Sync).VNIs}
	answer, err := vxfld.Parse(n.say(t, 20, vector(t, "sync_request_and_data")))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, answer.Body, equateAddrs); diff != "" {
		t.Errorf("answer to a message with members (-want +got):\n%s", diff)
	}
}

// What is not asked for is not answered.
func TestNoAnswer(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	n.put(fdb.Peer, 7, vtep(1), 0, fdb.Static)
	for _, msg := range []string{"0303", "03031800", "03031801", "03031803"} {
		b, err := hex.DecodeString(msg)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.say(t, 20, b); len(got) > 0 {
			t.Errorf("got answer %x to %s, want none", got, msg)
		}
	}
	n.verdict(t, peer.VerdictUpdate, 4)
}

// A reader that takes nothing is given up, and holds up neither the table nor
// the stop.
func TestAnswerToWhoDoesNotRead(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: 100 * time.Millisecond})
	run(t, n.Group)
	fill(n.table, n.now(), 100, 2500) // some 6 MB, more than sockets hold
	c := n.dial(t, 20)
	if err := c.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(sync3(t, vxfld.Sync{Response: vxfld.ResponseAll})); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	n.verdict(t, peer.VerdictRequest, 1)
	if got := n.Counters().Answers.Load(); got != 0 {
		t.Errorf("got %d answers, want none", got)
	}
}

// Times are rounded down, and none is static that ages.
func TestSecondsLeft(t *testing.T) {
	const now = fdb.Time(1e12)
	for _, tt := range []struct {
		exp  fdb.Time
		want uint32
	}{
		{fdb.Never, vxfld.HoldtimeStatic},
		{now, 0},
		{now - 1, 0},
		{now.Add(time.Second) - 1, 0},
		{now.Add(time.Second), 1},
		{now.Add(2*time.Second) - 1, 1},
		{now.Add(65534 * time.Second), 65534},
		{now.Add(65535 * time.Second), 65534},
		{fdb.Never - 1, 65534},
	} {
		if got := peer.SecondsLeft(tt.exp, now); got != tt.want {
			t.Errorf("got %d for %d ns, want %d", got, tt.exp-now, tt.want)
		}
	}
}

// fill puts members into each of vnis VNIs, each under an identifier of its own.
func fill(t *fdb.Table, now fdb.Time, vnis, members int) {
	us := make([]fdb.Update, 0, members)
	for vni := range vnis {
		us = us[:0]
		for i := range members {
			us = append(us, fdb.Update{
				VNI: vxlan.VNI(vni), Addr: vtep(i), Identifier: 1<<47 | uint64(i), Source: fdb.Registration,
				Holdtime: time.Duration(60+rand.IntN(60)) * time.Second,
			})
		}
		t.Apply(now, us)
	}
}

// BenchmarkDump is how long it takes one node to ask for and take in the whole
// table of another, and what that takes of the sender's memory.
func BenchmarkDump(b *testing.B) {
	for _, n := range []struct{ vnis, members int }{{1000, 100}, {1000, 1000}, {100, 10000}} {
		b.Run(fmt.Sprintf("entries=%d/vnis=%d", n.vnis*n.members, n.vnis), func(b *testing.B) {
			sender := serving(b, 10)
			fill(sender.table, sender.now(), n.vnis, n.members)
			run(b, sender.Group)
			request := sync3(b, vxfld.Sync{Node: vxfld.SyncNode, Response: vxfld.ResponseAll})
			b.Run("send", func(b *testing.B) {
				for b.Loop() {
					c := sender.dial(b, 20)
					_, _ = c.Write(request)
					_ = c.CloseWrite()
					size, err := io.Copy(io.Discard, c)
					if err != nil {
						b.Fatal(err)
					}
					c.Close()
					b.SetBytes(size)
				}
			})
			b.Run("memory", func(b *testing.B) {
				var before, during runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				for b.Loop() {
					if _, err := sender.Converse(request, host(20), io.Discard); err != nil {
						b.Fatal(err)
					}
				}
				runtime.ReadMemStats(&during)
				b.ReportMetric(float64(during.TotalAlloc-before.TotalAlloc)/1e6/float64(b.N), "MB-allocated")
			})
			b.Run("take", func(b *testing.B) {
				for b.Loop() {
					taker := serving(b, 11)
					taker.meet(sender.Local())
					stop := run(b, taker.Group)
					<-taker.Synced()
					if got := taker.table.Stats().Entries; got != n.vnis*n.members {
						b.Fatalf("got %d entries, want %d", got, n.vnis*n.members)
					}
					stop()
				}
			})
		})
	}
}
