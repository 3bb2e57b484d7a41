// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/vxlan"
)

const (
	// repeatAfter is when a change is said once more: a datagram may be lost.
	repeatAfter = time.Second

	// retryAfter is when a registration that could not be sent is tried again.
	retryAfter = 2 * time.Second

	// staticRound is the time between two rounds where registrations never age.
	staticRound = 30 * time.Second

	// leastRound bounds what holdtime and refresh_rate can ask for.
	leastRound = 100 * time.Millisecond

	// leaveTime bounds the withdrawal at a stop, and leavePause is the time between
	// its two times.
	leaveTime  = 2 * time.Second
	leavePause = 100 * time.Millisecond
)

// A schedule is what the loop has to do later. It belongs to the loop.
type schedule struct {
	round   time.Time // when everything is registered again
	repeats []repeat  // in order of time
	failed  map[route]error
	retry   time.Time // of failed
	aging   time.Time // when lists may turn stale; zero for never
}

// A repeat is a batch that is to be sent once more.
type repeat struct {
	at    time.Time
	batch *batch
}

// next returns when there is something to do.
func (s *schedule) next() time.Time {
	at := s.round
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if len(s.repeats) > 0 {
		sooner(s.repeats[0].at)
	}
	if len(s.failed) > 0 {
		sooner(s.retry)
	}
	sooner(s.aging)
	return at
}

// loop registers, in rounds and when something changes, until ctx is done.
func (r *Registrar) loop(ctx context.Context) {
	var s schedule
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.woken:
		case <-timer.C:
		}
		r.busy.touch()
		r.work(ctx, &s)
		r.repeats.Flush()
		r.busy.rest()
		if !s.round.IsZero() {
			timer.Reset(time.Until(s.next()))
		}
	}
}

// work does what is due.
func (r *Registrar) work(ctx context.Context, s *schedule) {
	now := time.Now()
	r.mu.Lock()
	n, cfg := r.news, r.cfg
	r.news.changed, r.news.configured, r.news.filled, r.news.believed = false, false, false, false
	r.mu.Unlock()
	if !n.listed || !n.addressed {
		return // nothing can be said yet
	}
	first := s.round.IsZero()
	round := first || n.configured || !now.Before(s.round)
	if round {
		r.peers.ask(&cfg)
	}
	if round = round || n.believed; round {
		s.round = now.Add(roundTime(&cfg))
	}
	if round || n.changed {
		r.register(ctx, s, &cfg, &n, round)
	}
	if round || n.changed || n.filled {
		r.lookForFlaws(&cfg, r.current(), round)
	}
	if first {
		r.logReady()
		close(r.ready)
	}
	for now = time.Now(); len(s.repeats) > 0 && !now.Before(s.repeats[0].at); s.repeats = s.repeats[1:] {
		b := s.repeats[0].batch.still(r.registration)
		s.fail(r.send(ctx, &cfg, r.identifier(), b))
	}
	if len(s.failed) > 0 && !now.Before(s.retry) {
		r.retry(ctx, s, &cfg)
	}
	s.aging = r.age(now, &cfg)
}

// fail notes the routes that a registration could not be sent on.
func (s *schedule) fail(failed map[route]error) {
	if len(failed) == 0 {
		return
	}
	if s.failed == nil {
		s.failed = make(map[route]error)
		s.retry = time.Now().Add(retryAfter)
	}
	maps.Copy(s.failed, failed)
}

// register makes a plan of what is there now, and says what is new, or all of it
// in a round.
func (r *Registrar) register(ctx context.Context, s *schedule, cfg *config.Config, n *news, round bool) {
	own := make(map[netip.Addr]struct{}, len(n.addresses))
	for _, a := range n.addresses {
		own[a] = struct{}{}
	}
	p := makePlan(&inputs{Devices: n.devices, Own: own, Config: cfg, Source: func(to netip.Addr) (netip.Addr, error) {
		return r.devices.Source(to, cfg.VRF)
	}})
	before := r.enforce(p, own, cfg)
	if s := p.nothing(); s != nil && before.nothing() == nil {
		r.log.WithFields(s.fields()).WithField("count", len(p.Skipped)).Warn("no vni is registered")
	}
	r.logSkips(before, p)
	b := changes(before.Register, p.Register)
	if !b.empty() {
		r.log.WithFields(logrus.Fields{"count": len(p.Register), "skipped": len(p.Skipped)}).Debug("vxlans to register changed")
		r.logChanges(b)
		s.repeats = append(s.repeats, repeat{time.Now().Add(repeatAfter), b})
	}
	if round {
		all := everything(p.Register)
		all.Withdraw = b.Withdraw
		b = all
		s.failed = nil // they are among all
	}
	s.fail(r.send(ctx, cfg, r.identifier(), b))
}

// retry sends what could not be sent before.
func (r *Registrar) retry(ctx context.Context, s *schedule, cfg *config.Config) {
	r.mu.Lock()
	b := everything(r.plan.Register)
	r.mu.Unlock()
	for at := range b.Register {
		if _, ok := s.failed[at]; !ok {
			delete(b.Register, at)
		}
	}
	s.failed = nil
	s.fail(r.send(ctx, cfg, r.identifier(), b))
}

// current returns the plan in force, which is never changed.
func (r *Registrar) current() *plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan
}

// registration returns what a VNI registers, nil if nothing.
func (r *Registrar) registration(vni vxlan.VNI) *registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[vni]; e != nil {
		return e.registration
	}
	return nil
}

// identifier returns that of registrations, 0 while there is none.
func (r *Registrar) identifier() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// roundTime is the time to the next round: holdtime / refresh_rate, give or take a
// tenth, so that machines that start together do not go on together, and always
// before the registrations of this round are over.
func roundTime(c *config.Config) time.Duration {
	d := c.Holdtime / time.Duration(c.RefreshRate)
	if c.Holdtime >= config.HoldtimeStatic {
		d = staticRound
	}
	d = time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
	return max(min(d, c.Holdtime*9/10), leastRound)
}

// withdrawAll withdraws everything that is registered, twice, since a datagram
// may be lost.
func (r *Registrar) withdrawAll() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	r.mu.Lock()
	b, cfg, id := changes(r.plan.Register, nil), r.cfg, r.id
	r.mu.Unlock()
	if b.empty() {
		return
	}
	r.send(ctx, &cfg, id, b)
	select {
	case <-ctx.Done():
	case <-time.After(leavePause):
	}
	r.send(ctx, &cfg, id, b)
}
