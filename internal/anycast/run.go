// SPDX-License-Identifier: Apache-2.0

package anycast

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"vxsnd/internal/logging"
)

const (
	// queue is the number of changes between netlink and Run.
	queue = 256

	// receiveBuffer is that of the subscription in bytes. When it overruns
	// (ENOBUFS) the subscription is made again, and everything looked at anew.
	receiveBuffer = 1 << 20

	// putBackBurst is how many times the address is put back at once; after
	// that once an interval, so that a program that removes it whenever it
	// comes does not keep routers busy.
	putBackBurst = 3
)

// Run puts the address on the interface at once, and keeps it there until ctx is
// done: it renews it, and puts it back when something else removes it, the
// interface going down among that. An operator's address is left alone, with
// nothing renewed; if it is removed, ours takes its place. Run leaves the
// address as it is when it returns: Withdraw does the rest.
//
// With each renewal healthy says why the node is not fit to serve, or nil. The
// address goes and comes back as Options.Rise and Fall say. healthy must return
// soon: while it does not, nothing is renewed and Run does not end, so the
// kernel removes the address. After that, and after the process was stopped,
// the address comes back as after bad results.
//
// What fails is logged, shown by State and tried again. The error is about
// netlink itself.
func (a *Address) Run(ctx context.Context, healthy func() error) error {
	s, err := openSite(a.o.Addr, a.o.VRF)
	if err != nil {
		return err
	}
	defer s.close()
	k := &keeper{
		Address: a,
		site:    s,
		healthy: healthy,
		putBack: rate.NewLimiter(rate.Every(a.interval), putBackBurst),
		health:  health{rise: a.o.Rise, fall: a.o.Fall},
	}
	return k.run(ctx)
}

// A keeper is the state of Run.
type keeper struct {
	*Address
	site    *site
	healthy func() error
	health  health
	last    Owner     // who last had the address; None once it was taken away
	renewed time.Time // when the lifetime last began
	putBack *rate.Limiter
	repeats logging.Limiter
}

func (k *keeper) run(ctx context.Context) error {
	tick := time.NewTicker(k.interval)
	defer tick.Stop()
	sub := k.subscribe(ctx)
	defer func() { sub.end() }()
	k.begin()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-sub.changes:
			if !ok {
				k.log.Debug("netlink subscription lost")
				sub.end()
				sub = subscription{}
			} else if k.concerns(u) {
				k.reconcile(false)
			}
		case <-tick.C:
			if sub.changes == nil {
				sub = k.subscribe(ctx)
			}
			k.check()
			k.reconcile(true)
			k.repeats.Flush()
		}
	}
}

// A subscription tells of changes of addresses, until it ends.
type subscription struct {
	changes chan netlink.AddrUpdate // nil: there is none, and receives block
	cancel  context.CancelFunc
}

// subscribe returns an empty subscription if it cannot be had: the changes are
// seen with the next renewal then.
func (k *keeper) subscribe(ctx context.Context) subscription {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan netlink.AddrUpdate, queue)
	err := netlink.AddrSubscribeWithOptions(changes, ctx.Done(), netlink.AddrSubscribeOptions{ReceiveBufferSize: receiveBuffer})
	if err != nil {
		cancel()
		k.log.WithError(err).Debug("no netlink subscription")
		return subscription{}
	}
	return subscription{changes, cancel}
}

// end waits for the goroutine behind the subscription.
func (s subscription) end() {
	if s.changes == nil {
		return
	}
	s.cancel()
	for range s.changes {
	}
}

// concerns tells whether a change calls for a look. Our own renewals do not.
func (k *keeper) concerns(u netlink.AddrUpdate) bool {
	return k.site.is(u.LinkAddress.IP) && !(u.NewAddr && ours(u.Flags, &u.LinkAddress))
}

// begin takes the first result as it is, and removes the route that a process
// which crashed during its stop has left.
func (k *keeper) begin() {
	err := k.healthy()
	k.health.up = err == nil
	k.noteHealth(err)
	if err != nil {
		k.log.WithError(err).Warn("not healthy: no service address")
	}
	k.reconcile(true)
	d, err := k.site.device()
	if err == nil {
		_, err = k.site.deleteRoute(k.site.route(d))
	}
	// Beside an operator's address the privilege may be missing.
	if err != nil && !(k.last == Operator && errors.Is(err, unix.EPERM)) {
		k.report(err)
	}
}

// check asks for the health.
func (k *keeper) check() {
	err := k.healthy()
	changed := k.health.take(err == nil)
	k.noteHealth(err)
	switch {
	case !changed:
	case err == nil:
		k.log.Info("healthy again")
	case k.State().Owner == Operator:
		k.log.WithError(err).Warn("not healthy, but the service address is an operator's and stays")
	default:
		k.log.WithError(err).Warn("not healthy: service address taken away")
	}
}

func (k *keeper) noteHealth(err error) {
	k.update(func(s *State) { s.Healthy, s.Health = k.health.up, err })
}

// reconcile makes the interface as it should be. It may be called at any time,
// and only with renew it touches what is right.
func (k *keeper) reconcile(renew bool) {
	err := k.try(renew)
	k.update(func(s *State) { s.Err = err })
	if err != nil {
		k.report(err)
	}
}

func (k *keeper) report(err error) {
	k.repeats.Do("error", func(count int) {
		k.log.WithError(err).WithField("count", count).Error("service address not as it should be")
	})
}

func (k *keeper) try(renew bool) error {
	d, err := k.site.device()
	if err != nil {
		k.setOwner(None)
		return err
	}
	owner, err := k.site.owner(d)
	if err != nil {
		return err
	}
	switch {
	case owner == Operator:
		if k.last != Operator {
			k.log.Info("service address is an operator's: used and left in place")
		}
		k.last = Operator
	case !k.health.up:
		if owner == Ours || k.last == Ours {
			owner, err = k.remove(d, owner)
		}
	case owner == None && k.last == Ours && time.Since(k.renewed) >= k.o.Lifetime:
		// What a process that was held up has missed, it has to make up for
		// before it is fit to serve.
		k.health.drop()
		k.update(func(s *State) { s.Healthy = false })
		k.log.WithField("interval", time.Since(k.renewed)).Warn("service address expired: it was not renewed in time")
		owner, err = k.remove(d, owner)
	case owner == None:
		if k.last != Ours || k.putBack.Allow() || renew {
			owner, err = k.install(d)
		}
	case renew:
		at := time.Now()
		if err = k.site.renew(d, k.o.Lifetime); err == nil {
			k.renewed, k.last = at, Ours
		}
	}
	k.setOwner(owner)
	if err == nil && !d.up && owner != None {
		return fmt.Errorf("%s is down", ifaceOf(k.o.VRF))
	}
	return err
}

// remove takes away what is left of the address, and returns whose there is.
func (k *keeper) remove(d device, owner Owner) (Owner, error) {
	if err := k.site.remove(d); err != nil {
		return owner, err
	}
	k.last = None
	return None, nil
}

// install puts the address where there was none, says why, and returns whose
// there is.
func (k *keeper) install(d device) (Owner, error) {
	at := time.Now() // before, since the process may be stopped at any point
	err := k.site.add(d, k.o.Lifetime)
	if errors.Is(err, unix.EEXIST) {
		return k.last, nil // somebody was faster; the next look shows who
	}
	if err != nil {
		return None, err
	}
	switch k.last {
	case Ours:
		k.warn("service address was removed by somebody else: put back")
	case Operator:
		k.warn("service address of the operator was removed: our own put in its place")
	default:
		k.log.Info("service address installed")
	}
	k.renewed, k.last = at, Ours
	return Ours, nil
}

// warn says what may repeat.
func (k *keeper) warn(message string) {
	k.repeats.Do(message, func(count int) { k.log.WithField("count", count).Warn(message) })
}
