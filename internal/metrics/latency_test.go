// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"slices"
	"testing"
	"time"

	"vxsnd/internal/metrics"
)

func TestLatencyBuckets(t *testing.T) {
	var empty metrics.Latency
	c := empty.Load()
	if first, last := c.Bounds[0], c.Bounds[len(c.Bounds)-1]; first != time.Microsecond || last != 1<<20*time.Microsecond {
		t.Errorf("bounds: got %v to %v, want 1us to 1.048576s", first, last)
	}
	if !slices.IsSorted(c.Bounds) || len(c.Counts) != len(c.Bounds)+1 || c.Count != 0 || c.Sum != 0 {
		t.Errorf("got %+v", c)
	}
	durations := []time.Duration{0, 1, time.Hour}
	for _, b := range c.Bounds {
		durations = append(durations, b-1, b, b+1)
	}
	for _, d := range durations {
		var l metrics.Latency
		l.Observe(d)
		l.Observe(-1)
		got := l.Load()
		want := slices.IndexFunc(c.Bounds, func(b time.Duration) bool { return d <= b })
		if want < 0 {
			want = len(c.Bounds)
		}
		if got.Counts[want] != 1 || got.Count != 1 || got.Sum != d {
			t.Errorf("%v: got %+v, want 1 in bucket %d", d, got, want)
		}
	}
}
