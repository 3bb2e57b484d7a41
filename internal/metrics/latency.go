// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latencyBounds is the number of buckets with an upper bound: 1 us doubled 20
// times is a little over 1 s.
const latencyBounds = 21

// Latency counts how long packets take, in buckets of doubling width from 1 us
// to 1 s (2^20 us). The zero value is ready. It is safe for concurrent use.
type Latency struct {
	counts [latencyBounds + 1]atomic.Uint64 // the last for what is above all bounds
	sum    atomic.Int64
}

// Observe counts one packet. A negative duration, which a clock that was set
// back makes, is not counted.
func (l *Latency) Observe(d time.Duration) {
	if d < 0 {
		return
	}
	us := uint64((d + time.Microsecond - 1) / time.Microsecond)
	i := 0
	if us > 1 {
		i = min(bits.Len64(us-1), latencyBounds)
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

// A LatencyCount is what a Latency has counted. Counts[i] packets took no
// longer than Bounds[i] and longer than the bound before it; the last of
// Counts, which is one longer, took longer than all bounds.
type LatencyCount struct {
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
	Count  uint64
}

// Load returns the figures so far. Count is the sum of Counts; a packet that
// is being counted at this moment may be in one of Sum and Count alone.
func (l *Latency) Load() LatencyCount {
	c := LatencyCount{
		Bounds: make([]time.Duration, latencyBounds), Counts: make([]uint64, latencyBounds+1),
		Sum: time.Duration(l.sum.Load()),
	}
	for i := range c.Bounds {
		c.Bounds[i] = time.Microsecond << i
	}
	for i := range c.Counts {
		c.Counts[i] = l.counts[i].Load()
		c.Count += c.Counts[i]
	}
	return c
}
