// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"net/netip"
	"sync/atomic"

	"vxsnd/internal/vxlan"
)

// A Destination is where a copy goes: compact and without pointers, so that
// long lists cost the garbage collector nothing.
type Destination struct {
	// addr is in the 16-byte form; IPv4 as IPv4-mapped, which no IPv6 member is.
	addr [16]byte
	// VNI is the VNI that the copy carries.
	VNI vxlan.VNI
	// Port is the UDP port that the copy goes to, 0 for the configured one.
	Port uint16
	// Flags is 0; the bits are kept for EVPN.
	Flags uint16
}

// Addr returns the address, unmapped.
func (d *Destination) Addr() netip.Addr { return addrOf(d.addr) }

// Is4 tells whether the address is IPv4; As4 holds it then.
func (d *Destination) Is4() bool { return isV4(d.addr) }

// As4 returns the four bytes of an IPv4 address. Of an IPv6 address it returns
// the last four, which mean nothing: ask Is4 first.
func (d *Destination) As4() [4]byte { return [4]byte(d.addr[12:]) }

// As16 returns the 16 bytes of an IPv6 address, or the IPv4-mapped form of an
// IPv4 address.
func (d *Destination) As16() [16]byte { return d.addr }

// A Snapshot is the list of destinations of one VNI at the moment of the
// lookup. The list must not be modified, and the table never modifies it. It may hold
// members whose time has run out since the last sweep: where AllLive says
// false, ask Live for each.
type Snapshot struct {
	// Destinations are in the order in which they became members.
	Destinations []Destination

	// expires runs parallel to Destinations. The table stores refreshed expiries
	// into it, so it is only read and written atomically.
	expires []int64
	// due is no later than the earliest of expires was at the lookup.
	due Time
}

// AllLive tells, by one comparison, that no destination has expired at now. It
// may say false where all of them live.
func (s *Snapshot) AllLive(now Time) bool { return now < s.due }

// Live tells whether destination i has not expired at now. It is exact.
func (s *Snapshot) Live(i int, now Time) bool {
	return uint(i) < uint(len(s.expires)) && now < Time(atomic.LoadInt64(&s.expires[i]))
}

// A Lookup is the question that a received packet puts to the table, and the
// answer. The caller owns it and uses it again for the next packet; a lookup
// allocates nothing.
type Lookup struct {
	// VNI and Source, the outer source address, are the question.
	VNI    vxlan.VNI
	Source netip.Addr

	// Refused says that Source is excluded: such a packet is not flooded, and the
	// rest of the answer is empty.
	Refused Exclusion
	// Learn says that Source is to be handed to Table.Learn. It is false where it
	// is known already and where the learning mode, a cap or a registered identifier
	// forbids it.
	Learn bool
	// Snapshot holds the destinations of VNI, Source among them if it is a member.
	Snapshot

	// What LookupBatch works with; of no use after it.
	seg  *segment
	hash uint64
	at   uint32
}

func addrOf(a [16]byte) netip.Addr { return netip.AddrFrom16(a).Unmap() }

func isV4(a [16]byte) bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }
