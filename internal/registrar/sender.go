// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
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

// unsent is what of a batch the kernel did not take.
type unsent struct {
	failed map[route]error       // registrations
	unsaid map[route][]vxlan.VNI // withdrawals
}

// send sends a batch, until ctx is done, with a pause after each burst. It
// returns what the kernel did not take.
func (r *Registrar) send(ctx context.Context, cfg *config.Config, id uint64, b *batch) unsent {
	u := unsent{make(map[route]error), make(map[route][]vxlan.VNI)}
	s := &sender{Registrar: r, ctx: ctx, cfg: cfg, id: id}
	for _, at := range slices.SortedFunc(maps.Keys(b.Withdraw), route.compare) {
		head := vxfld.Refresh{Originator: true, Holdtime: vxfld.HoldtimeWithdraw, Identifier: id}
		if s.pack(at, b.Withdraw[at], head) != nil {
			u.unsaid[at] = b.Withdraw[at]
		}
	}
	head := vxfld.Refresh{Originator: true, Holdtime: vxfld.HoldtimeOf(holdtime(cfg.Holdtime)), Identifier: id}
	if cfg.HeadRep {
		head.Response = vxfld.ResponseRequested
	}
	for _, at := range slices.SortedFunc(maps.Keys(b.Register), route.compare) {
		err := s.pack(at, b.Register[at], head)
		r.registered(at, b.Register[at], time.Now(), err)
		if err != nil {
			u.failed[at] = err
		}
	}
	return u
}

// pack sends messages with this head and these VNIs, and returns why the kernel
// did not take one of them, or that the time is up.
func (s *sender) pack(at route, vnis []vxlan.VNI, head vxfld.Refresh) error {
	var refused error
	emit := func(msg []byte) error {
		if err := s.wait(); err != nil {
			return err
		}
		if err := s.write(msg, at); err != nil {
			refused = err
		}
		return nil
	}
	p, err := vxfld.NewPacker(vxfld.V3, head, s.cfg.MaxPacketSize-vxfld.Overhead)
	if err != nil {
		panic("registrar: " + err.Error())
	}
	local := []netip.Addr{at.Local}
	for _, v := range vnis {
		if err := p.Add(vxfld.VNIMembers{VNI: v, Addrs: local}, emit); err != nil {
			return err
		}
	}
	return cmp.Or(p.Flush(emit), refused)
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

// source is the address that a message goes from, zero for that of the route. It
// is the local address that it is about: an underlay may have a route back to that
// one alone. A withdrawal may be about one that has left this machine.
func (s *sender) source(at route) netip.Addr {
	if !s.cfg.SrcIP.IsUnspecified() {
		return s.cfg.SrcIP
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.own[at.Local]; !ok {
		return netip.Addr{}
	}
	return at.Local
}

// write sends one message.
func (s *sender) write(msg []byte, at route) error {
	from := s.source(at)
	err := s.conn.WriteTo(msg, netip.AddrPortFrom(at.Node, s.cfg.VxfldPort), from)
	if err == nil {
		s.sends.Add(1)
		return nil
	}
	s.sendErrors.Add(1)
	s.repeats.Do("send "+at.Node.String(), func(count int) {
		s.log.WithFields(logrus.Fields{"peer": at.Node, "local": from, "count": count}).WithError(err).Warn("registration not sent")
	})
	return err
}

// registered notes that VNIs were registered, or why they could not be.
func (r *Registrar) registered(at route, vnis []vxlan.VNI, now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range vnis {
		if e := r.entries[v]; e != nil {
			r.tellSentLocked(e, err)
		}
	}
	if err != nil {
		r.refused[at] = err
		return
	}
	delete(r.refused, at)
	r.lastSent = now
	r.askedLocked(at.Node, now)
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
