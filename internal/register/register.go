// SPDX-License-Identifier: Apache-2.0

// Package register serves the registration socket: it takes the members that
// VTEPs register into the table and answers those who ask for members, as
// docs/protocol.md sections 1 to 3 and 6 say. It owns the policy of that: who
// may say what, which addresses cannot be VTEPs, how much work one sender may
// cause, and how answers are paced. The bytes belong to package vxfld, the
// members to package fdb, and sockets to package sock.
package register

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"vxsnd/internal/fdb"
	"vxsnd/internal/logging"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// defaultPause is the time between two bursts of one answer, which keeps a
	// large answer from overrunning the asker's socket buffer.
	defaultPause = 100 * time.Millisecond

	// reportEvery is the shortest time between two reports of collisions, and
	// lookEvery how often there may be a first one.
	reportEvery = time.Minute
	lookEvery   = time.Second

	// maxCollisionLines bounds the lines of one report of collisions.
	maxCollisionLines = 16
)

// A Table is what registration needs of the VNI -> VTEP table; *fdb.Table has
// it. Its methods are called concurrently.
type Table interface {
	// Apply takes in what a message says.
	Apply(now fdb.Time, us []fdb.Update) fdb.Result
	// Members appends the distinct live members of a VNI that may be told.
	Members(now fdb.Time, vni vxlan.VNI, dst []netip.Addr) []netip.Addr
	// VNIs appends the VNIs with members.
	VNIs(dst []vxlan.VNI) []vxlan.VNI
	// Excluded tells whether an address is known not to be a VTEP's.
	Excluded(a netip.Addr) fdb.Exclusion
	// Collisions drains what was noticed about identifiers.
	Collisions(dst []fdb.Collision) []fdb.Collision
}

// A Conn is a datagram socket that tells to which local address each message
// came; *sock.Control is the real one. ReadFrom belongs to one goroutine, and
// the other methods may be called concurrently with it.
type Conn interface {
	// ReadFrom reads one datagram of any size into b. It returns its length,
	// the sender, and the local address that it was sent to. The sender is as
	// the socket's family has it: an IPv4 socket yields IPv4 addresses, and a
	// 4-in-6 address stays one.
	ReadFrom(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error)
	// WriteTo sends b to an address, from the local address from; the zero
	// Addr leaves that choice to the kernel.
	WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error
	// Close ends a ReadFrom that waits; it then returns net.ErrClosed.
	Close() error
	// LocalAddr returns the address that the socket is bound to.
	LocalAddr() netip.AddrPort
}

// A Relayer passes registrations on to peers.
type Relayer interface {
	// Relay is handed each registration that came from a VTEP's daemon, after
	// the table has taken it in and without the addresses that cannot be VTEPs.
	// It may be called concurrently, must not block, and must not keep r.
	Relay(r *vxfld.Refresh)
}

// Settings are what may change while a Server runs.
type Settings struct {
	// Holdtime is the node's own holdtime, which answers carry; fdb.Static
	// stands for members that never age.
	Holdtime time.Duration

	// MaxPacketSize is the size of the largest message that is sent, with its
	// Ethernet, IPv4 and UDP headers, in bytes. It is no limit on what is read,
	// and a VNI that does not fit goes in a larger message of its own.
	MaxPacketSize int

	// Peer tells whether an address is that of a configured peer. It may be
	// called concurrently; nil stands for no peers.
	Peer func(a netip.Addr) bool

	// Believed tells whether relayed registrations are taken from an address that
	// is no configured peer's. It may be called concurrently; nil stands for no.
	Believed func(a netip.Addr) bool

	// Seen is called with the source of each relayed registration that is taken, so
	// that it can be counted among the service nodes. It may be called
	// concurrently; nil is not called.
	Seen func(a netip.Addr)

	// Static tells whether a peer has told otherwise than by a relayed registration of
	// a member of identifier 0 that never ages: no relayed registration withdraws
	// that or has it age. It may be called concurrently; nil stands for no.
	Static func(vni vxlan.VNI, a netip.Addr) bool

	// Partial tells whether the table may lack members, so that answers must not be
	// taken for complete. It may be called concurrently; nil stands for no.
	Partial func() bool

	// Pause is the time between two bursts of one answer; 100 ms where 0.
	Pause time.Duration

	// Rate is how many units of work each sender besides the peers may cause
	// per second; a message costs one and one more per KiB. Burst is how many
	// it may cause at once. Where 0, Rate is 4096 and Burst twice the Rate.
	Rate, Burst int
}

// peer tells whether a is a configured peer.
func (st *Settings) peer(a netip.Addr) bool { return st.Peer != nil && st.Peer(a) }

// withDefaults fills in what is zero.
func (st Settings) withDefaults() *Settings {
	if st.Pause <= 0 {
		st.Pause = defaultPause
	}
	if st.Rate <= 0 {
		st.Rate = defaultRate
	}
	if st.Burst <= 0 {
		st.Burst = 2 * st.Rate
	}
	return &st
}

// Options are what a Server is made of. Conns, Table and Now must be there.
type Options struct {
	// Conns are the sockets to serve: svcnode_ip and src_ip, or the wildcard.
	// Run closes them.
	Conns []Conn
	Table Table
	// Relayer passes registrations on; nil relays nothing.
	Relayer Relayer
	// Now reads the clock of the table's times.
	Now func() fdb.Time
	// Log is where to log; nil discards.
	Log logrus.FieldLogger
	Settings
}

// A Server serves registration sockets. Its methods may be called
// concurrently.
type Server struct {
	conns    []Conn
	table    Table
	relayer  Relayer
	now      func() fdb.Time
	log      logrus.FieldLogger
	repeats  *logging.Limiter
	settings atomic.Pointer[Settings]
	sources  *sources
	checks   *rate.Limiter // of who asks: see checkRate
	answers  *answers
	counters Counters
}

// New returns a Server, which does nothing until Run.
func New(o Options) *Server {
	s := &Server{
		conns:   o.Conns,
		table:   o.Table,
		relayer: o.Relayer,
		now:     o.Now,
		log:     logging.OrDiscard(o.Log).WithField("task", "register"),
		repeats: &logging.Limiter{},
		sources: newSources(),
		checks:  rate.NewLimiter(checkRate, checkRate),
		answers: newAnswers(),
	}
	s.Configure(o.Settings)
	return s
}

// String names the task.
func (s *Server) String() string { return "register" }

// Configure replaces the settings, from the next message and the next burst
// on.
func (s *Server) Configure(st Settings) { s.settings.Store(st.withDefaults()) }

// Counters returns the figures, which go on counting.
func (s *Server) Counters() *Counters { return &s.counters }

// Run serves until ctx is done, which is a success, or until a socket turns
// out to be closed. It closes the sockets; answers in progress end where they
// are. It is called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.conns {
		g.Go(func() error { return s.receive(ctx, i) })
	}
	g.Go(func() error {
		s.answer(ctx)
		return nil
	})
	g.Go(func() error {
		s.report(ctx)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		for _, c := range s.conns {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				s.log.WithField("local", c.LocalAddr()).WithError(err).Warn("socket not closed")
			}
		}
		return nil
	})
	return g.Wait()
}

// report writes to the log what was held back, and which identifiers are used
// by two VTEPs: the first at once, then once a minute what came in between.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var found []fdb.Collision
	var last time.Time
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		s.repeats.Flush()
		if !last.IsZero() && now.Sub(last) < reportEvery {
			continue
		}
		found = s.table.Collisions(found[:0])
		if len(found) > 0 {
			last = now
		}
		for i, c := range found {
			if i == maxCollisionLines {
				s.log.WithField("count", len(found)-i).Warn("more identifiers are registered by two vteps")
				break
			}
			s.log.WithFields(logrus.Fields{
				"vni": c.VNI, "vtep": c.First, "other": c.Second, "identifier": c.Identifier, "count": c.Count,
			}).Warn("one identifier is registered by two vteps")
		}
	}
}
