// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"sync"
	"time"
)

const (
	// defaultInterval is the least time between two lines about the same thing.
	defaultInterval = time.Minute

	// maxKeys bounds what a Limiter remembers: keys may come from what others
	// send.
	maxKeys = 1024
)

// A Limiter holds back lines that repeat: of each key the first passes at
// once, then at most one a minute, with the number of times that it stands for.
// It remembers a bounded number of keys; while that many are in use, all others
// count as one. It is safe for concurrent use. The zero value is ready.
type Limiter struct {
	// Interval is the least time between two calls for one key; a minute where
	// 0. It and Now must not change after the first use.
	Interval time.Duration

	// Now reads the clock; time.Now where nil.
	Now func() time.Time

	mu   sync.Mutex // guards what follows; not held while fn runs
	keys map[string]*repeat
	rest repeat // what stands for the keys there is no room for

	// cleaned is when silent keys were last looked for; once per interval is
	// enough, for nothing turns silent faster.
	cleaned time.Time
}

// repeat is what is known about one key.
type repeat struct {
	reported bool
	last     time.Time // when fn was called
	held     int       // times held back since
	fn       func(count int)
}

// Do calls fn for the first use of key and then at most once per Interval.
// count tells how often key was used since the previous call, this time
// included, so it is 1 at first. fn may be kept and called by a later Flush,
// from the goroutine that calls Flush.
func (l *Limiter) Do(key string, fn func(count int)) {
	if count := l.take(key, fn); count > 0 {
		fn(count)
	}
}

func (l *Limiter) take(key string, fn func(count int)) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	r := l.keys[key]
	if r == nil {
		r = l.add(key, now)
	}
	if r.reported && now.Sub(r.last) < l.interval() {
		r.held++
		r.fn = fn
		return 0
	}
	return r.report(now)
}

// report notes a call of fn and returns its count.
func (r *repeat) report(now time.Time) int {
	count := r.held + 1
	*r = repeat{reported: true, last: now}
	return count
}

// add makes room for key, by dropping what a new first line would be right
// for, and returns its place.
func (l *Limiter) add(key string, now time.Time) *repeat {
	if len(l.keys) >= maxKeys && now.Sub(l.cleaned) >= l.interval() {
		l.cleaned = now
		for k, r := range l.keys {
			if r.held == 0 && now.Sub(r.last) >= l.interval() {
				delete(l.keys, k)
			}
		}
	}
	if len(l.keys) >= maxKeys {
		return &l.rest
	}
	if l.keys == nil {
		l.keys = make(map[string]*repeat)
	}
	r := new(repeat)
	l.keys[key] = r
	return r
}

// Flush reports what was held back and whose interval has passed, so that the
// end of a series is not lost; call it now and then. It also frees the room of
// keys that are silent.
func (l *Limiter) Flush() {
	for _, call := range l.due() {
		call()
	}
}

func (l *Limiter) due() []func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	var calls []func()
	flush := func(r *repeat) (silent bool) {
		if now.Sub(r.last) < l.interval() {
			return false
		}
		if r.held == 0 {
			return true
		}
		fn := r.fn
		count := r.report(now) - 1
		calls = append(calls, func() { fn(count) })
		return false
	}
	for k, r := range l.keys {
		if flush(r) {
			delete(l.keys, k)
		}
	}
	flush(&l.rest)
	return calls
}

func (l *Limiter) now() time.Time {
	if l.Now != nil {
		return l.Now()
	}
	return time.Now()
}

func (l *Limiter) interval() time.Duration {
	if l.Interval > 0 {
		return l.Interval
	}
	return defaultInterval
}
