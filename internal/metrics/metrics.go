// SPDX-License-Identifier: Apache-2.0

// Package metrics holds the counters of the data plane and the reasons why it
// drops something. It owns names and numbers; who counts, shows or exports
// them is not its concern. It imports no socket and no logger.
package metrics

import "sync/atomic"

// A Drop is the reason why a received packet, or one copy of it, was not sent
// on. Its name (String) is stable: it appears in logs and metrics.
type Drop uint8

// Reasons that end a received packet. Each counts packets.
const (
	// DropNone means: not dropped.
	DropNone Drop = iota
	// DropShort is a datagram without room for a VXLAN header (RFC 7348, section 5).
	DropShort
	// DropNoVNI is a VXLAN header whose I flag is not set (RFC 7348, section 5).
	DropNoVNI
	// DropTruncated is a datagram that did not fit the receive buffer, which
	// is as large as the largest datagram: it stays at 0.
	DropTruncated
	// DropSource is a packet whose outer source address cannot be a VTEP.
	DropSource
	// DropOwn is a packet that came from an address of this machine, or a copy
	// to an address that is local without being listed, which came back.
	DropOwn
	// DropService is a packet that came from the service address or from a service node.
	DropService
	// DropDenied is a packet from a denied address.
	DropDenied
	// DropTTL is a packet whose received TTL is 1 or 0: a copy would have none left.
	DropTTL
	// DropNoMember is a packet whose VNI has no other member.
	DropNoMember
	// DropKernel is a packet that the kernel dropped because the socket's receive
	// buffer was full (SO_RXQ_OVFL, since Linux 2.6.33), which is of no VNI; or
	// because it would have come late there, which the engine tc counts by VNI.
	DropKernel

	// Reasons that end one copy, while the other copies of the packet go out.

	// DropFamily is a copy to a member of the other address family: its source could not be kept.
	DropFamily
	// DropUnreachable is a copy for which the kernel has no route.
	DropUnreachable
	// DropUnresolved is a copy to a member whose link-layer address does not
	// resolve and whose share of the queue for such members is used up.
	DropUnresolved
	// DropRefused is a copy that the kernel refused: a firewall rule, a
	// prohibit route or a broadcast address.
	DropRefused
	// DropOversize is a copy larger than the outgoing device's MTU, with oversize = drop.
	DropOversize
	// DropBlocked is a copy for which the send buffer stayed full for too long.
	DropBlocked
	// DropSend is a copy that failed with any other error of the kernel.
	DropSend

	// NumDrops is the number of reasons, DropNone included.
	NumDrops
)

var dropNames = [NumDrops]string{
	DropNone:        "none",
	DropShort:       "short",
	DropNoVNI:       "no_vni",
	DropTruncated:   "truncated",
	DropSource:      "source",
	DropOwn:         "own",
	DropService:     "service_node",
	DropDenied:      "denied",
	DropTTL:         "ttl",
	DropNoMember:    "no_member",
	DropKernel:      "kernel",
	DropFamily:      "family",
	DropUnreachable: "unreachable",
	DropUnresolved:  "unresolved",
	DropRefused:     "refused",
	DropOversize:    "oversize",
	DropBlocked:     "blocked",
	DropSend:        "send",
}

// String returns the reason's stable name, lower case with underscores.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return "unknown"
}

// PerCopy tells whether the reason counts copies; else it counts packets.
func (d Drop) PerCopy() bool { return d >= DropFamily && d < NumDrops }

// FloodCount is a set of data-plane figures: those of one batch, of one
// worker, or of all, whatever the VNI. Its drops are also those of packets
// without a VNI, and of the kernel. The zero value counts nothing. It is a plain value and not safe
// for concurrent use.
type FloodCount struct {
	VNICount
	// Fragmented counts the copies larger than the outgoing device's MTU that
	// the kernel was asked to fragment.
	Fragmented uint64
	// Learned counts the members that were learned from data.
	Learned uint64
	// Loops counts sampled packets that came back with a lower TTL.
	Loops uint64
}

// Plus returns the sum of c and d.
func (c FloodCount) Plus(d FloodCount) FloodCount {
	c.VNICount = c.VNICount.Plus(d.VNICount)
	c.Fragmented += d.Fragmented
	c.Learned += d.Learned
	c.Loops += d.Loops
	return c
}

// Flood is a FloodCount that one worker adds to, once per batch, while
// anybody reads. The padding keeps two workers' counters off one cache line.
type Flood struct {
	_                 [64]byte
	packets, bytes    atomic.Uint64
	copies, copyBytes atomic.Uint64
	fragmented        atomic.Uint64
	learned, loops    atomic.Uint64
	drops             [NumDrops]atomic.Uint64
	_                 [64]byte
}

// Add adds the figures of a batch. It is safe for concurrent use.
func (f *Flood) Add(c *FloodCount) {
	add := func(v *atomic.Uint64, n uint64) {
		if n != 0 {
			v.Add(n)
		}
	}
	add(&f.packets, c.Packets)
	add(&f.bytes, c.Bytes)
	add(&f.copies, c.Copies)
	add(&f.copyBytes, c.CopyBytes)
	add(&f.fragmented, c.Fragmented)
	add(&f.learned, c.Learned)
	add(&f.loops, c.Loops)
	for i := range c.Drops {
		add(&f.drops[i], c.Drops[i])
	}
}

// Load returns the figures so far. Each is exact; a batch that is being added
// at this moment may be there in part. It is safe for concurrent use.
func (f *Flood) Load() FloodCount {
	c := FloodCount{
		VNICount: VNICount{
			Packets: f.packets.Load(), Bytes: f.bytes.Load(),
			Copies: f.copies.Load(), CopyBytes: f.copyBytes.Load(),
		},
		Fragmented: f.fragmented.Load(), Learned: f.learned.Load(), Loops: f.loops.Load(),
	}
	for i := range c.Drops {
		c.Drops[i] = f.drops[i].Load()
	}
	return c
}
