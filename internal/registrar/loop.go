// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	unsaid  map[withdrawal]time.Time // that could not be sent, until nobody holds the registration any more
	retry   time.Time                // of failed and unsaid
	aging   time.Time                // when lists may turn stale; zero for never
}

// A repeat is a batch that is to be sent once more.
type repeat struct {
	at    time.Time
	batch *batch
}

// A withdrawal is that of one VNI.
type withdrawal struct {
	route
	vni vxlan.VNI
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
	if s.pending() {
		sooner(s.retry)
	}
	sooner(s.aging)
	return at
}

// loop registers, in rounds and when something changes, until ctx is done. It
// returns what could not be withdrawn.
func (r *Registrar) loop(ctx context.Context) *batch {
	var s schedule
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.withdrawals()
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
		s.fail(&cfg, r.send(ctx, &cfg, r.identifier(), b))
	}
	if s.pending() && !now.Before(s.retry) {
		r.retry(ctx, s, &cfg)
	}
	s.aging = r.age(now, &cfg)
}

// pending tells whether there is something to try again.
func (s *schedule) pending() bool { return len(s.failed)+len(s.unsaid) > 0 }

// fail notes what could not be sent.
func (s *schedule) fail(cfg *config.Config, u unsent) {
	now := time.Now()
	if !s.pending() {
		s.retry = now.Add(retryAfter)
	}
	for at, err := range u.failed {
		if s.failed == nil {
			s.failed = make(map[route]error)
		}
		s.failed[at] = err
	}
	for at, vnis := range u.unsaid {
		if s.unsaid == nil {
			s.unsaid = make(map[withdrawal]time.Time)
		}
		for _, v := range vnis {
			s.unsaid[withdrawal{at, v}] = now.Add(cfg.Holdtime)
		}
	}
}

// withdrawals are those that could not be sent.
func (s *schedule) withdrawals() *batch {
	b := newBatch()
	for w := range s.unsaid {
		b.Withdraw[w.route] = append(b.Withdraw[w.route], w.vni)
	}
	for _, vnis := range b.Withdraw {
		slices.Sort(vnis)
	}
	return b
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
	r.identify(cfg, p)
	r.refuse(own)
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
	s.fail(cfg, r.send(ctx, cfg, r.identifier(), b))
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
	now := time.Now()
	maps.DeleteFunc(s.unsaid, func(_ withdrawal, until time.Time) bool { return !now.Before(until) })
	b.Withdraw = s.withdrawals().still(r.registration).Withdraw
	before := s.unsaid
	s.failed, s.unsaid = nil, nil
	s.fail(cfg, r.send(ctx, cfg, r.identifier(), b))
	for w := range s.unsaid {
		s.unsaid[w] = before[w]
	}
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

// withdrawAll withdraws everything that is registered, and what is left to be
// withdrawn, twice, since a datagram may be lost.
func (r *Registrar) withdrawAll(left *batch) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	r.mu.Lock()
	b, cfg, id := changes(r.plan.Register, nil), r.cfg, r.id
	for _, e := range r.entries {
		r.tellGoneLocked(e, "vxrd stops")
	}
	r.mu.Unlock()
	for at, vnis := range left.still(r.registration).Withdraw {
		b.Withdraw[at] = append(b.Withdraw[at], vnis...)
	}
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
