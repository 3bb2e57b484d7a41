// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// burst is how many messages are sent between two pauses: as many as deployed
	// daemons send at once.
	burst = 32

	// pause is the time between two bursts, which leaves a service node the time
	// to read them.
	pause = 20 * time.Millisecond
)

// A sender sends one batch.
type sender struct {
	*Registrar
	ctx  context.Context
	cfg  *config.Config
	id   uint64
	sent int // messages
}

// send sends a batch, until ctx is done, with a pause after each burst. It
// returns the routes whose registrations the kernel did not take.
func (r *Registrar) send(ctx context.Context, cfg *config.Config, id uint64, b *batch) (failed map[route]struct{}) {
	s := &sender{Registrar: r, ctx: ctx, cfg: cfg, id: id}
	for _, at := range slices.SortedFunc(maps.Keys(b.Withdraw), route.compare) {
		s.pack(at, b.Withdraw[at], vxfld.Refresh{Originator: true, Holdtime: vxfld.HoldtimeWithdraw, Identifier: id})
	}
	head := vxfld.Refresh{Originator: true, Holdtime: vxfld.HoldtimeOf(holdtime(cfg.Holdtime)), Identifier: id}
	if cfg.HeadRep {
		head.Response = vxfld.ResponseRequested
	}
	for _, at := range slices.SortedFunc(maps.Keys(b.Register), route.compare) {
		if s.pack(at, b.Register[at], head) {
			r.registered(b.Register[at], time.Now())
			continue
		}
		if failed == nil {
			failed = make(map[route]struct{})
		}
		failed[at] = struct{}{}
	}
	return failed
}

// pack sends messages with this head and these VNIs, and tells whether the
// kernel took them all.
func (s *sender) pack(at route, vnis []vxlan.VNI, head vxfld.Refresh) (ok bool) {
	ok = true
	emit := func(msg []byte) error {
		if err := s.wait(); err != nil {
			return err
		}
		ok = s.write(msg, at) && ok
		return nil
	}
	p, err := vxfld.NewPacker(vxfld.V3, head, s.cfg.MaxPacketSize-vxfld.Overhead)
	if err != nil {
		panic("registrar: " + err.Error())
	}
	local := []netip.Addr{at.Local}
	for _, v := range vnis {
		if p.Add(vxfld.VNIMembers{VNI: v, Addrs: local}, emit) != nil {
			return false // the time is up
		}
	}
	return p.Flush(emit) == nil && ok
}

// wait makes the pause that is due, and returns an error if the time is up.
func (s *sender) wait() error {
	s.busy.touch()
	if s.sent > 0 && s.sent%burst == 0 {
		select {
		case <-s.ctx.Done():
		case <-time.After(pause):
		}
	}
	s.sent++
	return s.ctx.Err()
}

// write sends one message, and tells whether the kernel took it. It goes from
// the local address that it is about: an underlay may have a route back to that
// one alone.
func (s *sender) write(msg []byte, at route) bool {
	from := at.Local
	if !s.cfg.SrcIP.IsUnspecified() {
		from = s.cfg.SrcIP
	}
	err := s.conn.WriteTo(msg, netip.AddrPortFrom(at.Node, s.cfg.VxfldPort), from)
	if err == nil {
		s.sends.Add(1)
		return true
	}
	s.sendErrors.Add(1)
	s.repeats.Do("send "+at.Node.String(), func(count int) {
		s.log.WithFields(logrus.Fields{"peer": at.Node, "local": from, "count": count}).WithError(err).Warn("registration not sent")
	})
	return false
}

// registered notes that VNIs were registered.
func (r *Registrar) registered(vnis []vxlan.VNI, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastSent = now
	for _, v := range vnis {
		if e := r.entries[v]; e != nil {
			e.sent = now
		}
	}
}

// holdtime is the time that a registration lives, the longest Duration for ever.
func holdtime(d time.Duration) time.Duration {
	if d >= config.HoldtimeStatic {
		return static
	}
	return d
}
