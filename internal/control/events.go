// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"time"
)

// CommandMonitor is the command that is answered with a stream: by a service
// node of []MembershipEvent, with arguments MonitorArgs; by a registration daemon
// of []RegistrarEvent, with arguments VNIArgs. A stream begins with an empty
// piece, once nothing more is missed.
const CommandMonitor = "monitor"

// What a MembershipEvent is about.
const (
	// EventAdded is a new entry.
	EventAdded = "added"
	// EventRemoved is an entry that is gone.
	EventRemoved = "removed"
	// EventRefreshed is an entry that lives longer.
	EventRefreshed = "refreshed"
)

// What a RegistrarEvent is about.
const (
	// EventRegistered is a VNI that is registered from now on.
	EventRegistered = "registered"
	// EventUnregistered is one that is not registered any more.
	EventUnregistered = "unregistered"
	// EventSkipped is one that cannot be registered.
	EventSkipped = "skipped"
	// EventMemberAdded is a VTEP that came to a flood list.
	EventMemberAdded = "member added"
	// EventMemberRemoved is one that left it.
	EventMemberRemoved = "member removed"
)

// EventLost stands for events that the client was too slow for, see Lost.
const EventLost = "lost"

// Lost takes the place of events in a stream of them, in a piece of its own.
// Clients can read it as one of those: its members are among theirs.
type Lost struct {
	Time time.Time `json:"time"`
	// Event is EventLost.
	Event string `json:"event"`
	// Count is how many events the client was too slow for.
	Count uint64 `json:"count"`
}

// MonitorArgs are the arguments of CommandMonitor of a service node.
type MonitorArgs struct {
	// VNI is the one VNI to tell of, nil for all.
	VNI *uint32 `json:"vni,omitempty"`
	// Refreshed asks for entries that live longer, too.
	Refreshed bool `json:"refreshed,omitempty"`
}

// A MembershipEvent is a change of one entry of the table.
type MembershipEvent struct {
	Time time.Time `json:"time"`
	// Event is one of the constants, and Reason why it happened; empty where Event
	// says it.
	Event   string     `json:"event"`
	Reason  string     `json:"reason,omitempty"`
	VNI     uint32     `json:"vni"`
	Address netip.Addr `json:"address,omitzero"`
	// Source and Identifier are those of the entry, see FDBEntry.
	Source     string `json:"source,omitempty"`
	Identifier uint64 `json:"identifier,string,omitempty"`
	// Seconds is how long the entry lives if nothing refreshes it, rounded up; nil
	// if it never ages or is gone.
	Seconds *int64 `json:"seconds,omitempty"`
	// Count is that of a Lost.
	Count int `json:"count,omitempty"`
}

// A RegistrarEvent is a change of a VNI of a registration daemon.
type RegistrarEvent struct {
	Time time.Time `json:"time"`
	// Event is one of the constants, and Reason why it happened; empty where Event
	// says it.
	Event  string `json:"event"`
	Reason string `json:"reason,omitempty"`
	VNI    uint32 `json:"vni"`
	Device string `json:"device,omitempty"`
	// Address is the VTEP of a flood list, or the local address that is registered.
	Address netip.Addr `json:"address,omitzero"`
	// Count is that of a Lost.
	Count int `json:"count,omitempty"`
}
