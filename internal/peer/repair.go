// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// buckets is how many parts a table is compared in, and digestLen the size of
	// a digest in bytes (docs/protocol.md section 7).
	buckets   = 4096
	digestLen = 8 + 8*buckets

	// jitter is the part of the interval by which two repairs may be closer or
	// farther apart, so that nodes that started together do not stay in step.
	jitter = 0.2
)

var errOrder = errors.New("answer of peer is out of order")

// A digest tells two tables apart: for each bucket the sum of its entries'
// numbers.
type digest [buckets]uint64

// place returns the bucket of an entry and its number there.
func place(seed uint64, vni vxlan.VNI, e *vxfld.SyncEntry) (bucket int, number uint64) {
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], seed)
	binary.BigEndian.PutUint64(b[8:], e.Identifier)
	binary.BigEndian.PutUint32(b[16:], uint32(vni))
	a := e.Addr.As4()
	copy(b[20:], a[:])
	h := sha256.Sum256(b[:])
	return int(binary.BigEndian.Uint16(h[:]) % buckets), binary.BigEndian.Uint64(h[2:])
}

// repairable tells whether a repair is concerned with e: static members of
// identifier 0 are an operator's, or a configuration's, who tell of them
// themselves.
func repairable(e *vxfld.SyncEntry) bool {
	return e.Identifier != 0 || e.Holdtime != vxfld.HoldtimeStatic
}

// digest returns the digest of the table.
func (g *Group) digest(ctx context.Context, seed uint64) (*digest, error) {
	d := new(digest)
	err := g.walk(ctx, false, func(vni vxlan.VNI, es []vxfld.SyncEntry) error {
		for i := range es {
			if repairable(&es[i]) {
				bucket, number := place(seed, vni, &es[i])
				d[bucket] += number
			}
		}
		return nil
	})
	return d, err
}

// answerRepair writes the entries of the buckets that differ from those of the
// question.
func (g *Group) answerRepair(ctx context.Context, w io.Writer, m *vxfld.SyncScan) error {
	seed := binary.BigEndian.Uint64(m.Digest)
	d, err := g.digest(ctx, seed)
	if err != nil {
		return err
	}
	var differs [buckets]bool
	for i := range differs {
		differs[i] = d[i] != binary.BigEndian.Uint64(m.Digest[8+8*i:])
	}
	var es []vxfld.SyncEntry
	return g.answer(w, m, func(s *stream) error {
		return g.walk(ctx, false, func(vni vxlan.VNI, all []vxfld.SyncEntry) error {
			es = es[:0]
			for i := range all {
				if !repairable(&all[i]) {
					continue
				}
				if bucket, _ := place(seed, vni, &all[i]); differs[bucket] {
					es = append(es, all[i])
				}
			}
			return s.put(vni, es)
		})
	})
}

// repair compares the table with a peer of ours now and then, with each in turn.
func (g *Group) repair(ctx context.Context) {
	tick := time.NewTicker(g.limits.look)
	defer tick.Stop()
	last, turn := time.Now(), 0
	factor := 1.0
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		interval := g.settings.Load().ResyncInterval
		if interval <= 0 {
			last = now
			continue
		}
		if now.Sub(last) < time.Duration(factor*float64(interval)) {
			continue
		}
		last, factor = now, 1+jitter*(2*rand.Float64()-1)
		var ours []*peer
		for _, p := range *g.peers.Load() {
			if p.ours.Load() {
				ours = append(ours, p)
			}
		}
		if len(ours) > 0 {
			g.repairFrom(ctx, ours[turn%len(ours)])
			turn++
		}
	}
}

// repairFrom takes in what this node lacks and the peer has.
func (g *Group) repairFrom(ctx context.Context, p *peer) {
	differ, gone, err := g.compare(ctx, p)
	if ctx.Err() != nil {
		return
	}
	log := g.log.WithField("peer", p.addr)
	if err != nil {
		g.repeats.Do("repair "+p.addr.String(), func(count int) {
			log.WithField("count", count).WithError(err).Warn("table not compared with peer")
		})
		return
	}
	p.repaired(differ)
	if differ > 0 {
		log.WithField("count", differ).Info("members that were lacking taken from peer")
	}
	if len(gone) > 0 {
		g.remind(ctx, p, gone)
	}
}

// remind tells a peer of withdrawals that it missed.
func (g *Group) remind(ctx context.Context, p *peer, gone []vxfld.VNIEntries) {
	_, err := g.ask(ctx, p, vxfld.Sync{VNIs: gone})
	if ctx.Err() != nil {
		return
	}
	log := g.log.WithField("peer", p.addr)
	if err != nil {
		p.updateErrors.Add(1)
		g.repeats.Do("remind "+p.name, func(count int) {
			log.WithField("count", count).WithError(err).Warn("peer not told of withdrawals that it missed")
		})
		return
	}
	n := 0
	for _, rec := range gone {
		n += len(rec.Entries)
	}
	p.updates.Add(uint64(n))
	p.updateConnections.Add(1)
	log.WithField("count", n).Info("peer told of withdrawals that it missed")
}

// compare returns how many entries were lacking here, and what the peer is to
// let go of.
func (g *Group) compare(ctx context.Context, p *peer) (lacking int, gone []vxfld.VNIEntries, err error) {
	seed := rand.Uint64()
	d, err := g.digest(ctx, seed)
	if err != nil {
		return 0, nil, err
	}
	b := make([]byte, 8, digestLen)
	binary.BigEndian.PutUint64(b, seed)
	for _, sum := range d {
		b = binary.BigEndian.AppendUint64(b, sum)
	}
	m, err := g.ask(ctx, p, vxfld.Sync{Digest: b})
	if err != nil {
		return 0, nil, err
	}
	return g.takeLacking(m, p.addr.Addr())
}

// takeLacking takes in those members of a peer's answer that no entry stands
// for here. It returns how many that were, and the withdrawals of those that
// never age at the peer and were withdrawn here.
func (g *Group) takeLacking(m *vxfld.SyncScan, from netip.Addr) (taken int, gone []vxfld.VNIEntries, err error) {
	// The peer walks over its table in ascending order. Any other answer would
	// have us look up the same VNI again and again.
	at := vxlan.VNI(0)
	for vni := range m.All() {
		if vni < at {
			return 0, nil, errOrder
		}
		at = vni
	}
	type key struct {
		addr netip.Addr
		id   uint64
	}
	var entries []fdb.Entry
	var held map[key]struct{} // what the table has of the VNI at hand
	left := maxUpdate
	in := intake{Group: g, from: from, answer: true, updates: make([]fdb.Update, 0, min(m.Entries, batchSize))}
	for vni, e := range m.All() {
		if held == nil || vni != at {
			at, held = vni, make(map[key]struct{})
			entries = g.table.Entries(g.now(), vni, entries[:0])
			for i := range entries {
				held[key{entries[i].Addr, entries[i].Identifier}] = struct{}{}
			}
		}
		if _, ok := held[key{e.Addr, e.Identifier}]; ok || !repairable(&e) {
			continue
		}
		in.add(vni, e)
		if left == 0 || e.Holdtime != vxfld.HoldtimeStatic || !g.table.Withdrawn(g.now(), vni, e.Addr, e.Identifier) {
			continue
		}
		left--
		if len(gone) == 0 || gone[len(gone)-1].VNI != vni {
			gone = append(gone, vxfld.VNIEntries{VNI: vni})
		}
		rec := &gone[len(gone)-1]
		rec.Entries = append(rec.Entries, vxfld.SyncEntry{Addr: e.Addr, Identifier: e.Identifier})
	}
	in.flush()
	return in.added, gone, nil
}
