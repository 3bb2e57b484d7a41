// SPDX-License-Identifier: Apache-2.0

// Package socktest has stand-ins for sockets: one that delivers what a test
// hands it, and one that remembers what was written and fails as a test asks
// it to.
package socktest

import (
	"bytes"
	"net/netip"

	"vxsnd/internal/sock"
)

// A Sent is one message that was written.
type Sent struct {
	To    netip.Addr
	Bytes []byte // header and payload
}

// A Writer takes batches. Not safe for concurrent use.
type Writer struct {
	// Limit is the largest number of messages taken per call; 0 is no limit.
	Limit int
	// Fail returns the error for a message to an address, or nil. As the
	// kernel does, a call stops in front of a message that fails, and returns
	// the error only if that message is the first.
	Fail func(to netip.Addr, size int) error

	Sent  []Sent
	Calls int
}

// ReadBatch has nothing to read.
func (w *Writer) ReadBatch([]sock.Message) (int, error) { return 0, sock.ErrTimeout }

// WriteBatch takes messages as sendmmsg(2) does.
func (w *Writer) WriteBatch(ms []sock.Message) (int, error) {
	w.Calls++
	for i := range ms {
		if w.Limit > 0 && i == w.Limit {
			return i, nil
		}
		parts, to := ms[i].Parts()
		b := bytes.Join(parts, nil)
		if w.Fail != nil {
			if err := w.Fail(to, len(b)); err != nil {
				if i > 0 {
					return i, nil
				}
				return 0, err
			}
		}
		w.Sent = append(w.Sent, Sent{To: to, Bytes: b})
	}
	return len(ms), nil
}

// A Reader delivers datagrams. Not safe for concurrent use.
type Reader struct {
	// Queue is what is delivered next, at once as far as a batch has room.
	Queue []sock.Datagram
	// Dropped is the drop counter.
	Dropped uint32
}

// ReadBatch delivers what is queued, or returns sock.ErrTimeout.
func (r *Reader) ReadBatch(ms []sock.Message) (int, error) {
	n := min(len(ms), len(r.Queue))
	if n == 0 {
		return 0, sock.ErrTimeout
	}
	for i := range n {
		ms[i].Deliver(&r.Queue[i])
	}
	r.Queue = r.Queue[n:]
	return n, nil
}

// ReadQueued is ReadBatch, which never waits.
func (r *Reader) ReadQueued(ms []sock.Message) (int, error) { return r.ReadBatch(ms) }

// Drops returns the drop counter.
func (r *Reader) Drops() (uint32, bool) { return r.Dropped, true }
