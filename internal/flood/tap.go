// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"net/netip"
	"time"

	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// A Tap is shown packets and what became of them.
type Tap struct {
	// Wants tells whether to show this packet of a VNI. It is called once per
	// packet, by all workers concurrently, so it must be fast; it bounds how
	// many packets are shown.
	Wants func(vni vxlan.VNI) bool
	// Take is called with each packet that was wanted, by all workers
	// concurrently. It must not wait, and keeps nothing of r after its return.
	Take func(r *Record)
}

// A Record is one received packet and what became of it.
type Record struct {
	// Time is when the machine received the packet, or, where the kernel does not tell
	// (before Linux 5.1), when it was replicated.
	Time time.Time
	VNI  vxlan.VNI
	// Source is the outer source, Destination the address and port that the
	// packet was sent to: the zero value if that is not known.
	Source, Destination netip.AddrPort
	// TTL and TOS are those of the received packet.
	TTL, TOS uint8
	// Payload is the VXLAN header and the inner frame.
	Payload []byte
	// Copies is the number of copies that were handed to the kernel.
	Copies int
	// Drop is why the packet was not flooded, DropNone if it was.
	Drop metrics.Drop
	// CopyDrops counts the copies that were dropped, by reason.
	CopyDrops [metrics.NumDrops]uint32
	// Learned says that the sender was learned from this packet.
	Learned bool
}
