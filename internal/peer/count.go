// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"sync/atomic"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
)

// A Verdict says what became of a connection from elsewhere: each has exactly
// one. Its name (String) is stable: it appears in logs and metrics.
type Verdict uint8

const (
	// VerdictUpdate is a SYNC with members, or one that says nothing.
	VerdictUpdate Verdict = iota
	// VerdictRequest is a SYNC that asks for the whole table, with or without
	// members.
	VerdictRequest
	// VerdictGreeting is a node of this kind that makes itself known.
	VerdictGreeting
	// VerdictRepair is a SYNC that asks for what its sender lacks.
	VerdictRepair

	// Verdicts on connections that change nothing and get no answer.

	// VerdictStranger is a connection from an address that SYNC is not taken from.
	VerdictStranger
	// VerdictBusy is a connection from an address that has too many.
	VerdictBusy
	// VerdictEmpty is a connection that was closed without a word.
	VerdictEmpty
	// VerdictSlow is a message that did not arrive in time.
	VerdictSlow
	// VerdictBroken is a connection that broke off within the message.
	VerdictBroken
	// VerdictLarge is a message that is too large.
	VerdictLarge
	// VerdictShort is a message without a whole header.
	VerdictShort
	// VerdictVersion is a message of an unknown version.
	VerdictVersion
	// VerdictType is a message that is no SYNC.
	VerdictType
	// VerdictProtobuf is a message whose protobuf encoding is malformed.
	VerdictProtobuf
	// VerdictMissing is a message without a required field.
	VerdictMissing
	// VerdictVNI is a message with a VNI of more than 24 bits.
	VerdictVNI
	// VerdictAddress is a message with an address that is not four octets.
	VerdictAddress
	// VerdictDigest is a message with a digest of another size.
	VerdictDigest

	// NumVerdicts is the number of verdicts.
	NumVerdicts
)

var verdictNames = [NumVerdicts]string{
	VerdictUpdate:   "update",
	VerdictRequest:  "request",
	VerdictGreeting: "greeting",
	VerdictRepair:   "repair",
	VerdictStranger: "not_peer",
	VerdictBusy:     "busy",
	VerdictEmpty:    "empty",
	VerdictSlow:     "slow",
	VerdictBroken:   "broken",
	VerdictLarge:    "large",
	VerdictShort:    "short",
	VerdictVersion:  "version",
	VerdictType:     "type",
	VerdictProtobuf: "protobuf",
	VerdictMissing:  "missing",
	VerdictVNI:      "vni",
	VerdictAddress:  "address",
	VerdictDigest:   "digest",
}

// String returns the verdict's stable name, lower case with underscores.
func (v Verdict) String() string {
	if v < NumVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Accepted tells whether what came with this verdict is taken in or answered.
func (v Verdict) Accepted() bool { return v <= VerdictRepair }

// malformed returns the verdict for an error of the codec.
func malformed(err error) Verdict {
	switch {
	case errors.Is(err, vxfld.ErrShort):
		return VerdictShort
	case errors.Is(err, vxfld.ErrVersion):
		return VerdictVersion
	case errors.Is(err, vxfld.ErrType):
		return VerdictType
	case errors.Is(err, vxfld.ErrMissing):
		return VerdictMissing
	case errors.Is(err, vxfld.ErrVNI):
		return VerdictVNI
	case errors.Is(err, vxfld.ErrAddress):
		return VerdictAddress
	}
	return VerdictProtobuf
}

// Counters are a Group's figures of what comes in over TCP, since it was made:
// updates, and the answers of peers. Each may be read at any time; together
// they are no snapshot of one moment.
type Counters struct {
	// Verdicts counts connections from elsewhere by what became of them.
	Verdicts [NumVerdicts]atomic.Uint64
	// AcceptErrors counts connections that the system did not hand over.
	AcceptErrors atomic.Uint64
	// Answers counts answers that were sent whole, and Entries what they held.
	Answers, Entries atomic.Uint64

	// Unusable counts members that were left out since no VTEP can have their
	// address (see fdb.Usable), Excluded those of addresses that the table
	// excludes.
	Unusable, Excluded atomic.Uint64
	// Added, Refreshed, Withdrawn, Replaced and Evicted count entries by what
	// the table did with them, as fdb.Result has it.
	Added, Refreshed, Withdrawn, Replaced, Evicted atomic.Uint64
	// Refused counts entries that the table did not take in, by reason.
	Refused [fdb.NumRefusals]atomic.Uint64
}

// count adds what the table did.
func (c *Counters) count(res *fdb.Result) {
	c.Added.Add(uint64(res.Added))
	c.Refreshed.Add(uint64(res.Refreshed))
	c.Withdrawn.Add(uint64(res.Withdrawn))
	c.Replaced.Add(uint64(res.Replaced))
	c.Evicted.Add(uint64(res.Evicted))
	for why, n := range res.Refused {
		if n > 0 {
			c.Refused[why].Add(uint64(n))
		}
	}
}
