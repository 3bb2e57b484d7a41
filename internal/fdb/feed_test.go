// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

func ready(f *fdb.Feed) bool {
	select {
	case <-f.C():
		return true
	default:
		return false
	}
}

func TestFeed(t *testing.T) {
	tab := newTable()
	all := tab.Subscribe(100, fdb.KindAdded|fdb.KindRefreshed|fdb.KindRemoved)
	few := tab.Subscribe(100, fdb.KindRemoved)
	tab.Apply(0, []fdb.Update{reg(v4a, 7, time.Minute), reg(v4a, 7, 2*time.Minute), reg(v4b, 7, time.Minute), from(fdb.Peer, reg(v4c, 0, time.Second))})
	tab.Apply(sec/2, []fdb.Update{reg(v4b, 7, 0)})
	tab.Sweep(sec)
	entry := func(a netip.Addr, id uint64, s fdb.Source, exp fdb.Time) fdb.Entry {
		return fdb.Entry{VNI: 1, Addr: a, Identifier: id, Source: s, Expires: exp}
	}
	want := []fdb.Change{
		{Kind: fdb.Added, Entry: entry(v4a, 7, fdb.Registration, 60*sec)},
		{Kind: fdb.Refreshed, Entry: entry(v4a, 7, fdb.Registration, 120*sec)},
		{Kind: fdb.Removed, Reason: fdb.ReplacedBy, Entry: entry(v4a, 7, fdb.Registration, 120*sec)},
		{Kind: fdb.Added, Entry: entry(v4b, 7, fdb.Registration, 60*sec)},
		{Kind: fdb.Added, Entry: entry(v4c, 0, fdb.Peer, sec)},
		{Kind: fdb.Removed, Reason: fdb.Withdrawn, Entry: entry(v4b, 7, fdb.Registration, 60*sec)},
		{Kind: fdb.Removed, Reason: fdb.Expired, Entry: entry(v4c, 0, fdb.Peer, sec)},
	}
	if !ready(all) || !ready(few) || ready(all) {
		t.Errorf("want one signal for each feed")
	}
	got, lost := all.Take(nil)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || lost {
		t.Errorf("lost %v (-want +got):\n%s", lost, diff)
	}
	got, _ = few.Take(nil)
	if diff := cmp.Diff([]fdb.Change{want[2], want[5], want[6]}, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("removals (-want +got):\n%s", diff)
	}
	few.Close()
	few.Close()
	tab.Sweep(1000 * sec)
	if got, lost := few.Take(nil); len(got) != 0 || lost {
		t.Errorf("got %v, %v from a closed feed", got, lost)
	}
}

func TestFeedOverflow(t *testing.T) {
	tab := newTable()
	f := tab.Subscribe(2, fdb.KindAdded)
	add := func(i int) { tab.Apply(0, []fdb.Update{reg(vtep(i), 0, time.Minute)}) }
	for i := range 5 {
		add(i)
	}
	if got, lost := f.Take(nil); len(got) != 0 || !lost || f.Missed() != 5 {
		t.Errorf("got %v, lost %v, missed %d, want nothing but lost, and 5 missed", got, lost, f.Missed())
	}
	add(6)
	if got, lost := f.Take(nil); len(got) != 1 || lost {
		t.Errorf("got %v, lost %v, want it to go on", got, lost)
	}
	ready(f)
	tab.Exclude(map[netip.Addr]fdb.Exclusion{v4a: fdb.ExcludedOwn})
	if _, lost := f.Take(nil); !lost || !ready(f) {
		t.Errorf("want a new set of excluded addresses to be told as a loss")
	}
	tab.Exclude(map[netip.Addr]fdb.Exclusion{v4a: fdb.ExcludedDenied})
	if _, lost := f.Take(nil); lost {
		t.Errorf("got a loss where no destination can have changed")
	}
	if got := f.Missed(); got != 5 {
		t.Errorf("got %d changes missed, want 5: a set of addresses is none", got)
	}
}

// Changes of other VNIs take no room.
func TestFeedOfOneVNI(t *testing.T) {
	tab := newTable()
	f := tab.SubscribeVNI(1, fdb.KindAdded, 7)
	for vni := range vxlan.VNI(20) {
		tab.Apply(0, []fdb.Update{{VNI: vni, Addr: v4a, Source: fdb.Operator, Holdtime: fdb.Static}})
	}
	if got, lost := f.Take(nil); len(got) != 1 || got[0].VNI != 7 || lost {
		t.Errorf("got %v, lost %v, want the one of VNI 7", got, lost)
	}
}

func TestCollisions(t *testing.T) {
	const long = time.Minute
	steps := func(hold time.Duration, as ...netip.Addr) []fdb.Update {
		var us []fdb.Update
		for _, a := range as {
			us = append(us, reg(a, 7, hold))
		}
		return us
	}
	tests := []struct {
		name string
		us   []fdb.Update
		gap  fdb.Time
		want []fdb.Collision
	}{
		{"one address", steps(long, v4a, v4a, v4a), sec, nil},
		{"a move", steps(long, v4a, v4b, v4b), sec, nil},
		{"two moves", steps(long, v4a, v4b, v4c), sec, nil},
		{"back", steps(long, v4a, v4b, v4a), sec, []fdb.Collision{{VNI: 1, Identifier: 7, First: v4a, Second: v4b, Count: 1}}},
		{"to and fro", steps(long, v4a, v4b, v4a, v4b, v4a), sec, []fdb.Collision{{VNI: 1, Identifier: 7, First: v4a, Second: v4b, Count: 3}}},
		{"back after the time", steps(long, v4a, v4b, v4a), 60 * sec, nil},
		{"static, back a day later", steps(fdb.Static, v4a, v4b, v4a), 86400 * sec, nil},
		{"two families", steps(long, v4a, v6a, v4a, v6a), sec, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := newTable()
			for i, u := range tt.us {
				tab.Apply(fdb.Time(i)*tt.gap, []fdb.Update{u})
			}
			if diff := cmp.Diff(tt.want, tab.Collisions(nil), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := tab.Collisions(nil); got != nil {
				t.Errorf("got %v once more, want nothing", got)
			}
		})
	}
}

func TestCollisionsAreBounded(t *testing.T) {
	tab := newTable()
	for id := range uint64(20_000) {
		for _, a := range []netip.Addr{v4a, v4b, v4a} {
			tab.Apply(0, []fdb.Update{reg(a, id+1, time.Minute)})
		}
		tab.Apply(0, []fdb.Update{reg(v4a, id+1, 0)})
	}
	if got := len(tab.Collisions(nil)); got != 1024 {
		t.Errorf("got %d, want 1024", got)
	}
}
