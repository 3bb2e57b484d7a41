// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// limits bound what the other side of a connection may take.
type limits struct {
	// idle is how long it may let us wait for a byte, or for room to send, and
	// first for the first byte of its table, where it is not known to be of ours:
	// a deployed node makes its whole answer before it sends any of it.
	idle, first time.Duration
	// receive is for a message that comes from elsewhere, and answer for one that
	// we asked for, or were asked for.
	receive, answer bound
	rate            int
	// large is the size in bytes above which a message needs a place among few.
	large int
	// place is how long a connection, or a message that turns out to be large,
	// waits for a place. It is shorter than idle, so that who is turned away
	// learns of it.
	place time.Duration
	// lag is how long a peer may let us wait for a byte of its table, and long
	// how long that may take in all, before another one is asked besides.
	lag, long time.Duration
	// again is the time between two attempts to get a table.
	again time.Duration
	// look is how often is looked whether it is time for a repair.
	look time.Duration
}

// A bound is how long a message may take, besides a second for each rate bytes,
// and how many bytes it may have where it is read.
type bound struct {
	time time.Duration
	size int
}

// defaultLimits let a table of 5,000,000 entries pass, and any at 1 MiB/s. What
// comes unasked is an update, of members that the sender has just learned of.
var defaultLimits = limits{
	idle:    10 * time.Second,
	first:   30 * time.Second,
	receive: bound{30 * time.Second, 32 << 20},
	answer:  bound{60 * time.Second, 128 << 20},
	rate:    1 << 20,
	large:   1 << 20,
	place:   5 * time.Second,
	lag:     1500 * time.Millisecond,
	long:    5 * time.Second,
	again:   10 * time.Second,
	look:    time.Second,
}

const (
	// minChunk and maxChunk bound the pieces that a message is read into.
	minChunk = 4 << 10
	maxChunk = 1 << 20
)

var (
	errLarge  = errors.New("message is too large")
	errBusy   = errors.New("too many at a time")
	errSilent = errors.New("closed without an answer")
)

// enter takes a place in each of these, in turn, and leave gives them back. It
// gives up with errBusy where that takes too long.
func (l limits) enter(ctx context.Context, places ...chan struct{}) (leave func(), err error) {
	entered := 0
	leave = func() {
		for _, p := range places[:entered] {
			<-p
		}
	}
	late := time.NewTimer(l.place)
	defer late.Stop()
	for _, p := range places {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-late.C:
			err = errBusy
		case p <- struct{}{}:
			entered++
			continue
		}
		leave()
		return func() {}, err
	}
	return leave, nil
}

// A paced is a connection whose reads and writes fail with
// os.ErrDeadlineExceeded where the other side is too slow. It is for one
// goroutine.
type paced struct {
	net.Conn
	limits
	end  time.Time // when all must be done, later with each byte
	most int       // bytes to read

	wait  time.Duration // for the next bytes to read
	heard func()        // called when there were some; nil is not called
}

// pace returns c for a message that keeps to b.
func (l limits) pace(c net.Conn, b bound) *paced {
	return &paced{Conn: c, limits: l, end: time.Now().Add(b.time), most: b.size, wait: l.idle}
}

func (p *paced) deadline(wait time.Duration) time.Time {
	if t := time.Now().Add(wait); t.Before(p.end) {
		return t
	}
	return p.end
}

func (p *paced) passed(n int) {
	p.end = p.end.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
}

// Read reads what is there and waits for it if need be.
func (p *paced) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(p.deadline(p.wait)); err != nil {
		return 0, err
	}
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.passed(n)
		p.wait = p.idle
		if p.heard != nil {
			p.heard()
		}
	}
	return n, err
}

// Write writes all of b, which should be short enough that a peer that keeps up
// at all takes it in the time that it may be idle.
func (p *paced) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(p.deadline(p.idle)); err != nil {
		return 0, err
	}
	n, err := p.Conn.Write(b)
	p.passed(n)
	return n, err
}

// readAll reads to the end of the stream. large is called before a message is
// allowed to become a large one; the time that it takes is not the sender's.
//
// A message takes no more memory than twice its size, and one piece: the pieces
// that it came in are put together at the end. The runtime gives it back to the
// system within minutes; with a million entries in the table it takes half a
// second and more to have it done at once.
func (p *paced) readAll(large func() error) ([]byte, error) {
	var full [][]byte
	size, most := 0, p.large // size is that of full
	b := make([]byte, 0, minChunk)
	for {
		if len(b) == cap(b) {
			full, size = append(full, b), size+len(b)
			b = make([]byte, 0, min(size, maxChunk))
		}
		// One byte more than may be there tells that there is too much.
		n, err := p.Read(b[len(b):min(cap(b), most+1-size)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF && full == nil:
			return b, nil
		case err == io.EOF:
			return join(append(full, b), size+len(b)), nil
		case err != nil:
			return nil, err
		case size+len(b) > p.most:
			return nil, errLarge
		case size+len(b) > most:
			begin := time.Now()
			if err := large(); err != nil {
				return nil, err
			}
			p.end = p.end.Add(time.Since(begin))
			most = p.most
		}
	}
}

// join puts pieces together, which have this size. It lets go of each in turn.
func join(pieces [][]byte, size int) []byte {
	b := make([]byte, 0, size)
	for i, p := range pieces {
		b = append(b, p...)
		pieces[i] = nil
	}
	return b
}
