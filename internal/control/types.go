// SPDX-License-Identifier: Apache-2.0

package control

import "net/netip"

// CommandShow is the command that is answered with one Status. It takes no
// arguments.
const CommandShow = "show"

// CommandFDB is the command that is answered with any number of FDBPart. Its
// arguments are FDBArgs.
const CommandFDB = "fdb"

// CommandPeers is the command that is answered with one []Peer. It takes no
// arguments.
const CommandPeers = "peers"

// MaxPart is how many entries a part of a long answer holds at most, so that its
// line stays well below the bound.
const MaxPart = 1000

// A Status says how a service node does. Counters count since it started.
type Status struct {
	Process
	// Ready tells whether the daemon does all that it is configured to do.
	Ready bool `json:"ready"`
	// Engine is what floods: "raw", or "none" where nothing does.
	Engine string `json:"engine"`
	// ProtocolVersion is the highest version of registrations that is spoken.
	ProtocolVersion int `json:"protocol_version"`
	// SvcnodeIP and SrcIP are the addresses of the node; left out where it takes
	// any of the machine's.
	SvcnodeIP netip.Addr `json:"svcnode_ip,omitzero"`
	SrcIP     netip.Addr `json:"src_ip,omitzero"`
	// Peers are the peer service nodes as they are configured, without this one.
	Peers []string `json:"peers,omitempty"`
	// Waiting says what the node waits for before it is ready, empty if it is.
	Waiting string `json:"waiting,omitempty"`
	// Asking tells whether peers are asked for their table since none that counts
	// was had; a node may be ready without.
	Asking bool `json:"asking,omitempty"`
	// Anycast is the service address that the node puts on an interface, nil if it
	// puts none there.
	Anycast *Anycast `json:"anycast,omitempty"`
	// The UDP ports: of registrations, of data packets received and of copies.
	VxfldPort       uint16 `json:"vxfld_port"`
	VXLANListenPort uint16 `json:"vxlan_listen_port,omitempty"`
	VXLANDestPort   uint16 `json:"vxlan_dest_port,omitempty"`
	// VRF is the VRF device of the underlay, empty for none.
	VRF string `json:"vrf,omitempty"`

	// VNIs, Members and Entries are the sizes of the table: one member may have
	// several entries.
	VNIs    int `json:"vnis"`
	Members int `json:"members"`
	Entries int `json:"entries"`
	// BySource counts the entries by FDBEntry.Source.
	BySource map[string]int `json:"entries_by_source,omitempty"`

	// Packets and Bytes were received, Copies and CopyBytes sent, in UDP payload.
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Copies    uint64 `json:"copies"`
	CopyBytes uint64 `json:"copy_bytes"`
	// Fragmented counts the copies larger than the MTU of the outgoing device.
	Fragmented uint64 `json:"fragmented"`
	// Learned counts the members that were learned from data.
	Learned uint64 `json:"learned"`
	// Loops counts the sampled packets that came back.
	Loops uint64 `json:"loops"`
	// Drops counts packets and copies that were dropped, by reason.
	Drops map[string]uint64 `json:"drops,omitempty"`

	// Registrations counts the control messages received, by verdict.
	Registrations map[string]uint64 `json:"registrations,omitempty"`
	// PeerConnections counts the TCP connections of peers.
	PeerConnections Connections `json:"peer_connections,omitzero"`
}

// Connections count connections by verdict: those whose message was taken in or
// answered, and the others.
type Connections struct {
	Accepted map[string]uint64 `json:"accepted"`
	Refused  map[string]uint64 `json:"refused"`
}

// IsZero tells whether there are no figures.
func (c Connections) IsZero() bool { return c.Accepted == nil && c.Refused == nil }

// A Check is a start-up check that failed.
type Check struct {
	// Name is its stable name.
	Name string `json:"name"`
	// Text says what is wrong and Fix what to do about it, both one line.
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

// An Anycast says how the service address on the loopback interface does.
type Anycast struct {
	Address netip.Addr `json:"address"`
	// Interface is lo, or the VRF device.
	Interface string `json:"interface"`
	// Owner says whose the address there is: "vxsnd", "operator" or "none".
	Owner string `json:"owner"`
	// SinceSeconds is how long that has been so.
	SinceSeconds int64 `json:"since_seconds"`
	// Healthy tells whether the node is fit to have it, and Problem what is wrong
	// with the node or the last change of the address.
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
	// Draining tells whether it was withdrawn and packets are still served.
	Draining bool `json:"draining"`
}

// A Peer is one address of a configured peer service node, or a name that does
// not resolve. Counters count since the address was configured.
type Peer struct {
	// Address is the peer's address with its port, left out for a name that does
	// not resolve.
	Address netip.AddrPort `json:"address,omitzero"`
	// Name is the host name that the configuration has for the peer, empty where
	// it has the address.
	Name string `json:"name,omitempty"`
	// Kind is "vxsnd" for a node that has shown itself to be of this kind,
	// "other" until then.
	Kind string `json:"kind"`
	// Reachable tells whether the last TCP connection could be made, and Problem
	// why it could not, what was wrong with the last answer, or why the name does
	// not resolve.
	Reachable bool   `json:"reachable"`
	Problem   string `json:"problem,omitempty"`
	// Faulty tells whether the peer is reachable, but its last answer could not be
	// used.
	Faulty bool `json:"faulty,omitempty"`
	// Silent tells whether the peer is reachable, but was never seen to do
	// anything: that may be a program that is stopped.
	Silent bool `json:"silent,omitempty"`
	// RelayProblem says why a relayed message was lost in the last minute, empty
	// where none was: the kernel did not take it, or it came back.
	RelayProblem string `json:"relay_problem,omitempty"`
	// Refuses tells whether the peer closed the last question without an answer:
	// most often, it does not name this node among its peers.
	Refuses bool `json:"refuses,omitempty"`
	// LastHeard is how many seconds ago the peer sent something over TCP; nil if it
	// never did.
	LastHeard *int64 `json:"last_heard"`
	// Queue is how many relayed messages wait to be sent, Waiting how many members
	// the peer is still to be told of; All says that it is to be told of all.
	Queue   int  `json:"queue"`
	Waiting int  `json:"waiting"`
	All     bool `json:"all"`
	// Relayed counts messages that were relayed, Dropped those that found the
	// queue full and RelayErrors those that the kernel did not take or that came
	// back.
	Relayed     uint64 `json:"relayed"`
	Dropped     uint64 `json:"dropped"`
	RelayErrors uint64 `json:"relay_errors"`
	// Updates counts members that the peer was told of, in UpdateConnections TCP
	// connections; UpdateErrors counts connections that failed.
	Updates           uint64 `json:"updates"`
	UpdateConnections uint64 `json:"update_connections"`
	UpdateErrors      uint64 `json:"update_errors"`
	// LastDump is the last attempt to take the peer's table, nil if there was none.
	LastDump *Dump `json:"last_dump"`
	// AskedFor is for how many seconds the peer has been asked for its table, nil
	// if it is not being asked.
	AskedFor *int64 `json:"asked_for,omitempty"`
	// Differ is how many entries were lacking here at the last comparison.
	Differ int `json:"differ"`
}

// A Dump is an attempt to take a peer's table.
type Dump struct {
	// Ago is how many seconds ago it ended, Entries how many entries it brought and
	// Milliseconds how long it took.
	Ago          int64 `json:"ago"`
	Entries      int   `json:"entries"`
	Milliseconds int64 `json:"milliseconds"`
	// Problem says why it failed, empty where it did not.
	Problem string `json:"problem,omitempty"`
}

// FDBArgs are the arguments of CommandFDB.
type FDBArgs = VNIArgs

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
