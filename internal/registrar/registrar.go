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
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/logging"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// ErrRestart is the cause of the end of Run's context when the daemon is to
// start again at once: registrations and flood lists are kept then.
var ErrRestart = errors.New("stopped for a restart")

// static is how long lives what never ages.
const static time.Duration = math.MaxInt64

// A conn is the socket of registrations and answers; *sock.Control is the real
// one. WriteTo may be called concurrently with ReadFrom, which Close ends.
type conn interface {
	ReadFrom(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error)
	WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error
	LocalAddr() netip.AddrPort
	Close() error
}

// A deviceSource follows the VXLAN devices; *underlay.Devices is the real one.
type deviceSource interface {
	Run(ctx context.Context, changed func([]underlay.Device)) error
	FollowRoutes(ctx context.Context, changed func()) error
	Source(to netip.Addr, vrf string) (netip.Addr, error)
	Close()
}

// An addressSource follows this machine's addresses; *underlay.Underlay is the
// real one.
type addressSource interface {
	Run(ctx context.Context, changed func([]netip.Addr)) error
	Broadcasts() map[netip.Addr]struct{}
	Close()
}

// A floodReader tells what flood entries the kernel has; *underlay.FDB is the
// real one.
type floodReader interface {
	Read(index int) (underlay.FloodTable, error)
}

// floodLists are the flood lists in the kernel; *headend.Lists is the real one.
// Set, Drop and Keep must not wait for the kernel.
type floodLists interface {
	Adopted() map[headend.Key][]netip.Addr
	Set(lists map[headend.Key][]netip.Addr)
	Drop(keys ...headend.Key)
	Keep(present map[headend.Key]struct{})
	Configure(s headend.Settings)
	Run(ctx context.Context) error
	Flush() error
	Close() error
	Status() map[headend.Key]headend.Status
}

// A Registrar is one registration daemon. New, Listen, Run and Close are called
// in this order, each at most once and by one goroutine. The other methods are
// for the time while Run runs, and may be called concurrently unless they say
// otherwise.
type Registrar struct {
	log     logrus.FieldLogger
	repeats logging.Limiter
	machine func() string

	devices   deviceSource
	addresses addressSource
	fdb       floodReader
	closeFDB  func()
	lists     floodLists // nil without head-end replication
	conn      conn
	peers     *resolver
	memory    *memory // nil where the identifier is not remembered
	left      int     // flood entries of an earlier run that nobody looks after

	ready chan struct{} // closed when everything was registered once
	woken chan struct{} // holds a value when the loop has something to look at
	busy  activity

	monitors monitors

	verdicts          [numVerdicts]atomic.Uint64
	sends, sendErrors atomic.Uint64
	leftOut           atomic.Uint64 // addresses of answers that cannot be members

	// mu guards what follows. The kernel is not spoken to while it is held, and
	// nothing is sent.
	mu      sync.Mutex
	cfg     config.Config
	news    news
	id      uint64 // of registrations; 0 until there is one
	plan    *plan  // in force
	entries map[vxlan.VNI]*entry
	waiting map[vxlan.VNI]*entry         // not registered for a while, but their lists stay
	adopted map[headend.Key][]netip.Addr // lists of before the start, until the first plan
	own     map[netip.Addr]struct{}      // addresses of this machine
	unfit   unfit                        // who cannot be a member, besides
	service map[netip.Addr]struct{}      // service nodes
	flaws   map[headend.Key]flaw         // what is wrong with where devices flood to

	strangers map[netip.Addr]sightings  // whose answers are not believed
	nodes     map[netip.Addr]*nodeState // service nodes that were asked
	others    map[netip.Addr]sightings  // who else answered
	refused   map[route]error           // why registrations cannot be sent
	lastSent  time.Time                 // zero if nothing was registered yet
	answered  time.Time                 // zero if no answer was taken yet
	silent    bool                      // it was said that the service nodes are silent
	silentAt  time.Time                 // when that was said
}

// news is what the loop has not looked at yet.
type news struct {
	devices   []underlay.Device
	addresses []netip.Addr
	// The first news of devices and of addresses has come.
	listed, addressed bool
	changed           bool // there is anything new
	filled            bool // a list has got its first member, or lost its last
	configured        bool // there is another configuration
	believed          bool // answers of somebody else are believed
}

// An entry is a VNI that is registered.
type entry struct {
	*registration
	sent time.Time  // when it was registered last; zero if never
	list memberList // with head-end replication
	told told       // to those who listen
}

// New builds a registrar, inert: it opens nothing and needs no privilege.
func New(cfg config.Config, log logrus.FieldLogger) (*Registrar, error) {
	log = logging.OrDiscard(log)
	r := &Registrar{
		cfg: cfg, log: log.WithField("task", "registrar"), machine: machineID,
		peers: newResolver(log),
		ready: make(chan struct{}), woken: make(chan struct{}, 1),
		plan: &plan{}, entries: make(map[vxlan.VNI]*entry), waiting: make(map[vxlan.VNI]*entry),
		strangers: make(map[netip.Addr]sightings), nodes: make(map[netip.Addr]*nodeState),
		others: make(map[netip.Addr]sightings), refused: make(map[route]error),
	}
	// What a peer answered before it was believed is to be asked for again.
	r.peers.grown = func() { r.tell(func(n *news) { n.believed = true }) }
	return r, nil
}

// String names the task.
func (r *Registrar) String() string { return "registrar" }

// config returns the configuration that is in force.
func (r *Registrar) config() config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

// Ready is closed when everything that can be registered was registered once.
func (r *Registrar) Ready() <-chan struct{} { return r.ready }

// wake has the loop look at what is new.
func (r *Registrar) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Run registers until ctx is done, and then withdraws what it registered and
// removes its flood entries, unless context.Cause(ctx) is ErrRestart or the
// configuration says otherwise. It returns an error if a part fails, which
// withdraws nothing: whoever starts it again finds all as it was.
func (r *Registrar) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return r.devices.Run(gctx, func(ds []underlay.Device) {
			r.tell(func(n *news) { n.devices, n.listed = ds, true })
		})
	})
	g.Go(func() error {
		return r.addresses.Run(gctx, func(as []netip.Addr) {
			r.tell(func(n *news) { n.addresses, n.addressed = as, true })
		})
	})
	g.Go(func() error {
		return r.devices.FollowRoutes(gctx, func() {
			if r.current().Routed {
				r.tell(func(*news) {})
			}
		})
	})
	g.Go(func() error { return r.peers.run(gctx) })
	g.Go(func() error { return r.receive(gctx) })
	if r.lists != nil {
		g.Go(func() error { return r.lists.Run(gctx) })
	}
	g.Go(func() error {
		left := r.loop(gctx)
		if ctx.Err() != nil && r.leaves(ctx) {
			r.withdrawAll(left)
		}
		return r.conn.Close() // ends receive
	})
	err := g.Wait()
	if err == nil && r.lists != nil && r.leaves(ctx) {
		err = r.lists.Flush()
	}
	r.logStopped()
	return err
}

// tell takes in something new.
func (r *Registrar) tell(note func(*news)) {
	r.mu.Lock()
	note(&r.news)
	r.news.changed = true
	r.mu.Unlock()
	r.wake()
}

// leaves tells whether the end of ctx is one for good, after which nobody is to
// send anything here any more.
func (r *Registrar) leaves(ctx context.Context) bool {
	c := r.config()
	return c.WithdrawOnExit && !errors.Is(context.Cause(ctx), ErrRestart)
}
