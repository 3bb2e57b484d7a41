// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"fmt"
	"net/netip"
	"time"

	"vxsnd/internal/vxlan"
)

// A Source says who vouches for an entry. Each source's entry is withdrawn on
// its own, but for Registration and Peer: these two carry the same
// registrant's word.
type Source uint8

const (
	// Data entries are learned from the data packets of the VTEP itself.
	Data Source = iota
	// Registration entries were registered here by a VTEP's daemon.
	Registration
	// Operator entries were added by hand, over the management socket.
	Operator
	// Configuration entries stand in the configuration file.
	Configuration
	// Peer entries were told by another service node.
	Peer

	// NumSources is the number of sources, for arrays indexed by Source.
	NumSources = 5
)

var sourceNames = [NumSources]string{"data", "registration", "operator", "configuration", "peer"}

// String returns the name of s as logs and commands show it.
func (s Source) String() string { return name(sourceNames[:], uint8(s), "Source") }

// registrant tells whether s carries the word of a registering node, which the
// rules of identifiers apply to.
func (s Source) registrant() bool { return s == Registration || s == Peer }

// An Update is one statement about one member: hold it for some time, or let
// go of it.
type Update struct {
	VNI vxlan.VNI
	// Addr is the VTEP's address, unmapped.
	Addr netip.Addr
	// Identifier names the registering node; 0 stands for none (PROTOCOL section
	// 3). Other than 0 it owns at most one address per family in a VNI.
	Identifier uint64
	// Source is any but Data, whose entries come by Table.Learn.
	Source Source
	// Holdtime is how long the entry lives from now on. Zero or less withdraws it;
	// Static never ages.
	Holdtime time.Duration
	// Repair marks what a dump or a repair told. It adds what is missing and
	// lengthens what is shorter here (a registrant's word that came by the other
	// carrier is not missing); it neither shortens nor replaces nor
	// withdraws, and it does not revive what has a tombstone.
	Repair bool
	// StaticOnly has a withdrawal remove the entry of Source alone, and only if it
	// never ages. It leaves no tombstone: nobody withdrew the member, its source
	// has no reason any more to hold it.
	StaticOnly bool
	// KeepStatic has an update neither shorten nor withdraw an entry of Source that
	// never ages.
	KeepStatic bool
}

// A Learned names the VTEP that a data packet came from, for Table.Learn.
type Learned struct {
	VNI  vxlan.VNI
	Addr netip.Addr
}

// An Entry is one reason for a VTEP to be a member of a VNI. One VTEP may have
// several; it is flooded to once, until the last of them expires.
type Entry struct {
	VNI        vxlan.VNI
	Addr       netip.Addr
	Identifier uint64
	Source     Source
	// Expires is the first moment at which the entry is dead, Never if static.
	Expires Time
	// Heard is when its source spoke of it last, to the second.
	Heard Time
}

// A Refusal says why an update or a learned member was not taken in.
type Refusal uint8

const (
	// RefusedVNIs: the table holds Limits.VNIs already.
	RefusedVNIs Refusal = iota
	// RefusedMembers: the VNI has Limits.Members already.
	RefusedMembers
	// RefusedEntries: the table holds Limits.Entries already, or the VTEP is held
	// under as many identifiers as one VTEP may have in a VNI.
	RefusedEntries
	// RefusedLearned: the table holds Limits.Learned already.
	RefusedLearned
	// RefusedTombstone: a repair named what was withdrawn a while ago.
	RefusedTombstone
	// RefusedExcluded: the address is excluded (see Table.Exclude).
	RefusedExcluded
	// RefusedAddress: the address cannot be a VTEP's (see Usable).
	RefusedAddress
	// RefusedOwned: a repair named another address for an identifier that has a
	// live one here.
	RefusedOwned
	// RefusedInvalid: the VNI has more than 24 bits, or the source is not one that
	// the call takes.
	RefusedInvalid

	// NumRefusals is the number of refusals, for arrays indexed by Refusal.
	NumRefusals = 9
)

var refusalNames = [NumRefusals]string{
	"vnis", "members", "entries", "learned", "tombstone", "excluded", "address", "owned", "invalid",
}

// String returns the name of r as counters and logs show it.
func (r Refusal) String() string { return name(refusalNames[:], uint8(r), "Refusal") }

// A Result says what a call of Apply or Learn did, in entries.
type Result struct {
	Added, Refreshed, Withdrawn int
	// Replaced counts entries that lost their identifier to another address.
	Replaced int
	// Evicted counts learned entries that made room.
	Evicted int
	// Refused counts what was not taken in, by reason.
	Refused [NumRefusals]int
}

// An Exclusion says why an address gets no copies and may not send.
type Exclusion uint8

const (
	// NotExcluded is the exclusion of every other address.
	NotExcluded Exclusion = iota
	// ExcludedOwn: an address of this machine.
	ExcludedOwn
	// ExcludedService: the service address, a peer, a proxy or another service node.
	ExcludedService
	// ExcludedDenied: an address that the operator denied.
	ExcludedDenied
)

var exclusionNames = []string{"none", "own", "service", "denied"}

// String returns the name of e as counters and logs show it.
func (e Exclusion) String() string { return name(exclusionNames, uint8(e), "Exclusion") }

// Usable tells whether a can be the address of a VTEP: a unicast address,
// unmapped, that can be sent to without naming a device. Besides the
// unspecified, loopback, multicast and broadcast addresses it refuses 0.0.0.0/8,
// which is no destination (RFC 1122, section 3.2.1.3), and IPv6 link-local
// ones, which mean nothing without a zone. 240.0.0.0/4 is allowed: Linux treats
// it as unicast and some networks number their underlay out of it.
func Usable(a netip.Addr) bool {
	switch {
	case !a.IsValid(), a.Is4In6(), a.Zone() != "", a.IsUnspecified(), a.IsLoopback(), a.IsMulticast():
		return false
	case a.Is4():
		b := a.As4()
		return b[0] != 0 && b != [4]byte{255, 255, 255, 255}
	}
	return !a.IsLinkLocalUnicast()
}

// name returns names[i], or a text that shows i where there is none.
func name(names []string, i uint8, kind string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}
