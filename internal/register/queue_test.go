// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// The bounds are not reached from outside without great effort, so these tests
// are inside.

// from returns the nth asker.
func from(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 10001)
}

// vnis names the n VNIs from first on.
func vnis(first vxlan.VNI, n int) []vxfld.VNIMembers {
	out := make([]vxfld.VNIMembers, n)
	for i := range out {
		out[i].VNI = first + vxlan.VNI(i)
	}
	return out
}

func TestAskersAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range maxAnswers {
		if out := q.ask(from(i), route{}, member, vxfld.ResponseRequested, vnis(1, 1)); out != (outcome{}) {
			t.Fatalf("got %+v for asker %d, want it taken", out, i)
		}
	}
	if out := q.ask(from(maxAnswers), route{}, member, vxfld.ResponseRequested, vnis(1, 1)); !out.dropped {
		t.Errorf("got %+v for one more asker, want it dropped", out)
	}
	if out := q.ask(from(7), route{}, member, vxfld.ResponseRequested, vnis(1, 1)); !out.merged || out.dropped {
		t.Errorf("got %+v for an asker that waits already, want it merged", out)
	}
	// One that has its answer makes room for another, though it stays known.
	now := time.Now()
	k, _ := q.next(now)
	q.pop(k.parts[0], nil)
	if ended, _ := q.finish(k, k.parts[0]); !ended {
		t.Fatal("got a part that does not end, want its end")
	}
	q.served(k, 1, 100, false, time.Second, now)
	if out := q.ask(from(maxAnswers), route{}, member, vxfld.ResponseRequested, vnis(1, 1)); out.dropped {
		t.Errorf("got %+v for another asker afterwards, want it taken", out)
	}
	if len(q.askers) != maxAnswers+1 || q.active.all() != maxAnswers {
		t.Errorf("got %d askers known, %d waiting, want %d, %d", len(q.askers), q.active.all(), maxAnswers+1, maxAnswers)
	}
}

func TestPartsAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range maxParts + 1 {
		out := q.ask(from(1), route{conn: i}, member, vxfld.ResponseRequested, vnis(1, 1))
		if out.dropped != (i == maxParts) {
			t.Errorf("got %+v for part %d, want the last dropped", out, i)
		}
	}
}

func TestFullAnswersAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range maxFull {
		q.ask(from(i), route{}, member, vxfld.ResponseAll, nil)
	}
	if out := q.ask(from(maxFull), route{}, member, vxfld.ResponseAll, nil); !out.dropped {
		t.Errorf("got %+v for one more, want it dropped", out)
	}
	if out := q.ask(from(0), route{}, member, vxfld.ResponseAll, nil); out.dropped {
		t.Errorf("got %+v for one that is in progress, want it merged", out)
	}
	if out := q.ask(from(maxFull), route{}, member, vxfld.ResponseRequested, vnis(1, 1)); out.dropped {
		t.Errorf("got %+v for a smaller question, want it taken", out)
	}
	q.next(time.Now()) // the smaller one comes first
	k, _ := q.next(time.Now())
	q.abandon(k)
	if q.full.all() != maxFull-1 || q.idle() {
		t.Errorf("got %d full answers after one was given up, want %d", q.full.all(), maxFull-1)
	}
}

// However much others ask, each asker has room for some VNIs.
func TestVNIsAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range 5 {
		q.ask(from(i), route{}, member, vxfld.ResponseRequested, vnis(0, maxVNIs/4))
	}
	if q.vnis.all() != maxVNIs+minVNIs {
		t.Errorf("got %d VNIs queued, want %d", q.vnis.all(), maxVNIs+minVNIs)
	}
	if out := q.ask(from(9), route{}, member, vxfld.ResponseRequested, vnis(0, minVNIs+5)); out.vnis != 5 || out.dropped {
		t.Errorf("got %+v, want all but 5 taken", out)
	}
	for range 6 {
		k, _ := q.next(time.Now())
		q.abandon(k)
		q.served(k, 0, 0, false, time.Second, time.Now())
	}
	if q.vnis != (tally{}) || q.active != (tally{}) || len(q.askers) != 0 {
		t.Errorf("got %v VNIs, %v active, %d askers left, want none", q.vnis, q.active, len(q.askers))
	}
}

// Strangers have half of everything, and members find room when that is full.
func TestStrangersHaveHalfOfTheRoom(t *testing.T) {
	tests := []struct {
		name string
		ask  func(q *answers, n int, c class) outcome
		most int
	}{
		{"answers", func(q *answers, n int, c class) outcome {
			return q.ask(from(n), route{}, c, vxfld.ResponseRequested, vnis(1, 1))
		}, maxAnswers},
		{"whole tables", func(q *answers, n int, c class) outcome {
			return q.ask(from(n), route{}, c, vxfld.ResponseAll, nil)
		}, maxFull},
		{"VNIs", func(q *answers, n int, c class) outcome {
			out := q.ask(from(n), route{}, c, vxfld.ResponseRequested, vnis(0, maxVNIs/8))
			out.dropped = out.vnis > maxVNIs/16 // but for minVNIs of each
			return out
		}, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newAnswers()
			for n := range 2 * tt.most {
				c, want := stranger, n >= tt.most/2
				if n >= tt.most {
					c, want = member, n-tt.most >= tt.most/2
				}
				if out := tt.ask(q, n, c); out.dropped != want {
					t.Fatalf("got %+v for asker %d of class %d, want dropped %t", out, n, c, want)
				}
			}
		})
	}
}

// Who turns out to be a member leaves the strangers' line and room, so that
// nobody who asks in its name makes it wait.
func TestStrangerBecomesMember(t *testing.T) {
	q := newAnswers()
	for i := range 3 {
		q.ask(from(i), route{}, stranger, vxfld.ResponseAll, nil)
		q.ask(from(i), route{}, stranger, vxfld.ResponseRequested, vnis(1, 5))
	}
	q.ask(from(2), route{}, member, vxfld.ResponseRequested, vnis(1, 6))
	if q.active != (tally{2, 1}) || q.full != (tally{2, 1}) || q.vnis != (tally{10, 6}) {
		t.Errorf("got %v active, %v full, %v VNIs, want one member's", q.active, q.full, q.vnis)
	}
	for _, want := range []int{2, 0, 1} {
		k, _ := q.next(time.Now())
		if k == nil || k.addr != from(want).Addr() {
			t.Fatalf("got %+v, want asker %d", k, want)
		}
		q.abandon(k)
		q.served(k, 0, 0, false, time.Second, time.Now())
	}
	if q.active != (tally{}) || q.full != (tally{}) || q.vnis != (tally{}) || len(q.askers) != 0 {
		t.Errorf("got %v active, %v full, %v VNIs, %d askers left, want none", q.active, q.full, q.vnis, len(q.askers))
	}
}

// Strangers that come back for more do not take the room of new ones.
func TestReturningStrangersAreBounded(t *testing.T) {
	q := newAnswers()
	now := time.Now()
	for i := range 2 * maxAnswers {
		if out := q.ask(from(i), route{}, stranger, vxfld.ResponseRequested, vnis(1, 9)); out.dropped {
			t.Fatalf("got asker %d dropped, want it taken", i)
		}
		k, _ := q.next(now)
		cut := q.served(k, 1, 100, true, time.Second, now)
		if want := i >= maxReturning; k.addr != from(i).Addr() || (cut == 1) != want {
			t.Fatalf("got %d cut of %s, want it cut of asker %d: %t", cut, k.addr, i, want)
		}
	}
	// A member is not cut, and none of them is left in the end.
	q.ask(from(0), route{conn: 1}, member, vxfld.ResponseRequested, vnis(1, 9))
	if q.returning != maxReturning-1 {
		t.Errorf("got %d strangers that come back, want %d", q.returning, maxReturning-1)
	}
	now = now.Add(time.Second)
	for k, _ := q.next(now); k != nil; k, _ = q.next(now) {
		q.abandon(k)
		q.served(k, 0, 0, false, time.Second, now)
	}
	if q.returning != 0 || len(q.askers) != 0 || q.active != (tally{}) {
		t.Errorf("got %d that come back, %d known, %v active, want none", q.returning, len(q.askers), q.active)
	}
}

// Few strangers with many ports do not take that room either.
func TestReturningStrangersArePorts(t *testing.T) {
	q := newAnswers()
	now := time.Now()
	for i := range maxAnswers / 2 {
		q.ask(netip.AddrPortFrom(from(i%32).Addr(), uint16(1+i)), route{}, stranger, vxfld.ResponseRequested, vnis(1, 9))
	}
	if out := q.ask(from(99), route{}, stranger, vxfld.ResponseRequested, vnis(1, 1)); !out.dropped {
		t.Errorf("got %+v with the room full, want it dropped", out)
	}
	for range 32 {
		k, _ := q.next(now)
		q.served(k, burst, 100, true, time.Second, now)
	}
	if q.returning != maxReturning || q.active != (tally{maxReturning, 0}) {
		t.Errorf("got %d that come back of %v, want %d", q.returning, q.active, maxReturning)
	}
	if out := q.ask(from(99), route{}, stranger, vxfld.ResponseRequested, vnis(1, 1)); out.dropped {
		t.Errorf("got %+v afterwards, want it taken", out)
	}
}

// A question that comes when an answer has run out but is not ended yet is
// not lost.
func TestQuestionAtTheEnd(t *testing.T) {
	tests := []struct {
		name string
		resp vxfld.Response
		want vxlan.VNI
	}{
		{"requested", vxfld.ResponseRequested, 2},
		{"all", vxfld.ResponseAll, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := func(uint64) []vxlan.VNI { return []vxlan.VNI{9} }
			q := newAnswers()
			q.ask(from(1), route{}, member, vxfld.ResponseRequested, vnis(1, 1))
			k, _ := q.next(time.Now())
			q.pop(k.parts[0], all)
			if vni, ok := q.pop(k.parts[0], all); ok {
				t.Fatalf("got vni %d, want no more", vni)
			}
			q.ask(from(1), route{}, member, tt.resp, vnis(2, 1))
			if ended, _ := q.finish(k, k.parts[0]); ended {
				t.Fatal("got the part ended, want it to go on")
			}
			if vni, ok := q.pop(k.parts[0], all); !ok || vni != tt.want {
				t.Errorf("got vni %d, %t, want %d", vni, ok, tt.want)
			}
			if ended, _ := q.finish(k, k.parts[0]); !ended || q.full.all() != 0 {
				t.Errorf("got the part going on, %d full, want its end", q.full.all())
			}
		})
	}
}

// A question that joins an answer when its last message is sent already, and
// for which there is nothing to say, is not passed over in silence.
func TestQuestionAfterTheLastMessage(t *testing.T) {
	q := newAnswers()
	q.ask(from(1), route{}, stranger, vxfld.ResponseRequested, vnis(1, 1))
	k, _ := q.next(time.Now())
	p := k.parts[0]
	q.pop(p, nil)
	q.told(p)
	if out := q.ask(from(1), route{}, stranger, vxfld.ResponseRequested, vnis(2, 1)); !out.merged {
		t.Fatalf("got %+v, want it merged", out)
	}
	q.pop(p, nil)
	if ended, silent := q.finish(k, p); !ended || !silent {
		t.Errorf("got ended %t, silent %t, want a message for the second question", ended, silent)
	}
}

// Known askers are bounded too, and forgotten when their pause is over.
func TestKnownAskersAreForgotten(t *testing.T) {
	q := newAnswers()
	now := time.Now()
	for i := range maxKnown {
		q.ask(from(i), route{}, member, vxfld.ResponseRequested, nil)
		k, _ := q.next(now)
		q.finish(k, k.parts[0])
		q.served(k, 1, 100, false, time.Second, now)
	}
	if out := q.ask(from(maxKnown), route{}, member, vxfld.ResponseRequested, nil); !out.dropped {
		t.Errorf("got %+v for one more than can be known, want it dropped", out)
	}
	if k, wait := q.next(now); k != nil || wait != time.Second {
		t.Errorf("got asker %v, wait %s, want none and a second", k, wait)
	}
	if k, wait := q.next(now.Add(time.Second)); k != nil || wait >= 0 || len(q.askers) != 0 {
		t.Errorf("got asker %v, wait %s, %d known, want none at all", k, wait, len(q.askers))
	}
}

// Senders that are remembered are bounded.
func TestSourcesAreBounded(t *testing.T) {
	ss := newSources()
	st := Settings{}.withDefaults()
	for i := range maxSources + 100 {
		if !ss.allow(0, from(i).Addr(), 100, st) {
			t.Fatalf("got sender %d refused, want it allowed", i)
		}
	}
	if got := ss.lru.Len(); got != maxSources {
		t.Errorf("got %d senders remembered, want %d", got, maxSources)
	}
}

// The "never ages" of the wire's functions and of the table are one number.
func TestStaticIsOneNumber(t *testing.T) {
	if got := vxfld.HoldtimeDuration(vxfld.HoldtimeStatic); got != fdb.Static {
		t.Errorf("got %d, want %d", got, fdb.Static)
	}
	if got := vxfld.HoldtimeOf(fdb.Static); got != vxfld.HoldtimeStatic {
		t.Errorf("got %d, want %d", got, vxfld.HoldtimeStatic)
	}
}
