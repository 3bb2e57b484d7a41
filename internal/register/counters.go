// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"sync/atomic"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
)

// A Verdict says what became of a received message: each has exactly one. Its
// name (String) is stable: it appears in logs and metrics.
type Verdict uint8

// Verdicts on messages that are taken in.
const (
	// VerdictRegistration is a REFRESH from a VTEP's daemon.
	VerdictRegistration Verdict = iota
	// VerdictRelayed is a REFRESH that a peer relayed.
	VerdictRelayed
	// VerdictQuestion is a REFRESH that asks and names no address.
	VerdictQuestion

	// Verdicts on messages that change nothing and are not answered.

	// VerdictOwn is a message that came from one of this node's own control
	// sockets: taking part in an exchange with itself would never end.
	VerdictOwn
	// VerdictSender is a message whose sender cannot be answered: port 0, or
	// an unspecified, multicast, broadcast or 4-in-6 address.
	VerdictSender
	// VerdictRate is a message of a sender that causes too much work.
	VerdictRate
	// VerdictExtension is a message of a type of the extension space, 128 and
	// up (docs/protocol.md section 7), none of which is known.
	VerdictExtension
	// VerdictSync is a SYNC message over UDP: tables are exchanged over TCP.
	VerdictSync
	// VerdictProxy is a PROXY message, which a node without tiers has no use for.
	VerdictProxy
	// VerdictNotPeer is a REFRESH with originator cleared whose sender is not a
	// configured peer.
	VerdictNotPeer
	// VerdictAnswer is a version 1 REFRESH with originator cleared from a peer:
	// its answer to a version 1 message, not a registration (docs/protocol.md
	// section 3, originator).
	VerdictAnswer
	// verdictMalformed is the first of those on messages that the codec refuses:
	// see Malformed.
	verdictMalformed

	// NumVerdicts is the number of verdicts.
	NumVerdicts = verdictMalformed + Verdict(vxfld.NumReasons)
)

// Malformed returns the verdict on a message that the codec refuses. It has the
// name of the reason.
func Malformed(r vxfld.Reason) Verdict { return verdictMalformed + Verdict(r) }

var verdictNames = [verdictMalformed]string{
	VerdictRegistration: "registration",
	VerdictRelayed:      "relayed",
	VerdictQuestion:     "question",
	VerdictOwn:          "own",
	VerdictSender:       "sender",
	VerdictRate:         "rate",
	VerdictExtension:    "extension",
	VerdictSync:         "sync",
	VerdictProxy:        "proxy",
	VerdictNotPeer:      "not_peer",
	VerdictAnswer:       "answer",
}

// String returns the verdict's stable name, lower case with underscores.
func (v Verdict) String() string {
	switch {
	case v < verdictMalformed:
		return verdictNames[v]
	case v < NumVerdicts:
		return vxfld.Reason(v - verdictMalformed).Name()
	}
	return "unknown"
}

// Accepted tells whether a message with this verdict is taken in.
func (v Verdict) Accepted() bool { return v <= VerdictQuestion }

// LeftOut says why an address of an accepted message was left out: it cannot
// be a VTEP's (docs/protocol.md section 2). Its name (String) is stable.
type LeftOut uint8

// Reasons to leave an address out.
const (
	// LeftUnspecified is 0.0.0.0.
	LeftUnspecified LeftOut = iota
	// LeftLoopback is an address of 127.0.0.0/8.
	LeftLoopback
	// LeftMulticast is an address of 224.0.0.0/4.
	LeftMulticast
	// LeftBroadcast is 255.255.255.255.
	LeftBroadcast
	// LeftUnusable is any other address that cannot be sent to: see fdb.Usable.
	LeftUnusable
	// LeftOwn is an address of this machine.
	LeftOwn
	// LeftService is the service address or that of a service node.
	LeftService
	// LeftDenied is an address that the operator denied.
	LeftDenied

	// NumLeftOut is the number of reasons.
	NumLeftOut
)

var leftOutNames = [NumLeftOut]string{
	LeftUnspecified: "unspecified",
	LeftLoopback:    "loopback",
	LeftMulticast:   "multicast",
	LeftBroadcast:   "broadcast",
	LeftUnusable:    "unusable",
	LeftOwn:         "own",
	LeftService:     "service",
	LeftDenied:      "denied",
}

// String returns the reason's stable name.
func (l LeftOut) String() string {
	if l < NumLeftOut {
		return leftOutNames[l]
	}
	return "unknown"
}

// broadcast is the limited broadcast address (RFC 919, section 7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// leave tells whether a cannot be a VTEP's address, and why.
func leave(a netip.Addr, x fdb.Exclusion) (LeftOut, bool) {
	switch x {
	case fdb.NotExcluded:
	case fdb.ExcludedOwn:
		return LeftOwn, true
	case fdb.ExcludedService:
		return LeftService, true
	default:
		return LeftDenied, true
	}
	switch {
	case fdb.Usable(a):
		return 0, false
	case a.IsUnspecified():
		return LeftUnspecified, true
	case a.IsLoopback():
		return LeftLoopback, true
	case a.IsMulticast():
		return LeftMulticast, true
	case a == broadcast:
		return LeftBroadcast, true
	}
	return LeftUnusable, true
}

// Counters are a Server's figures since it was made. Each may be read at any
// time; together they are no snapshot of one moment.
type Counters struct {
	// Received counts received messages by their version byte, index 0 those of
	// versions that do not exist, and by what became of them.
	Received [vxfld.V3 + 1][NumVerdicts]atomic.Uint64
	// Verdicts counts received messages of all versions by what became of them.
	Verdicts [NumVerdicts]atomic.Uint64
	// ReadErrors counts failed reads of the sockets.
	ReadErrors atomic.Uint64

	// LeftOut counts addresses of accepted messages that were left out.
	LeftOut [NumLeftOut]atomic.Uint64
	// Added, Refreshed, Withdrawn, Replaced and Evicted count entries by what
	// the table did with them, as fdb.Result has it.
	Added, Refreshed, Withdrawn, Replaced, Evicted atomic.Uint64
	// Refused counts entries that the table did not take in, by reason.
	Refused [fdb.NumRefusals]atomic.Uint64

	// Questions counts accepted messages that ask for an answer, among them
	// Merged that were added to an answer in progress, and Dropped that found
	// no room.
	Questions, Merged, Dropped atomic.Uint64
	// Withheld counts registrations of version 1 from the address of a peer,
	// which are not answered: no message to a peer is of version 1.
	Withheld atomic.Uint64
	// VNIsDropped counts VNIs of questions that found no room, or too large
	// for any datagram in TooLarge: they got no answer.
	VNIsDropped, TooLarge atomic.Uint64
	// Answers counts answers that were sent to their end; Empty those among
	// them that hold no VNI, and Abandoned answers given up since nothing more
	// could be sent to the asker.
	Answers, Empty, Abandoned atomic.Uint64
	// Cut counts answers to strangers that ended after one turn, since too many
	// of them would go on.
	Cut atomic.Uint64
	// Messages and Bytes count what answers were made of, UDP payload alone.
	Messages, Bytes atomic.Uint64
	// WriteErrors counts messages of answers that could not be sent.
	WriteErrors atomic.Uint64
}
