// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"sync"
)

// decouple runs fn with a writer that takes everything at once, and writes it
// to w at the pace of w. A daemon gives up on a client that does not read, so a
// pager that waits for a key must not keep vxsndctl from reading. The error is
// that of w, else that of fn.
func decouple(w io.Writer, fn func(io.Writer) error) error {
	s := &spool{}
	s.filled.L = &s.mu
	written := make(chan error)
	go func() { written <- s.drain(w) }()
	err := fn(s)
	s.finish()
	if e := <-written; e != nil {
		return e
	}
	return err
}

// A spool holds what is written until somebody takes it. It grows as it must.
type spool struct {
	mu     sync.Mutex // guards what follows
	filled sync.Cond  // there is something to take, or never will be
	held   []byte
	done   bool
	err    error // that of the writer behind
}

// Write takes b. The error is that of an earlier write to the writer behind.
func (s *spool) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.held = append(s.held, b...)
	s.filled.Signal()
	return len(b), nil
}

func (s *spool) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	s.filled.Signal()
}

// drain writes to w what is held, until there is no more to come.
func (s *spool) drain(w io.Writer) error {
	var b []byte
	for {
		s.mu.Lock()
		for len(s.held) == 0 && !s.done {
			s.filled.Wait()
		}
		b, s.held = s.held, b[:0]
		s.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		if _, err := w.Write(b); err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			return err
		}
	}
}
