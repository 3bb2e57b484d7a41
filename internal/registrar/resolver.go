// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
)

// lookupTime bounds one look at one name.
const lookupTime = 5 * time.Second

// A resolver knows the addresses of svcnode_peers. It looks names up in the
// background, so that nobody waits for it. It may be used concurrently.
type resolver struct {
	log    logrus.FieldLogger
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	asked  chan []config.Peer // holds the newest request
	addrs  atomic.Pointer[map[netip.Addr]struct{}]
}

func newResolver(log logrus.FieldLogger) *resolver {
	return &resolver{
		log: log.WithField("task", "resolver"), asked: make(chan []config.Peer, 1),
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

// ask has the peers of a configuration looked up, if it makes use of them. It is
// called by one goroutine at a time.
func (s *resolver) ask(c *config.Config) {
	var peers []config.Peer
	if c.AnswerFrom.Service {
		peers = c.SvcnodePeers
	}
	select {
	case <-s.asked:
	default:
	}
	s.asked <- peers
}

// run looks up what it is asked for until ctx is done. What a name last resolved
// to stays while it does not resolve.
func (s *resolver) run(ctx context.Context) error {
	found := make(map[string][]netip.Addr)
	for {
		var peers []config.Peer
		select {
		case <-ctx.Done():
			return nil
		case peers = <-s.asked:
		}
		addrs := make(map[netip.Addr]struct{})
		last := found
		found = make(map[string][]netip.Addr)
		for _, p := range peers {
			if p.Addr.IsValid() {
				addrs[p.Addr] = struct{}{}
				continue
			}
			found[p.Host] = s.resolve(ctx, p.Host, last)
			for _, a := range found[p.Host] {
				addrs[a.Unmap().WithZone("")] = struct{}{}
			}
		}
		s.addrs.Store(&addrs)
	}
}

// resolve looks up one name. A name that begins not to resolve is a warning.
func (s *resolver) resolve(ctx context.Context, host string, last map[string][]netip.Addr) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, err := s.lookup(ctx, host)
	if err == nil {
		return addrs
	}
	before, known := last[host]
	if log := s.log.WithField("peer", host).WithError(err); !known || len(before) > 0 {
		log.Warn("peer name does not resolve, trying again")
	}
	return before
}
