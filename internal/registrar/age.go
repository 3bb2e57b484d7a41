// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// patience is how long a service node may say nothing: as long as a registration
// lives, or would live by default if it never ages.
func patience(c *config.Config) time.Duration {
	if c.Holdtime >= config.HoldtimeStatic {
		return vxfld.HoldtimeDuration(vxfld.HoldtimeDefault)
	}
	return c.Holdtime
}

// age looks for lists that no answer came for in too long, says so once, and
// empties them where the configuration wants that. It returns when there may be
// another, zero for never.
func (r *Registrar) age(now time.Time, cfg *config.Config) (next time.Time) {
	if !cfg.HeadRep {
		return time.Time{}
	}
	hold := patience(cfg)
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if at := r.tellQuiet(now, hold); !at.IsZero() {
		sooner(at)
	}
	r.mu.Lock()
	said := r.silenceLocked(now, hold)
	expired := make(map[headend.Key][]netip.Addr)
	for _, e := range r.entries {
		l := &e.list
		if !l.stale(now, hold) {
			sooner(l.quiet().Add(hold))
			continue
		}
	}
	for _, es := range []map[vxlan.VNI]*entry{r.entries, r.waiting} {
		for _, e := range es {
			if cfg.StaleTime == 0 {
				break
			}
			var before []netip.Addr
			if r.monitors.any() {
				before = e.list.members()
			}
			changed, end := e.list.expire(now, max(hold, cfg.StaleTime))
			if changed {
				expired[e.Device] = e.list.members()
				r.tellMembers(e.Device, before, expired[e.Device], "the service nodes are silent for stale_time")
			}
			if !end.IsZero() {
				sooner(end)
			}
		}
	}
	if len(expired) > 0 {
		r.lists.Set(expired)
	}
	before := r.silent
	switch {
	case said.stale > 0:
		r.silent = true
		if !before {
			r.silentAt = now
		}
	case r.answered.After(r.silentAt): // else there was only less to ask for
		r.silent = false
	}
	answered := !r.answered.IsZero()
	r.mu.Unlock()

	switch {
	case r.silent && !before:
		said.log(r.log, now, answered)
	case !r.silent && before:
		r.log.Info("service nodes answer again")
	}
	if len(expired) > 0 {
		r.log.WithFields(logrus.Fields{"count": len(expired), "interval": cfg.StaleTime}).Warn("service nodes silent, their members removed")
	}
	return next
}

// log says that service nodes are silent. answered tells whether one ever spoke.
func (s *silence) log(log logrus.FieldLogger, now time.Time, answered bool) {
	log = log.WithFields(logrus.Fields{"count": s.stale, "interval": now.Sub(s.oldest.list.quiet()).Round(time.Second)})
	switch {
	case s.stale < s.all && s.members > 0:
		log.WithField("vni", s.oldest.VNI).Warn("service nodes silent about some vnis, their flood lists kept")
	case s.stale < s.all:
		log.WithField("vni", s.oldest.VNI).Warn("service nodes silent about some vnis")
	case s.members > 0:
		log.Warn("service nodes silent, flood lists kept")
	case answered:
		log.Warn("service nodes silent")
	default:
		log.Warn("no service node has answered")
	}
}
