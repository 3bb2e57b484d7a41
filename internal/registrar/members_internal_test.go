// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const hold = 90 * time.Second

// A said is one event of a member list: at a second since it began, an answer or
// something else that happens to it.
type said struct {
	at      int    // seconds
	from    string // "" for none of an answer
	names   string // members, by the last number of 10.0.0.N
	partial bool
	nodes   string // other service nodes, for "nodes"
	what    string // "" answer, "nodes", "expire" after 300 s, "own", "wake"
	want    string // members after it
}

func named(s string) []netip.Addr {
	var out []netip.Addr
	for _, f := range strings.Fields(s) {
		out = append(out, addr("10.0.0."+f))
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func TestMemberList(t *testing.T) {
	const one, two = "100", "100 101"
	tests := []struct {
		name, nodes, base string
		said              []said
	}{
		{"an answer replaces the one before", one, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{at: 30, from: "10.0.0.100", names: "3 4", want: "3 4"},
			{at: 60, from: "10.0.0.100", names: "", want: ""},
		}},
		{"one service node answers from anywhere", one, "", []said{
			{from: "10.0.0.201", names: "2", want: "2"},
			{from: "10.0.0.202", names: "3", want: "3"},
		}},
		{"service nodes add up", two, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{from: "10.0.0.101", names: "3 4", want: "2 3 4"},
			{at: 30, from: "10.0.0.100", names: "3", want: "3 4"},
			{at: 30, from: "10.0.0.250", names: "9", want: "3 4 9"},
			{at: 30, from: "10.0.0.251", names: "8", want: "3 4 8"},
		}},
		{"who is silent while others speak is kept", two, "", []said{
			{from: "10.0.0.100", names: "2", want: "2"},
			{from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 90, from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 5000, from: "10.0.0.101", names: "3 4", want: "2 3 4"},
			{at: 5001, from: "10.0.0.100", names: "4", want: "3 4"},
		}},
		{"what one drops is struck out of who is silent", two, "", []said{
			{from: "10.0.0.100", names: "2 3 5", want: "2 3 5"},
			{from: "10.0.0.101", names: "3 4 5", want: "2 3 4 5"},
			{at: 20, from: "10.0.0.101", names: "4 5", want: "2 3 4 5"},
			{at: 89, from: "10.0.0.101", names: "4 5", want: "2 3 4 5"},
			{at: 90, from: "10.0.0.101", names: "4 5", want: "2 4 5"},
			{at: 120, from: "10.0.0.101", names: "4", want: "2 4"},
			{at: 121, from: "10.0.0.100", names: "2 3 5", want: "2 3 4 5"},
		}},
		{"what it names again is not", two, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 20, from: "10.0.0.101", names: "", want: "2 3"},
			{at: 40, from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 100, from: "10.0.0.101", names: "3", want: "2 3"},
		}},
		{"nor what a partial answer lacks", two, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 100, from: "10.0.0.101", names: "", partial: true, want: "2 3"},
		}},
		{"who is silent for the time that nobody was asked is not silent", two, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 1000, what: "wake", want: "2 3"},
			{at: 1001, from: "10.0.0.101", names: "", want: "2 3"},
			{at: 1090, from: "10.0.0.101", names: "", want: "2"},
		}},
		{"others are forgotten once all service nodes answer themselves", two, "", []said{
			{from: "10.0.0.250", names: "2 3", want: "2 3"},
			{from: "10.0.0.100", names: "3", want: "2 3"},
			{at: 1000, from: "10.0.0.100", names: "3", want: "2 3"},
			{at: 1001, from: "10.0.0.101", names: "4", want: "3 4"},
		}},
		{"a partial answer only adds", one, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{at: 30, from: "10.0.0.100", names: "4", partial: true, want: "2 3 4"},
			{at: 60, from: "10.0.0.100", names: "", partial: true, want: "2 3 4"},
			{at: 90, from: "10.0.0.100", names: "4", want: "4"},
		}},
		{"what was there before a restart stays until an answer", one, "2 3", []said{
			{at: 0, what: "nothing", want: "2 3"},
			{at: 1, from: "10.0.0.100", names: "3 4", want: "3 4"},
		}},
		{"a partial answer does not replace it", one, "2 3", []said{
			{at: 1, from: "10.0.0.100", names: "4", partial: true, want: "2 3 4"},
			{at: 1000, from: "10.0.0.100", names: "4", partial: true, want: "2 3 4"},
			{at: 1001, from: "10.0.0.100", names: "4 5", want: "4 5"},
		}},
		{"it stays until all service nodes have answered", two, "2 3 4", []said{
			{at: 1, from: "10.0.0.100", names: "3", want: "2 3 4"},
			{at: 90, from: "10.0.0.100", names: "3", want: "2 3 4"},
			{at: 1000, from: "10.0.0.100", names: "", want: "2 4"},
			{at: 1001, from: "10.0.0.101", names: "4", want: "4"},
		}},
		{"or answered from other addresses", two, "2 3 4", []said{
			{at: 1, from: "10.0.0.201", names: "3", want: "2 3 4"},
			{at: 90, from: "10.0.0.201", names: "3", want: "3"},
		}},
		{"other service nodes take over", one, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{at: 10, what: "nodes", nodes: two, want: "2 3"},
			{at: 11, from: "10.0.0.100", names: "3", want: "2 3"},
			{at: 11, from: "10.0.0.101", names: "4", want: "3 4"},
			{at: 20, what: "nodes", nodes: one, want: "3 4"},
			{at: 21, from: "10.0.0.100", names: "5", want: "5"},
		}},
		{"another single service node takes over", one, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{at: 10, what: "nodes", nodes: "101", want: "2 3"},
			{at: 11, from: "10.0.0.101", names: "3", want: "3"},
		}},
		{"expired, and filled again", two, "2", []said{
			{from: "10.0.0.100", names: "3", want: "2 3"},
			{at: 299, what: "expire", want: "2 3"},
			{at: 300, what: "expire", want: ""},
			{at: 600, from: "10.0.0.100", names: "3", want: "3"},
		}},
		{"each service node's members expire", two, "", []said{
			{from: "10.0.0.100", names: "2 3", want: "2 3"},
			{at: 100, from: "10.0.0.101", names: "3", want: "2 3"},
			{at: 300, what: "expire", want: "3"},
			{at: 400, what: "expire", want: ""},
		}},
		{"what was there before a restart does not while its service node answers", one, "2", []said{
			{at: 299, from: "10.0.0.100", names: "3", partial: true, want: "2 3"},
			{at: 300, what: "expire", want: "2 3"},
		}},
		{"an address of this machine goes", two, "2 9", []said{
			{from: "10.0.0.100", names: "3 9", want: "2 3 9"},
			{at: 10, what: "own", want: "2 3"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			l := newMemberList(named(tt.nodes), named(tt.base), start)
			for i, s := range tt.said {
				now := start.Add(time.Duration(s.at) * time.Second)
				before := l.members()
				kept := slices.Clone(before)
				changed := !slices.Equal(before, named(s.want))
				got := changed
				switch s.what {
				case "":
					got = l.take(now, hold, addr(s.from), named(s.names), s.partial)
				case "nodes":
					l.setNodes(named(s.nodes), now)
				case "expire":
					got, _ = l.expire(now, 300*time.Second)
				case "wake":
					l.wake(now)
				case "own":
					got = l.without(map[netip.Addr]struct{}{addr("10.0.0.9"): {}})
				}
				if m := l.members(); !slices.Equal(m, named(s.want)) {
					t.Fatalf("step %d: got %v, want %v", i, m, named(s.want))
				}
				if got != changed {
					t.Errorf("step %d: got changed %v, want %v", i, got, changed)
				}
				if !slices.Equal(before, kept) {
					t.Errorf("step %d: a list that was handed out was changed", i)
				}
			}
		})
	}
}

func TestMemberListTurnsStale(t *testing.T) {
	start := time.Now()
	l := newMemberList(named("100"), named("2"), start)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for _, step := range []struct {
		at     int
		answer bool
		stale  bool
	}{{0, false, false}, {89, false, false}, {90, false, true}, {95, true, false}, {184, false, false}, {185, false, true}} {
		if step.answer {
			l.take(at(step.at), hold, addr("10.0.0.100"), nil, true)
		}
		if got := l.stale(at(step.at), hold); got != step.stale {
			t.Errorf("at %d s: got stale %v, want %v", step.at, got, step.stale)
		}
	}
	if got := l.from(); !slices.Equal(got, addrs("10.0.0.100")) {
		t.Errorf("got answers from %v, want 10.0.0.100", got)
	}
}

// Whatever answers say, a list stays within its bound, and one that says the same
// again costs nothing.
func TestMemberListIsBounded(t *testing.T) {
	many := func(from int) []netip.Addr {
		var out []netip.Addr
		for i := range maxMembers + 100 {
			n := from + i
			out = append(out, netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
		}
		return out
	}
	start := time.Now()
	l := newMemberList(named("100"), nil, start)
	l.take(start, hold, addr("10.0.0.100"), many(0), false)
	l.take(start, hold, addr("10.0.0.100"), many(100_000), true)
	if got := len(l.members()); got != maxMembers {
		t.Errorf("got %d members, want %d", got, maxMembers)
	}
	same := slices.Clone(l.members())
	if got := testing.AllocsPerRun(10, func() { l.take(start, hold, addr("10.0.0.100"), same, false) }); got != 0 {
		t.Errorf("got %v allocations for the same answer, want 0", got)
	}
}

func TestMerge(t *testing.T) {
	random := func() []netip.Addr {
		var out []netip.Addr
		for range rand.IntN(8) {
			out = append(out, netip.AddrFrom4([4]byte{10, 0, 0, byte(rand.IntN(10))}))
		}
		slices.SortFunc(out, netip.Addr.Compare)
		return slices.Compact(out)
	}
	for range 10_000 {
		a, b := random(), random()
		want := slices.Concat(a, b)
		slices.SortFunc(want, netip.Addr.Compare)
		want = slices.Compact(want)
		if got := merge(a, b); !slices.Equal(got, want) {
			t.Fatalf("%v and %v: got %v, want %v", a, b, got, want)
		}
	}
}
