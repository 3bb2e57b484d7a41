// SPDX-License-Identifier: Apache-2.0

package fdb

import "math/bits"

// none stands for no record wherever records are named by their number.
const none = ^uint32(0)

// An index finds records in an array by the hash of their key: open addressing
// with linear probing over cells of four bytes. A cell's low bits hold the
// record's number plus one, as many bits as the length of the table has; the rest hold
// bits of the hash, so that other records are hardly ever looked at. The zero
// value is empty and usable. Which record has which key is the owner's business.
type index struct {
	cells []uint32
	used  int
}

// A probe walks the records that may have the key of one hash.
type probe struct {
	cells     []uint32
	pos       uint32
	mask, tag uint32
}

func (x *index) probe(h uint64) probe {
	mask := uint32(len(x.cells) - 1)
	return probe{cells: x.cells, pos: uint32(h), mask: mask, tag: uint32(h>>32) &^ mask}
}

// next returns the number of the next candidate, or none.
func (p *probe) next() uint32 {
	if len(p.cells) == 0 {
		return none
	}
	for {
		c := p.cells[p.pos&p.mask]
		if c == 0 {
			return none
		}
		p.pos++
		if (c^p.tag)&^p.mask == 0 {
			return c&p.mask - 1
		}
	}
}

// insert adds record n, whose key has hash h and is not in the index. Where the
// table has to grow, hash is asked for the hash of each other record, and the
// number of cells that it had is returned.
func (x *index) insert(h uint64, n uint32, hash func(n uint32) uint64) (moved int) {
	// At 13/16 a miss reads about one cache line of cells.
	if int(n)+1 >= len(x.cells) || (x.used+1)*16 > len(x.cells)*13 {
		moved = len(x.cells)
		x.grow(max(int(n)+2, (x.used+1)*16/13+1), hash)
	}
	x.place(h, n)
	x.used++
	return moved
}

func (x *index) place(h uint64, n uint32) {
	mask := uint32(len(x.cells) - 1)
	i := uint32(h) & mask
	for x.cells[i] != 0 {
		i = (i + 1) & mask
	}
	x.cells[i] = uint32(h>>32)&^mask | (n + 1)
}

func (x *index) grow(need int, hash func(n uint32) uint64) {
	old := x.cells
	mask := uint32(len(old) - 1)
	x.cells = make([]uint32, max(8, 1<<bits.Len(uint(need-1))))
	for _, c := range old {
		if c != 0 {
			n := c&mask - 1
			x.place(hash(n), n)
		}
	}
}

// cell returns the number of the cell of record n, whose key has hash h. The
// record must be in the index.
func (x *index) cell(h uint64, n uint32) uint32 {
	mask := uint32(len(x.cells) - 1)
	i := uint32(h) & mask
	for x.cells[i]&mask != n+1 {
		i = (i + 1) & mask
	}
	return i
}

// remove takes out record n, whose key has hash h. The cells behind it move up,
// so no marks of removed records pile up; hash is asked where they belong.
func (x *index) remove(h uint64, n uint32, hash func(n uint32) uint64) {
	mask := uint32(len(x.cells) - 1)
	hole := x.cell(h, n)
	for i := (hole + 1) & mask; x.cells[i] != 0; i = (i + 1) & mask {
		home := uint32(hash(x.cells[i]&mask-1)) & mask
		if (i-home)&mask >= (i-hole)&mask {
			x.cells[hole] = x.cells[i]
			hole = i
		}
	}
	x.cells[hole] = 0
	if x.used--; x.used == 0 {
		x.cells = nil
	}
}
