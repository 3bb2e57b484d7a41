// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// pathSettle is how long changes are collected before they are told.
	pathSettle = 5 * time.Millisecond

	// pathRest is how long nothing is asked after a round of questions, as a
	// multiple of how long that took: a quarter of one CPU goes there at most,
	// however fast routes change.
	pathRest = 3

	// pathTick is how often neighbours that do not resolve are asked for again.
	pathTick = time.Second

	// comparePaths bounds for how long a way may be wrong by what the kernel does
	// not tell, such as an MTU found on the way, or a sysctl(8) that was set.
	comparePaths = 10 * time.Second
)

// pathGroups are what the kernel tells of that ways depend on. The kernel says
// nothing of routes that go with an address or a device, so these are among them.
var pathGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_NEXTHOP, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_NETCONF,
}

// Run follows the kernel until ctx is done, then returns nil. It calls changed
// with the ways that are others than it told last, a few milliseconds after the
// kernel knows of them; the map belongs to changed. The way to an address that was
// wanted only now is not told while it is PathPending; one that was told is, as soon
// as the next hop has to be resolved: the old one may have gone.
//
// It calls devices with what Devices returns whenever that has changed, after the
// ways by these were told, and when any device has gone; the slice belongs to devices.
//
// Neighbours that ways need are resolved, and probed when they are stale, as if
// packets were sent to them. Run returns an error where that is not permitted.
func (p *Paths) Run(ctx context.Context, changed func(map[netip.Addr]Path), devices func([]PathDevice)) error {
	if err := p.u.feed.subscribe(pathGroups...); err != nil {
		return fmt.Errorf("follow paths: %w", err)
	}
	f := newPathFollower(p, changed, devices)
	// The socket is read while the kernel answers questions, lest it overruns.
	news := make(chan []byte, 256)
	g, ctx := errgroup.WithContext(ctx)
	policies := make(chan struct{}, 1)
	g.Go(func() error { return p.read(ctx, news) })
	g.Go(func() error {
		return p.policies.follow(ctx, func() {
			select {
			case policies <- struct{}{}:
			default:
			}
		})
	})
	g.Go(func() error { return f.run(ctx, news, policies) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("follow paths: %w", err)
	}
	return nil
}

// read hands on what the kernel tells, and nil after something was lost.
func (p *Paths) read(ctx context.Context, news chan<- []byte) error {
	defer p.u.feed.until(ctx)()
	send := func(b []byte) {
		select {
		case news <- slices.Clone(b):
		case <-ctx.Done():
		}
	}
	for {
		b, err := p.u.feed.next(ctx, time.Time{})
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			send(b)
		case errors.Is(err, unix.ENOBUFS):
			p.u.log.Debug("netlink overrun, reading all paths again")
			if err := p.u.feed.drain(send); err != nil {
				return err
			}
			send(nil)
		default:
			return err
		}
	}
}

// A pathFollower is the state of Run.
type pathFollower struct {
	p           *Paths
	changed     func(map[netip.Addr]Path)
	tellDevices func([]PathDevice)

	vrf     int // index of the VRF device, 0 while there is none
	wanted  map[netip.Addr]*wanted
	hops    map[neighbour]*hop
	links   map[int]pathLink // that were looked up, or that the kernel told of
	leaving map[int]int      // devices by the number of addresses whose way leaves by them
	// sorted is wanted in the order of addresses; nil where that is to
	// be found out anew.
	sorted []*wanted

	protected []netip.Prefix // by IPsec

	reread  bool                 // the policies of IPsec are to be read
	all     bool                 // all routes are to be looked up
	later   bool                 // they are at the next tick
	moved   bool                 // the devices may be others
	gone    bool                 // a device has gone
	routes  map[*wanted]struct{} // those whose route is to be looked up
	doubted map[*hop]struct{}    // those whose state is to be read
	resolve map[*hop]struct{}    // those to ask for
	stale   map[*wanted]struct{} // those whose way may have changed

	due  time.Time // when to settle; zero if there is nothing to do
	rest time.Time // until when nothing is asked
	tick time.Time // when to ask again for what does not resolve
	part int       // of comparing
}

func newPathFollower(p *Paths, changed func(map[netip.Addr]Path), devices func([]PathDevice)) *pathFollower {
	return &pathFollower{
		p: p, changed: changed, tellDevices: devices,
		wanted: make(map[netip.Addr]*wanted), hops: make(map[neighbour]*hop),
		links: make(map[int]pathLink), leaving: make(map[int]int),
		routes: make(map[*wanted]struct{}), doubted: make(map[*hop]struct{}), resolve: make(map[*hop]struct{}),
		stale: make(map[*wanted]struct{}),
	}
}

// run is the loop of Run.
func (f *pathFollower) run(ctx context.Context, news <-chan []byte, policies <-chan struct{}) error {
	if err := f.findVRF(); err != nil {
		return err
	}
	// No way is told before the policies are known.
	list, err := f.p.policies.list()
	if err != nil {
		return err
	}
	f.protected = list
	f.tick = time.Now().Add(pathTick)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := f.tick
		if !f.due.IsZero() && f.due.Before(next) {
			next = f.due
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case b := <-news:
			f.take(b)
			continue
		case <-policies:
			f.reread = true
			f.soon(pathSettle)
			continue
		case <-f.p.wake:
			f.soon(0)
			continue
		case <-timer.C:
		}
		// What the kernel told before belongs to this round.
		for range len(news) {
			f.take(<-news)
		}
		if err := f.settle(time.Now()); err != nil {
			return err
		}
	}
}

// soon has changes told after so long, or earlier if that is planned already.
func (f *pathFollower) soon(after time.Duration) {
	if at := time.Now().Add(after); f.due.IsZero() || at.Before(f.due) {
		f.due = at
	}
}

// settle asks the kernel what is to be known, and tells what has changed.
func (f *pathFollower) settle(now time.Time) error {
	f.due = time.Time{}
	f.want()
	if !now.Before(f.tick) {
		f.tick = now.Add(pathTick)
		f.all, f.later = f.all || f.later, false
		f.again(now)
		f.doubt()
	}
	if f.questions() && now.Before(f.rest) {
		f.due = f.rest
	} else if f.questions() {
		if f.reread {
			f.readPolicies()
		}
		f.lookUp()
		if err := f.askHops(now); err != nil {
			return err
		}
		f.rest = time.Now().Add(pathRest * time.Since(now))
		if f.questions() { // the kernel did not answer
			f.soon(resubscribe)
		}
	}
	f.tell()
	return nil
}

// questions tells whether there is something to ask the kernel.
func (f *pathFollower) questions() bool {
	return f.all || f.reread || len(f.routes)+len(f.doubted)+len(f.resolve) > 0 || f.missing()
}

// want takes in what Want was called with.
func (f *pathFollower) want() {
	for a, follow := range f.p.takeAsked() {
		t := f.wanted[a]
		switch {
		case follow && t == nil:
			t = &wanted{addr: a}
			f.wanted[a], f.sorted = t, nil
			f.routes[t] = struct{}{}
		case follow:
			f.stale[t] = struct{}{}
		case t != nil:
			f.leave(t)
			delete(f.wanted, a)
			delete(f.routes, t)
			delete(f.stale, t)
			f.sorted = nil
		}
	}
}

// again asks for neighbours that do not resolve, or that were stale again before
// a second had passed.
func (f *pathFollower) again(now time.Time) {
	for _, h := range f.hops {
		if h.needsAsking(now) {
			f.resolve[h] = struct{}{}
		}
	}
}

// doubt has a part of what is known compared with the kernel.
func (f *pathFollower) doubt() {
	parts := max(1, int(f.p.compare/pathTick))
	f.part++
	part := f.part % parts
	if part == 0 {
		f.reread = true
		f.readLinks(true)
	}
	n := len(f.order())
	for _, t := range f.sorted[part*n/parts : (part+1)*n/parts] {
		f.routes[t] = struct{}{}
		if t.hop != nil {
			f.doubted[t.hop] = struct{}{}
		}
	}
}

// order returns wanted in the order of addresses.
func (f *pathFollower) order() []*wanted {
	if f.sorted == nil {
		f.sorted = make([]*wanted, 0, len(f.wanted))
		for _, t := range f.wanted {
			f.sorted = append(f.sorted, t)
		}
		slices.SortFunc(f.sorted, func(a, b *wanted) int { return a.addr.Compare(b.addr) })
	}
	return f.sorted
}
