// SPDX-License-Identifier: Apache-2.0

package fdb

import "time"

// Limits bound the table. Zero or less stands for what the table can hold at
// all: every VNI, 1<<28 members of one VNI, 1<<30 entries.
type Limits struct {
	// VNIs is the number of VNIs with members.
	VNIs int
	// Members is the number of VTEPs in one VNI. It also bounds the longest time
	// that the lock is held, since the destinations of one VNI are rebuilt in one
	// go: about 10 ns for each.
	Members int
	// Entries is the number of entries of all sources together.
	Entries int
	// Learned is the number of Data entries among them.
	Learned int
	// MaxHoldtime caps the holdtime of Registration and Peer entries. Static ones
	// stay static unless it is below 65535 s, the value that says static on the wire
	// (PROTOCOL section 3). Zero stands for 65535 s.
	MaxHoldtime time.Duration
	// Tombstones is the number of withdrawals that are remembered. Zero stands for
	// 65536.
	Tombstones int
}

// A Learning says in which VNIs the senders of data packets become members.
type Learning uint8

const (
	// LearnOff learns nothing, and lets what was learned expire.
	LearnOff Learning = iota
	// LearnKnown learns only in VNIs that have a live entry that is not learned.
	LearnKnown
	// LearnAny learns in every VNI.
	LearnAny
)

var learningNames = []string{"off", "known", "any"}

// String returns the word that the configuration file has for l.
func (l Learning) String() string { return name(learningNames, uint8(l), "Learning") }

// Options are what the operator may set, also while the table is in use.
type Options struct {
	Limits
	// Learning says where to learn.
	Learning Learning
	// LearnHoldtime is how long a learned entry lives after the VTEP's last data
	// packet; Static never ages.
	LearnHoldtime time.Duration
}
