// SPDX-License-Identifier: Apache-2.0

package control

import "net/netip"

// CommandPeers is the command that is answered with one []Peer. It takes no
// arguments.
const CommandPeers = "peers"

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
