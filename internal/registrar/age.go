// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/vxfld"
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
	r.mu.Lock()
	stale, all, oldest := 0, len(r.entries), (*entry)(nil)
	emptied := make(map[headend.Key][]netip.Addr)
	for _, e := range r.entries {
		l := &e.list
		switch {
		case !l.stale(now, hold):
			sooner(l.heard.Add(hold))
			continue
		case cfg.StaleTime == 0:
		case now.Sub(l.heard) < cfg.StaleTime:
			sooner(l.heard.Add(cfg.StaleTime))
		case l.empty():
			emptied[e.Device] = nil
		}
		stale++
		if oldest == nil || l.heard.Before(oldest.list.heard) {
			oldest = e
		}
	}
	if len(emptied) > 0 {
		r.lists.Set(emptied)
	}
	before := r.silent
	r.silent = stale > 0
	log := r.log.WithField("count", stale)
	if oldest != nil {
		log = log.WithFields(logrus.Fields{"vni": oldest.VNI, "interval": now.Sub(oldest.list.heard).Round(time.Second)})
	}
	r.mu.Unlock()

	switch {
	case stale > 0 && !before && stale == all:
		log.Warn("service nodes silent, flood lists kept")
	case stale > 0 && !before:
		log.Warn("service nodes silent about some vnis, their flood lists kept")
	case stale == 0 && before:
		log.Info("service nodes answer again")
	}
	if len(emptied) > 0 {
		r.log.WithFields(logrus.Fields{"count": len(emptied), "interval": cfg.StaleTime}).Warn("service nodes silent, flood lists emptied")
	}
	return next
}
