// SPDX-License-Identifier: Apache-2.0

// Package peer keeps the tables of a group of service nodes alike. It relays
// registrations, tells peers of learned and static members, asks them for
// their table at start and answers when they ask, and compares tables now and
// then (docs/protocol.md sections 3, 4, 6 and 7). The bytes belong to package
// vxfld and the members to package fdb; which addresses are peers, and when the
// node is ready, is for the caller to say.
package peer

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/fdb"
	"vxsnd/internal/logging"
	"vxsnd/internal/vxlan"
)

// reportEvery is how often is looked for what the log is to be told of.
const reportEvery = time.Second

// A Table is what peers need of the VNI -> VTEP table; *fdb.Table has it. Its
// methods are called concurrently.
type Table interface {
	// Apply takes in what a peer says.
	Apply(now fdb.Time, us []fdb.Update) fdb.Result
	// VNIs appends the VNIs with entries.
	VNIs(dst []vxlan.VNI) []vxlan.VNI
	// Entries appends the live entries of a VNI.
	Entries(now fdb.Time, vni vxlan.VNI, dst []fdb.Entry) []fdb.Entry
	// Subscribe returns a feed of changes.
	Subscribe(capacity int, kinds fdb.Kinds) *fdb.Feed
	// Excluded tells whether an address is known not to be a VTEP's.
	Excluded(a netip.Addr) fdb.Exclusion
	// Withdrawn tells whether a repair would not bring an entry back.
	Withdrawn(now fdb.Time, vni vxlan.VNI, a netip.Addr, identifier uint64) bool
	// Stats returns the numbers of entries.
	Stats() fdb.Stats
}

// Options are what a Group is made of. Table, Now and Send must be there.
type Options struct {
	Table Table
	// Now reads the clock of the table's times.
	Now func() fdb.Time
	// Log is where to log; nil discards.
	Log logrus.FieldLogger
	// Source is this node's own address (src_ip): it listens for SYNC there, and
	// peers are told from there. The wildcard of a family listens on all
	// addresses, and leaves the choice of the source to the kernel.
	Source netip.Addr
	// Port is the TCP port to listen on (vxfld_port).
	Port uint16
	// VRF names the VRF device that the connections belong to, or none.
	VRF string
	// Send sends one UDP message to a peer, from Source and the control port. It
	// is called concurrently, must not block for long, and must not keep b.
	Send func(b []byte, to netip.AddrPort) error
	Settings
}

// Settings are what may change while a Group runs.
type Settings struct {
	// Peers are the peers' addresses, this node's own left out.
	Peers []netip.AddrPort
	// Unresolved is the number of further peers whose address is not known yet:
	// nothing was had of them.
	Unresolved int
	// Allowed tells whose SYNC messages are taken: those of the configured peers
	// and of whom peer_allow names. It may be called concurrently; nil allows
	// nobody.
	Allowed func(a netip.Addr) bool
	// Seen is called with each allowed source of SYNC, so that it can be counted
	// among the service nodes. It may be called concurrently; nil is not called.
	Seen func(a netip.Addr)
	// MaxPacketSize is the size of the largest UDP message, with its Ethernet, IPv4
	// and UDP headers, in bytes.
	MaxPacketSize int
	// Holdtime is how long a learned member lives here; fdb.Static where it
	// never ages.
	Holdtime time.Duration
	// SyncTargets is how many peers are asked for their table at start, at least 1.
	SyncTargets int
	// SyncTimeout is how long Synced waits at most.
	SyncTimeout time.Duration
	// ResyncInterval is the time between two repairs, 0 for none.
	ResyncInterval time.Duration
}

// A Group is this node's part in a group of service nodes. Its methods may be
// called concurrently.
type Group struct {
	table  Table
	now    func() fdb.Time
	log    logrus.FieldLogger
	source netip.Addr
	port   uint16
	vrf    string
	send   func(b []byte, to netip.AddrPort) error

	repeats  *logging.Limiter
	settings atomic.Pointer[Settings]
	// peers are in the order of Settings.Peers. The slice is never modified; a
	// peer that stays is the same object after a change.
	peers atomic.Pointer[[]*peer]
	mu    sync.Mutex // held while settings and peers are replaced
	// changed and renewed hold one value after a change of these, for tell and for
	// startUp.
	changed, renewed chan struct{}
	via              via

	synced   chan struct{}
	syncOnce sync.Once
	ready    atomic.Bool

	limits limits
	// asking says that peers are asked for their table, and largeAnswers has a
	// value for each answer that is large.
	asking       atomic.Bool
	largeAnswers chan struct{}
	listening    // the TCP listener and its figures
}

// New returns a Group, which does nothing until Listen and Run. What Relay is
// given before Run waits.
func New(o Options) *Group {
	g := &Group{
		table:   o.Table,
		now:     o.Now,
		log:     logging.OrDiscard(o.Log).WithField("task", "peer"),
		source:  o.Source,
		port:    o.Port,
		vrf:     o.VRF,
		send:    o.Send,
		repeats: &logging.Limiter{},
		changed: make(chan struct{}, 1),
		renewed: make(chan struct{}, 1),
		synced:  make(chan struct{}),
		limits:  defaultLimits,

		largeAnswers: make(chan struct{}, maxLarge),
	}
	g.peers.Store(&[]*peer{})
	g.Configure(o.Settings)
	return g
}

// String names the task.
func (g *Group) String() string { return "peer" }

// Configure replaces the settings from now on. Peers that stay keep their
// state and what waits for them; a new peer is told everything.
func (g *Group) Configure(s Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Peers = slices.Clone(s.Peers)
	g.settings.Store(&s)
	old := *g.peers.Load()
	peers := make([]*peer, 0, len(s.Peers))
	for _, a := range s.Peers {
		if slices.ContainsFunc(peers, func(p *peer) bool { return p.addr == a }) {
			continue
		}
		if i := slices.IndexFunc(old, func(p *peer) bool { return p.addr == a }); i >= 0 {
			peers = append(peers, old[i])
		} else {
			peers = append(peers, newPeer(a))
		}
	}
	g.peers.Store(&peers)
	for _, c := range []chan struct{}{g.changed, g.renewed} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// known returns the peers, and how many more there are whose address is not
// known.
func (g *Group) known() (peers []*peer, unresolved int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.peers.Load(), g.settings.Load().Unresolved
}

// peer returns the first configured peer with this address, nil if there is
// none.
func (g *Group) peer(a netip.Addr) *peer {
	for _, p := range *g.peers.Load() {
		if p.addr.Addr() == a {
			return p
		}
	}
	return nil
}

// Synced returns a channel that is closed when a dump was taken in, or every
// peer was tried once without success, or SyncTimeout has passed since Run, or
// there are no peers. A peer whose address is not known is one that was not tried.
func (g *Group) Synced() <-chan struct{} { return g.synced }

// Asking tells whether peers are asked for their table since none that counts
// was had. That goes on when Synced waits no longer.
func (g *Group) Asking() bool { return g.asking.Load() }

// setSynced closes the channel that Synced returns.
func (g *Group) setSynced() { g.syncOnce.Do(func() { close(g.synced) }) }

// SetReady says that the node serves: from now on dumps do not say that it is
// not ready.
func (g *Group) SetReady() { g.ready.Store(true) }

// Run serves until ctx is done, which is a success, or until the listener turns
// out to be closed. It closes the listener. It is called once; Listen may have
// been left out, and then nothing is served over TCP.
func (g *Group) Run(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return g.serve(ctx) })
	for _, loop := range []func(context.Context){g.tell, g.startUp, g.repair, g.report} {
		eg.Go(func() error {
			loop(ctx)
			return nil
		})
	}
	return eg.Wait()
}

// report writes to the log what was held back.
func (g *Group) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.repeats.Flush()
		}
	}
}
