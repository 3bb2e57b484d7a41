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
	// VerdictBusy is a connection from an address that has too many, or one that
	// found no place in time.
	VerdictBusy
	// VerdictEmpty is a connection that was closed without a word.
	VerdictEmpty
	// VerdictSlow is a message that did not arrive in time.
	VerdictSlow
	// VerdictBroken is a connection that broke off within the message.
	VerdictBroken
	// VerdictLarge is a message that is too large.
	VerdictLarge
	// VerdictDigest is a message with a digest of another size.
	VerdictDigest
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
	VerdictDigest:   "digest",
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

// Accepted tells whether what came with this verdict is taken in or answered.
func (v Verdict) Accepted() bool { return v <= VerdictRepair }

// malformed returns the verdict for an error of the codec.
func malformed(err error) Verdict {
	var r vxfld.Reason
	errors.As(err, &r)
	return Malformed(r)
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
