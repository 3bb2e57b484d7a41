// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"sync"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
)

// A flooding runs one engine at a time, or none, and puts another in its place
// while the node runs. It is safe for concurrent use but for run, which is
// called once.
type flooding struct {
	swap     chan swap
	ended    chan struct{} // closed when run has returned
	captures *captures     // told of each engine

	mu     sync.Mutex // guards what follows
	engine flood.Engine
	past   metrics.FloodCount // of engines that have ended
}

// A swap asks for another engine, nil for none.
type swap struct {
	to   flood.Engine
	done chan struct{} // closed when it is in place
}

func newFlooding(c *captures) *flooding {
	return &flooding{swap: make(chan swap), ended: make(chan struct{}), captures: c}
}

// current returns the engine, nil where nothing is flooded.
func (f *flooding) current() flood.Engine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.engine
}

func (f *flooding) set(e flood.Engine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.engine = e
	f.captures.attach(e)
}

// run floods until ctx is done or an engine fails.
func (f *flooding) run(ctx context.Context) error {
	defer close(f.ended)
	for {
		again, err := f.turn(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// turn runs the engine of now until ctx is done or another takes its place,
// which again tells.
func (f *flooding) turn(ctx context.Context) (again bool, err error) {
	engine := f.current()
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	if engine == nil {
		context.AfterFunc(ectx, func() { ended <- nil })
	} else {
		go func() { ended <- engine.Run(ectx) }()
	}
	select {
	case err := <-ended:
		return false, err
	case s := <-f.swap:
		cancel()
		err = <-ended
		if engine != nil {
			err = f.retire(engine, err)
		}
		f.set(s.to)
		close(s.done)
		return true, err
	}
}

// retire closes an engine that has ended and keeps its figures.
func (f *flooding) retire(e flood.Engine, err error) error {
	f.mu.Lock()
	f.past = f.past.Plus(e.Counters())
	f.engine = nil
	f.captures.attach(nil)
	f.mu.Unlock()
	if cerr := e.Close(); err == nil {
		err = cerr
	}
	return err
}

// replace puts another engine, which listens already, or nil in the place of
// the one of now, and waits for that. It returns false once run has returned.
func (f *flooding) replace(e flood.Engine) bool {
	s := swap{e, make(chan struct{})}
	select {
	case f.swap <- s:
		<-s.done
		return true
	case <-f.ended:
		return false
	}
}

// counters returns the figures of all engines so far.
func (f *flooding) counters() metrics.FloodCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.engine == nil {
		return f.past
	}
	return f.past.Plus(f.engine.Counters())
}

// backlog returns how many bytes wait in the sockets of the engine, which is not
// closed meanwhile.
func (f *flooding) backlog() (receive, send int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.engine == nil {
		return 0, 0
	}
	return f.engine.Backlog()
}

// alive returns when the slowest worker last showed that it lives, now where
// there is none.
func (f *flooding) alive(now fdb.Time) fdb.Time {
	select {
	case <-f.ended:
		return now // in order, with nothing left to serve
	default:
	}
	if e := f.current(); e != nil {
		return min(now, e.Alive())
	}
	return now
}

// close releases the sockets of the engine, after run has returned.
func (f *flooding) close() error {
	if e := f.current(); e != nil {
		return e.Close()
	}
	return nil
}
