// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/logging"
)

// clock is a time that only the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newLimiter() (*logging.Limiter, *clock) {
	c := &clock{time.Unix(1000, 0)}
	return &logging.Limiter{Now: c.now}, c
}

func TestLimiterFirstAtOnceThenOneAMinute(t *testing.T) {
	l, c := newLimiter()
	var counts []int
	use := func(times int) {
		for range times {
			l.Do("key", func(n int) { counts = append(counts, n) })
		}
	}
	use(1)
	use(40)
	c.advance(59 * time.Second)
	use(1)
	c.advance(time.Second)
	use(1)
	use(5)
	c.advance(time.Hour)
	use(1)
	if want := []int{1, 42, 6}; !slices.Equal(counts, want) {
		t.Errorf("got counts %v, want %v", counts, want)
	}
}

func TestLimiterKeepsKeysApart(t *testing.T) {
	l, _ := newLimiter()
	calls := map[string]int{}
	for range 3 {
		for _, k := range []string{"a", "b"} {
			l.Do(k, func(int) { calls[k]++ })
		}
	}
	if calls["a"] != 1 || calls["b"] != 1 {
		t.Errorf("got calls %v, want one of each", calls)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	const many = 5000
	l, c := newLimiter()
	calls := 0
	use := func() {
		for i := range many {
			l.Do(strconv.Itoa(i), func(int) { calls++ })
		}
	}
	use()
	if want := 1024 + 1; calls != want {
		t.Errorf("got %d calls for %d keys, want %d: those that fit and one for the rest", calls, many, want)
	}
	calls = 0
	use()
	if calls != 0 {
		t.Errorf("got %d calls within the minute, want 0", calls)
	}
	c.advance(time.Minute)
	l.Flush()
	c.advance(time.Minute)
	calls = 0
	l.Do("new", func(int) { calls++ })
	l.Do("newer", func(int) { calls++ })
	if calls != 2 {
		t.Errorf("got %d calls, want 2: silent keys give way to new ones", calls)
	}
}

func TestLimiterFlushReportsTheEndOfASeries(t *testing.T) {
	l, c := newLimiter()
	var counts []int
	report := func(n int) { counts = append(counts, n) }
	for range 10 {
		l.Do("key", report)
	}
	l.Flush()
	if want := []int{1}; !slices.Equal(counts, want) {
		t.Fatalf("got counts %v within the minute, want %v", counts, want)
	}
	c.advance(time.Minute)
	l.Flush()
	l.Flush()
	l.Do("key", report)
	if want := []int{1, 9}; !slices.Equal(counts, want) {
		t.Errorf("got counts %v, want %v", counts, want)
	}
}

func TestLimiterConcurrentUseLosesNothing(t *testing.T) {
	l, c := newLimiter()
	var sum atomic.Int64
	add := func(n int) { sum.Add(int64(n)) }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				l.Do("key", add)
			}
		})
	}
	wg.Wait()
	c.advance(time.Minute)
	l.Flush()
	if got := sum.Load(); got != 8000 {
		t.Errorf("got counts that sum up to %d, want 8000", got)
	}
}
