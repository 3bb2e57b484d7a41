// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxAccepted is the number of connections that are held. A deployed node
	// makes one for each member that it learns, so many may come at once and none
	// of them may be lost. One address may have as many as are left for all
	// others, so half of them; however many take their share, there is one left
	// for who has none.
	maxAccepted = 512

	// maxServed is how many connections are served at a time, maxServedFrom how
	// many of one address. It takes 16 slow peers to have others wait.
	maxServed     = 64
	maxServedFrom = 4

	// maxLarge is how many messages may be large, maxLargeFrom how many from one
	// address. The same number of answers to this node's own questions may be.
	maxLarge     = 2
	maxLargeFrom = 1

	// minBackoff and maxBackoff bound the wait after a connection that could not
	// be accepted, which doubles from one to the next.
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second
)

// ipv6Freebind is IPV6_FREEBIND (linux/in6.h, Linux 4.15), which package
// syscall lacks.
const ipv6Freebind = 78

// listening is the TCP side that others connect to.
type listening struct {
	listener *net.TCPListener
	counters Counters
}

// Counters returns the figures, which go on counting.
func (g *Group) Counters() *Counters { return &g.counters }

// Listen opens the TCP listener. Its error wraps that of the system. The
// address may not be of this machine yet.
func (g *Group) Listen(ctx context.Context) error {
	addr := netip.AddrPortFrom(g.source, g.port)
	network := "tcp4"
	if g.source.Is6() {
		network = "tcp6" // net sets IPV6_V6ONLY
	}
	lc := net.ListenConfig{
		// The kernel would not tell a peer that is gone from one that is silent
		// any sooner than our own deadlines do.
		KeepAlive: -1,
		Control: func(network, address string, rc syscall.RawConn) error {
			if err := g.control(network, address, rc); err != nil {
				return err
			}
			return freebind(network, rc)
		},
	}
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the address, which is named here
		}
		return fmt.Errorf("listen tcp %s: %w", addr, err)
	}
	g.listener = l.(*net.TCPListener)
	return nil
}

// freebind lets a socket be bound to an address that the machine will have.
func freebind(network string, rc syscall.RawConn) error {
	level, opt := syscall.IPPROTO_IP, syscall.IP_FREEBIND
	if network == "tcp6" {
		level, opt = syscall.IPPROTO_IPV6, ipv6Freebind
	}
	var err error
	if cerr := rc.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, opt, 1) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("set FREEBIND: %w", err)
	}
	return nil
}

// Close closes the listener where Run was never called.
func (g *Group) Close() error {
	if g.listener == nil {
		return nil
	}
	if err := g.listener.Close(); err != nil {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// A server is one run of the listener.
type server struct {
	*Group
	served chan struct{} // a value for each connection that is being served
	large  chan struct{} // a value for each one that holds a large message

	mu       sync.Mutex
	accepted int // connections
	sources  map[netip.Addr]*source
}

// A source is an address with connections.
type source struct {
	accepted      int
	served, large chan struct{}
}

// serve answers connections until ctx is done, and closes the listener.
func (g *Group) serve(ctx context.Context) error {
	if g.listener == nil {
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	context.AfterFunc(ctx, func() { g.listener.Close() })
	s := &server{
		Group:   g,
		served:  make(chan struct{}, maxServed),
		large:   make(chan struct{}, maxLarge),
		sources: make(map[netip.Addr]*source),
	}
	backoff := minBackoff
	for {
		c, err := g.listener.AcceptTCP()
		switch {
		case err == nil:
			backoff = minBackoff
			if !s.admit(ctx, &serving, c) {
				turnAway(c)
			}
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("connections of peers on %s: %w", g.listener.Addr(), err)
		}
		g.counters.AcceptErrors.Add(1)
		g.repeats.Do("accept", func(count int) {
			g.log.WithField("count", count).WithError(err).Warn("connection of a peer not accepted")
		})
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// turnAway closes a connection with a reset: an orderly end would tell the
// other side that its message was taken in.
func turnAway(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails where the connection is gone
	c.Close()
}

// admit has a connection served if its source may have it.
func (s *server) admit(ctx context.Context, serving *sync.WaitGroup, c *net.TCPConn) bool {
	ap := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	from := ap.Addr().Unmap().WithZone("")
	if allowed := s.settings.Load().Allowed; allowed == nil || !allowed(from) {
		s.judged(from, VerdictStranger, nil)
		return false
	}
	src := s.source(from)
	if src == nil {
		s.judged(from, VerdictBusy, nil)
		return false
	}
	serving.Go(func() {
		defer s.forget(from, src)
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		leave, err := s.limits.enter(ctx, src.served, s.served)
		if err != nil {
			turnAway(c)
			if ctx.Err() == nil {
				s.judged(from, VerdictBusy, err)
			}
			return
		}
		defer leave()
		v, err := s.converse(ctx, c, from, src)
		if v == VerdictBusy {
			turnAway(c)
		}
		if ctx.Err() == nil {
			s.judged(from, v, err)
		}
	})
	return true
}

// source notes one more connection from an address, nil if that has too many.
func (s *server) source(from netip.Addr) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.sources[from]
	if src == nil {
		src = &source{served: make(chan struct{}, maxServedFrom), large: make(chan struct{}, maxLargeFrom)}
	}
	if src.accepted >= maxAccepted-s.accepted {
		return nil
	}
	s.sources[from] = src
	src.accepted++
	s.accepted++
	return src
}

func (s *server) forget(from netip.Addr, src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted--
	if src.accepted--; src.accepted == 0 {
		delete(s.sources, from)
	}
}

// judged counts a connection and reports one that was refused.
func (g *Group) judged(from netip.Addr, v Verdict, err error) {
	g.counters.Verdicts[v].Add(1)
	if v.Accepted() && err == nil {
		return
	}
	g.repeats.Do(v.String(), func(count int) {
		log := g.log.WithFields(logrus.Fields{"src": from, "reason": v.String(), "count": count})
		if err != nil {
			log = log.WithError(err)
		}
		if v.Accepted() {
			log.Warn("answer to a peer not sent")
		} else {
			log.Warn("table exchange refused")
		}
	})
}
