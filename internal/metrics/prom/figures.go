// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"time"

	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// Figures are a service node's figures at one moment. What counts, counts since
// the start of the process and never goes back. A map has every name that there
// can be, those that counted nothing too, so that the first count is seen as one.
type Figures struct {
	// Engine names what floods, empty where nothing is flooded. EngineReason says
	// in a word why it is not the one asked for, empty where it is.
	Engine, EngineReason string
	// Started is when the process started.
	Started time.Time
	// Ready and Alive are what /readyz and /healthz answer.
	Ready, Alive bool
	// FailedChecks is the number of start-up checks that failed.
	FailedChecks int
	// LogLinesLost counts lines that the log destination was too slow for.
	LogLinesLost uint64

	// Flood are the figures of the data plane.
	Flood metrics.FloodCount
	// ReceiveQueue and SendQueue are the bytes that wait in its sockets.
	ReceiveQueue, SendQueue int
	// Kernel is nil where nobody asked for an engine in the kernel.
	Kernel *Kernel
	// Latency is from the receipt of a packet to its last copy, of a sample of those
	// that raw floods.
	Latency metrics.LatencyCount

	Table        Table
	Registration Registration
	Peering      Peering
	// Peers has one element per Peer.Name.
	Peers []Peer
	// Anycast is nil where the node keeps no service address.
	Anycast *Anycast
	Capture Capture
	// Clients is the number of connections at the management socket.
	Clients int

	// Other is what was counted for VNIs that have no row of their own in VNIs any
	// more, or never had. It is of the same moment as VNIs; what is missing from
	// both for once does no harm.
	Other metrics.VNICount
	// VNIs has a row for each VNI that is known, in ascending order; all of them,
	// Collector chooses. Nil where nothing is counted per VNI.
	VNIs []VNI
}

// A Kernel has the figures of an engine in the kernel. What it counts is part of
// Figures.Flood.
type Kernel struct {
	// VNIs are those that it floods, to Members members together, whose records take
	// Bytes of memory, on so many Devices. RawVNIs are left to raw, by reason.
	VNIs, Members, Bytes, Devices int
	RawVNIs                       map[string]int
	// Pending counts VTEPs whose way is being found out, and VNIs and devices that
	// are still to be looked at.
	Pending         int
	Packets, Copies uint64
	// HandedUp counts packets that were left to raw, by reason.
	HandedUp map[string]uint64
	// Differences counts members that were other ones than those of the table.
	Differences uint64
}

// A Table has the sizes and limits of the VNI -> VTEP table, and what became of
// entries, whoever told of them.
type Table struct {
	VNIs, Members, Tombstones int
	// Entries are by source.
	Entries map[string]int
	// The limits; MaxMembers is that of one VNI, MaxLearned that of entries that
	// were learned from data. Zero is left out.
	MaxVNIs, MaxMembers, MaxEntries, MaxLearned int

	Expired, Evicted, Withdrawn, Replaced uint64
	// Refused counts by reason.
	Refused map[string]uint64
}

// A Registration has the figures of control messages over UDP.
type Registration struct {
	// Messages counts what was received by version, unknown for one that does not
	// exist, and by verdict.
	Messages map[Message]uint64
	// ReadErrors counts failed reads of the sockets.
	ReadErrors uint64
	// Entries counts members of messages by what the table did with them, Refused
	// those that it did not take in by reason, and LeftOut addresses that cannot be
	// a VTEP's by reason.
	Entries, Refused, LeftOut map[string]uint64

	// Questions counts messages that ask, among them Merged with an answer in
	// progress and Dropped for want of room.
	Questions, Merged, Dropped uint64
	// Withheld counts messages of version 1 of a peer, which are not answered.
	Withheld uint64
	// UnansweredVNIs counts VNIs of questions that got no answer.
	UnansweredVNIs uint64
	// Answers counts answers that were sent to their end, Empty those among them
	// without a VNI; Abandoned and Cut those that were given up.
	Answers, Empty, Abandoned, Cut uint64
	// AnswerMessages and AnswerBytes are what answers were made of.
	AnswerMessages, AnswerBytes uint64
	// WriteErrors counts messages of answers that could not be sent.
	WriteErrors uint64
}

// A Message names received messages of one version that had one verdict.
type Message struct{ Version, Verdict string }

// A Peering has the figures of what comes in over TCP.
type Peering struct {
	// Connections counts connections from elsewhere by verdict.
	Connections  map[string]uint64
	AcceptErrors uint64
	// Answers counts dumps and repairs that were sent whole, AnswerEntries what
	// they held.
	Answers, AnswerEntries uint64
	// Entries counts members that peers told of by what the table did with them,
	// Refused those that it did not take in by reason.
	Entries, Refused map[string]uint64
}

// A Peer has the figures of one address of a configured peer, or of a name that
// does not resolve.
type Peer struct {
	// Name is the address with its port, or the name.
	Name string
	// Up tells whether the peer can be reached and its last answer could be used.
	Up bool
	// Heard is how long ago the peer sent something over TCP, negative if never.
	Heard time.Duration
	// Queue is the number of relayed messages that wait to be sent, Waiting that
	// of members that the peer is still to be told of.
	Queue, Waiting int
	// Relayed counts messages that were relayed, Dropped those that found the queue
	// full and RelayErrors those that were lost on the way out.
	Relayed, Dropped, RelayErrors uint64
	// Updates counts members that the peer was told of over TCP, in
	// UpdateConnections connections; UpdateErrors counts those that failed.
	Updates, UpdateConnections, UpdateErrors uint64
	// Dumps counts attempts to take the peer's table, and DumpErrors those of them
	// that failed. The last of them took DumpTime and brought DumpEntries.
	Dumps, DumpErrors uint64
	DumpTime          time.Duration
	DumpEntries       int
	// Differ is how many entries were lacking here at the last comparison.
	Differ int
}

// An Anycast tells how the service address does.
type Anycast struct{ Installed, Healthy, Draining bool }

// A Capture has the figures of captures at the management socket.
type Capture struct {
	// Running is how many there are now.
	Running int
	// Packets counts what they took, Lost packets that they wanted and that came
	// too fast.
	Packets, Lost uint64
}

// A VNI has the figures of one VNI.
type VNI struct {
	VNI     vxlan.VNI
	Members int
	metrics.VNICount
}
