// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"slices"
	"testing"
	"time"

	"vxsnd/internal/fdb"
)

func learnAll(tab *fdb.Table, now fdb.Time) fdb.Result {
	return tab.Learn(now, []fdb.Learned{{VNI: 1, Addr: v4a}})
}

// TestLearn asks whether a packet from v4a in VNI 1 at 5 s is to be learned, after
// some updates at 0.
func TestLearn(t *testing.T) {
	tests := []struct {
		name string
		mode fdb.Learning
		us   []fdb.Update
		want bool
	}{
		{"any", fdb.LearnAny, nil, true},
		{"off", fdb.LearnOff, nil, false},
		{"known, in an empty VNI", fdb.LearnKnown, nil, false},
		{"known, beside a registration", fdb.LearnKnown, []fdb.Update{reg(v4b, 7, time.Minute)}, true},
		{"known, beside an expired one", fdb.LearnKnown, []fdb.Update{reg(v4b, 7, 5*time.Second)}, false},
		{"known, beside a withdrawn one", fdb.LearnKnown, []fdb.Update{reg(v4b, 7, time.Minute), reg(v4c, 8, time.Second), reg(v4b, 7, 0)}, false},
		{"known, beside a shortened one", fdb.LearnKnown, []fdb.Update{reg(v4b, 7, time.Minute), reg(v4b, 7, time.Second)}, false},
		{"registered", fdb.LearnAny, []fdb.Update{reg(v4a, 7, time.Minute)}, false},
		{"told by a peer", fdb.LearnAny, []fdb.Update{from(fdb.Peer, reg(v4a, 7, time.Minute))}, false},
		{"registered and expired", fdb.LearnAny, []fdb.Update{reg(v4a, 7, 5*time.Second)}, true},
		{"registered without identifier", fdb.LearnAny, []fdb.Update{reg(v4a, 0, time.Minute)}, true},
		{"static", fdb.LearnAny, []fdb.Update{from(fdb.Configuration, reg(v4a, 0, fdb.Static))}, false},
		{"of an operator for a while", fdb.LearnAny, []fdb.Update{from(fdb.Operator, reg(v4a, 0, time.Minute))}, true},
		{"withdrawn", fdb.LearnAny, []fdb.Update{reg(v4a, 7, time.Minute), reg(v4a, 7, 0)}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Learning: tt.mode, LearnHoldtime: 90 * time.Second})
			tab.Apply(0, tt.us)
			peeked := fdb.Lookup{VNI: 1, Source: v4a}
			if _, refused := tab.Peek(5*sec, &peeked); peeked.Learn != tt.want || refused {
				t.Errorf("peek: got Learn %v, refused %v, want %v", peeked.Learn, refused, tt.want)
			}
			if got := lookup(tab, 5*sec, 1, v4a).Learn; got != tt.want {
				t.Errorf("got Learn %v, want %v", got, tt.want)
			}
			if got := learnAll(tab, 5*sec).Added == 1; got != tt.want {
				t.Errorf("got learned %v, want %v", got, tt.want)
			}
		})
	}
}

// A packet keeps its sender a member, by one atomic store and no event, until a
// registration speaks for it.
func TestPacketsRefresh(t *testing.T) {
	tab := newTable()
	learnAll(tab, 0)
	for now := fdb.Time(0); now < 1000*sec; now += 80 * sec {
		if l := lookup(tab, now, 1, v4a); l.Learn {
			t.Fatalf("at %d: got Learn for a learned member", now)
		}
		tab.Sweep(now)
	}
	now := 1000 * sec
	if got := tab.Members(now, 1, nil); len(got) != 1 {
		t.Fatalf("got members %v after a stream of packets, want the sender", got)
	}
	tab.Apply(now, []fdb.Update{reg(v4a, 7, 100*time.Second)})
	lookup(tab, now+50*sec, 1, v4a)
	if got := tab.Members(now+100*sec, 1, nil); len(got) != 0 {
		t.Errorf("got members %v, want none: packets of a registered VTEP refresh nothing", got)
	}
}

// Who only asks keeps nobody a member, and counts no refusal.
func TestPeekChangesNothing(t *testing.T) {
	tab := fdb.New(fdb.Options{Limits: fdb.Limits{Learned: 1}, Learning: fdb.LearnAny, LearnHoldtime: 90 * time.Second})
	learnAll(tab, 0)
	before, stats := tab.Entries(0, 1, nil), tab.Stats()
	member := fdb.Lookup{VNI: 1, Source: v4a}
	if _, refused := tab.Peek(80*sec, &member); refused || member.Learn || !member.Live(0, 89*sec) || member.Live(0, 90*sec) {
		t.Errorf("got refused %v, Learn %v, want a member until 90 s", refused, member.Learn)
	}
	other := fdb.Lookup{VNI: 1, Source: v4b}
	if why, refused := tab.Peek(80*sec, &other); !refused || why != fdb.RefusedLearned || other.Learn {
		t.Errorf("got %v, refused %v, Learn %v, want it refused for want of room", why, refused, other.Learn)
	}
	if got := tab.Entries(0, 1, nil); !slices.Equal(got, before) {
		t.Errorf("got entries %v, want %v", got, before)
	}
	if got := tab.Stats(); got != stats {
		t.Errorf("got %+v, want %+v", got, stats)
	}
}

func TestNeverAgeing(t *testing.T) {
	tab := fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: fdb.Static})
	learnAll(tab, 0)
	if sw := tab.Sweep(fdb.Never - 1); sw.Next != fdb.Never || len(tab.Members(fdb.Never-1, 1, nil)) != 1 {
		t.Errorf("got %+v, want the learned member to stay", sw)
	}
	if l := lookup(tab, 0, 1, v4a); l.Learn || !l.AllLive(fdb.Never-1) {
		t.Errorf("got %+v, want it live for ever", l)
	}
}

// An expired learned member has to be learned again: it is gone for everybody
// from the moment of its expiry, swept or not.
func TestExpiredIsNotRefreshed(t *testing.T) {
	tab := newTable()
	feed := tab.Subscribe(10, fdb.KindAdded|fdb.KindRemoved)
	learnAll(tab, 0)
	l := lookup(tab, 90*sec, 1, v4a)
	if !l.Learn || l.Live(0, 90*sec) {
		t.Errorf("got Learn %v, live %v, want it to be learned again", l.Learn, l.Live(0, 90*sec))
	}
	if res := learnAll(tab, 90*sec); res.Added != 1 || res.Refreshed != 0 {
		t.Errorf("got %+v, want it added", res)
	}
	var got []fdb.Kind
	changes, _ := feed.Take(nil)
	for _, c := range changes {
		got = append(got, c.Kind)
	}
	if want := []fdb.Kind{fdb.Added, fdb.Removed, fdb.Added}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConfigureLearning(t *testing.T) {
	tab := newTable()
	learnAll(tab, 0)
	tab.Configure(0, fdb.Options{Learning: fdb.LearnOff, LearnHoldtime: 90 * time.Second})
	lookup(tab, 80*sec, 1, v4a)
	if got := tab.Members(90*sec, 1, nil); len(got) != 0 {
		t.Errorf("got members %v, want none: learning is off", got)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	tab := newTable()
	fill(tab, 0, 100, 100, time.Minute)
	learnAll(tab, 0)
	ls := make([]fdb.Lookup, 64)
	now := fdb.Time(0)
	got := testing.AllocsPerRun(100, func() {
		now++
		for i := range ls {
			ls[i].VNI, ls[i].Source = 1, vtep(i*3)
		}
		ls[0].Source, ls[1].Source, ls[2].VNI = v4a, v6a, 5000
		tab.LookupBatch(now, ls)
	})
	if got != 0 {
		t.Errorf("got %v allocations for a batch, want 0", got)
	}
}
