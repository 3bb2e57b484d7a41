// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const (
	// pageEntries is how many entries of one VNI a listing holds at least, 1 MiB,
	// while it waits for its client. A VNI has about as many by default at most.
	pageEntries = 16 << 10

	// maxWhole is how many listings may hold a larger VNI as a whole. The others
	// look at it again for each page, which is slow, but who has clients that do
	// not read neither gets the memory of the machine nor keeps others waiting.
	maxWhole = 4
)

// list sends the entries that args name.
func (n *Node) list(ctx context.Context, l *lister, args *control.FDBArgs, send func(any) error) error {
	w := wanted{vtep: args.VTEP, source: fdb.NumSources}
	if args.Source != "" {
		var names []string
		for s := range fdb.Source(fdb.NumSources) {
			names = append(names, s.String())
		}
		i := slices.Index(names, args.Source)
		if i < 0 {
			return badArgument("source %.32q is none of %s", args.Source, strings.Join(names, ", "))
		}
		w.source = fdb.Source(i)
	}
	if args.VNI == nil {
		return l.send(ctx, n.table.VNIs(nil), w, n.withVia(send))
	}
	vni, err := checkVNI(*args.VNI)
	if err != nil {
		return err
	}
	return l.send(ctx, []vxlan.VNI{vni}, w, n.withVia(send))
}

// withVia has send tell by which peer static members came.
func (n *Node) withVia(send func(any) error) func(any) error {
	return func(v any) error {
		part, _ := v.(control.FDBPart)
		for i := range part {
			if e := &part[i]; e.Source == fdb.Peer.String() && e.Seconds == nil {
				e.Via, _ = n.group.Via(vxlan.VNI(e.VNI), e.Address)
			}
		}
		return send(v)
	}
}

// everything wants all entries.
var everything = wanted{source: fdb.NumSources}

// A wanted says which entries a listing is to have: those of addresses in vtep,
// unless it is not valid, and of source, unless it is fdb.NumSources.
type wanted struct {
	vtep   netip.Prefix
	source fdb.Source
}

// pick removes from es what is not wanted.
func (w wanted) pick(es []fdb.Entry) []fdb.Entry {
	if w == everything {
		return es
	}
	return slices.DeleteFunc(es, func(e fdb.Entry) bool {
		return w.vtep.IsValid() && !w.vtep.Contains(e.Addr) || w.source < fdb.NumSources && e.Source != w.source
	})
}

// A lister answers for the entries of the table. It may be used concurrently.
type lister struct {
	table *fdb.Table
	// turn is taken by who looks at the table, and holds what he looks at it with:
	// room for all entries of a VNI. Nobody keeps it while a client reads.
	turn chan []fdb.Entry
	// whole has an element for each listing that holds a large VNI as a whole.
	whole chan struct{}
}

func newLister(t *fdb.Table) *lister {
	l := &lister{t, make(chan []fdb.Entry, 1), make(chan struct{}, maxWhole)}
	l.turn <- nil
	return l
}

// A page is a part of a listing.
type page struct {
	entries []fdb.Entry
	now     fdb.Time // when they were there
	whole   bool     // has a place in lister.whole
}

// send sends the entries of vnis that are wanted, in their order.
func (l *lister) send(ctx context.Context, vnis []vxlan.VNI, w wanted, send func(any) error) error {
	defer l.forget()
	part := make(control.FDBPart, 0, control.MaxPart)
	var p page
	defer l.release(&p)
	var last fdb.Entry
	for len(vnis) > 0 {
		var err error
		if vnis, err = l.next(ctx, &p, vnis, w, &last); err != nil {
			return err
		}
		for i := range p.entries {
			if len(part) == control.MaxPart {
				if err := send(part); err != nil {
					return err
				}
				part = part[:0]
			}
			part = append(part, shownEntry(p.now, &p.entries[i]))
		}
		if n := len(p.entries); n > 0 {
			last = p.entries[n-1]
		}
		l.release(&p)
	}
	if len(part) == 0 {
		return nil
	}
	return send(part)
}

// next makes p what is wanted and comes in vnis after last, which is of no account if it is of
// another VNI than the first. It returns the VNIs that are left. It waits for its
// turn, which comes soon.
func (l *lister) next(ctx context.Context, p *page, vnis []vxlan.VNI, w wanted, last *fdb.Entry) ([]vxlan.VNI, error) {
	var all []fdb.Entry
	select {
	case all = <-l.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { l.turn <- all }()
	p.now, p.entries = clock(), p.entries[:0]
	for len(vnis) > 0 && len(p.entries) < pageEntries {
		all = w.pick(l.table.Entries(p.now, vnis[0], all[:0]))
		after := last
		if last.VNI != vnis[0] || !last.Addr.IsValid() {
			after = nil
		}
		if len(all) > pageEntries && after == nil {
			if len(p.entries) > 0 {
				break // it gets a page of its own
			}
			select {
			case l.whole <- struct{}{}:
				sortEntries(all)
				p.entries, p.whole, all = all, true, nil
				return vnis[1:], nil
			default:
			}
		}
		first := firstEntries(all, after)
		p.entries = append(p.entries, first...)
		if len(first) == pageEntries {
			break // there may be more
		}
		vnis = vnis[1:]
	}
	return vnis, nil
}

// release gives back the place of a VNI that was held as a whole.
func (l *lister) release(p *page) {
	if p.whole {
		*p = page{}
		<-l.whole
	}
}

// forget lets go of the room that a large VNI took, unless somebody looks at the
// table, who forgets it later.
func (l *lister) forget() {
	select {
	case <-l.turn:
		l.turn <- nil
	default:
	}
}

// firstEntries sorts the first pageEntries of es that come after last to the
// front, and returns them. es are of one VNI, and last is too, or nil.
func firstEntries(es []fdb.Entry, last *fdb.Entry) []fdb.Entry {
	first := es[:0] // never ahead of what is read
	var bound *fdb.Entry
	for i := range es {
		e := &es[i]
		if last != nil && compareEntries(e, last) <= 0 || bound != nil && compareEntries(e, bound) > 0 {
			continue
		}
		if first = append(first, *e); len(first) == 2*pageEntries {
			sortEntries(first)
			first = first[:pageEntries]
			bound = &first[pageEntries-1]
		}
	}
	sortEntries(first)
	return first[:min(len(first), pageEntries)]
}

func sortEntries(es []fdb.Entry) {
	slices.SortFunc(es, func(a, b fdb.Entry) int { return compareEntries(&a, &b) })
}

// compareEntries orders the entries of one VNI. No two are the same.
func compareEntries(a, b *fdb.Entry) int {
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Identifier, b.Identifier))
}

// shownEntry is e as the management socket shows it.
func shownEntry(now fdb.Time, e *fdb.Entry) control.FDBEntry {
	s := control.FDBEntry{
		VNI: uint32(e.VNI), Address: e.Addr, Source: e.Source.String(), Identifier: e.Identifier,
	}
	s.Seconds = secondsLeft(now, e.Expires)
	if e.Source == fdb.Data || e.Source == fdb.Registration || e.Source == fdb.Peer {
		ago := int64(max(0, now.Sub(e.Heard)) / time.Second)
		s.LastHeard = &ago
	}
	return s
}

// secondsLeft returns the time until expires in seconds, rounded up; nil where
// that is never.
func secondsLeft(now, expires fdb.Time) *int64 {
	if expires == fdb.Never {
		return nil
	}
	left := int64(max(0, expires.Sub(now)+time.Second-1) / time.Second)
	return &left
}
