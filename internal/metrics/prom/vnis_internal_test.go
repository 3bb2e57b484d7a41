// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// of returns figures with these VNIs, with so many packets and one member each.
func of(packets map[vxlan.VNI]uint64) *Figures {
	f := &Figures{}
	for _, vni := range slices.Sorted(maps.Keys(packets)) {
		f.VNIs = append(f.VNIs, VNI{VNI: vni, Members: 1, VNICount: metrics.VNICount{Packets: packets[vni]}})
	}
	return f
}

// packets returns the packets of each series.
func packets(all []series) map[string]uint64 {
	out := map[string]uint64{}
	for _, s := range all {
		out[s.labels[0].GetValue()] = s.counted[0]
	}
	return out
}

// Which VNIs have series of their own, from scrape to scrape.
func TestChoose(t *testing.T) {
	type scrape struct {
		packets map[vxlan.VNI]uint64
		places  int
		want    string
	}
	for _, tt := range []struct {
		name    string
		scrapes []scrape
	}{
		{"no places, no series", []scrape{{map[vxlan.VNI]uint64{1: 5}, 0, ""}}},
		{"room for all", []scrape{{map[vxlan.VNI]uint64{1: 5, 2: 0}, 2, "1=5 2=0 other=0"}}},
		{"the busiest of many", []scrape{{map[vxlan.VNI]uint64{1: 5, 2: 9, 3: 7}, 2, "2=9 3=7 other=5"}}},
		{"who has a place keeps it", []scrape{
			{map[vxlan.VNI]uint64{1: 5, 2: 9}, 2, "1=5 2=9 other=0"},
			{map[vxlan.VNI]uint64{1: 5, 2: 9, 3: 100}, 2, "1=5 2=9 other=100"},
		}},
		{"who had no packet makes room", []scrape{
			{map[vxlan.VNI]uint64{1: 0, 2: 0, 3: 0}, 2, "1=0 2=0 other=0"},
			{map[vxlan.VNI]uint64{1: 0, 2: 0, 3: 4}, 2, "1=0 3=0 other=4"},
			{map[vxlan.VNI]uint64{1: 0, 2: 2, 3: 6}, 2, "2=0 3=2 other=6"},
			{map[vxlan.VNI]uint64{1: 1, 2: 3, 3: 6}, 2, "2=1 3=2 other=7"},
		}},
		{"a free place goes to the busiest", []scrape{
			{map[vxlan.VNI]uint64{1: 5, 2: 9}, 2, "1=5 2=9 other=0"},
			{map[vxlan.VNI]uint64{1: 6, 2: 9, 3: 3, 4: 8}, 2, "1=6 2=9 other=11"},
			{map[vxlan.VNI]uint64{2: 9, 3: 4, 4: 9}, 2, "2=9 4=0 other=13"},
		}},
		{"a new one counts from the beginning", []scrape{
			{map[vxlan.VNI]uint64{1: 5}, 2, "1=5 other=0"},
			{map[vxlan.VNI]uint64{1: 5, 2: 3}, 2, "1=5 2=3 other=0"},
		}},
		{"one that comes back begins anew", []scrape{
			{map[vxlan.VNI]uint64{1: 5, 2: 3}, 2, "1=5 2=3 other=0"},
			{map[vxlan.VNI]uint64{1: 5}, 2, "1=5 other=0"},
			{map[vxlan.VNI]uint64{1: 5, 2: 1}, 2, "1=5 2=1 other=0"},
		}},
		{"fewer places, the least busy leave", []scrape{
			{map[vxlan.VNI]uint64{1: 5, 2: 9, 3: 7}, 3, "1=5 2=9 3=7 other=0"},
			{map[vxlan.VNI]uint64{1: 6, 2: 9, 3: 7}, 2, "2=9 3=7 other=1"},
			{map[vxlan.VNI]uint64{1: 8, 2: 9, 3: 7}, 3, "1=0 2=9 3=7 other=3"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s selection
			folded := uint64(0)
			before := map[vxlan.VNI]uint64{}
			for i, sc := range tt.scrapes {
				f := of(sc.packets)
				// What is not known any more is folded.
				for vni, n := range before {
					if _, ok := sc.packets[vni]; !ok {
						folded += n
					}
				}
				before = sc.packets
				f.Other.Packets = folded
				got := packets(s.choose(f, sc.places))
				var words []string
				for _, vni := range slices.Sorted(maps.Keys(got)) {
					words = append(words, vni+"="+vxlan.VNI(got[vni]).String())
				}
				if text := strings.Join(words, " "); text != sc.want {
					t.Errorf("scrape %d: got %s, want %s", i+1, text, sc.want)
				}
			}
		})
	}
}

// Others are as many members as have no place.
func TestMembersOfOthers(t *testing.T) {
	var s selection
	all := s.choose(of(map[vxlan.VNI]uint64{1: 5, 2: 9, 3: 7, 4: 1}), 1)
	if len(all) != 2 || all[0].members != 1 || all[1].members != 3 {
		t.Errorf("got %v, want one member and three others", all)
	}
}

// What is folded while the figures are taken is missing for once. No counter
// goes back then.
func TestFoldedMeanwhile(t *testing.T) {
	var s selection
	s.choose(of(map[vxlan.VNI]uint64{1: 5, 2: 9, 3: 7}), 1)
	if got := packets(s.choose(of(map[vxlan.VNI]uint64{2: 9}), 1)); got[others] != 12 {
		t.Errorf("got %v, want the others as before", got)
	}
	f := of(map[vxlan.VNI]uint64{2: 10})
	f.Other.Packets = 14
	if got := packets(s.choose(f, 1)); got[others] != 14 || got["2"] != 10 {
		t.Errorf("got %v, want 14 others", got)
	}
}

// Whatever comes and goes, each packet is in the increase of exactly one
// series, as Prometheus reckons it: by the difference, or by all that a counter
// has that began anew.
func TestEachPacketIncreasesOneSeries(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s selection
		known := map[vxlan.VNI]uint64{}
		var folded, sent, increase uint64
		last := map[string]uint64{}
		places := 1 + r.IntN(8)
		for range 200 {
			for range r.IntN(4) {
				known[vxlan.VNI(r.IntN(20))] += 0
			}
			for vni := range known {
				switch n := uint64(r.IntN(100)); {
				case n < 5:
					folded += known[vni]
					delete(known, vni)
				case n < 8: // its row made room and came back
					folded += known[vni]
					known[vni] = 0
				case n < 60:
					known[vni] += n
					sent += n
				}
			}
			if r.IntN(20) == 0 {
				places = 1 + r.IntN(8)
			}
			f := of(known)
			f.Other.Packets = folded
			all := s.choose(f, places)
			if len(all) > places+1 {
				t.Fatalf("seed %d: got %d series, want at most %d and the others", seed, len(all), places)
			}
			now := packets(all)
			for vni, n := range now {
				if n < last[vni] {
					if vni == others {
						t.Fatalf("seed %d: others went from %d to %d", seed, last[vni], n)
					}
					increase += n
				} else {
					increase += n - last[vni]
				}
			}
			last = now
			if increase != sent {
				t.Fatalf("seed %d: got an increase of %d, want %d", seed, increase, sent)
			}
		}
	}
}
