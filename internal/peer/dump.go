// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// recordSize is how many entries a record holds at most, and so the grain in
	// which a table is written.
	recordSize = 1000

	// writeSize is how many bytes are collected before they are written.
	writeSize = 64 << 10
)

// A stream writes an answer record by record.
type stream struct {
	w       io.Writer
	b       []byte
	entries int
	end     bool // its reader wants to be told that it is complete
}

// answer writes an answer to m, of the records that fill gives it.
func (g *Group) answer(w io.Writer, m *vxfld.SyncScan, fill func(*stream) error) error {
	s := &stream{w: w, end: m.Node != 0}
	head := vxfld.Sync{}
	if s.end {
		head.Node, head.NotReady = vxfld.SyncNode, !g.ready.Load()
	}
	var err error
	if s.b, err = (vxfld.Message{Version: vxfld.V3, Body: &head}).Append(nil); err != nil {
		return err
	}
	if err := fill(s); err != nil {
		return err
	}
	if s.end {
		s.b = vxfld.AppendSyncComplete(s.b)
	}
	if _, err := w.Write(s.b); err != nil {
		return err
	}
	g.counters.Answers.Add(1)
	g.counters.Entries.Add(uint64(s.entries))
	return nil
}

// put writes entries of a VNI.
func (s *stream) put(vni vxlan.VNI, es []vxfld.SyncEntry) error {
	s.entries += len(es)
	for chunk := range slices.Chunk(es, recordSize) {
		var err error
		if s.b, err = vxfld.AppendSyncRecord(s.b, vxfld.VNIEntries{VNI: vni, Entries: chunk}); err != nil {
			return err
		}
		if len(s.b) < writeSize {
			continue
		}
		if _, err := s.w.Write(s.b); err != nil {
			return err
		}
		s.b = s.b[:0]
	}
	return nil
}

// answerTable writes the whole table.
func (g *Group) answerTable(ctx context.Context, w io.Writer, m *vxfld.SyncScan) error {
	return g.answer(w, m, func(s *stream) error { return g.walk(ctx, s.end, s.put) })
}

// walk calls fn with the entries of each VNI in ascending order, as peers are
// told of them, with their owners or not; fn must not keep them. No lock is held
// meanwhile, so that fn may take its time.
func (g *Group) walk(ctx context.Context, owners bool, fn func(vni vxlan.VNI, es []vxfld.SyncEntry) error) error {
	var entries []fdb.Entry
	var es []vxfld.SyncEntry
	for _, vni := range g.table.VNIs(nil) {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := g.now()
		entries = g.table.Entries(now, vni, entries[:0])
		es = g.tellable(now, entries, owners, es[:0])
		if len(es) == 0 {
			continue
		}
		if err := fn(vni, es); err != nil {
			return err
		}
	}
	return nil
}

// tellable appends the entries that a peer is told of, sorted: each address and
// identifier once, whoever told of it here, with the longest time; with owners
// once for each, but once where it is the group's. Addresses that cannot be
// VTEPs' are left out, and IPv6 ones, which have no field yet (docs/protocol.md
// section 7).
func (g *Group) tellable(now fdb.Time, entries []fdb.Entry, owners bool, es []vxfld.SyncEntry) []vxfld.SyncEntry {
	var of []netip.Addr
	for i := range entries {
		e := &entries[i]
		left := secondsLeft(e.Expires, now)
		if left == 0 || !e.Addr.Is4() || g.table.Excluded(e.Addr) != fdb.NotExcluded {
			continue
		}
		of = append(of[:0], netip.Addr{})
		if owners && e.Identifier == 0 && left == vxfld.HoldtimeStatic {
			switch e.Source {
			case fdb.Configuration:
				of[0] = netip.IPv4Unspecified()
			case fdb.Peer:
				of = g.via.ownersOf(member{e.VNI, e.Addr}, of[:0])
			}
		}
		for _, o := range of {
			if !o.Is4() {
				o = netip.Addr{} // there is no field for others
			}
			es = append(es, vxfld.SyncEntry{Addr: e.Addr, Holdtime: left, Identifier: e.Identifier, Owner: o})
		}
	}
	slices.SortFunc(es, func(a, b vxfld.SyncEntry) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Identifier, b.Identifier), cmp.Compare(b.Holdtime, a.Holdtime), a.Owner.Compare(b.Owner))
	})
	return slices.CompactFunc(es, func(a, b vxfld.SyncEntry) bool {
		return a.Addr == b.Addr && a.Identifier == b.Identifier && (a.Owner == b.Owner || !a.Owner.IsValid() || !b.Owner.IsValid())
	})
}

// secondsLeft returns the time until exp as it is written to a peer: rounded
// down, so that an entry that goes from node to node lives no longer for it, and
// 0 where it is too late to tell.
func secondsLeft(exp, now fdb.Time) uint32 {
	if exp == fdb.Never {
		return vxfld.HoldtimeStatic
	}
	return uint32(min(max(exp.Sub(now)/time.Second, 0), time.Duration(vxfld.HoldtimeMax)))
}
