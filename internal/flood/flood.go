// SPDX-License-Identifier: Apache-2.0

// Package flood is the data plane: it receives VXLAN packets, looks up the
// members of their VNI and sends each other member one copy that carries the
// outer source of the VTEP that sent the packet. It owns engines and what they
// promise; the table it reads belongs to package fdb.
//
// What every engine promises is written down in docs/design.md, section "What
// the data plane promises".
package flood

import (
	"context"
	"fmt"
	"net/netip"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// Table is what flooding needs of the VNI -> VTEP table; *fdb.Table has it.
// Its methods are called concurrently, a few times per received batch.
type Table interface {
	// LookupBatch answers for a batch of packets and refreshes the learned
	// members that sent them.
	LookupBatch(now fdb.Time, ls []fdb.Lookup)
	// Learn takes in members that were learned from data.
	Learn(now fdb.Time, ls []fdb.Learned) fdb.Result
}

// An Engine replicates packets. Engines are interchangeable: they keep the
// same promises and pass the same tests. Listen, Run and Close are called once
// each and in this order; all other methods may be called concurrently at any
// time between Listen and Close.
type Engine interface {
	// String names the engine, as the option and the logs do.
	fmt.Stringer

	// Listen opens everything that the engine needs and can fail at. When it
	// returns, packets queue up.
	Listen() error

	// Run replicates until ctx is done, then what is queued at that moment as
	// far as it can within a few seconds, and returns.
	Run(ctx context.Context) error

	// Close releases what Listen opened, what lives in the kernel included.
	Close() error

	// Configure replaces the settings from the next batch on.
	Configure(s Settings)

	// Divert has each packet of the VNI pass through user space while on is
	// set, for those who need to see every packet.
	Divert(vni vxlan.VNI, on bool)

	// SetTap puts a tap in the place of the one that is there; nil takes it
	// away. A packet that is being replicated may still be shown to the tap
	// before for a moment.
	SetTap(t *Tap)

	// Backlog returns how many bytes of memory (the kernel's, so more than the
	// packets' own) are taken by what is queued now to be read and to be sent.
	Backlog() (receive, send int)

	// Counters returns the figures so far.
	Counters() metrics.FloodCount

	// Alive returns when the slowest worker last came around its loop: a
	// worker that is well does so several times per second.
	Alive() fdb.Time
}

// A Packet is a packet to replicate.
type Packet struct {
	// Source is the outer source address and port of the VTEP that sent it.
	Source netip.AddrPort
	// TTL is the received TTL or hop limit; TOS the received DSCP and ECN.
	TTL, TOS uint8
	// Payload is the VXLAN header and the inner frame.
	Payload []byte

	// received and to are what sock.Datagram tells as Received and Destination.
	received int64
	to       netip.Addr
}

// Oversize says what becomes of a copy that is larger than the outgoing
// device's MTU.
type Oversize uint8

const (
	// Fragment lets the kernel fragment it, as its VXLAN devices do.
	Fragment Oversize = iota
	// Discard drops and counts it.
	Discard
)

// Settings are what may change while an engine runs.
type Settings struct {
	// Oversize says what becomes of copies that do not fit.
	Oversize Oversize
	// Checksum asks for a UDP checksum over IPv4, where it may be left out
	// (RFC 7348, section 5). Over IPv6 it is always there.
	Checksum bool
}
