// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"time"
)

// CommandCapture is the command that is answered with a stream of CaptureEvent,
// the first of which has Start. Its arguments are CaptureArgs.
const CommandCapture = "capture"

// CaptureArgs are the arguments of CommandCapture.
type CaptureArgs struct {
	VNI uint32 `json:"vni"`
	// Count is how many packets to take, 0 for no end.
	Count int `json:"count,omitempty"`
	// Snap is how many bytes of each payload to take, 0 for all.
	Snap int `json:"snap,omitempty"`
}

// A CaptureEvent is one piece of a capture: one of its members is there.
type CaptureEvent struct {
	Start   *CaptureStart `json:"start,omitempty"`
	Packets []Captured    `json:"packets,omitempty"`
	// Lost is how many packets were not captured since the last Lost, for there were
	// more than Rate, or they were not read fast enough.
	Lost *uint64 `json:"lost,omitempty"`
}

// A CaptureStart says that packets are captured from now on.
type CaptureStart struct {
	// Rate is how many packets a second are captured at most.
	Rate int `json:"rate"`
}

// A Captured is a packet that was received, and what became of it.
type Captured struct {
	// Time is when it was received.
	Time time.Time `json:"time"`
	VNI  uint32    `json:"vni"`
	// Source and Destination are its outer addresses. The destination is the
	// address that was listened at, which may be unspecified.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// TTL and TOS are those of its outer header.
	TTL uint8 `json:"ttl"`
	TOS uint8 `json:"tos"`
	// Length is that of its UDP payload, VXLAN header included, and Payload the
	// first bytes of it.
	Length  int    `json:"length"`
	Payload []byte `json:"payload"`
	// Copies is how many were sent. Drop is why the packet was dropped, empty where
	// it was flooded, and CopyDrops counts copies that were dropped, by reason.
	Copies    int               `json:"copies"`
	Drop      string            `json:"drop,omitempty"`
	CopyDrops map[string]uint32 `json:"copy_drops,omitempty"`
	// Learned tells whether its source became a member by it.
	Learned bool `json:"learned,omitempty"`
}
