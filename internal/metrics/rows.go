// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"slices"

	"vxsnd/internal/vxlan"
)

// noVNI marks a free row.
const noVNI = ^vxlan.VNI(0)

// rows are the figures of one worker, or those that closed workers left: per
// VNI, per sender in a VNI, and those that have no row. They hold no pointers, so
// that however many there are cost the garbage collector next to nothing. The
// zero value has room for none. It is not safe for concurrent use.
type rows struct {
	limits TrafficLimits

	byVNI map[vxlan.VNI]uint32 // places in vnis
	vnis  []VNITotal
	free  []uint32 // places in vnis

	bySender    senderIndex
	senders     []senderRow
	freeSenders []uint32 // places in senders
	hand        int      // of the clock that looks for idle senders

	other VNICount
}

type senderRow struct {
	key senderKey
	// vni is the place of the VNI's row.
	vni uint32
	// heard is set by each packet, and taken away when the hand comes by.
	heard bool
	SenderCount
}

// add counts what a packet did.
func (r *rows) add(now int64, d *Delta) {
	key := keyOf(d.VNI, &d.Source)
	at, ok := uint32(0), false
	if d.Sender {
		at, ok = r.bySender.find(key, r.senders)
	}
	if !ok {
		vni, known := r.vni(d.VNI, d.Known)
		if !known {
			d.addTo(&r.other)
			return
		}
		if !d.Sender || r.limits.Senders <= 0 {
			d.addTo(&r.vnis[vni].VNICount)
			return
		}
		at = r.sender(key, vni)
	}
	s := &r.senders[at]
	d.addTo(&r.vnis[s.vni].VNICount)
	s.heard = ok
	s.Packets += uint64(d.Packets)
	s.Bytes += d.Bytes
	s.Copies += uint64(d.Copies)
	s.CopyBytes += d.CopyBytes
	s.Drops += uint64(d.dropped)
	s.Last = now
}

// vni returns the place of a VNI's row, which is made if need be and there is room.
func (r *rows) vni(v vxlan.VNI, create bool) (at uint32, ok bool) {
	if at, ok = r.byVNI[v]; ok || !create || len(r.byVNI) >= r.limits.VNIs {
		return at, ok
	}
	if r.byVNI == nil {
		r.byVNI = make(map[vxlan.VNI]uint32)
	}
	if n := len(r.free); n > 0 {
		at, r.free = r.free[n-1], r.free[:n-1]
	} else {
		at = uint32(len(r.vnis))
		r.vnis = append(r.vnis, VNITotal{})
	}
	r.vnis[at] = VNITotal{VNI: v}
	r.byVNI[v] = at
	return at, true
}

// sender makes a row for a sender that has none. If there is no room, the first
// that the hand finds makes room: one from which nothing came since the hand's
// last visit, or one that was heard only once.
func (r *rows) sender(key senderKey, vni uint32) uint32 {
	var at uint32
	switch n := len(r.freeSenders); {
	case n > 0:
		at, r.freeSenders = r.freeSenders[n-1], r.freeSenders[:n-1]
	case len(r.senders) < r.limits.Senders:
		at = uint32(len(r.senders))
		r.senders = append(r.senders, senderRow{})
	default:
		at = r.idle()
		r.bySender.remove(at, r.senders)
	}
	r.senders[at] = senderRow{key: key, vni: vni}
	r.bySender.insert(at, r.senders)
	return at
}

// idle moves the hand to a sender that may go. All rows are taken.
func (r *rows) idle() uint32 {
	for {
		at := r.hand % len(r.senders)
		r.hand = at + 1
		if s := &r.senders[at]; !s.heard {
			return uint32(at)
		}
		r.senders[at].heard = false
	}
}

// forget takes away the rows of VNIs and of their senders.
func (r *rows) forget(gone map[vxlan.VNI]struct{}) {
	some := false
	for v := range gone {
		at, ok := r.byVNI[v]
		if !ok {
			continue
		}
		some = true
		r.other = r.other.Plus(r.vnis[at].VNICount)
		r.vnis[at] = VNITotal{VNI: noVNI}
		r.free = append(r.free, at)
		delete(r.byVNI, v)
	}
	if !some {
		return
	}
	for i := range r.senders {
		if _, ok := gone[r.senders[i].key.vni]; ok {
			r.bySender.remove(uint32(i), r.senders)
			r.senders[i] = senderRow{key: senderKey{vni: noVNI}}
			r.freeSenders = append(r.freeSenders, uint32(i))
		}
	}
}

// take adds what others counted, as far as there is room for rows of it: the
// busiest VNIs, and the senders that were heard last. from is of no use
// afterwards.
func (r *rows) take(from *rows) {
	r.other = r.other.Plus(from.other)
	slices.SortFunc(from.vnis, func(a, b VNITotal) int { return cmp.Compare(b.Packets, a.Packets) })
	for i := range from.vnis {
		v := &from.vnis[i]
		if v.VNI == noVNI {
			continue
		}
		to := &r.other
		if at, ok := r.vni(v.VNI, true); ok {
			to = &r.vnis[at].VNICount
		}
		*to = to.Plus(v.VNICount)
	}
	// The latest come last, so that the earlier ones make room for them.
	slices.SortFunc(from.senders, func(a, b senderRow) int { return cmp.Compare(a.Last, b.Last) })
	for i := range from.senders {
		s := &from.senders[i]
		vni, ok := r.byVNI[s.key.vni]
		if !ok || r.limits.Senders <= 0 {
			continue
		}
		at, ok := r.bySender.find(s.key, r.senders)
		if !ok {
			at = r.sender(s.key, vni)
		}
		r.senders[at].SenderCount = r.senders[at].plus(s.SenderCount)
	}
}
