// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// A table of 1,000,000 entries goes out in bursts with pauses between, and
// registrations are taken in meanwhile.
func TestAnswerPacing(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 10000, 100)
		start := time.Now()
		b.send(vtep1, askAll(t))
		total := 0
		seen := 0
		for {
			got := b.conn.sent()
			if len(got) == 0 {
				break
			}
			if len(got) > 32 || !got[0].at.Equal(got[len(got)-1].at) {
				t.Fatalf("got %d messages between %s and %s, want at most 32 at once", len(got), got[0].at, got[len(got)-1].at)
			}
			total += len(got)
			seen += len(answered(t, 3, vtep1, got))
			b.send(vtep2, refresh(t, 3, vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, vtep2.Addr())}))
			if len(b.table.took()) != 1 {
				t.Fatal("got no registration taken in during an answer, want one")
			}
			b.pass(100 * time.Millisecond)
		}
		if seen != 10000 {
			t.Errorf("got %d VNIs, want 10000", seen)
		}
		bursts := (total + 31) / 32
		if took := time.Since(start); took < time.Duration(bursts-1)*100*time.Millisecond || took > time.Duration(2*bursts)*100*time.Millisecond {
			t.Errorf("got %s for %d messages, want some 100 ms for each of %d bursts", took, total, bursts)
		}
		if got := b.server.Counters().Answers.Load(); got != 1 {
			t.Errorf("got %d answers, want 1", got)
		}
	})
}

// What comes with a question for the whole table is in its answer, though an
// answer to somebody else is in progress.
func TestAnswerHasWhatTheQuestionBrought(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 1000, 90)
		b.send(vtep1, askAll(t))
		b.send(vtep2, refresh(t, 3, vxfld.Refresh{Originator: true, Holdtime: 90, Response: 2, VNIs: names(2000, vtep2.Addr())}))
		b.send(vtep1, refresh(t, 3, vxfld.Refresh{Originator: true, Holdtime: 90, Response: 2, VNIs: names(3000, vtep1.Addr())}))
		b.pass(time.Minute)
		got := map[netip.AddrPort]int{}
		for _, d := range b.conn.sent() {
			_, r := parse(t, d.b)
			got[d.peer] += len(r.VNIs)
		}
		if got[vtep1] != 1001 || got[vtep2] != 1001 {
			t.Errorf("got VNIs %v, want 1001 for each", got)
		}
	})
}

// Many small questions of one asker do not get round its pauses.
func TestPacingAcrossQuestions(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 100, 90)
		for vni := range vxlan.VNI(100) {
			b.send(vtep1, askFor(t, vxfld.V3, vni, 1))
		}
		total := 0
		for i := range 4 {
			n := len(b.conn.sent())
			if n > 32 {
				t.Errorf("got %d messages in pause %d, want at most 32", n, i)
			}
			total += n
			// Somebody else does not wait for it.
			b.send(vtep2, askFor(t, vxfld.V3, vxlan.VNI(i), 1))
			if got := b.conn.sent(); len(got) != 1 || got[0].peer != vtep2 {
				t.Errorf("got %d messages, want one to the other asker", len(got))
			}
			b.pass(100 * time.Millisecond)
		}
		if total != 100 {
			t.Errorf("got %d messages in all, want 100", total)
		}
	})
}

// What a large answer leaves of a burst is all that the next question gets.
func TestPacingOfLargeAnswers(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 100, 90)
		b.send(vtep1, askFor(t, vxfld.V3, 0, 20))
		b.send(vtep1, askFor(t, vxfld.V3, 20, 40))
		if n := len(b.conn.sent()); n < 29 || n > 32 {
			t.Errorf("got %d messages at once, want one burst", n)
		}
		b.pass(time.Second)
		if n := len(answered(t, 3, vtep1, b.conn.sent())); n < 28 || n > 31 {
			t.Errorf("got %d VNIs afterwards, want the rest of 60", n)
		}
	})
}

// A question for many VNIs without members holds nobody up.
func TestQuestionForNothing(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		var order []vxlan.VNI
		begun, release := make(chan struct{}), make(chan struct{})
		b.table.looked = func(vni vxlan.VNI) {
			if len(order) == 0 {
				close(begun)
				<-release
			}
			order = append(order, vni)
		}
		b.send(vtep1, askFor(t, vxfld.V2, 0, 10000))
		<-begun
		b.send(vtep2, askFor(t, vxfld.V2, 20000, 1))
		close(release)
		synctest.Wait()
		if at := slices.Index(order, 20000); at < 0 || at > 2000 || len(order) != 10001 {
			t.Errorf("got the other asker's VNI at place %d of %d, want it near the start", at, len(order))
		}
		if n := len(b.conn.sent()); n != 2 {
			t.Errorf("got %d messages, want an empty one to each", n)
		}
	})
}
