// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

const (
	// maxHTTPClients is how many connections are open at once, maxHTTPRequests how
	// many of their requests are worked on.
	maxHTTPClients  = 32
	maxHTTPRequests = 4

	// maxHTTPHeader bounds the header of a request, in bytes.
	maxHTTPHeader = 8 << 10

	// httpTime bounds a request from its first byte to the last of its answer,
	// whatever else does.
	httpTime = 30 * time.Second
)

// HTTPOptions are what an HTTP is made of.
type HTTPOptions struct {
	// Address is where to listen: host:port, :port for all addresses, or the
	// absolute file name of a Unix socket.
	Address string
	// Metrics answers /metrics. It is called concurrently, and what it writes goes
	// to the client once it has returned.
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
	o       HTTPOptions
	log     logrus.FieldLogger
	repeats logging.Limiter

	unix endpoint     // of a Unix socket
	tcp  net.Listener // of any other address

	requests chan struct{} // holds an element for each that is worked on

	mu      sync.Mutex
	clients map[*httpClient]struct{}

	// The bounds on a client's time, constant but for tests.
	requestTime, idleTime, writeTime time.Duration
}

// NewHTTP returns an HTTP, which does nothing until Listen.
func NewHTTP(o HTTPOptions) *HTTP {
	h := &HTTP{
		o: o, log: logging.OrDiscard(o.Log).WithField("task", "http"), clients: map[*httpClient]struct{}{},
		requests:    make(chan struct{}, maxHTTPRequests),
		requestTime: requestTime, idleTime: idleTime, writeTime: writeTime,
	}
	if strings.HasPrefix(o.Address, "/") {
		h.unix.path = o.Address
	}
	return h
}

// String names the task.
func (h *HTTP) String() string { return "http" }

// Listen opens the socket. That of a Unix socket is opened as Server.Listen does.
// The error names the address.
func (h *HTTP) Listen() (err error) {
	if h.unix.path != "" {
		return h.unix.listen()
	}
	if h.tcp, err = net.Listen("tcp", h.o.Address); err != nil {
		return fmt.Errorf("listen %s: %w", h.o.Address, plain(err))
	}
	return nil
}

// Chown gives the file of a Unix socket to the user and group that the daemon
// becomes; there is nothing to do for another address. It is called after
// Listen.
func (h *HTTP) Chown(uid, gid int) error {
	if h.unix.listener == nil {
		return nil
	}
	return h.unix.chown(uid, gid)
}

// Addr returns where it listens, with the port that the kernel chose where the
// address had 0. It is called after Listen.
func (h *HTTP) Addr() string {
	if h.tcp == nil {
		return h.unix.path
	}
	return h.tcp.Addr().String()
}

// Close closes the socket. Run does the same at its end: Close is for an HTTP
// that never runs. Without a Listen it does nothing.
func (h *HTTP) Close() error {
	if h.tcp == nil {
		return h.unix.close()
	}
	if err := h.tcp.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx is done, which is a success, and then closes the socket.
// Answers under way have a second to arrive; a handler that does not return
// holds Run up for as long as it likes.
func (h *HTTP) Run(ctx context.Context) error {
	var clients sync.WaitGroup
	s := &http.Server{
		Handler: http.HandlerFunc(h.serve), DisableGeneralOptionsHandler: true, MaxHeaderBytes: maxHTTPHeader,
		ReadHeaderTimeout: h.requestTime, ReadTimeout: h.requestTime, IdleTimeout: h.idleTime, WriteTimeout: httpTime,
		ErrorLog:    log.New(problems{h}, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, clientKey{}, c) },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				clients.Add(1)
			case http.StateClosed, http.StateHijacked:
				clients.Done()
			}
		},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		within, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		err := s.Shutdown(within)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
		stopped <- err
	})
	err := s.Serve(doorkeeper{h})
	if stop() { // Serve has ended of itself
		err = errors.Join(err, s.Close())
	} else {
		err = <-stopped
	}
	clients.Wait()
	return err
}

// serve answers one request.
func (h *HTTP) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(clientKey{}).(*httpClient)
	if !c.busy() {
		return
	}
	p := &page{header: w.Header(), code: http.StatusOK}
	h.answer(p, r)
	p.header.Set("Content-Length", strconv.Itoa(p.body.Len()))
	// From here on it is the client that takes its time.
	c.waits()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.writeTime))
	w.WriteHeader(p.code)
	_, _ = w.Write(p.body.Bytes())
}

func (h *HTTP) answer(p *page, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.header.Set("Allow", "GET, HEAD")
		p.text(http.StatusMethodNotAllowed, "only GET and HEAD are served")
		return
	}
	switch r.URL.Path {
	case "/":
		p.text(http.StatusOK, "/metrics  the figures, for Prometheus\n/healthz  whether the daemon works\n/readyz   whether it does all that it is configured to do")
	case "/metrics":
		h.metrics(p, r)
	case "/healthz":
		p.state(h.o.Healthy)
	case "/readyz":
		p.state(h.o.Ready)
	default:
		p.text(http.StatusNotFound, "there is no such path, / has a list")
	}
}

// metrics waits for its turn, so that many scrapes at once take no more of the
// machine than a few.
func (h *HTTP) metrics(p *page, r *http.Request) {
	turn := time.NewTimer(h.requestTime)
	defer turn.Stop()
	select {
	case h.requests <- struct{}{}:
		defer func() { <-h.requests }()
		h.o.Metrics.ServeHTTP(p, r)
	case <-r.Context().Done():
	case <-turn.C:
		p.text(http.StatusServiceUnavailable, "too many requests are under way")
	}
}

// A page is an answer that is not sent yet.
type page struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(code int)        { p.code = code }
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }

// text makes it an answer to people.
func (p *page) text(code int, text string) {
	p.header.Set("Content-Type", "text/plain; charset=utf-8")
	p.code = code
	p.body.WriteString(text + "\n")
}

// state makes it tell whether all is well.
func (p *page) state(well func() error) {
	if well != nil {
		if err := well(); err != nil {
			p.text(http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	p.text(http.StatusOK, "ok")
}

// problems logs what http.Server has to say.
type problems struct{ *HTTP }

func (p problems) Write(b []byte) (int, error) {
	p.repeats.Do("problem", func(count int) {
		p.log.WithError(errors.New(strings.TrimSpace(string(b)))).WithField("count", count).Warn("problem while metrics are served")
	})
	return len(b), nil
}
