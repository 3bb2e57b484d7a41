// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
)

const (
	// resolveAgain is the time between two looks at the names of peers.
	resolveAgain = 60 * time.Second
	// resolveSoon is that time while a name does not resolve.
	resolveSoon = 10 * time.Second
	// resolveTimeout bounds one look at one name: two tries of 5 seconds at each of
	// three name servers (resolv.conf(5)).
	resolveTimeout = 30 * time.Second
	// maxLookups bounds the looks at names at a time.
	maxLookups = 64
)

// errUnknown says that a name is looked up for the first time.
var errUnknown = errors.New("is being looked up")

// A guard keeps the set of addresses that get no copies and may not send: this
// machine's own, the service address, and other service nodes. It is safe for
// concurrent use.
type guard struct {
	table *fdb.Table
	log   logrus.FieldLogger
	// lookup resolves a host name.
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu      sync.Mutex // guards what follows, and the order of calls to the table
	own     []netip.Addr
	service []netip.Addr // svcnode_ip, src_ip
	peers   []config.Peer
	proxies []config.Peer
	found   map[string][]netip.Addr // what host names resolved to
	failed  map[string]error        // why host names do not resolve now
	isPeers map[netip.Addr]struct{} // all addresses of peers
	allow   []netip.Prefix          // peer_allow
	seen    map[netip.Addr]struct{} // of those, who has spoken as a service node does

	changed chan struct{} // holds a value when there are other names to resolve
	updated chan struct{} // holds a value when the addresses of peers may be others
}

// maxSeen bounds the service nodes that are known by what they sent.
const maxSeen = 1024

func newGuard(c *config.Config, t *fdb.Table, log logrus.FieldLogger) *guard {
	g := &guard{
		table: t, log: log,
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		found:   make(map[string][]netip.Addr),
		failed:  make(map[string]error),
		seen:    make(map[netip.Addr]struct{}),
		changed: make(chan struct{}, 1),
		updated: make(chan struct{}, 1),
	}
	for _, a := range []netip.Addr{c.SvcnodeIP, c.SrcIP} {
		if !a.IsUnspecified() {
			g.service = append(g.service, a)
		}
	}
	g.configure(c)
	return g
}

// configure takes the peers and proxies of a configuration. Names that it has
// in common with the one before stay what they resolved to.
func (g *guard) configure(c *config.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peers, g.proxies, g.allow = c.SvcnodePeers, c.Tiers.ProxyServers, c.PeerAllow
	maps.DeleteFunc(g.seen, func(a netip.Addr, _ struct{}) bool { return !g.allowsLocked(a) })
	names := g.namesLocked()
	maps.DeleteFunc(g.found, func(host string, _ []netip.Addr) bool { return !slices.Contains(names, host) })
	maps.DeleteFunc(g.failed, func(host string, _ error) bool { return !slices.Contains(names, host) })
	g.excludeLocked()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// namesLocked returns the host names among peers and proxies, each once.
func (g *guard) namesLocked() []string {
	var names []string
	for _, p := range slices.Concat(g.peers, g.proxies) {
		if !p.Addr.IsValid() && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
	}
	return names
}

// setOwn takes this machine's addresses.
func (g *guard) setOwn(own []netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = own
	g.excludeLocked()
}

// isPeer tells whether a is the address of a configured peer.
func (g *guard) isPeer(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.isPeers[a]
	return ok
}

// believes tells whether what a says about other nodes' members is taken: it
// is a configured peer, or peer_allow names it.
func (g *guard) believes(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.isPeers[a]
	return ok || g.allowsLocked(a)
}

func (g *guard) allowsLocked(a netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// see counts a, which is believed and has spoken as a service node does, among
// the service nodes: it gets no copies.
func (g *guard) see(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, peer := g.isPeers[a]
	_, seen := g.seen[a]
	if peer || seen || len(g.seen) >= maxSeen || !g.allowsLocked(a) {
		return
	}
	g.seen[a] = struct{}{}
	g.excludeLocked()
}

// peerAddrs returns the addresses of the configured peers, without this node's
// own, and how many peers have a name that has not resolved yet.
func (g *guard) peerAddrs() (addrs []netip.AddrPort, unresolved int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.peers {
		if !g.isKnownLocked(p) {
			unresolved++
		}
		for _, a := range g.addrsLocked(p) {
			if !g.isOwnLocked(a) {
				addrs = append(addrs, netip.AddrPortFrom(a, p.Port))
			}
		}
	}
	return addrs, unresolved
}

// isKnownLocked tells whether the addresses of p are known.
func (g *guard) isKnownLocked(p config.Peer) bool {
	_, resolved := g.found[p.Host]
	return p.Addr.IsValid() || resolved
}

// isOwnLocked tells whether a is an address of this node, which is no peer of
// itself.
func (g *guard) isOwnLocked(a netip.Addr) bool {
	return slices.Contains(g.own, a) || slices.Contains(g.service, a)
}

// others returns the configured peers without those that are this node itself.
func (g *guard) others() []config.Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []config.Peer
	for _, p := range g.peers {
		addrs := g.addrsLocked(p)
		if len(addrs) == 0 || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !g.isOwnLocked(a) }) {
			out = append(out, p)
		}
	}
	return out
}

// names returns the configured name of each address of a peer that has one, and
// why the names that do not resolve now do not.
func (g *guard) names() (names map[netip.AddrPort]string, failed map[string]error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	names, failed = make(map[netip.AddrPort]string), make(map[string]error)
	for _, p := range g.peers {
		if p.Addr.IsValid() {
			continue
		}
		if !g.isKnownLocked(p) {
			failed[p.Host] = errUnknown
		}
		for _, a := range g.addrsLocked(p) {
			names[netip.AddrPortFrom(a, p.Port)] = p.Host
		}
		if err := g.failed[p.Host]; err != nil {
			failed[p.Host] = err
		}
	}
	return names, failed
}

// whose says in words whose address a is, which the table excludes as e.
func (g *guard) whose(a netip.Addr, e fdb.Exclusion) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	named := func(ps []config.Peer) (string, bool) {
		for _, p := range ps {
			if slices.Contains(g.addrsLocked(p), a) {
				return p.String(), true
			}
		}
		return "", false
	}
	if slices.Contains(g.service, a) {
		return "the address of this service node"
	}
	if slices.Contains(g.own, a) {
		return "an address of this machine"
	}
	if p, ok := named(g.peers); ok {
		return "peer " + p
	}
	if p, ok := named(g.proxies); ok {
		return "proxy " + p
	}
	if e == fdb.ExcludedDenied {
		return "a denied address"
	}
	return "a service node, by what it sent"
}

// excludeLocked hands the table the whole set. mu is held over it, so that
// the last set wins.
func (g *guard) excludeLocked() {
	set := make(map[netip.Addr]fdb.Exclusion)
	g.isPeers = make(map[netip.Addr]struct{})
	for _, p := range g.peers {
		for _, a := range g.addrsLocked(p) {
			g.isPeers[a] = struct{}{}
			set[a] = fdb.ExcludedService
		}
	}
	for _, p := range g.proxies {
		for _, a := range g.addrsLocked(p) {
			set[a] = fdb.ExcludedService
		}
	}
	for a := range g.seen {
		set[a] = fdb.ExcludedService
	}
	for _, a := range g.own {
		set[a] = fdb.ExcludedOwn
	}
	for _, a := range g.service {
		set[a] = fdb.ExcludedService
	}
	g.table.Exclude(set)
	select {
	case g.updated <- struct{}{}:
	default:
	}
}

func (g *guard) addrsLocked(p config.Peer) []netip.Addr {
	if p.Addr.IsValid() {
		return []netip.Addr{p.Addr}
	}
	return g.found[p.Host]
}

// resolve looks the host names of peers and proxies up, again and again, until
// ctx is done: each by itself, since a name that takes long must not hold up the
// others. A name that does not resolve is a warning; what it last resolved to
// stays. A change of the configuration has all of them looked up at once.
func (g *guard) resolve(ctx context.Context) error {
	slots := make(chan struct{}, maxLookups)
	for ctx.Err() == nil {
		select {
		case <-g.changed: // what it is about is read below
		default:
		}
		g.mu.Lock()
		names := g.namesLocked()
		g.mu.Unlock()
		turn, stop := context.WithCancel(ctx)
		var wait sync.WaitGroup
		for _, host := range names {
			wait.Go(func() { g.follow(turn, host, slots) })
		}
		select {
		case <-ctx.Done():
		case <-g.changed:
		}
		stop()
		wait.Wait()
	}
	return nil
}

// follow looks a name up until ctx is done. slots has room for those that are
// looked up at a time.
func (g *guard) follow(ctx context.Context, host string, slots chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		addrs, err := g.find(ctx, host)
		<-slots
		if ctx.Err() != nil {
			return
		}
		g.resolved(host, addrs, err)
		wait := resolveAgain
		if err != nil {
			wait = resolveSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (g *guard) find(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return g.lookup(ctx, host)
}

// resolved takes what a look at a name brought, and logs what is other than
// before.
func (g *guard) resolved(host string, addrs []netip.Addr, err error) {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap().WithZone("")
	}
	slices.SortFunc(addrs, netip.Addr.Compare) // resolvers give them in turn
	addrs = slices.Compact(addrs)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.namesLocked(), host) {
		return // it has been taken off meanwhile
	}
	log := g.log.WithField("peer", host)
	before, known := g.found[host]
	failed := g.failed[host] != nil
	if err != nil {
		g.failed[host] = err
		if !failed {
			log.WithError(err).Warn("peer name does not resolve, trying again")
		}
		return
	}
	delete(g.failed, host)
	same := known && slices.Equal(before, addrs)
	log = log.WithField("to", someVTEPs(addrs))
	if known {
		log = log.WithField("from", someVTEPs(before))
	}
	switch {
	case failed:
		log.Info("peer name resolves now")
	case known && !same:
		log.Info("peer name has other addresses")
	}
	if !same {
		g.found[host] = addrs
		g.excludeLocked()
	}
}
