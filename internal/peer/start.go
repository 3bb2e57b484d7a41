// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/vxfld"
)

// startUp asks peers for their table until that was had, and makes this node
// known to those that it did not ask.
func (g *Group) startUp(ctx context.Context) {
	timeout := time.AfterFunc(g.settings.Load().SyncTimeout, g.setSynced)
	defer timeout.Stop()
	s := starter{Group: g, met: make(map[*peer]bool)}
	tick := time.NewTicker(g.limits.again)
	defer tick.Stop()
	for {
		peers := slices.Clone(*g.peers.Load())
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		if !s.done {
			s.askAll(ctx, peers)
		}
		if ctx.Err() == nil {
			g.setSynced()
		}
		s.greet(ctx, peers)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A starter is what is known of the peers since the start.
type starter struct {
	*Group
	done bool
	met  map[*peer]bool // those that were asked or greeted, with success
}

// askAll asks peers in turn until enough of them gave a table. A table that is
// empty, or whose sender is not ready, is no reason not to ask the others; once
// all have given one, that is all there is.
func (s *starter) askAll(ctx context.Context, peers []*peer) {
	want := max(s.settings.Load().SyncTargets, 1)
	good, empty := 0, 0
	for _, p := range peers {
		if good == want || ctx.Err() != nil {
			break
		}
		entries, ready, err := s.fetch(ctx, p)
		switch {
		case err != nil:
		case entries > 0 && ready:
			good++
		case ready:
			empty++
		}
		if err == nil || errors.Is(err, errSilent) {
			s.met[p] = true
		}
	}
	s.done = good > 0 || len(peers) > 0 && empty == len(peers)
}

// fetch takes in the table of one peer.
func (s *starter) fetch(ctx context.Context, p *peer) (entries int, ready bool, err error) {
	begin := s.now()
	m, err := s.ask(ctx, p, vxfld.Sync{Response: vxfld.ResponseAll})
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	log := s.log.WithField("peer", p.addr)
	if err != nil {
		p.dumped(Dump{When: s.now(), Duration: s.now().Sub(begin), Err: err})
		s.repeats.Do("dump "+p.addr.String(), func(count int) {
			log.WithField("count", count).WithError(err).Warn("peer did not give its table")
		})
		return 0, false, err
	}
	s.take(m, p.addr.Addr(), true)
	now := s.now()
	p.dumped(Dump{When: now, Entries: m.Entries, Duration: now.Sub(begin)})
	log.WithFields(logrus.Fields{"count": m.Entries, "interval": now.Sub(begin), "ready": !m.NotReady}).Info("table of peer taken in")
	return m.Entries, !m.NotReady, nil
}

// greet makes this node known to the peers that it has not met yet: those of its
// kind answer, and from then on each may compare its table with the other's.
func (s *starter) greet(ctx context.Context, peers []*peer) {
	for p := range s.met {
		if !slices.Contains(peers, p) {
			delete(s.met, p)
		}
	}
	for _, p := range peers {
		if s.met[p] || p.ours.Load() {
			continue
		}
		_, err := s.ask(ctx, p, vxfld.Sync{})
		if ctx.Err() != nil {
			return
		}
		// Others say nothing, and may leave their end open for long.
		s.met[p] = err == nil || errors.Is(err, errSilent) || errors.Is(err, os.ErrDeadlineExceeded)
	}
}
