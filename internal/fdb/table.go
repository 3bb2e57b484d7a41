// SPDX-License-Identifier: Apache-2.0

// Package fdb owns the table that says which VTEPs are members of which VNI,
// who said so, and until when. It does no I/O, keeps no clock and logs nothing:
// time is handed in, and what happened is returned, counted, or told to
// subscribers.
package fdb

import (
	"net/netip"
	"sync"

	"vxsnd/internal/vxlan"
)

// A Table maps each VNI to the VTEPs that get its packets. It is safe for
// concurrent use.
type Table struct {
	mu sync.RWMutex
}

// Swept says what a sweep did.
type Swept struct {
	// Expired counts the entries that the sweep removed, by source.
	Expired [NumSources]int
	// Next is no later than the next expiry, Never if nothing will expire.
	Next Time
}

// Stats are the table's numbers. The first five are what it holds now, with
// what has expired but was not swept yet; the rest counts since New.
type Stats struct {
	VNIs, Members, Entries int
	BySource               [NumSources]int
	Tombstones             int
	Expired, Evicted       uint64
	Withdrawn, Replaced    uint64
	Refused                [NumRefusals]uint64
}

// A Collision is an identifier that two addresses of one VNI take turns to
// register: two hosts with the same node id.
type Collision struct {
	VNI           vxlan.VNI
	Identifier    uint64
	First, Second netip.Addr
	// Count is the number of turns since it was last reported.
	Count int
}

// New returns an empty table.
func New(o Options) *Table { return &Table{} }

// Configure puts other options in force. What is over a lowered cap stays until
// it expires.
func (t *Table) Configure(o Options) {}

// Apply takes in us, in order.
func (t *Table) Apply(now Time, us []Update) Result { return Result{} }

// Learn makes each of ls a member of its VNI, or refreshes it.
func (t *Table) Learn(now Time, ls []Learned) Result { return Result{} }

// LookupBatch answers ls under one read lock.
func (t *Table) LookupBatch(now Time, ls []Lookup) {}

// Exclude replaces the set of addresses that get no copies and may not send.
func (t *Table) Exclude(set map[netip.Addr]Exclusion) {}

// Excluded tells why a is excluded, if it is.
func (t *Table) Excluded(a netip.Addr) Exclusion { return NotExcluded }

// Sweep removes every entry that has expired at now.
func (t *Table) Sweep(now Time) Swept { return Swept{Next: Never} }

// Members appends the distinct live addresses of vni to dst, without the
// excluded ones, and returns the result.
func (t *Table) Members(now Time, vni vxlan.VNI, dst []netip.Addr) []netip.Addr { return dst }

// VNIs appends every VNI with at least one entry to dst, sorted, and returns the
// result.
func (t *Table) VNIs(dst []vxlan.VNI) []vxlan.VNI { return dst }

// Entries appends the live entries of vni to dst and returns the result.
func (t *Table) Entries(now Time, vni vxlan.VNI, dst []Entry) []Entry { return dst }

// Stats returns the table's numbers.
func (t *Table) Stats() Stats { return Stats{} }

// Collisions appends the collisions noticed since the last call to dst and
// returns the result.
func (t *Table) Collisions(dst []Collision) []Collision { return dst }

// Subscribe returns a feed of the changes of these kinds, which holds up to
// capacity of them.
func (t *Table) Subscribe(capacity int, kinds Kinds) *Feed {
	return &Feed{t: t, kinds: kinds, capacity: capacity, signal: make(chan struct{}, 1)}
}

// Take appends the changes since the last call to dst. Where lost is true some
// are missing, and the subscriber has to read the table again.
func (f *Feed) Take(dst []Change) (_ []Change, lost bool) { return dst, false }

// Close ends the subscription.
func (f *Feed) Close() {}
