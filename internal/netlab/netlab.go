// SPDX-License-Identifier: Apache-2.0

// Package netlab makes small networks out of Linux network namespaces: for
// tests, for the demonstration and for benchmarks. It owns namespaces, the
// links, addresses and routes in them, the processes that run in them, and the
// sockets that send and capture frames there. It knows nothing of the service
// node.
//
// A namespace of a lab has no name in the file system: file descriptors of this
// process alone hold it, and every link is made inside a namespace of the lab.
// So the host sees nothing of a lab and nothing is left of it when the process
// ends, however it ends; the kernel takes it all down with the descriptors.
//
// All of it needs CAP_SYS_ADMIN and CAP_NET_ADMIN; Need skips a test without.
//
// Links are quiet and honest, so that a test can count frames: IPv6 is off on
// each link until it gets an IPv6 address, then without duplicate address
// detection (but the kernel reports its multicast groups); and veth links compute checksums before they transmit, so that a
// capture shows what a wire would carry.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Lab is a set of namespaces, processes and sockets that are taken down
// together. It is safe for concurrent use.
type Lab struct {
	mu      sync.Mutex
	closers []func() error // run last to first
	closed  bool
}

// New returns an empty lab. Whoever makes it calls Close.
func New() *Lab { return &Lab{} }

// errClosed says that something was asked of a lab after its Close.
var errClosed = errors.New("lab is closed")

// own makes Close call f, before what was handed to own earlier. Once the lab
// is closed it calls f at once and returns errClosed.
func (l *Lab) own(f func() error) error {
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.closers = append(l.closers, f)
	}
	l.mu.Unlock()
	if closed {
		return errors.Join(errClosed, f())
	}
	return nil
}

// Close kills the lab's processes, waits for them, and releases its sockets
// and namespaces, newest first. It returns all errors joined. A second call
// does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	fs := l.closers
	l.closers, l.closed = nil, true
	l.mu.Unlock()
	var errs []error
	for i := len(fs) - 1; i >= 0; i-- {
		errs = append(errs, fs[i]())
	}
	return errors.Join(errs...)
}

// pollInterval is how often Wait looks again.
const pollInterval = 2 * time.Millisecond

// Wait calls cond until it returns true, then returns nil. When ctx ends first,
// it returns an error that wraps the context's and says what was waited for. It
// is for what the kernel or another process does and no descriptor announces.
func Wait(ctx context.Context, what string, cond func() bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if cond() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
