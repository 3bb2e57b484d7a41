// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/netip"
	"slices"
	"sync"

	"vxsnd/internal/vxlan"
)

// A Delta is what one packet adds to the figures of its VNI and its sender.
type Delta struct {
	VNI vxlan.VNI
	// Known says that the table knows the VNI, so that it may have a row. Forged
	// VNIs take no room so.
	Known bool
	// Sender says that Source sent the packet as a VTEP, so that it may have a row.
	Sender bool
	// Source is the outer source address, as netip.Addr.As16 has it.
	Source [16]byte
	// What the packet counts, as in VNICount.
	Packets, Copies  uint32
	Bytes, CopyBytes uint64
	// Drops counts by reason; Drop adds to it.
	Drops   [NumDrops]uint32
	dropped uint32 // sum of Drops
}

// Drop counts a dropped packet or copy.
func (d *Delta) Drop(why Drop) {
	d.Drops[why]++
	d.dropped++
}

func (d *Delta) addTo(c *VNICount) {
	c.Packets += uint64(d.Packets)
	c.Bytes += d.Bytes
	c.Copies += uint64(d.Copies)
	c.CopyBytes += d.CopyBytes
	if d.dropped == 0 {
		return
	}
	for i, n := range d.Drops {
		c.Drops[i] += uint64(n)
	}
}

// maxHeld is how many packets' figures wait for whoever reads.
const maxHeld = 8192

// A Tally counts what one worker floods. Add, Flush and Close belong to the
// worker, one at a time. It has a lock that readers take for some microseconds;
// Add only tries it, and where it is taken the figures wait for the next time.
// A nil Tally counts nothing.
type Tally struct {
	traffic *Traffic
	// held is what waits, lost what found no room to wait in. Both are the worker's.
	held []Delta
	lost VNICount

	mu sync.Mutex // guards the rest
	rows
}

// On tells whether anything is counted.
func (y *Tally) On() bool { return y != nil && !y.traffic.off.Load() }

// Add counts packets, once they and their copies have gone their way; now is the
// time that is Last of their senders. It never waits, and does not allocate as
// long as the same VNIs and senders go on.
func (y *Tally) Add(now int64, ds []Delta) {
	if !y.On() {
		return
	}
	if y.mu.TryLock() {
		y.settle(now)
		for i := range ds {
			y.add(now, &ds[i])
		}
		y.mu.Unlock()
		return
	}
	n := min(len(ds), maxHeld-len(y.held))
	y.held = append(y.held, ds[:n]...)
	for i := range ds[n:] {
		ds[n+i].addTo(&y.lost)
	}
}

// AddVNI counts what became of many packets of a VNI that the table knows. It waits
// for readers.
func (y *Tally) AddVNI(v vxlan.VNI, c *VNICount) {
	if !y.On() {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if at, ok := y.vni(v, true); ok {
		y.vnis[at].VNICount = y.vnis[at].VNICount.Plus(*c)
	} else {
		y.other = y.other.Plus(*c)
	}
}

// AddSender counts many packets of a sender, which AddVNI has counted for its VNI.
// It waits for readers.
func (y *Tally) AddSender(v vxlan.VNI, a netip.Addr, c SenderCount) {
	if !y.On() {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	d := Delta{VNI: v, Known: true, Sender: true, Source: a.As16()}
	y.add(c.Last, &d) // makes the row
	if at, ok := y.bySender.find(keyOf(v, &d.Source), y.senders); ok {
		s := &y.senders[at]
		s.Packets += c.Packets
		s.Bytes += c.Bytes
		s.Copies += c.Copies
		s.CopyBytes += c.CopyBytes
		s.Drops += c.Drops
	}
}

// Flush has figures that wait counted, and waits for that.
func (y *Tally) Flush(now int64) {
	if y == nil || len(y.held) == 0 {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.settle(now)
}

// settle counts what waits. y.mu is held.
func (y *Tally) settle(now int64) {
	if len(y.held) == 0 {
		return
	}
	for i := range y.held {
		y.add(now, &y.held[i])
	}
	y.other = y.other.Plus(y.lost)
	y.held, y.lost = y.held[:0], VNICount{}
}

// Close hands what was counted to the Traffic. What is added later is lost.
func (y *Tally) Close(now int64) {
	if y == nil {
		return
	}
	t := y.traffic
	t.mu.Lock()
	defer t.mu.Unlock()
	y.mu.Lock()
	defer y.mu.Unlock()
	y.settle(now)
	t.past.take(&y.rows)
	y.rows = rows{}
	t.tallies = slices.DeleteFunc(t.tallies, func(o *Tally) bool { return o == y })
}
