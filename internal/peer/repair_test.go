// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// pair returns two nodes that run, the first with the second as its peer. They do
// nothing by themselves once they have met.
func pair(tb testing.TB) (a, b *server) {
	tb.Helper()
	a, b = serving(tb, 10), serving(tb, 11)
	a.meet(b.Local())
	for _, n := range []*server{b, a} {
		n.Limit(peer.Limits{Again: time.Hour})
		run(tb, n.Group)
		synced(tb, n)
		n.SetReady()
	}
	return a, b
}

// compare has a node take what it lacks from its only peer, and returns how much
// that was.
func (n *server) compare(tb testing.TB) int {
	tb.Helper()
	lacking, err := n.Repair(tb.Context(), n.o.Peers[0])
	if err != nil {
		tb.Fatal(err)
	}
	return lacking
}

// What a node lacks it takes from a peer, with the time that is left.
func TestRepairTakesWhatIsLacking(t *testing.T) {
	a, b := pair(t)
	for i := range 1000 {
		b.put(fdb.Registration, vxlan.VNI(i%10), vtep(i), uint64(i+1), 90*time.Second)
		if i%100 != 0 {
			a.put(fdb.Peer, vxlan.VNI(i%10), vtep(i), uint64(i+1), 80*time.Second)
		}
	}
	b.put(fdb.Registration, 5, vtep(2000), 0, 30500*time.Millisecond)
	b.put(fdb.Peer, 5, vtep(2001), 0, 30*time.Second)
	b.table.Learn(b.now(), []fdb.Learned{{VNI: 6, Addr: vtep(2002)}})
	b.put(fdb.Registration, 5, vtep(2003), 9999, fdb.Static)
	if got := a.compare(t); got != 14 {
		t.Errorf("got %d entries that were lacking, want 14", got)
	}
	left := make(map[netip.Addr]time.Duration)
	for _, e := range a.entries() {
		if e.Source != fdb.Peer {
			t.Errorf("got %+v, want a peer's entry", e)
		}
		left[e.Addr] = e.Expires.Sub(a.now())
	}
	for addr, want := range map[netip.Addr]time.Duration{
		vtep(0): 90 * time.Second, vtep(900): 90 * time.Second, vtep(2000): 30 * time.Second,
		vtep(2001): 30 * time.Second, vtep(2002): time.Minute, vtep(2003): fdb.Static,
		vtep(1): 80 * time.Second, // not lacking, so left as it is
	} {
		if left[addr] != want {
			t.Errorf("got %s left for %s, want %s", left[addr], addr, want)
		}
	}
	// Now they are alike, whoever asks, and nothing but the frame is sent.
	before := b.Counters().Entries.Load()
	if got := a.compare(t); got != 0 {
		t.Errorf("got %d entries lacking in the second round, want none", got)
	}
	b.meet(a.Local())
	if got := b.compare(t); got != 0 {
		t.Errorf("got %d entries lacking at the other node, want none", got)
	}
	if got := b.Counters().Entries.Load() - before; got != 0 {
		t.Errorf("got %d entries sent between equal tables, want none", got)
	}
}

// An entry that goes round lives no longer for it.
func TestRepairNeverLengthens(t *testing.T) {
	a, b := pair(t)
	b.meet(a.Local())
	a.put(fdb.Peer, 7, vtep(1), 1, 10*time.Second)
	for round := range 9 {
		a.pass(time.Second / 2)
		b.pass(time.Second / 2)
		if got := b.compare(t) + a.compare(t); got > 1 {
			t.Fatalf("round %d: got %d entries lacking", round, got)
		}
	}
	a.pass(5500 * time.Millisecond)
	b.pass(5500 * time.Millisecond)
	if got := b.compare(t) + a.compare(t) + len(a.entries()) + len(b.entries()); got != 0 {
		t.Errorf("got %d, want no entry after its time", got)
	}
}

// What was withdrawn here stays withdrawn although the peer still has it.
func TestRepairRevivesNothing(t *testing.T) {
	a, b := pair(t)
	a.put(fdb.Registration, 7, vtep(1), 1, 90*time.Second)
	b.put(fdb.Peer, 7, vtep(1), 1, 90*time.Second)
	a.put(fdb.Registration, 7, vtep(1), 1, 0)
	// The identifier has another address here.
	a.put(fdb.Registration, 7, vtep(3), 2, 90*time.Second)
	b.put(fdb.Peer, 7, vtep(2), 2, 90*time.Second)
	if got := a.compare(t); got != 0 {
		t.Errorf("got %d entries taken, want none", got)
	}
	if diff := cmp.Diff([]netip.Addr{vtep(3)}, a.table.Members(a.now(), 7, nil), equateAddrs); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

// Static members of an operator or the configuration come by updates and at the
// start, never by a repair.
func TestRepairLeavesStaticMembersAlone(t *testing.T) {
	a, b := pair(t)
	for _, n := range []*server{a, b} {
		fill(n.table, n.now(), 10, 1000)
	}
	b.put(fdb.Operator, 7, vtep(3001), 0, fdb.Static)
	b.put(fdb.Configuration, 7, vtep(3002), 0, fdb.Static)
	b.put(fdb.Peer, 7, vtep(3003), 0, fdb.Static)
	before := b.Counters().Entries.Load()
	if got := a.compare(t); got != 0 {
		t.Errorf("got %d entries lacking, want none", got)
	}
	if got := b.Counters().Entries.Load() - before; got != 0 {
		t.Errorf("got %d entries sent, want none", got)
	}
	// Nor where their bucket differs for another reason.
	answer := b.ask(t, vxfld.Sync{Node: vxfld.SyncNode, Digest: make([]byte, peer.DigestLen)})
	for _, rec := range answer.VNIs {
		for _, e := range rec.Entries {
			if e.Holdtime == vxfld.HoldtimeStatic {
				t.Errorf("got %s in vni %s told of", e.Addr, rec.VNI)
			}
		}
	}
	if len(answer.VNIs) < 10 {
		t.Errorf("got an answer of %d VNIs to a digest of nothing, want all of them", len(answer.VNIs))
	}
	// Nor from a peer that tells of them.
	lying := answering(t, 20, sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true, VNIs: []vxfld.VNIEntries{
		record(7, vxfld.SyncEntry{Addr: vtep(3000), Holdtime: vxfld.HoldtimeStatic}),
	}}))
	a.meet(lying.addr)
	if got := a.compare(t); got != 0 {
		t.Errorf("got %d entries from a lying peer, want none", got)
	}
}

// Nodes of ours are compared with in turn, and deployed ones are left alone.
func TestRepairAsksOursInTurn(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: 10 * time.Millisecond, Look: time.Millisecond})
	n.o.ResyncInterval = 10 * time.Millisecond
	deployed := answering(t, 20, vector(t, "sync_reply_empty_fdb"))
	ours := sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true})
	first, second := answering(t, 21, ours), answering(t, 22, ours)
	n.meet(deployed.addr, first.addr, second.addr)
	run(t, n.Group)
	for _, p := range []*answerer{first, second} {
		for compared := 0; compared < 3; {
			if q := p.next(t); q.Digest != nil {
				compared++
				if len(q.Digest) != peer.DigestLen || q.Response != vxfld.ResponseNone || q.VNIs != nil || q.Node != vxfld.SyncNode {
					t.Fatalf("got question %+v, want a digest", q)
				}
			}
		}
	}
	for len(deployed.questions) > 0 {
		if q := deployed.next(t); q.Digest != nil {
			t.Error("got a digest at a deployed node")
		}
	}
	// A peer that turns into a deployed one is left alone from then on.
	first.say(vector(t, "sync_reply_empty_fdb"))
	eventually(t, "a deployed peer", func() bool { return !n.States()[1].Ours })
	for len(first.questions) > 0 {
		<-first.questions
	}
	second.next(t)
	second.next(t)
	if len(first.questions) > 0 {
		t.Error("got another question at a peer that turned out to be a deployed one")
	}
	// And 0 turns it off.
	n.o.ResyncInterval = 0
	n.meet(n.o.Peers...)
	eventually(t, "the end of the comparisons", func() bool {
		for len(second.questions) > 0 {
			<-second.questions
		}
		for range 5 {
			rounds(t, n)
		}
		return len(second.questions) == 0
	})
}

// The state tells how many entries were lacking, and a failure leaves it alone.
func TestRepairTellsHowManyWereLacking(t *testing.T) {
	n := serving(t, 10)
	p := answering(t, 20, one(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}))
	n.meet(p.addr)
	for _, want := range []int{1, 0} {
		n.RepairFrom(t.Context(), p.addr)
		if st := state(n.Group); st.Differ != want || !st.Ours {
			t.Errorf("got %d entries lacking, ours %v, want %d of ours", st.Differ, st.Ours, want)
		}
	}
	n.put(fdb.Peer, 7, vtep(1), 4711, time.Nanosecond)
	n.pass(time.Second)
	n.RepairFrom(t.Context(), p.addr)
	p.say(one(t, vxfld.Sync{Node: vxfld.SyncNode})) // cut off
	n.RepairFrom(t.Context(), p.addr)
	if st := state(n.Group); st.Differ != 1 || st.Fault == nil {
		t.Errorf("got %d entries lacking, fault %v, want 1 as before and a fault", st.Differ, st.Fault)
	}
}

// An answer out of order is refused whole: it would cost a look at the same VNI
// for each entry.
func TestRepairRefusesDisorder(t *testing.T) {
	n := serving(t, 10)
	e := vxfld.SyncEntry{Addr: vtep(1), Holdtime: 60}
	b := sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true, VNIs: []vxfld.VNIEntries{record(7, e), record(7, e), record(8, e), record(7, e)}})
	if got, err := n.TakeLacking(b, host(20)); err == nil || got != 0 || len(n.entries()) != 0 {
		t.Errorf("got %d entries and error %v, want an error", got, err)
	}
}

// The place of an entry in the digest is what docs/protocol.md section 7 says.
func TestDigest(t *testing.T) {
	// echo 000000000000000100000000000012670000004d0a000001 | xxd -r -p | sha256sum
	e := vxfld.SyncEntry{Addr: vtep(1), Holdtime: 60, Identifier: 4711}
	bucket, number := peer.Place(1, 77, &e)
	if bucket != 0x158 || number != 0x0a15909b7f06828c {
		t.Errorf("got bucket %#x, number %#x, want 0x158, 0xa15909b7f06828c", bucket, number)
	}
	e.Holdtime = 30
	if b, n := peer.Place(1, 77, &e); b != bucket || n != number {
		t.Error("got another place for another time, want the same")
	}
	e.Identifier++
	if _, n := peer.Place(1, 77, &e); n == number {
		t.Error("got the same number for another identifier")
	}
}

// BenchmarkRepair is one comparison of two tables that differ in some entries.
func BenchmarkRepair(b *testing.B) {
	for _, entries := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			x, y := pair(b)
			fill(x.table, x.now(), entries/1000, 1000)
			fill(y.table, y.now(), entries/1000, 1000)
			i := uint64(0)
			for b.Loop() {
				i++
				y.put(fdb.Registration, 0, vtep(5000+int(i)), i, time.Hour)
				if got := x.compare(b); got != 1 {
					b.Fatalf("got %d entries lacking, want 1", got)
				}
			}
		})
	}
}

// FuzzConverse gives a node any message. What is refused changes nothing and is
// not answered, and an answer is well formed.
func FuzzConverse(f *testing.F) {
	for _, name := range []string{"sync_request_all", "sync_data_static_add", "sync_data_static_del", "sync_request_and_data", "captured_sync_reply_full"} {
		f.Add(vector(f, name))
	}
	digest := make([]byte, peer.DigestLen)
	binary.BigEndian.PutUint64(digest, 1)
	f.Add(sync3(f, vxfld.Sync{Node: vxfld.SyncNode, Digest: digest}))
	f.Add(sync3(f, vxfld.Sync{Node: vxfld.SyncNode}))
	f.Fuzz(func(t *testing.T, msg []byte) {
		n := &server{table: table(time.Minute)}
		n.pass(time.Hour)
		n.o = options(n.table, n.now)
		n.Group = peer.New(n.o)
		n.put(fdb.Registration, 7, vtep(1), 1, time.Minute)
		before := n.table.Stats()
		var answer writer
		v, err := n.Converse(msg, host(20), &answer)
		if err != nil && v.Accepted() {
			t.Fatalf("got verdict %s with error %v", v, err)
		}
		if !v.Accepted() && (n.table.Stats() != before || len(answer) > 0) {
			t.Fatalf("verdict %s: got a change of the table, or answer %x", v, answer)
		}
		if len(answer) > 0 {
			if s, err := vxfld.ScanSync(answer); err != nil || s.Response != vxfld.ResponseNone {
				t.Fatalf("got answer %x: %v", answer, err)
			}
		}
		_, _ = n.TakeLacking(msg, host(20))
	})
}

type writer []byte

func (w *writer) Write(b []byte) (int, error) {
	*w = append(*w, b...)
	return len(b), nil
}
