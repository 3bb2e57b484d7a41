// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

const (
	// maxQueued bounds the lines that wait for a slow destination.
	maxQueued = 1024

	// drainTime is how long Close waits for a destination that takes nothing.
	drainTime = time.Second
)

// errLost says that lines were left behind when the log was closed.
var errLost = errors.New("log destination takes nothing: the last lines are lost")

// A queue stands between the logger and its destination, so that a terminal
// that is stopped or a pipe that nobody reads never holds up a part of the
// program that logs. What finds no room is counted, and the count is logged
// when there is room again. Write is for one goroutine at a time, which the
// logger's own lock sees to.
type queue struct {
	out   io.Writer
	lines chan []byte
	lost  atomic.Uint64
	done  chan struct{}

	// lostLine makes the line that reports a number of lost ones.
	lostLine func(count uint64) []byte
}

func newQueue(out io.Writer, lostLine func(uint64) []byte) *queue {
	q := &queue{out: out, lines: make(chan []byte, maxQueued), done: make(chan struct{}), lostLine: lostLine}
	go q.run()
	return q
}

// Write takes in one line. It never blocks and never fails.
func (q *queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *queue) run() {
	defer close(q.done)
	for line := range q.lines {
		q.put(line, 1)
		if count := q.lost.Swap(0); count > 0 {
			q.put(q.lostLine(count), count)
		}
	}
}

// put writes a line. If the destination refuses it, the lines that it stands
// for are lost, which is reported when the destination has recovered.
func (q *queue) put(line []byte, standsFor uint64) {
	if _, err := q.out.Write(line); err != nil {
		q.lost.Add(standsFor)
	}
}

// Close writes what is queued, unless the destination takes nothing for a
// second; then its goroutine stays behind until it does. There must be no Write
// after Close.
func (q *queue) Close() error {
	close(q.lines)
	t := time.NewTimer(drainTime)
	defer t.Stop()
	select {
	case <-q.done:
		if q.lost.Load() > 0 {
			return errLost
		}
		return nil
	case <-t.C:
		return errLost
	}
}
