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
