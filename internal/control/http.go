// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// HTTPOptions are what an HTTP is made of.
type HTTPOptions struct {
	// Address is where to listen: host:port, :port for all addresses, or the
	// absolute file name of a Unix socket.
	Address string
	// Metrics answers /metrics.
	Metrics http.Handler
	// Healthy tells why the daemon does not work, and Ready why it does not do yet
	// all that it is configured to do; nil from them is well. They are called
	// concurrently. A nil one is always well.
	Healthy func() error
	Ready   func() error
	// Log is where to log; nil discards.
	Log logrus.FieldLogger
}

// An HTTP serves figures and states to monitoring systems: /metrics, /healthz
// and /readyz, to GET and HEAD alone. Listen comes first, and then Run or Close;
// none of its methods may be called concurrently, except that a call of Run is
// meanwhile under way.
type HTTP struct {
	address string
	log     logrus.FieldLogger
}

// NewHTTP returns an HTTP, which does nothing until Listen.
func NewHTTP(o HTTPOptions) *HTTP {
	return &HTTP{address: o.Address, log: logging.OrDiscard(o.Log).WithField("task", "metrics")}
}

// String names the task.
func (h *HTTP) String() string { return "metrics" }

// Listen opens the socket.
func (h *HTTP) Listen() error { return errors.ErrUnsupported }

// Chown gives the file of a Unix socket to the user and group that the daemon
// becomes. It is called after Listen.
func (h *HTTP) Chown(uid, gid int) error { return errors.ErrUnsupported }

// Addr returns where it listens, with the port that the kernel chose.
func (h *HTTP) Addr() string { return h.address }

// Run serves until ctx is done, which is a success, and then closes the socket.
func (h *HTTP) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Close closes the socket.
func (h *HTTP) Close() error { return nil }
