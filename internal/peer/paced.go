// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

// limits bound what the other side of a connection may take.
type limits struct {
	// idle is how long it may let us wait for a byte, or for room to send.
	idle time.Duration
	// receive is how long a message may take that comes from elsewhere, and
	// answer one that we asked for, or were asked for; both besides a second for
	// each rate bytes.
	receive, answer time.Duration
	rate            int
	// body is the size of the largest message in bytes. One that is larger than
	// large needs a place among few.
	body, large int
	// again is the time between two attempts to get a table.
	again time.Duration
	// look is how often is looked whether it is time for a repair.
	look time.Duration
}

// defaultLimits let a table of 5,000,000 entries pass, and any at 1 MiB/s.
var defaultLimits = limits{
	idle:    10 * time.Second,
	receive: 30 * time.Second,
	answer:  60 * time.Second,
	rate:    1 << 20,
	body:    128 << 20,
	large:   1 << 20,
	again:   10 * time.Second,
	look:    time.Second,
}

var (
	errLarge  = errors.New("message is too large")
	errSilent = errors.New("closed without an answer")
)

// A paced is a connection whose reads and writes fail with
// os.ErrDeadlineExceeded where the other side is too slow. It is for one
// goroutine.
type paced struct {
	net.Conn
	limits
	end time.Time // when all must be done, later with each byte
}

// pace returns c for a message that may take base and longer with each byte.
func (l limits) pace(c net.Conn, base time.Duration) *paced {
	return &paced{Conn: c, limits: l, end: time.Now().Add(base)}
}

func (p *paced) deadline() time.Time {
	if t := time.Now().Add(p.idle); t.Before(p.end) {
		return t
	}
	return p.end
}

func (p *paced) passed(n int) {
	p.end = p.end.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
}

// Read reads what is there and waits for it if need be.
func (p *paced) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(p.deadline()); err != nil {
		return 0, err
	}
	n, err := p.Conn.Read(b)
	p.passed(n)
	return n, err
}

// Write writes all of b, which should be short enough that a peer that keeps up
// at all takes it in the time that it may be idle.
func (p *paced) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(p.deadline()); err != nil {
		return 0, err
	}
	n, err := p.Conn.Write(b)
	p.passed(n)
	return n, err
}

// readAll reads to the end of the stream. large is called before a message is
// allowed to become a large one.
func (p *paced) readAll(large func() error) ([]byte, error) {
	b := make([]byte, 0, 4096)
	most := p.large
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, min(len(b), p.body+1-len(b)))
		}
		// One byte more than may be there tells that there is too much.
		n, err := p.Read(b[len(b):min(cap(b), most+1)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		case len(b) > p.body:
			return nil, errLarge
		case len(b) > most:
			if err := large(); err != nil {
				return nil, err
			}
			most = p.body
		}
	}
}
