// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"vxsnd/internal/vxlan"
)

// A VNICount holds the figures of one VNI, or of several. The zero value
// counts nothing.
type VNICount struct {
	// Packets and Bytes were received, UDP payload alone (the VXLAN header and
	// the inner frame).
	Packets, Bytes uint64
	// Copies and CopyBytes were handed to the kernel, UDP payload alone.
	Copies, CopyBytes uint64
	// Drops counts by reason: packets or copies, see Drop.PerCopy. Packets that
	// the kernel dropped, and those without a VNI, are of no VNI.
	Drops [NumDrops]uint64
}

// Plus returns the sum of c and d.
func (c VNICount) Plus(d VNICount) VNICount {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
	c.Copies += d.Copies
	c.CopyBytes += d.CopyBytes
	for i := range c.Drops {
		c.Drops[i] += d.Drops[i]
	}
	return c
}

// TotalDrops returns the sum of all drops, of packets and of copies.
func (c *VNICount) TotalDrops() uint64 {
	var n uint64
	for _, d := range c.Drops {
		n += d
	}
	return n
}

// A SenderCount holds the figures of the packets that one VTEP sent in a VNI.
type SenderCount struct {
	// Packets and Bytes came from the VTEP, UDP payload alone.
	Packets, Bytes uint64
	// Copies and CopyBytes were made of them and handed to the kernel.
	Copies, CopyBytes uint64
	// Drops counts dropped packets and dropped copies of them.
	Drops uint64
	// Last is when the last packet came, on the clock of the flood workers
	// (fdb.Time), ns.
	Last int64
}

// plus returns the sum of c and d, and the later Last.
func (c SenderCount) plus(d SenderCount) SenderCount {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
	c.Copies += d.Copies
	c.CopyBytes += d.CopyBytes
	c.Drops += d.Drops
	c.Last = max(c.Last, d.Last)
	return c
}

// A VNITotal is what was counted for a VNI.
type VNITotal struct {
	VNI vxlan.VNI
	VNICount
}

// A SenderTotal is what was counted for the packets of a VTEP in a VNI.
type SenderTotal struct {
	VNI  vxlan.VNI
	Addr netip.Addr
	SenderCount
}

// TrafficLimits bound what a Traffic keeps: rows for VNIs and rows for pairs
// of VNI and sender, both per worker. 0 VNIs turns counting off altogether.
type TrafficLimits struct {
	VNIs, Senders int
}

// Traffic holds what was flooded per VNI and per sender in a VNI, by all
// workers: each counts in a Tally of its own. It is safe for concurrent use; no
// method of it ever has a worker wait.
type Traffic struct {
	off atomic.Bool // no VNI gets a row

	// mu guards the rest. Whoever moves figures from one place to another holds
	// it, whoever adds them up reads under it. It is taken before Tally.mu.
	mu      sync.RWMutex
	limits  TrafficLimits
	tallies []*Tally
	past    rows // of tallies that were closed
}

// NewTraffic returns a Traffic that has counted nothing.
func NewTraffic(l TrafficLimits) *Traffic {
	t := &Traffic{}
	t.Configure(l)
	return t
}

// Configure replaces the limits. Where they are lower now, the busiest VNIs and
// the senders that were heard last keep their rows.
func (t *Traffic) Configure(l TrafficLimits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = l
	t.off.Store(l.VNIs <= 0)
	t.eachLocked(func(mu sync.Locker, r *rows) {
		mu.Lock()
		defer mu.Unlock()
		old := *r
		r.limits = l
		if len(old.byVNI) > l.VNIs || len(old.senders) > l.Senders {
			*r = rows{limits: l}
			r.take(&old)
		}
	})
}

// Tally returns a Tally for one worker. Of a nil Traffic it returns nil, which
// counts nothing.
func (t *Traffic) Tally() *Tally {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	y := &Tally{traffic: t, rows: rows{limits: t.limits}}
	t.tallies = append(t.tallies, y)
	return y
}

// each calls f with the rows of those that have closed and of every tally, and
// with the lock that f has to hold while it looks at them.
func (t *Traffic) each(f func(mu sync.Locker, r *rows)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.eachLocked(f)
}

func (t *Traffic) eachLocked(f func(mu sync.Locker, r *rows)) {
	f(unlocked{}, &t.past)
	for _, y := range t.tallies {
		f(&y.mu, &y.rows)
	}
}

// unlocked stands for a lock where another one is held already.
type unlocked struct{}

func (unlocked) Lock()   {}
func (unlocked) Unlock() {}

// Load appends the figures of each VNI to dst, sorted by VNI, and returns those
// of Other with them. Together they are all that was counted: unlike two calls, one
// does not have what Keep moves twice or not at all.
func (t *Traffic) Load(dst []VNITotal) ([]VNITotal, VNICount) {
	var other VNICount
	from := len(dst)
	at := make(map[vxlan.VNI]int)
	t.each(func(mu sync.Locker, r *rows) {
		scan(mu, &r.vnis, func(row *VNITotal) {
			if row.VNI == noVNI {
				return
			}
			i, ok := at[row.VNI]
			if !ok {
				i = len(dst)
				at[row.VNI] = i
				dst = append(dst, VNITotal{VNI: row.VNI})
			}
			dst[i].VNICount = dst[i].Plus(row.VNICount)
		})
		mu.Lock()
		other = other.Plus(r.other)
		mu.Unlock()
	})
	slices.SortFunc(dst[from:], func(a, b VNITotal) int { return cmp.Compare(a.VNI, b.VNI) })
	return dst, other
}

// scanStep is how many rows are looked at in one go: a worker that wants to add
// to them meanwhile puts off what it has, which it can for some thousand packets.
const scanStep = 512

// scan calls f with each row, a few at a time under the lock. Rows stay where
// they are meanwhile, since what moves them needs Traffic.mu.
func scan[T any](mu sync.Locker, rows *[]T, f func(*T)) {
	for i := 0; ; i += scanStep {
		mu.Lock()
		all := *rows
		for j := i; j < min(i+scanStep, len(all)); j++ {
			f(&all[j])
		}
		mu.Unlock()
		if i+scanStep >= len(all) {
			return
		}
	}
}

// VNIs appends the figures of each VNI to dst, sorted by VNI.
func (t *Traffic) VNIs(dst []VNITotal) []VNITotal {
	dst, _ = t.Load(dst)
	return dst
}

// VNI returns the figures of one VNI.
func (t *Traffic) VNI(v vxlan.VNI) VNICount {
	var c VNICount
	t.each(func(mu sync.Locker, r *rows) {
		mu.Lock()
		defer mu.Unlock()
		if i, ok := r.byVNI[v]; ok {
			c = c.Plus(r.vnis[i].VNICount)
		}
	})
	return c
}

// Counts tells whether a VNI has figures of its own, or has room for them once it
// is heard. What a VNI without them does is in Other.
func (t *Traffic) Counts(v vxlan.VNI) bool {
	known, full := false, t.off.Load()
	t.each(func(mu sync.Locker, r *rows) {
		mu.Lock()
		defer mu.Unlock()
		_, ok := r.byVNI[v]
		known = known || ok
		full = full || len(r.byVNI) >= r.limits.VNIs
	})
	return known || !full
}

// Senders appends the figures of senders to dst, sorted by VNI and address:
// those in a VNI, unless it is nil, and of an address, unless it is zero. Which
// senders there is no room for, the idle ones, is not told.
func (t *Traffic) Senders(vni *vxlan.VNI, addr netip.Addr, dst []SenderTotal) []SenderTotal {
	var want senderKey
	if addr.IsValid() {
		a := addr.As16()
		want = keyOf(0, &a)
	}
	from := len(dst)
	at := make(map[senderKey]int)
	t.each(func(mu sync.Locker, r *rows) {
		scan(mu, &r.senders, func(s *senderRow) {
			if s.key.vni == noVNI || vni != nil && s.key.vni != *vni || addr.IsValid() && (s.key.a != want.a || s.key.b != want.b) {
				return
			}
			i, ok := at[s.key]
			if !ok {
				i = len(dst)
				at[s.key] = i
				dst = append(dst, SenderTotal{VNI: s.key.vni, Addr: s.key.addr()})
			}
			dst[i].SenderCount = dst[i].plus(s.SenderCount)
		})
	})
	slices.SortFunc(dst[from:], func(a, b SenderTotal) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), a.Addr.Compare(b.Addr))
	})
	return dst
}

// Other returns the figures of what has no row of its own: packets that came
// when there was room for no more VNIs, packets of VNIs that the table does not
// know, and all that VNIs counted which Keep has forgotten.
func (t *Traffic) Other() VNICount {
	var c VNICount
	t.each(func(mu sync.Locker, r *rows) {
		mu.Lock()
		defer mu.Unlock()
		c = c.Plus(r.other)
	})
	return c
}

// Keep forgets the VNIs that known does not know, and their senders. What the
// VNIs counted goes into Other, so that the sum of all stays what it is. known is
// called once per VNI and must not call the Traffic.
func (t *Traffic) Keep(known func(vxlan.VNI) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone := make(map[vxlan.VNI]struct{})
	t.eachLocked(func(mu sync.Locker, r *rows) {
		scan(mu, &r.vnis, func(row *VNITotal) {
			if row.VNI != noVNI {
				gone[row.VNI] = struct{}{}
			}
		})
	})
	maps.DeleteFunc(gone, func(v vxlan.VNI, _ struct{}) bool { return known(v) })
	if len(gone) == 0 {
		return
	}
	t.eachLocked(func(mu sync.Locker, r *rows) {
		mu.Lock()
		defer mu.Unlock()
		r.forget(gone)
	})
}
