// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"slices"
	"sync"

	"vxsnd/internal/vxlan"
)

// A Kind says what happened to an entry.
type Kind uint8

const (
	// Added: the entry is new.
	Added Kind = iota
	// Refreshed: its expiry was set again. Data packets refresh silently.
	Refreshed
	// Removed: it is gone; Change.Reason says why.
	Removed
)

var kindNames = []string{"added", "refreshed", "removed"}

// String returns the name of k.
func (k Kind) String() string { return name(kindNames, uint8(k), "Kind") }

// Kinds is a set of Kind, for Table.Subscribe.
type Kinds uint8

const (
	// KindAdded is the set of Added alone. Sets combine by "or".
	KindAdded Kinds = 1 << Added
	// KindRefreshed is the set of Refreshed alone.
	KindRefreshed Kinds = 1 << Refreshed
	// KindRemoved is the set of Removed alone.
	KindRemoved Kinds = 1 << Removed
)

// A Reason says why an entry was removed.
type Reason uint8

const (
	// NoReason is the reason of every change that is no removal.
	NoReason Reason = iota
	// Withdrawn: its source let go of it.
	Withdrawn
	// Expired: its time ran out.
	Expired
	// Evicted: a learned entry made room for another source's.
	Evicted
	// ReplacedBy: its identifier registered another address.
	ReplacedBy
)

var reasonNames = []string{"", "withdrawn", "expired", "evicted", "replaced"}

// String returns the name of r, empty for NoReason.
func (r Reason) String() string { return name(reasonNames, uint8(r), "Reason") }

// A Change is one event of the change feed. Of a removed entry it shows what it
// was last.
type Change struct {
	Kind   Kind
	Reason Reason
	Entry
}

// A Feed carries changes to one subscriber, in the order in which they happened
// to the table. It holds a bounded number of them: what does not fit is lost, and Take
// says so. It is safe for concurrent use.
type Feed struct {
	t        *Table
	kinds    Kinds
	only     *vxlan.VNI // nil for all
	capacity int
	signal   chan struct{}

	// mu is taken with Table.mu held, never the other way round.
	mu      sync.Mutex
	changes []Change
	lost    bool
	stale   bool   // the set of excluded addresses has changed
	missed  uint64 // changes that were lost so far
}

// C returns a channel that holds one value whenever there is something to
// take. It is never closed.
func (f *Feed) C() <-chan struct{} { return f.signal }

// Subscribe returns a feed of the changes of these kinds, which holds up to
// capacity of them. What the table held before is not in it: read it after
// subscribing.
func (t *Table) Subscribe(capacity int, kinds Kinds) *Feed {
	return t.subscribe(&Feed{kinds: kinds, capacity: capacity})
}

// SubscribeVNI is Subscribe for the changes of one VNI. Those of others take no
// room in the feed.
func (t *Table) SubscribeVNI(capacity int, kinds Kinds, vni vxlan.VNI) *Feed {
	return t.subscribe(&Feed{kinds: kinds, only: &vni, capacity: capacity})
}

func (t *Table) subscribe(f *Feed) *Feed {
	f.t, f.signal = t, make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feeds = append(t.feeds, f)
	return f
}

// Take appends the changes since the last call to dst. Where lost is true,
// changes are missing or the set of excluded addresses has changed, and the
// subscriber has to read the table again; the feed then goes on from a moment
// before this return.
func (f *Feed) Take(dst []Change) (_ []Change, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dst = append(dst, f.changes...)
	lost = f.lost || f.stale
	f.lost, f.stale = false, false
	f.changes = f.changes[:0]
	if cap(f.changes) > maxIdle {
		f.changes = nil
	}
	return dst, lost
}

// Missed returns how many changes were lost so far.
func (f *Feed) Missed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.missed
}

// maxIdle is how many changes a feed keeps room for while it holds none.
const maxIdle = 1024

// Close ends the subscription. What it holds can still be taken.
func (f *Feed) Close() {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if i := slices.Index(f.t.feeds, f); i >= 0 {
		f.t.feeds = slices.Delete(f.t.feeds, i, i+1)
	}
}

// emit tells the feeds what happened to entry e, which is still there.
func (w *writer) emit(k Kind, why Reason, s *segment, e uint32) {
	for _, f := range w.t.feeds {
		if f.kinds&(1<<k) == 0 || f.only != nil && *f.only != s.vni {
			continue
		}
		f.put(Change{Kind: k, Reason: why, Entry: s.show(e, Time(s.entries[e].exp))})
	}
}

func (f *Feed) put(c Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.lost:
		f.missed++
		return // the subscriber will read the whole table after this
	case len(f.changes) >= f.capacity:
		f.missed += uint64(len(f.changes)) + 1
		f.changes = nil
		f.lost = true
	default:
		f.changes = append(f.changes, c)
	}
	f.wake()
}

// lose makes every feed say that its subscriber has to read the table again.
func (t *Table) lose() {
	for _, f := range t.feeds {
		f.mu.Lock()
		f.stale = true
		f.wake()
		f.mu.Unlock()
	}
}

func (f *Feed) wake() {
	select {
	case f.signal <- struct{}{}:
	default:
	}
}
