// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/netip"

	"vxsnd/internal/vxlan"
)

// A VNICount holds the figures of one VNI, or of several. The zero value
// counts nothing.
type VNICount struct {
	// Packets and Bytes were received, UDP payload alone (the VXLAN header and
	// the inner frame).
	Packets, Bytes uint64
	// Copies and CopyBytes were handed to the kernel, UDP payload alone.
	Copies, CopyBytes uint64
	// Drops counts by reason: packets or copies, see Drop.PerCopy. Packets that
	// the kernel dropped, and those without a VNI, are of no VNI.
	Drops [NumDrops]uint64
}

// Plus returns the sum of c and d.
func (c VNICount) Plus(d VNICount) VNICount {
	c.Packets += d.Packets
	c.Bytes += d.Bytes
	c.Copies += d.Copies
	c.CopyBytes += d.CopyBytes
	for i := range c.Drops {
		c.Drops[i] += d.Drops[i]
	}
	return c
}

// TotalDrops returns the sum of all drops, of packets and of copies.
func (c *VNICount) TotalDrops() uint64 {
	var n uint64
	for _, d := range c.Drops {
		n += d
	}
	return n
}

// A SenderCount holds the figures of the packets that one VTEP sent in a VNI.
type SenderCount struct {
	// Packets and Bytes came from the VTEP, UDP payload alone.
	Packets, Bytes uint64
	// Copies and CopyBytes were made of them and handed to the kernel.
	Copies, CopyBytes uint64
	// Drops counts dropped packets and dropped copies of them.
	Drops uint64
	// Last is when the last packet came, on the clock of the flood workers
	// (fdb.Time), ns.
	Last int64
}

// A VNITotal is what was counted for a VNI.
type VNITotal struct {
	VNI vxlan.VNI
	VNICount
}

// A SenderTotal is what was counted for the packets of a VTEP in a VNI.
type SenderTotal struct {
	VNI  vxlan.VNI
	Addr netip.Addr
	SenderCount
}

// TrafficLimits bound what a Traffic keeps: rows for VNIs and rows for pairs
// of VNI and sender, both per worker. 0 VNIs turns counting off altogether.
type TrafficLimits struct {
	VNIs, Senders int
}

// Traffic holds what was flooded per VNI and per sender in a VNI, by all workers. It
// is safe for concurrent use.
type Traffic struct{}

// NewTraffic returns a Traffic that has counted nothing.
func NewTraffic(l TrafficLimits) *Traffic { return &Traffic{} }

// Configure replaces the limits. What has no room any more goes into Other.
func (t *Traffic) Configure(l TrafficLimits) {}

// VNIs appends the figures of each VNI to dst, sorted by VNI.
func (t *Traffic) VNIs(dst []VNITotal) []VNITotal { return dst }

// VNI returns the figures of one VNI.
func (t *Traffic) VNI(v vxlan.VNI) VNICount { return VNICount{} }

// Senders appends the figures of senders to dst, sorted by VNI and address:
// those in a VNI, unless it is nil, and of an address, unless it is zero.
func (t *Traffic) Senders(vni *vxlan.VNI, addr netip.Addr, dst []SenderTotal) []SenderTotal {
	return dst
}

// Other returns the figures of what has no row of its own: packets that came
// when there was room for no more VNIs, packets of VNIs that the table does not
// know, and VNIs that Keep has forgotten.
func (t *Traffic) Other() VNICount { return VNICount{} }

// Keep forgets the VNIs that known does not know: what they counted goes into
// Other, so that the sum of all stays what it is. known must not call the
// Traffic.
func (t *Traffic) Keep(known func(vxlan.VNI) bool) {}
