// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"time"
)

const (
	// CommandStats is the command that is answered with one Stats and then with any
	// number of []VNIStat, in the order of VNI. Its arguments are StatsArgs.
	CommandStats = "stats"

	// CommandExplain is the command that tells what would happen to a packet. It is
	// answered with one Explanation and then with any number of
	// []ExplainedDestination, in the order of address. Its arguments are
	// ExplainArgs.
	CommandExplain = "explain"
)

// StatsArgs are the arguments of CommandStats.
type StatsArgs = VNIArgs

// A Stats is the head of an answer to CommandStats. All figures of an answer are
// of one moment, but for what is counted meanwhile.
type Stats struct {
	// At is when the figures were taken, and Monotonic the same by a clock that
	// nobody sets, in nanoseconds: rates come from two answers of one daemon.
	At        time.Time `json:"at"`
	Monotonic int64     `json:"monotonic"`
	// Total is of all packets, and Other of those that no VNI of its own counts:
	// its VNI is not in the table, or there are too many. The VNI of both is 0 and
	// means nothing.
	Total VNIStat `json:"total"`
	Other VNIStat `json:"other"`
}

// A VNIStat are the figures of one VNI. Counters count since the node started or
// the VNI was first seen.
type VNIStat struct {
	VNI uint32 `json:"vni"`
	// Members is how many copies go to; in a total the sum of all VNIs.
	Members int `json:"members"`
	// Packets and Bytes were received, Copies and CopyBytes sent, in UDP payload.
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Copies    uint64 `json:"copies"`
	CopyBytes uint64 `json:"copy_bytes"`
	// Drops counts packets and copies that were dropped, by reason; reasons that
	// never applied may be left out.
	Drops map[string]uint64 `json:"drops,omitempty"`
	// Uncounted tells that the VNI has no figures of its own, so that all of them are
	// 0: too many have, and what it does is in Other.
	Uncounted bool `json:"uncounted,omitempty"`
}

// ExplainArgs are the arguments of CommandExplain: the packet.
type ExplainArgs struct {
	VNI    uint32     `json:"vni"`
	Source netip.Addr `json:"source"`
	// TTL is what the packet arrives with, nil for 64.
	TTL *int `json:"ttl,omitempty"`
	// Length is that of the inner frame in bytes, nil for one that fits anywhere.
	Length *int `json:"length,omitempty"`
}

// An Explanation says what would happen to a packet.
type Explanation struct {
	VNI    uint32     `json:"vni"`
	Source netip.Addr `json:"source"`
	// Flooded tells whether it would be flooded at all. Rule is the stable name of
	// the rule that decides, and Text tells it to people.
	Flooded bool   `json:"flooded"`
	Rule    string `json:"rule"`
	Text    string `json:"text"`
	// Learned tells whether the source would become a member by it, and LearnText
	// why or why not.
	Learned   bool   `json:"learned"`
	LearnText string `json:"learn_text,omitempty"`
	// Copies is how many would be sent.
	Copies int `json:"copies"`
}

// An ExplainedDestination is a member of the VNI of a packet.
type ExplainedDestination struct {
	Address netip.Addr `json:"address"`
	// Copy tells whether it would get a copy. Rule is the stable name of the rule
	// that decides, "copy" for one, and Text tells it to people.
	Copy bool   `json:"copy"`
	Rule string `json:"rule"`
	Text string `json:"text,omitempty"`
	// Sources are the FDBEntry.Source of the entries that make it a member.
	Sources []string `json:"sources,omitempty"`
	// Device and Gateway are the way to it; left out where there is none.
	Device  string     `json:"device,omitempty"`
	Gateway netip.Addr `json:"gateway,omitzero"`
}
