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
	for i := range maxAskers {
		if out := q.ask(from(i), route{}, vxfld.ResponseRequested, vnis(1, 1)); out != (outcome{}) {
			t.Fatalf("got %+v for asker %d, want it taken", out, i)
		}
	}
	if out := q.ask(from(maxAskers), route{}, vxfld.ResponseRequested, vnis(1, 1)); !out.dropped {
		t.Errorf("got %+v for one more asker, want it dropped", out)
	}
	if out := q.ask(from(7), route{}, vxfld.ResponseRequested, vnis(1, 1)); !out.merged || out.dropped {
		t.Errorf("got %+v for an asker that waits already, want it merged", out)
	}
	// One that has its answer makes room for another, though it stays known.
	now := time.Now()
	k, _ := q.next(now)
	q.pop(k.parts[0], nil)
	if !q.finish(k) {
		t.Fatal("got a part that does not end, want its end")
	}
	q.served(k, 1, time.Second, now)
	if out := q.ask(from(maxAskers), route{}, vxfld.ResponseRequested, vnis(1, 1)); out.dropped {
		t.Errorf("got %+v for another asker afterwards, want it taken", out)
	}
	if len(q.askers) != maxAskers+1 || q.active != maxAskers {
		t.Errorf("got %d askers known, %d waiting, want %d, %d", len(q.askers), q.active, maxAskers+1, maxAskers)
	}
}

func TestPartsAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range maxParts + 1 {
		out := q.ask(from(1), route{conn: i}, vxfld.ResponseRequested, vnis(1, 1))
		if out.dropped != (i == maxParts) {
			t.Errorf("got %+v for part %d, want the last dropped", out, i)
		}
	}
}

func TestFullAnswersAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range maxFull {
		q.ask(from(i), route{}, vxfld.ResponseAll, nil)
	}
	if out := q.ask(from(maxFull), route{}, vxfld.ResponseAll, nil); !out.dropped {
		t.Errorf("got %+v for one more, want it dropped", out)
	}
	if out := q.ask(from(0), route{}, vxfld.ResponseAll, nil); out.dropped {
		t.Errorf("got %+v for one that is in progress, want it merged", out)
	}
	if out := q.ask(from(maxFull), route{}, vxfld.ResponseRequested, vnis(1, 1)); out.dropped {
		t.Errorf("got %+v for a smaller question, want it taken", out)
	}
	k, _ := q.next(time.Now())
	q.abandon(k)
	if q.full != maxFull-1 || q.idle() {
		t.Errorf("got %d full answers after one was given up, want %d", q.full, maxFull-1)
	}
}

// However much others ask, each asker has room for some VNIs.
func TestVNIsAreBounded(t *testing.T) {
	q := newAnswers()
	for i := range 5 {
		q.ask(from(i), route{}, vxfld.ResponseRequested, vnis(0, maxVNIs/4))
	}
	if q.vnis != maxVNIs+minVNIs {
		t.Errorf("got %d VNIs queued, want %d", q.vnis, maxVNIs+minVNIs)
	}
	if out := q.ask(from(9), route{}, vxfld.ResponseRequested, vnis(0, minVNIs+5)); out.vnis != 5 || out.dropped {
		t.Errorf("got %+v, want all but 5 taken", out)
	}
	for range 6 {
		k, _ := q.next(time.Now())
		q.abandon(k)
		q.served(k, 0, time.Second, time.Now())
	}
	if q.vnis != 0 || q.active != 0 || len(q.askers) != 0 {
		t.Errorf("got %d VNIs, %d active, %d askers left, want none", q.vnis, q.active, len(q.askers))
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
			q.ask(from(1), route{}, vxfld.ResponseRequested, vnis(1, 1))
			k, _ := q.next(time.Now())
			q.pop(k.parts[0], all)
			if vni, ok := q.pop(k.parts[0], all); ok {
				t.Fatalf("got vni %d, want no more", vni)
			}
			q.ask(from(1), route{}, tt.resp, vnis(2, 1))
			if q.finish(k) {
				t.Fatal("got the part ended, want it to go on")
			}
			if vni, ok := q.pop(k.parts[0], all); !ok || vni != tt.want {
				t.Errorf("got vni %d, %t, want %d", vni, ok, tt.want)
			}
			if !q.finish(k) || q.full != 0 {
				t.Errorf("got the part going on, %d full, want its end", q.full)
			}
		})
	}
}

// Known askers are bounded too, and forgotten when their pause is over.
func TestKnownAskersAreForgotten(t *testing.T) {
	q := newAnswers()
	now := time.Now()
	for i := range maxKnown {
		q.ask(from(i), route{}, vxfld.ResponseRequested, nil)
		k, _ := q.next(now)
		q.finish(k)
		q.served(k, 1, time.Second, now)
	}
	if out := q.ask(from(maxKnown), route{}, vxfld.ResponseRequested, nil); !out.dropped {
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
