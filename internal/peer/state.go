// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/fdb"
)

// A State is what is known of one peer, for commands and metrics.
type State struct {
	Addr netip.AddrPort
	// Ours says that the peer has shown itself to be a node of this kind.
	Ours bool
	// Reachable says that the last connection to the peer could be made; Err is
	// the last error of one, nil where the last went well.
	Reachable bool
	Err       error
	// Fault says why its last answer could not be used, nil where it could or the
	// connection failed since.
	Fault error
	// Silent says that the connection could be made, but that the peer was never
	// seen to do anything: its system takes connections for a program that is
	// stopped, too.
	Silent bool
	// LastHeard is when the peer last sent something over TCP, zero if never.
	LastHeard fdb.Time
	// Queue is the number of relayed messages that wait to be sent, and Waiting
	// that of members that the peer is still to be told of. All says that it
	// is to be told of every one instead.
	Queue, Waiting int
	All            bool
	// Relayed counts UDP messages that were sent, Dropped those that found the
	// queue full, and RelayErrors those that the kernel did not take or that came
	// back. Loss says why one of these was lost in the last minute, nil where none
	// was.
	Relayed, Dropped, RelayErrors uint64
	Loss                          error
	// Updates counts members that the peer was told of over TCP,
	// UpdateConnections the connections that took, and UpdateErrors those that
	// failed.
	Updates, UpdateConnections, UpdateErrors uint64
	// Dumps counts attempts to take the peer's table, and DumpErrors those of them
	// that failed.
	Dumps, DumpErrors uint64
	// LastDump is the last attempt to take the peer's table, and Asked when the
	// one began that is in progress, zero if none is.
	LastDump Dump
	Asked    fdb.Time
	// Refuses says that the peer closed the last question without a word: most
	// often, it does not know this node.
	Refuses bool
	// Differ is the number of entries that were lacking here at the last repair.
	Differ int
}

// A Dump is one attempt to take a peer's table.
type Dump struct {
	// When is the moment of its end, zero if there was none.
	When fdb.Time
	// Entries is the number of entries in the peer's answer.
	Entries int
	// Duration is how long it took, from the connection to the end.
	Duration time.Duration
	// Err says why it failed, nil where it did not.
	Err error
}

// A peer is one configured peer. Its methods may be called concurrently.
type peer struct {
	addr netip.AddrPort
	name string // addr as text, for what is looked up for each message
	ours atomic.Bool

	queue   queue
	backlog backlog

	relayed, dropped, relayErrors            atomic.Uint64
	updates, updateConnections, updateErrors atomic.Uint64

	mu        sync.Mutex
	reachable bool
	err       error
	fault     error // what was wrong with the last answer
	seen      bool  // it did something
	doubt     doubt
	heard     fdb.Time
	dump      Dump
	dumps     uint64
	failures  uint64 // of dumps
	asked     fdb.Time
	differ    int
	trust     trust
}

func newPeer(a netip.AddrPort) *peer {
	return &peer{
		addr: a, name: a.String(), queue: newQueue(), backlog: newBacklog(),
		doubt: doubt{raised: make(chan struct{}, 1)},
	}
}

// connected records how an attempt to connect to a peer ended, or what became
// of the connection. That one which closes questions takes what it is told is
// not to be believed.
func (g *Group) connected(p *peer, err error) {
	p.mu.Lock()
	if err == nil && p.trust.away {
		p.mu.Unlock()
		return
	}
	back := err == nil && p.err != nil
	p.reachable, p.err = err == nil, err
	if err != nil {
		p.fault = nil
	}
	p.mu.Unlock()
	if back {
		g.log.WithField("peer", p.addr).Info("peer is back")
	}
}

// heardAt records that the peer has sent something.
func (p *peer) heardAt(now fdb.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.seen = now, true
}

// answered records what was wrong with an answer of the peer, if anything was,
// and whether that shows that it is at work.
func (p *peer) answered(seen bool, fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.fault = p.seen || seen, fault
}

// asking records that the peer is being asked for its table, from when on; zero
// ends that.
func (p *peer) asking(since fdb.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = since
}

// dumped records an attempt to take the peer's table.
func (p *peer) dumped(d Dump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dump = d
	p.dumps++
	if d.Err != nil {
		p.failures++
	}
}

// repaired records how many of the peer's entries were lacking here.
func (p *peer) repaired(differ int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.differ = differ
}

// States returns the state of each configured peer, in the order of
// Settings.Peers.
func (g *Group) States() []State {
	peers := *g.peers.Load()
	out := make([]State, len(peers))
	for i, p := range peers {
		out[i] = p.state(g.now())
	}
	return out
}

func (p *peer) state(now fdb.Time) State {
	waiting, all := p.backlog.size()
	p.mu.Lock()
	defer p.mu.Unlock()
	return State{
		Addr:              p.addr,
		Ours:              p.ours.Load(),
		Reachable:         p.reachable,
		Err:               p.err,
		Fault:             p.fault,
		Silent:            p.reachable && !p.seen,
		LastHeard:         p.heard,
		Queue:             len(p.queue.messages),
		Waiting:           waiting,
		All:               all,
		Relayed:           p.relayed.Load(),
		Dropped:           p.dropped.Load(),
		RelayErrors:       p.relayErrors.Load(),
		Loss:              p.lossLocked(now),
		Updates:           p.updates.Load(),
		UpdateConnections: p.updateConnections.Load(),
		UpdateErrors:      p.updateErrors.Load(),
		Dumps:             p.dumps,
		DumpErrors:        p.failures,
		LastDump:          p.dump,
		Asked:             p.asked,
		Refuses:           p.trust.away,
		Differ:            p.differ,
	}
}
