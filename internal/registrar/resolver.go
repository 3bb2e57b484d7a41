// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/config"
)

const (
	// lookupTime bounds one look at one name.
	lookupTime = 5 * time.Second

	// maxLookups bounds the names that are looked up at the same time.
	maxLookups = 16
)

// A resolver knows the addresses of svcnode_peers. It looks names up in the
// background, so that nobody waits for it. It may be used concurrently.
type resolver struct {
	log    logrus.FieldLogger
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	grown  func()        // called when a name has got an address; nil for nobody
	asked  chan struct{} // holds a value when names are to be looked up
	addrs  atomic.Pointer[map[netip.Addr]struct{}]

	mu     sync.Mutex // guards what follows
	peers  []config.Peer
	found  map[string][]netip.Addr // of the names of peers: what they last resolved to
	failed map[string]struct{}     // of these names, those that do not resolve
}

func newResolver(log logrus.FieldLogger) *resolver {
	return &resolver{
		log: log.WithField("task", "resolver"), asked: make(chan struct{}, 1),
		found: make(map[string][]netip.Addr), failed: make(map[string]struct{}),
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
}

// has tells whether an address is one of a peer.
func (s *resolver) has(a netip.Addr) bool {
	m := s.addrs.Load()
	if m == nil {
		return false
	}
	_, ok := (*m)[a]
	return ok
}

// ask has the peers of a configuration looked up, if it makes use of them. What is
// known of them without that counts at once.
func (s *resolver) ask(c *config.Config) {
	s.mu.Lock()
	s.peers = nil
	if c.HeadRep && c.AnswerFrom.Service {
		s.peers = c.SvcnodePeers
	}
	names := make(map[string]struct{})
	for _, p := range s.peers {
		names[p.Host] = struct{}{}
	}
	gone := func(host string) bool { _, ok := names[host]; return !ok }
	maps.DeleteFunc(s.found, func(host string, _ []netip.Addr) bool { return gone(host) })
	maps.DeleteFunc(s.failed, func(host string, _ struct{}) bool { return gone(host) })
	s.publishLocked()
	s.mu.Unlock()
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// publishLocked makes what is known of the peers their addresses, and tells
// whether there is a new one among them.
func (s *resolver) publishLocked() (grown bool) {
	addrs := make(map[netip.Addr]struct{})
	for _, p := range s.peers {
		if p.Addr.IsValid() {
			addrs[p.Addr] = struct{}{}
		}
		for _, a := range s.found[p.Host] {
			addrs[a.Unmap().WithZone("")] = struct{}{}
		}
	}
	for a := range addrs {
		grown = grown || !s.has(a)
	}
	s.addrs.Store(&addrs)
	return grown
}

// run looks up what it is asked for until ctx is done.
func (s *resolver) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.asked:
		}
		s.mu.Lock()
		peers := s.peers
		s.mu.Unlock()
		var g errgroup.Group
		g.SetLimit(maxLookups)
		for _, p := range peers {
			if !p.Addr.IsValid() {
				g.Go(func() error {
					s.resolve(ctx, p.Host)
					return nil
				})
			}
		}
		_ = g.Wait() // there are no errors
	}
}

// resolve looks up one name, which has what it last resolved to while it does
// not. That it begins not to resolve is a warning.
func (s *resolver) resolve(ctx context.Context, host string) {
	limited, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := s.lookup(limited, host)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	_, before := s.failed[host]
	grown := false
	if err != nil {
		s.failed[host] = struct{}{}
	} else {
		delete(s.failed, host)
		s.found[host] = addrs
		grown = s.publishLocked()
	}
	s.mu.Unlock()
	if err != nil && !before {
		s.log.WithField("peer", host).WithError(err).Warn("peer name does not resolve, trying again")
	}
	if grown && s.grown != nil {
		s.grown()
	}
}
