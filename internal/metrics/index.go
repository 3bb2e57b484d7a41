// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"

	"vxsnd/internal/vxlan"
)

// A senderKey is a VNI and the 16 bytes of an address in two words, which
// compare faster than bytes.
type senderKey struct {
	a, b uint64
	vni  vxlan.VNI // noVNI in a free row
}

func keyOf(vni vxlan.VNI, addr *[16]byte) senderKey {
	return senderKey{binary.LittleEndian.Uint64(addr[:8]), binary.LittleEndian.Uint64(addr[8:]), vni}
}

func (k *senderKey) addr() netip.Addr {
	var a [16]byte
	binary.LittleEndian.PutUint64(a[:8], k.a)
	binary.LittleEndian.PutUint64(a[8:], k.b)
	return netip.AddrFrom16(a).Unmap()
}

// A senderIndex finds the rows of senders: open addressing with linear probing
// over cells that hold a row's place plus one, 0 for none. A map takes twice as long,
// and this is looked up once per packet. The zero value is empty and usable.
type senderIndex struct {
	cells []uint32
	used  int
	seed  [2]uint64 // so that nobody can choose addresses that collide
}

// home is the cell where the probing for a key begins.
func (x *senderIndex) home(k *senderKey) int {
	hi, lo := bits.Mul64(k.a^uint64(k.vni)<<32^x.seed[0], k.b^x.seed[1])
	return int(hi^lo) & (len(x.cells) - 1)
}

// find returns the place of a key's row.
func (x *senderIndex) find(k senderKey, rows []senderRow) (at uint32, ok bool) {
	if x.used == 0 {
		return 0, false
	}
	for i := x.home(&k); ; i = (i + 1) & (len(x.cells) - 1) {
		c := x.cells[i]
		if c == 0 {
			return 0, false
		}
		if rows[c-1].key == k {
			return c - 1, true
		}
	}
}

// insert adds the row at a place, whose key is not in the index.
func (x *senderIndex) insert(at uint32, rows []senderRow) {
	if x.used++; 2*x.used > len(x.cells) {
		old := x.cells
		x.cells = make([]uint32, max(64, 2*len(old)))
		x.seed = [2]uint64{rand.Uint64(), rand.Uint64()}
		for _, c := range old {
			if c != 0 {
				x.place(c, rows)
			}
		}
	}
	x.place(at+1, rows)
}

func (x *senderIndex) place(c uint32, rows []senderRow) {
	i := x.home(&rows[c-1].key)
	for x.cells[i] != 0 {
		i = (i + 1) & (len(x.cells) - 1)
	}
	x.cells[i] = c
}

// remove takes out the row at a place, which still has its key. Those behind it
// move up where their probing would end at the gap.
func (x *senderIndex) remove(at uint32, rows []senderRow) {
	mask := len(x.cells) - 1
	gap := x.home(&rows[at].key)
	for x.cells[gap] != at+1 {
		gap = (gap + 1) & mask
	}
	x.used--
	for i := gap; ; {
		x.cells[gap] = 0
		for {
			i = (i + 1) & mask
			c := x.cells[i]
			if c == 0 {
				return
			}
			// It may stay where its home lies between the gap and itself.
			if home := x.home(&rows[c-1].key); (i-home)&mask >= (i-gap)&mask {
				x.cells[gap], gap = c, i
				break
			}
		}
	}
}
