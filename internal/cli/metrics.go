// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/control"
	"vxsnd/internal/logging"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/startup"
)

// A metricsListener serves metrics and states where the configuration says, and
// moves when that does. Its methods may be called while Run runs, by one
// goroutine at a time.
type metricsListener struct {
	options control.HTTPOptions // but for the address
	log     logrus.FieldLogger

	mu      sync.Mutex
	address string        // "" for nowhere
	server  *control.HTTP // nil for nowhere
	ctx     context.Context
	stop    func() // ends the server that runs, and waits; nil if none does
}

// newMetricsListener returns a listener that listens nowhere.
func newMetricsListener(o control.HTTPOptions) *metricsListener {
	return &metricsListener{options: o, log: logging.OrDiscard(o.Log)}
}

// listen opens the socket for an address, none for "".
func (m *metricsListener) listen(address string) (*control.HTTP, error) {
	if address == "" {
		return nil, nil
	}
	o := m.options
	o.Address = address
	h := control.NewHTTP(o)
	if err := h.Listen(); err != nil {
		return nil, metricsError(err)
	}
	return h, nil
}

// metricsError says what to do about an address that is not to be had.
func metricsError(err error) error {
	hint := "name another address or file (metrics_listen), or end what uses this one"
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "take a port of 1024 or higher, or a file in a directory that the user may write to (metrics_listen), or start as root"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "name an address of this machine (metrics_listen), or leave it out for all: :PORT"
	case errors.Is(err, fs.ErrNotExist):
		hint = "name a file in a directory that there is (metrics_listen)"
	}
	return startup.New(err, startup.ErrBind, hint)
}

// open listens where the daemon starts with.
func (m *metricsListener) open(address string) error {
	h, err := m.listen(address)
	if err != nil {
		return err
	}
	m.set(address, h)
	if address != "" {
		m.logWhere(address)
	}
	return nil
}

// chown gives a socket file to the user that the daemon becomes.
func (m *metricsListener) chown(uid, gid int) error {
	if m.server == nil {
		return nil
	}
	return m.server.Chown(uid, gid)
}

// Run serves until ctx is done.
func (m *metricsListener) Run(ctx context.Context) {
	m.mu.Lock()
	m.ctx = ctx
	m.startLocked()
	m.mu.Unlock()
	<-ctx.Done()
	m.set("", nil)
}

// Close closes the socket of a listener that never ran.
func (m *metricsListener) Close() { m.set("", nil) }

// set has server, which listens at an address, take the place of the one before.
func (m *metricsListener) set(address string, server *control.HTTP) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endLocked()
	m.address, m.server = address, server
	m.startLocked()
}

// startLocked has the server run, if there is one and the listener does.
func (m *metricsListener) startLocked() {
	h := m.server
	switch {
	case h == nil || m.ctx == nil:
		return
	case m.ctx.Err() != nil:
		_ = h.Close() // Run has ended, and waits for nobody any more
		return
	}
	ctx, cancel := context.WithCancel(m.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Run(ctx); err != nil {
			m.log.WithError(err).Error("metrics listener failed")
		}
	}()
	m.stop = func() {
		cancel()
		<-ended
	}
}

// endLocked ends the server, if there is one: it lets go of its address.
func (m *metricsListener) endLocked() {
	switch {
	case m.stop != nil:
		m.stop()
		m.stop = nil
	case m.server != nil:
		if err := m.server.Close(); err != nil {
			m.log.WithError(err).Warn("metrics socket not closed")
		}
	}
	m.server = nil
}

// A metricsChange is another address that a listener is ready to move to; nil
// where it stays.
type metricsChange struct {
	m       *metricsListener
	address string
	server  *control.HTTP
}

// Prepare opens the socket of another address. It has to be the last of what can
// keep a daemon from another configuration: where the new address is a part of
// the one in use, as 127.0.0.1:9 is of :9, that one is given up first, and taken
// again only if the other is not to be had.
func (m *metricsListener) Prepare(address string) (*metricsChange, error) {
	m.mu.Lock()
	former := m.address
	m.mu.Unlock()
	if address == former {
		return nil, nil
	}
	server, err := m.listen(address)
	if err == nil {
		return &metricsChange{m, address, server}, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) || portOf(address) == "" || portOf(address) != portOf(former) {
		return nil, err
	}
	m.set(former, nil)
	if server, err = m.listen(address); err == nil {
		return &metricsChange{m, address, server}, nil
	}
	server, again := m.listen(former)
	if again != nil {
		m.log.WithError(again).Error("metrics listener failed")
	}
	m.set(former, server)
	return nil, err
}

// portOf returns the port of an address, "" for that of a Unix socket.
func portOf(address string) string {
	if strings.HasPrefix(address, "/") {
		return ""
	}
	return address[strings.LastIndexByte(address, ':')+1:]
}

// Commit makes the move.
func (c *metricsChange) Commit() {
	if c == nil {
		return
	}
	c.m.set(c.address, c.server)
	c.m.logWhere(c.address)
}

// logWhere says where metrics are to be had.
func (m *metricsListener) logWhere(address string) {
	if address == "" {
		m.log.Info("metrics are not served any more")
		return
	}
	m.log.WithField("listen", address).Info("metrics are served")
}

// listenMetrics opens the listener that the configuration asks for.
func (d *daemon) listenMetrics() error {
	handler := d.service.Metrics(d.fillFigures, func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.running.MetricsMaxVNIs
	})
	if handler == nil {
		return nil
	}
	m := newMetricsListener(control.HTTPOptions{Metrics: handler, Healthy: d.service.Alive, Ready: d.readiness, Log: d.log})
	if err := m.open(d.running.MetricsListen); err != nil {
		return err
	}
	d.metrics = m
	return nil
}

// fillFigures adds what the figures of a service say of the process.
func (d *daemon) fillFigures(f *prom.Figures) {
	f.Started, f.LogLinesLost = d.started, d.log.Lost()
	f.Ready, f.Alive = d.readiness() == nil, d.service.Alive() == nil
	for _, c := range d.checks {
		if !c.OK && !c.Unknown {
			f.FailedChecks++
		}
	}
	if d.control != nil {
		f.Clients = d.control.Clients()
	}
}

// What keeps a service from being ready that is alive.
var (
	errNotReady = errors.New("not ready yet: waits for the table of a peer, for sync_timeout at most")
	errEnding   = errors.New("about to stop")
)

// readiness tells why nobody should rely on the service now, nil if they may.
func (d *daemon) readiness() error {
	if d.ending.Load() {
		return errEnding
	}
	select {
	case <-d.service.Ready():
	default:
		return errNotReady
	}
	return d.service.Alive()
}
