// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"net/netip"
)

// The commands about the table.
const (
	// CommandFDB is answered with any number of FDBPart. Its arguments are FDBArgs.
	CommandFDB = "fdb"

	// CommandFDBAdd makes the entry that its argument, an FDBChange, names, and
	// CommandFDBDel removes it. Both touch only what an operator made, and are
	// answered with one FDBChanged.
	CommandFDBAdd = "fdb_add"
	CommandFDBDel = "fdb_del"

	// CommandFDBFile replaces all entries that operators made, or changes nothing.
	// It has no arguments; its upload are pieces of []FDBChange, and it is answered
	// with one FDBReplaced.
	CommandFDBFile = "fdb_file"

	// CommandVTEP is answered with any number of []VTEPMember, in the order of VNI.
	// Its arguments are VTEPArgs.
	CommandVTEP = "vtep"
)

// MaxPart is how many entries a part of a long answer holds at most, so that its
// line stays well below the bound.
const MaxPart = 1000

// FDBArgs are the arguments of CommandFDB. An entry is told if it meets all that
// are there.
type FDBArgs struct {
	// VNI is the one VNI to answer for, nil for all.
	VNI *uint32 `json:"vni,omitempty"`
	// VTEP is what the address of an entry is in; not valid for all.
	VTEP netip.Prefix `json:"vtep,omitzero"`
	// Source is FDBEntry.Source, empty for all.
	Source string `json:"source,omitempty"`
}

// An FDBEntry is one reason for a VTEP to be a member of a VNI.
type FDBEntry struct {
	VNI     uint32     `json:"vni"`
	Address netip.Addr `json:"address"`
	// Source says who vouches for the entry.
	Source string `json:"source"`
	// Seconds is how long the entry lives if nothing refreshes it, rounded up;
	// nil if it never ages.
	Seconds *int64 `json:"seconds"`
	// Identifier names the registering node, 0 for none. It is a string in JSON,
	// whose numbers keep 53 bits in many readers.
	Identifier uint64 `json:"identifier,string,omitempty"`
	// Via is the node whose configuration names a static member of a peer, or the
	// peer that told of it last; not valid where neither is known.
	Via netip.Addr `json:"via,omitzero"`
	// LastHeard is how many seconds ago the VTEP was last heard, rounded down;
	// nil where that is not known or never happened.
	LastHeard *int64 `json:"last_heard"`
}

// An FDBPart is one piece of the table, at most MaxPart entries. The entries of
// an answer are in the order of VNI, address and source, and those of one VNI
// and address may be spread over two parts.
type FDBPart []FDBEntry

// An FDBChange names an entry that an operator makes or removes.
type FDBChange struct {
	VNI     uint32     `json:"vni"`
	Address netip.Addr `json:"address"`
}

// An FDBChanged says what became of an FDBChange.
type FDBChanged struct {
	// Changed is false where the entry was there already.
	Changed bool `json:"changed"`
	// Warning says why the address gets no copies although it was added, or stays a
	// member although its entry was removed; empty where neither is so.
	Warning string `json:"warning,omitempty"`
}

// An FDBReplaced says what became of the entries that operators made.
type FDBReplaced struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
	// Kept are those that were there and still are.
	Kept int `json:"kept"`
	// Warnings are about addresses that get no copies all the same, each in one
	// line; of many the first few.
	Warnings []string `json:"warnings,omitempty"`
}

// VTEPArgs are the arguments of CommandVTEP.
type VTEPArgs struct {
	Address netip.Addr `json:"address"`
}

// A VTEPMember is a VTEP in one of its VNIs. A VNI that it only sends in is one
// of those. Counters count since the VTEP was first heard there, or since there
// was no room to go on counting.
type VTEPMember struct {
	VNI uint32 `json:"vni"`
	// Sources are the entries that make it a member, in the order of their sources.
	Sources []FDBEntry `json:"sources,omitempty"`
	// Packets and Bytes were received from it, in UDP payload; Copies and CopyBytes
	// were sent of them to others. Drops counts those packets and copies that were
	// dropped.
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Copies    uint64 `json:"copies"`
	CopyBytes uint64 `json:"copy_bytes"`
	Drops     uint64 `json:"drops"`
	// LastPacket is how many seconds ago its last packet came; nil if none is known
	// of.
	LastPacket *float64 `json:"last_packet"`
	// Uncounted tells that no VTEP of the VNI has figures, as in VNIStat. They are
	// null in JSON.
	Uncounted bool `json:"uncounted,omitempty"`
	// Excluded says why it gets no copies although it is a member, empty where it
	// gets them.
	Excluded string `json:"excluded,omitempty"`
}

// MarshalJSON returns a VTEPMember as JSON, without figures where there are none.
func (m VTEPMember) MarshalJSON() ([]byte, error) {
	type plain VTEPMember
	if !m.Uncounted {
		return json.Marshal(plain(m))
	}
	// A name of the outer struct hides that of the inner one.
	return json.Marshal(struct {
		plain
		Packets   *uint64 `json:"packets"`
		Bytes     *uint64 `json:"bytes"`
		Copies    *uint64 `json:"copies"`
		CopyBytes *uint64 `json:"copy_bytes"`
		Drops     *uint64 `json:"drops"`
	}{plain: plain(m)})
}
