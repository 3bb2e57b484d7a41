// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/vxfld"
)

// An outcome is what was last had of a peer that was asked for its table.
type outcome uint8

const (
	untried  outcome = iota
	failed           // no table
	notReady         // a table of one that may lack members itself
	empty
	good
)

// A starter asks peers for their table until that was had, and makes this node
// known to those that it did not ask. It belongs to one goroutine.
type starter struct {
	*Group
	begin time.Time
	done  bool // no peer is asked any more
	good  int  // tables that count

	queue    []*peer             // those that are to be asked in this round
	open     map[*peer]*question // one at a time to a peer
	outcomes map[*peer]outcome
	met      map[*peer]bool // those that were asked or greeted, with success
	answers  chan answer
}

// A question is what one peer is being asked.
type question struct {
	peer   *peer
	table  bool         // for the table; else it is greeted
	begin  time.Time    // of the exchange
	heard  atomic.Int64 // the time from begin to the last byte of the answer
	slow   bool         // another peer was asked in its place
	cancel context.CancelFunc
}

// An answer is what came of a question.
type answer struct {
	*question
	outcome
	err            error
	entries, added int
	duration       time.Duration
}

// startUp asks peers for their table until that was had, and makes this node
// known to those that it did not ask.
func (g *Group) startUp(ctx context.Context) {
	s := &starter{
		Group: g, begin: time.Now(),
		open: make(map[*peer]*question), outcomes: make(map[*peer]outcome), met: make(map[*peer]bool),
		answers: make(chan answer),
	}
	timeout := time.NewTimer(g.settings.Load().SyncTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(g.limits.again)
	defer tick.Stop()
	s.round(ctx)
	for {
		late := s.proceed(ctx)
		select {
		case <-ctx.Done():
			for len(s.open) > 0 {
				delete(s.open, (<-s.answers).peer)
			}
			return
		case a := <-s.answers:
			s.close(ctx, a)
		case <-late:
		case <-timeout.C:
			s.wait(true)
		case <-tick.C:
			s.round(ctx)
		case <-s.renewed:
			timeout.Reset(time.Until(s.begin.Add(s.settings.Load().SyncTimeout)))
			s.renew()
		}
	}
}

// round begins to ask, or to greet, each peer that this is due for. The order is
// random, so that the peers share the work.
func (s *starter) round(ctx context.Context) {
	peers := slices.Clone(*s.peers.Load())
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	s.queue = s.queue[:0]
	for _, p := range peers {
		switch {
		case s.open[p] != nil:
		case !s.done:
			if p.trusted() {
				s.queue = append(s.queue, p)
			}
		case !s.met[p] && !p.ours.Load():
			s.put(ctx, p, false)
		}
	}
}

// renew forgets former peers, and has new ones asked in the round of now.
func (s *starter) renew() {
	peers := *s.peers.Load()
	former := func(p *peer) bool { return !slices.Contains(peers, p) }
	maps.DeleteFunc(s.outcomes, func(p *peer, _ outcome) bool { return former(p) })
	maps.DeleteFunc(s.met, func(p *peer, _ bool) bool { return former(p) })
	s.queue = slices.DeleteFunc(s.queue, former)
	for p, q := range s.open {
		if former(p) {
			q.cancel()
		}
	}
	for _, p := range peers {
		if !s.done && s.outcomes[p] == untried && s.open[p] == nil && !slices.Contains(s.queue, p) && p.trusted() {
			s.queue = append(s.queue, p)
		}
	}
}

// proceed asks as many peers as are needed, and finds out whether enough gave a
// table. A peer that is slow is asked on, and another in its place: what it
// returns tells when the next one will have been slow.
func (s *starter) proceed(ctx context.Context) (late <-chan time.Time) {
	if s.done {
		return nil
	}
	need := max(s.settings.Load().SyncTargets, 1) - s.good
	var waits []time.Duration // for those that are not slow
	for _, q := range s.open {
		if !q.table || q.slow {
			continue
		}
		if left := q.patience(s.limits); left > 0 {
			waits = append(waits, left)
		} else {
			q.slow = true
		}
	}
	for len(waits) < need && len(s.queue) > 0 {
		s.put(ctx, s.queue[0], true)
		s.queue = s.queue[1:]
		waits = append(waits, min(s.limits.lag, s.limits.long))
	}
	s.done = s.enough(len(waits) > 0)
	s.wait(false)
	if s.done {
		// Those that were not asked are greeted.
		s.round(ctx)
		return nil
	}
	if len(waits) == 0 {
		return nil
	}
	return time.After(slices.Min(waits))
}

// patience returns for how long from now the peer is not slow yet.
func (q *question) patience(l limits) time.Duration {
	return min(time.Duration(q.heard.Load())+l.lag, l.long) - time.Since(q.begin)
}

// enough tells whether there is no reason to ask any further peer. A table that
// is empty, or whose sender is not ready, is none not to ask the others; once
// all have given an empty one, that is all there is.
func (s *starter) enough(waiting bool) bool {
	if s.good >= max(s.settings.Load().SyncTargets, 1) {
		for _, q := range s.open {
			if q.table {
				q.cancel()
			}
		}
		return true
	}
	if s.good > 0 {
		return !waiting // the rest failed, or may take their time
	}
	peers, unresolved := s.known()
	return len(peers) > 0 && unresolved == 0 && !slices.ContainsFunc(peers, func(p *peer) bool { return s.outcomes[p] != empty })
}

// wait ends the wait for a table if it is time to: there is one, or all peers
// were tried, or the time is up.
func (s *starter) wait(timeout bool) {
	peers, unresolved := s.known()
	alone := len(peers)+unresolved == 0
	s.asking.Store(!s.done && !alone)
	tried := unresolved == 0 && !slices.ContainsFunc(peers, func(p *peer) bool { return s.outcomes[p] == untried })
	select {
	case <-s.synced:
		return
	default:
	}
	if !s.done && !tried && !timeout {
		return
	}
	asked, had := 0, false
	for _, p := range peers {
		had = had || s.outcomes[p] > failed
		if q := s.open[p]; s.outcomes[p] != untried || q != nil && q.table {
			asked++
		}
	}
	if !alone && !had {
		s.log.WithFields(logrus.Fields{"interval": time.Since(s.begin), "count": asked}).
			Warn("ready without the table of a peer")
	}
	s.setSynced()
}

// put begins to ask a peer for its table, or to greet it.
func (s *starter) put(ctx context.Context, p *peer, table bool) {
	ctx, cancel := context.WithCancel(ctx)
	q := &question{peer: p, table: table, begin: time.Now(), cancel: cancel}
	s.open[p] = q
	go func() {
		defer cancel()
		if table {
			s.answers <- s.fetch(ctx, q)
			return
		}
		_, err := s.ask(ctx, p, vxfld.Sync{})
		s.answers <- answer{question: q, err: err}
	}()
}

// fetch takes in the table of one peer.
func (s *starter) fetch(ctx context.Context, q *question) (a answer) {
	a.question = q
	q.peer.asking(s.now())
	defer q.peer.asking(0)
	m, err := s.askHearing(ctx, q.peer, vxfld.Sync{Response: vxfld.ResponseAll}, func() {
		q.heard.Store(int64(time.Since(q.begin)))
	})
	if err == nil {
		a.entries, a.added = m.Entries, s.take(m, q.peer.addr.Addr(), true)
	}
	a.duration = time.Since(q.begin)
	if ctx.Err() == nil || err == nil {
		q.peer.dumped(Dump{When: s.now(), Entries: a.entries, Duration: a.duration, Err: err})
	}
	switch a.err = err; {
	case err != nil:
		a.outcome = failed
	case m.NotReady:
		a.outcome = notReady
	case m.Entries == 0:
		a.outcome = empty
	default:
		a.outcome = good
	}
	return a
}

// close notes what came of a question.
func (s *starter) close(ctx context.Context, a answer) {
	p := a.peer
	delete(s.open, p)
	if errors.Is(a.err, context.Canceled) {
		return
	}
	if !a.table {
		// Others say nothing, and may leave their end open for long.
		s.met[p] = a.err == nil || errors.Is(a.err, errSilent) || errors.Is(a.err, os.ErrDeadlineExceeded)
		return
	}
	s.met[p] = a.err == nil
	before := s.outcomes[p]
	s.outcomes[p] = a.outcome
	log := s.log.WithField("peer", p.addr)
	if a.err != nil {
		s.repeats.Do("dump "+p.name, func(count int) {
			log.WithField("count", count).WithError(a.err).Warn("peer did not give its table")
		})
		return
	}
	if a.outcome == good {
		s.good++
	}
	level := logrus.DebugLevel
	if a.outcome != before || a.added > 0 {
		level = logrus.InfoLevel
	}
	log.WithFields(logrus.Fields{"count": a.entries, "interval": a.duration, "ready": a.outcome != notReady}).
		Log(level, "table of peer taken in")
}
