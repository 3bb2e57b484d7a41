// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"testing"
	"time"

	"vxsnd/internal/fdb"
)

// Each entry says when its source spoke of it last.
func TestHeard(t *testing.T) {
	heard := func(tab *fdb.Table, now fdb.Time, src fdb.Source) fdb.Time {
		for _, e := range tab.Entries(now, 1, nil) {
			if e.Source == src {
				return e.Heard
			}
		}
		return -1
	}
	tests := []struct {
		name  string
		src   fdb.Source
		speak func(tab *fdb.Table, now fdb.Time)
	}{
		{"registration", fdb.Registration, func(tab *fdb.Table, now fdb.Time) {
			tab.Apply(now, []fdb.Update{reg(v4a, 7, time.Minute)})
		}},
		{"static registration", fdb.Registration, func(tab *fdb.Table, now fdb.Time) {
			tab.Apply(now, []fdb.Update{reg(v4a, 7, fdb.Static)})
		}},
		{"learned", fdb.Data, func(tab *fdb.Table, now fdb.Time) { learnAll(tab, now) }},
		{"packet of a learned member", fdb.Data, func(tab *fdb.Table, now fdb.Time) {
			if lookup(tab, now, 1, v4a).Learn {
				learnAll(tab, now)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: 90 * time.Second})
			for _, now := range []fdb.Time{10 * sec, 30 * sec} {
				tt.speak(tab, now)
				if got := heard(tab, 40*sec, tt.src); got != now {
					t.Errorf("got heard at %v, want %v", time.Duration(got), time.Duration(now))
				}
			}
		})
	}
}

// It stays with the entry when records are moved together.
func TestHeardSurvivesCompaction(t *testing.T) {
	const many = 400
	tab := newTable()
	for i := range many {
		tab.Apply(fdb.Time(i)*sec, []fdb.Update{reg(vtep(i), uint64(i+1), fdb.Static)})
	}
	var gone []fdb.Update
	for i := range many - 20 {
		gone = append(gone, reg(vtep(i), uint64(i+1), 0))
	}
	tab.Apply(many*sec, gone)
	es := tab.Entries(many*sec, 1, nil)
	if len(es) != 20 {
		t.Fatalf("got %d entries, want 20", len(es))
	}
	for _, e := range es {
		if want := fdb.Time(e.Identifier-1) * sec; e.Heard != want {
			t.Errorf("identifier %d: got heard at %v, want %v", e.Identifier, time.Duration(e.Heard), time.Duration(want))
		}
	}
}

// Another holdtime counts from when a learned member was heard of last.
func TestHoldtimeOfLearnedMembersFollowsTheOptions(t *testing.T) {
	tests := []struct {
		name     string
		from, to time.Duration
		want     fdb.Time // up to a second later
	}{
		{"shorter", 90 * time.Second, 20 * time.Second, 25 * sec},
		{"longer", 20 * time.Second, 90 * time.Second, 95 * sec},
		{"to static", 20 * time.Second, fdb.Static, fdb.Never},
		{"from static", fdb.Static, 20 * time.Second, 25 * sec},
		{"in the past", 90 * time.Second, time.Second, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: tt.from})
			learnAll(tab, 0)
			lookup(tab, 5*sec, 1, v4a)
			tab.Configure(10*sec, fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: tt.to})
			es := tab.Entries(10*sec, 1, nil)
			if tt.want < 0 {
				if len(es) > 0 {
					t.Errorf("got %v, want no entry: its time has run out", es)
				}
				return
			}
			if len(es) != 1 || es[0].Expires < tt.want || es[0].Expires.Sub(tt.want) > time.Second {
				t.Errorf("got %v, want one that expires at %v", es, tt.want)
			}
		})
	}
}
