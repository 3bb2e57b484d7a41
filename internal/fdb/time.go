// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"math"
	"time"
)

// A Time is a reading of a steady clock in nanoseconds (CLOCK_MONOTONIC in the
// daemon). The package reads no clock itself: the caller hands the time in.
type Time int64

const (
	// Never is the expiry of an entry that does not age.
	Never Time = math.MaxInt64

	// Static is the holdtime of a member that never ages. On the wire it is 65535
	// (PROTOCOL section 3).
	Static time.Duration = math.MaxInt64
)

// Add returns t+d. It saturates: a sum beyond the range, and any time plus
// Static, is Never.
func (t Time) Add(d time.Duration) Time {
	if d == Static || t == Never {
		return Never
	}
	s := t + Time(d)
	if d > 0 && s < t {
		return Never
	}
	if d < 0 && s > t {
		return math.MinInt64
	}
	return s
}

// Sub returns t-u. It saturates: Never minus any other time is Static.
func (t Time) Sub(u Time) time.Duration {
	if t == Never && u != Never {
		return Static
	}
	d := t - u
	if u < 0 && d < t {
		return math.MaxInt64
	}
	if u > 0 && d > t {
		return math.MinInt64
	}
	return time.Duration(d)
}

// second returns the second that t is in, as far as 32 bits hold it: 136 years.
func (t Time) second() uint32 {
	return uint32(min(max(t/Time(time.Second), 0), math.MaxUint32))
}
