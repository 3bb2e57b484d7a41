// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"cmp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// A sum is what is shown of a VNI's counters, in the order of vniFamilies.
type sum [5]uint64

func sumOf(c *metrics.VNICount) sum {
	s := sum{c.Packets, c.Bytes, c.Copies}
	for d, n := range c.Drops {
		if metrics.Drop(d).PerCopy() {
			s[4] += n
		} else {
			s[3] += n
		}
	}
	return s
}

func (s sum) plus(o sum) sum {
	for i := range s {
		s[i] += o[i]
	}
	return s
}

// minus returns s without o. Nothing becomes less than 0.
func (s sum) minus(o sum) sum {
	for i := range s {
		s[i] -= min(s[i], o[i])
	}
	return s
}

func (s sum) atLeast(o sum) sum {
	for i := range s {
		s[i] = max(s[i], o[i])
	}
	return s
}

// back tells whether a counter of s has gone back since it was o.
func (s sum) back(o sum) bool { return s.minus(o).plus(o) != s }

// A series is what is shown of one VNI, or of all others.
type series struct {
	labels  []*dto.LabelPair
	members int
	counted sum
}

// others is the name of all VNIs together that have no series of their own.
const others = "other"

// A shown VNI has series of its own.
type shown struct {
	labels  []*dto.LabelPair
	members int
	// last is what was counted at last. base is the part of it that was shown among
	// the others before, and stays there. series is what its series had.
	last, base, series sum
	round              uint64 // the scrape that it was there at last
}

// A selection decides which VNIs have series of their own, from one scrape to
// the next. A series that is there stays while its VNI is known; only those of
// VNIs without a packet so far make room for VNIs with some. Each packet is
// counted in one series, and no counter goes back when a VNI changes places: it
// starts at 0 in a place of its own, and the past of one that is gone is not
// counted again among the others. It is not safe for concurrent use.
type selection struct {
	vnis  map[vxlan.VNI]*shown
	round uint64
	// rest tells whether the last scrape had VNIs without a place.
	rest bool
	// gone was shown in places of their own that are no more; other is what was
	// shown of the others.
	gone, other sum
}

// choose returns the series of a scrape, of at most places VNIs and of the
// others, in the order of their names. Without places there are none.
func (s *selection) choose(f *Figures, places int) []series {
	if places <= 0 {
		*s = selection{}
		return nil
	}
	if s.vnis == nil {
		s.vnis = map[vxlan.VNI]*shown{}
	}
	s.round++
	total, waiting := s.follow(f)
	s.forget()
	s.bound(places)
	s.admit(waiting, places)

	out := make([]series, 0, len(s.vnis)+1)
	members, own := 0, s.gone
	for _, v := range s.vnis {
		v.series = v.last.minus(v.base)
		out = append(out, series{v.labels, v.members, v.series})
		own = own.plus(v.series)
	}
	for _, v := range f.VNIs {
		if s.vnis[v.VNI] == nil {
			members += v.Members
		}
	}
	s.rest = len(f.VNIs) > len(s.vnis)
	// What is folded at this moment may be missing from the total.
	s.other = total.minus(own).atLeast(s.other)
	out = append(out, series{vniLabels(others), members, s.other})
	// The registry sorts each metric by its labels, which costs little of what is
	// in order already.
	slices.SortFunc(out, func(a, b series) int { return strings.Compare(a.labels[0].GetValue(), b.labels[0].GetValue()) })
	return out
}

// A candidate is a VNI that has no place.
type candidate struct {
	vni     vxlan.VNI
	members int
	counted sum
}

// busy is what the order of candidates goes by.
func (s sum) busy() uint64 { return s[0] + s[2] }

// follow takes in the counters of the VNIs that have places, and returns the
// others and the total of all.
func (s *selection) follow(f *Figures) (total sum, waiting []candidate) {
	total = sumOf(&f.Other)
	for i := range f.VNIs {
		v := &f.VNIs[i]
		now := sumOf(&v.VNICount)
		total = total.plus(now)
		has := s.vnis[v.VNI]
		if has == nil {
			waiting = append(waiting, candidate{v.VNI, v.Members, now})
			continue
		}
		if now.back(has.last) {
			// Its row was folded into the others' and begins anew.
			s.gone = s.gone.plus(has.series)
			has.base, has.series = sum{}, sum{}
		}
		has.last, has.members, has.round = now, v.Members, s.round
	}
	return total, waiting
}

// forget takes the places of VNIs that are not known any more.
func (s *selection) forget() {
	for vni, v := range s.vnis {
		if v.round != s.round {
			s.leave(vni)
		}
	}
}

func (s *selection) leave(vni vxlan.VNI) {
	s.gone = s.gone.plus(s.vnis[vni].series)
	delete(s.vnis, vni)
}

// bound takes places from the least busy VNIs when there are fewer now.
func (s *selection) bound(places int) {
	over := len(s.vnis) - places
	if over <= 0 {
		return
	}
	for _, vni := range s.byBusy()[:over] {
		s.leave(vni)
	}
}

// byBusy returns the VNIs that have places, those with the fewest packets first.
func (s *selection) byBusy() []vxlan.VNI {
	out := make([]vxlan.VNI, 0, len(s.vnis))
	for vni := range s.vnis {
		out = append(out, vni)
	}
	slices.SortFunc(out, func(a, b vxlan.VNI) int {
		return cmp.Or(cmp.Compare(s.vnis[a].last.busy(), s.vnis[b].last.busy()), cmp.Compare(b, a))
	})
	return out
}

// admit gives free places, and those of VNIs without a packet, to the busiest
// of those that wait.
func (s *selection) admit(waiting []candidate, places int) {
	var least []vxlan.VNI // those to leave, once the first has to
	if len(s.vnis)+len(waiting) > places {
		slices.SortFunc(waiting, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(b.counted.busy(), a.counted.busy()), cmp.Compare(a.vni, b.vni))
		})
	}
	for _, c := range waiting {
		if len(s.vnis) >= places {
			if c.counted.busy() == 0 {
				return
			}
			if least == nil {
				least = s.byBusy()
			}
			if len(least) == 0 || s.vnis[least[0]].last.busy() > 0 {
				return
			}
			s.leave(least[0])
			least = least[1:]
		}
		has := &shown{labels: vniLabels(c.vni.String()), members: c.members, last: c.counted, round: s.round}
		if s.rest {
			has.base = c.counted
		}
		s.vnis[c.vni] = has
	}
}
