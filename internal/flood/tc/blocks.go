// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"slices"
	"unsafe"
)

const (
	// slabMembers are the records of a slab: as many as the largest block has.
	slabMembers  = 1 << 12
	segmentSlabs = segmentMembers / slabMembers
	segmentBytes = segmentMembers * int(unsafe.Sizeof(programMember{}))
)

// classes are how many members blocks have room for. A third of a block is
// unused at most, but for the smallest.
var classes = func() []int {
	out := []int{4}
	for n := 4; out[len(out)-1] < maxCount; n *= 2 {
		out = append(out, n+n/2, 2*n)
	}
	return out
}()

// classOf returns the smallest class with room for n members, the largest one
// where none has.
func classOf(n int) int {
	c, _ := slices.BinarySearch(classes, n)
	return min(c, len(classes)-1)
}

// Blocks gives out the room for members in segments: blocks of consecutive
// records, cut from slabs. All blocks of a slab are of one class, until none of
// it is in use: lists that grow leave room for those that come after. It is not
// safe for concurrent use.
type blocks struct {
	// grow adds a segment and returns its number.
	grow func() (int, error)

	segments int
	slabs    []slab  // of all segments
	idle     []int   // slabs of no class
	open     [][]int // by class: slabs with room
}

// A slab is a part of a segment.
type slab struct {
	class int
	used  int      // blocks
	next  int      // the end of what was given out
	free  []uint16 // where blocks begin that were given back
	place int      // in blocks.open
}

func newBlocks(grow func() (int, error)) *blocks {
	return &blocks{grow: grow, open: make([][]int, len(classes))}
}

// take returns a block of a class.
func (b *blocks) take(class int) (position, error) {
	if len(b.open[class]) == 0 {
		if err := b.begin(class); err != nil {
			return 0, err
		}
	}
	n := b.open[class][len(b.open[class])-1]
	s := &b.slabs[n]
	at := s.next
	if f := len(s.free); f > 0 {
		at, s.free = int(s.free[f-1]), s.free[:f-1]
	} else {
		s.next += classes[class]
	}
	s.used++
	if s.full() {
		b.close(s)
	}
	return makePosition(n/segmentSlabs, n%segmentSlabs*slabMembers+at), nil
}

// begin makes an idle slab one of a class.
func (b *blocks) begin(class int) error {
	if len(b.idle) == 0 {
		segment, err := b.grow()
		if err != nil {
			return err
		}
		b.segments++
		b.slabs = append(b.slabs, make([]slab, (segment+1)*segmentSlabs-len(b.slabs))...)
		for i := range segmentSlabs {
			b.idle = append(b.idle, (segment+1)*segmentSlabs-1-i)
		}
	}
	n := b.idle[len(b.idle)-1]
	b.idle = b.idle[:len(b.idle)-1]
	b.slabs[n].class = class
	b.reopen(n)
	return nil
}

// give takes a block back.
func (b *blocks) give(p position) {
	n := p.segment()*segmentSlabs + p.index()/slabMembers
	s := &b.slabs[n]
	if s.full() {
		b.reopen(n)
	}
	s.free = append(s.free, uint16(p.index()%slabMembers))
	if s.used--; s.used == 0 {
		b.close(s)
		*s = slab{}
		b.idle = append(b.idle, n)
	}
}

func (s *slab) full() bool { return len(s.free) == 0 && s.next+classes[s.class] > slabMembers }

// reopen puts a slab among those with room.
func (b *blocks) reopen(n int) {
	s := &b.slabs[n]
	s.place = len(b.open[s.class])
	b.open[s.class] = append(b.open[s.class], n)
}

// close takes a slab off those with room.
func (b *blocks) close(s *slab) {
	o := b.open[s.class]
	last := len(o) - 1
	o[s.place] = o[last]
	b.slabs[o[last]].place = s.place
	b.open[s.class] = o[:last]
}
