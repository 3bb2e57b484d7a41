// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

func TestClasses(t *testing.T) {
	for n := 1; n <= maxCount; n++ {
		c := classOf(n)
		if classes[c] < n || c > 0 && classes[c-1] >= n {
			t.Fatalf("got class %d of %d records for %d members", c, classes[c], n)
		}
	}
	if c := classOf(2 * maxCount); classes[c] != slabMembers {
		t.Errorf("got class %d, want the largest", c)
	}
}

// counting returns a function that grows without end, and what it counts.
func counting(most int) (grow func() (int, error), grown *int) {
	grown = new(int)
	return func() (int, error) {
		if *grown == most {
			return 0, unix.ENOSPC
		}
		*grown++
		return *grown - 1, nil
	}, grown
}

// TestBlocksNeverOverlap takes and gives at random.
func TestBlocksNeverOverlap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	grow, grown := counting(maxSegments)
	b := newBlocks(grow)
	type taken struct {
		at    position
		class int
	}
	var held []taken
	used := make([]bool, maxSegments*segmentMembers) // by position
	for step := range 20_000 {
		// Now few are held, now many.
		if n := 200 * (1 + step/4000%2); len(held) > 0 && (len(held) > n || r.IntN(3) == 0) {
			i := r.IntN(len(held))
			h := held[i]
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			for k := range classes[h.class] {
				used[h.at+position(k)] = false
			}
			b.give(h.at)
			continue
		}
		class := r.IntN(len(classes))
		at, err := b.take(class)
		if err != nil {
			t.Fatal(err)
		}
		if at.segment() >= *grown || at.index()+classes[class] > segmentMembers {
			t.Fatalf("got a block of %d at %d in segment %d of %d", classes[class], at.index(), at.segment(), *grown)
		}
		for k := range classes[class] {
			if used[at+position(k)] {
				t.Fatalf("record %d of segment %d is in two blocks", at.index()+k, at.segment())
			}
			used[at+position(k)] = true
		}
		held = append(held, taken{at, class})
	}
	for _, h := range held {
		b.give(h.at)
	}
	if got, want := len(b.idle), *grown*segmentSlabs; got != want || b.segments != *grown {
		t.Errorf("got %d slabs idle in %d segments, want %d", got, b.segments, want)
	}
	for c, open := range b.open {
		if len(open) > 0 {
			t.Errorf("slabs %v of class %d have room, and no block", open, c)
		}
	}
}

// TestListsThatGrowLeaveRoomToOthers has a thousand lists grow to a thousand
// members, each of which goes through all classes.
func TestListsThatGrowLeaveRoomToOthers(t *testing.T) {
	grow, grown := counting(maxSegments)
	b := newBlocks(grow)
	const lists, members = 1000, 1000
	at := make([]position, lists)
	for class := range classOf(members) + 1 {
		for i := range at {
			next, err := b.take(class)
			if err != nil {
				t.Fatalf("after %d segments: %v", *grown, err)
			}
			if class > 0 {
				b.give(at[i])
			}
			at[i] = next
		}
	}
	if most := 30; *grown > most {
		t.Errorf("got %d segments, want %d at most", *grown, most)
	}
}

func TestBlocksSayWhenThereIsNoRoom(t *testing.T) {
	grow, _ := counting(1)
	b := newBlocks(grow)
	for i := range segmentSlabs {
		if _, err := b.take(len(classes) - 1); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	if _, err := b.take(0); err == nil {
		t.Error("got a block where there is no room")
	}
	b.give(makePosition(0, 3*slabMembers))
	if at, err := b.take(0); err != nil || at != makePosition(0, 3*slabMembers) {
		t.Errorf("got %v, %v, want the room of the block that was given back", at, err)
	}
}
