// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxQueued bounds the lines that wait for a slow destination.
	maxQueued = 1024

	// patience is how long anybody waits for a destination that takes nothing.
	patience = time.Second
)

var (
	// errLost says that lines were left behind when the log was closed.
	errLost = errors.New("log destination takes nothing: the last lines are lost")

	// errStuck says that the writer is busy with a line.
	errStuck = errors.New("log destination takes nothing")
)

// A destination takes lines. Its methods are called by one goroutine at a time.
type destination interface {
	// start is called before the first write.
	start(composer)

	// write takes a line in or returns why it is lost.
	write(line) error

	// reopen takes the destination by its name again.
	reopen() error

	close() error
}

// losses counts lines that were lost. It is safe for concurrent use.
type losses struct {
	total   atomic.Uint64
	pending atomic.Uint64 // not reported yet
}

func (l *losses) add(count uint64) {
	l.total.Add(count)
	l.pending.Add(count)
}

// A queue stands between the logger and its destination, so that a terminal
// that is stopped or a disk that is full never holds up a part of the program
// that logs. What finds no room is counted, and the count is logged when there
// is room again. The goroutine of run alone touches the destination.
type queue struct {
	dest     destination
	format   atomic.Pointer[format]
	lost     *losses
	reported time.Time // when lost lines were, by run
	requests chan request
	done     chan struct{} // closed when run has ended
	err      error         // of closing the destination, after done

	mu     sync.Mutex // guards what follows; held for no time worth mention
	closed bool
	lines  chan line // sent to under mu, so that it can be closed
}

// A request is something to do for the goroutine that owns the destination.
type request struct {
	fn    func() error
	reply chan error
}

func newQueue(d destination, json bool, lost *losses) *queue {
	q := &queue{
		dest: d, lost: lost,
		requests: make(chan request), done: make(chan struct{}), lines: make(chan line, maxQueued),
	}
	q.format.Store(newFormat(json))
	return q
}

// put takes in one line, or counts it as lost. It never waits. It returns false
// if the queue is closed.
func (q *queue) put(l line) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	select {
	case q.lines <- l:
	default:
		q.lost.add(1)
	}
	return true
}

// run writes what is queued until the queue is closed.
func (q *queue) run() {
	defer close(q.done)
	q.dest.start(q.compose)
	for {
		select {
		case l, ok := <-q.lines:
			if !ok {
				q.err = q.dest.close()
				return
			}
			q.deliver(l)
		case r := <-q.requests:
			r.reply <- r.fn()
		}
	}
}

// deliver writes l, and after it how many lines were lost if there are any: not
// before the destination takes lines again, and not with each line while more
// come than it can take.
func (q *queue) deliver(l line) {
	if q.dest.write(l) != nil {
		q.lost.add(1)
		return
	}
	if q.lost.pending.Load() == 0 || len(q.lines) > 0 && time.Since(q.reported) < time.Second {
		return
	}
	count := q.lost.pending.Swap(0)
	if q.dest.write(q.compose(logrus.WarnLevel, "log lines lost", logrus.Fields{"count": count})) != nil {
		q.lost.pending.Add(count)
		return
	}
	q.reported = time.Now()
}

// compose is the composer of this queue's destination.
func (q *queue) compose(level logrus.Level, message string, fields logrus.Fields) line {
	return q.format.Load().line(&logrus.Entry{Time: time.Now(), Level: level, Message: message, Data: fields})
}

// do calls fn in the goroutine that owns the destination, between two lines.
func (q *queue) do(fn func() error) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	r := request{fn, make(chan error, 1)}
	select {
	case q.requests <- r:
	case <-q.done:
		return os.ErrClosed
	case <-t.C:
		return errStuck
	}
	select {
	case err := <-r.reply:
		return err
	case <-t.C:
		return errStuck
	}
}

// close writes what is queued and closes the destination, unless that takes
// nothing for a second: then the rest is lost, and the goroutine ends when it
// gets out of the destination.
func (q *queue) close() error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-q.done:
	case <-t.C:
		for range q.lines {
			q.lost.add(1)
		}
		return errLost
	}
	if q.lost.pending.Load() > 0 {
		return errLost
	}
	return q.err
}
