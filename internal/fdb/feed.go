// SPDX-License-Identifier: Apache-2.0

package fdb

import "sync"

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
	// KindAdded, KindRefreshed and KindRemoved are the sets of one Kind each;
	// they combine by "or".
	KindAdded     Kinds = 1 << Added
	KindRefreshed Kinds = 1 << Refreshed
	KindRemoved   Kinds = 1 << Removed
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
	capacity int
	signal   chan struct{}

	// mu is taken with Table.mu held, never the other way round.
	mu      sync.Mutex
	changes []Change
	lost    bool
}

// C returns a channel that holds one value whenever there is something to
// take. It is never closed.
func (f *Feed) C() <-chan struct{} { return f.signal }
