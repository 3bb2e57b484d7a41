// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An ownAddr is an address of this machine on a link. The kernel tells those
// apart by their prefix and their peer too.
type ownAddr struct {
	link       int
	bits       uint8
	addr, peer netip.Addr
}

// parseAddr reads a message about an address (struct ifaddrmsg).
func parseAddr(b []byte) (a ownAddr, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return a, false
	}
	a.link, a.bits = int(ne.Uint32(b[4:])), b[1]
	for typ, v := range attributes(b, unix.SizeofIfAddrmsg) {
		switch typ {
		case unix.IFA_LOCAL:
			a.addr, _ = fromIP(v)
		case unix.IFA_ADDRESS:
			a.peer, _ = fromIP(v)
		}
	}
	if !a.addr.IsValid() {
		a.addr = a.peer // IPv6 names it so where there is no peer
	}
	return a, a.addr.IsValid()
}

// addresses lists the addresses of the namespace. Where a change disturbs the
// listing, those that were known stay, and the error is
// netlink.ErrDumpInterrupted: what is returned is of use, but may lack an address
// that was not known, or have one that is gone. Where none was known, the listing
// is repeated.
func (c *conn) addresses(known map[ownAddr]struct{}) (map[ownAddr]struct{}, error) {
	r := request{typ: unix.RTM_GETADDR, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofIfAddrmsg)}
	tries := 1
	if len(known) == 0 {
		tries = maxTries
	}
	for range tries {
		out := make(map[ownAddr]struct{}, len(known))
		_, err := c.list(r, func(b []byte) {
			if a, ok := parseAddr(b); ok {
				out[a] = struct{}{}
			}
		})
		if !interrupted(err) {
			return out, err
		}
		maps.Copy(out, known)
		known = out
	}
	return known, netlink.ErrDumpInterrupted
}

// inVRF tells whether a device is in a VRF, or in none where vrf is empty.
func inVRF(links map[int]link, index int, vrf string) bool {
	find := func(i int) (link, bool) { l, ok := links[i]; return l, ok }
	if _, ok := find(index); !ok {
		return false
	}
	above, _ := vrfAbove(index, find)
	return above.name == vrf
}

// InVRF tells whether a device is in a VRF at this moment, or in none where vrf is
// empty. It asks the kernel, and may be called concurrently.
func InVRF(index int, vrf string) bool {
	above, _ := vrfAbove(index, func(i int) (link, bool) {
		l, err := netlink.LinkByIndex(i)
		if err != nil {
			return link{}, false
		}
		return link{index: i, master: l.Attrs().MasterIndex, name: l.Attrs().Name, vrf: l.Type() == "vrf"}, true
	})
	return above.name == vrf
}

// selectAddrs returns the addresses in a VRF, sorted.
func selectAddrs(addrs map[ownAddr]struct{}, links map[int]link, vrf string) []netip.Addr {
	in := make(map[int]bool)
	set := make(map[netip.Addr]struct{}, len(addrs))
	for a := range addrs {
		is, known := in[a.link]
		if !known {
			is = inVRF(links, a.link, vrf)
			in[a.link] = is
		}
		if is {
			set[a.addr] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

// Run follows the kernel until ctx is done, then returns nil. It calls changed
// with the machine's addresses at the start, and again whenever they have
// changed: at once, but not more often than each 50 ms.
func (u *Underlay) Run(ctx context.Context, changed func([]netip.Addr)) error {
	groups := []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
	if u.neighbours {
		groups = append(groups, unix.RTNLGRP_NEIGH)
	}
	if err := u.feed.subscribe(groups...); err != nil {
		return fmt.Errorf("follow the underlay: %w", err)
	}
	f := follower{
		u: u, changed: changed, stale: time.Now(),
		links: make(map[int]link), addrs: make(map[ownAddr]struct{}), neighs: make(neighbours),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer u.feed.until(ctx)()
	f.settle()
	if u.neighbours {
		wg.Go(func() { f.answer(ctx) })
	}
	for {
		b, err := u.feed.next(ctx, f.due)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			f.take(b)
		case errors.Is(err, os.ErrDeadlineExceeded):
			f.settle()
		case errors.Is(err, unix.ENOBUFS):
			u.log.Debug("netlink overrun, reading everything again")
			f.stale = time.Now()
			f.soon()
		default:
			return fmt.Errorf("follow the underlay: %w", err)
		}
	}
}

// A follower is the state of Run.
type follower struct {
	u       *Underlay
	changed func([]netip.Addr)
	known   []netip.Addr // as changed was called last
	told    bool

	read  bool      // everything was
	stale time.Time // since when everything is to be read anew, or from when on; zero if not
	due   time.Time // when to settle; zero if nothing has changed
	last  time.Time // when it did

	mu     sync.Mutex // guards what follows, which Run alone changes, but for neighs
	links  map[int]link
	addrs  map[ownAddr]struct{}
	neighs neighbours
}

// in tells whether a device is in the underlay. f.mu is held.
func (f *follower) in(index int) bool { return inVRF(f.links, index, f.u.vrf) }

// soon has what changed told.
func (f *follower) soon() { f.due = f.last.Add(settle) }

// answer looks for neighbours whenever Recheck asks.
func (f *follower) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case done := <-f.u.ask:
			f.mu.Lock()
			if err := f.readNeighbours(); err != nil {
				f.u.log.WithError(err).Debug("neighbours not read")
			}
			f.mu.Unlock()
			close(done)
		}
	}
}

// take takes in what the kernel tells.
func (f *follower) take(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for m := range messages(b) {
		switch m.typ {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if l, ok := parseLink(m.body); ok {
				f.link(l, m.typ == unix.RTM_DELLINK)
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			a, ok := parseAddr(m.body)
			if _, known := f.addrs[a]; !ok || known == (m.typ == unix.RTM_NEWADDR) {
				continue
			}
			if f.soon(); m.typ == unix.RTM_NEWADDR {
				f.addrs[a] = struct{}{}
			} else {
				delete(f.addrs, a)
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			f.neighbour(m.body, m.typ == unix.RTM_DELNEIGH)
		}
	}
}

// link takes in a device as it is now, or that it has gone. Of its addresses the
// kernel tells by themselves. f.mu is held.
func (f *follower) link(l link, gone bool) {
	before, known := f.links[l.index]
	if gone {
		delete(f.links, l.index)
	} else {
		f.links[l.index] = l
	}
	if !known || l.master != before.master || l.vrf || before.vrf {
		f.soon()
	}
}

// settle tells the addresses, if they have changed.
func (f *follower) settle() {
	f.due, f.last = time.Time{}, time.Now()
	if !f.stale.IsZero() && !f.last.Before(f.stale) {
		f.stale = time.Time{}
		if err := f.reread(); err != nil {
			f.u.log.WithError(err).Debug("underlay not read as a whole, trying again")
			f.stale = f.last.Add(resubscribe)
			f.read = f.read || interrupted(err)
		} else {
			f.read = true
		}
	}
	f.due = f.stale
	if !f.read {
		return
	}
	f.mu.Lock()
	list := selectAddrs(f.addrs, f.links, f.u.vrf)
	broadcasts := broadcastsOf(f.addrs)
	f.mu.Unlock()
	f.u.broadcasts.Store(&broadcasts)
	if !f.told || !slices.Equal(list, f.known) {
		f.known, f.told = list, true
		f.changed(list)
	}
}

// reread reads everything anew. Where changes disturb that it returns
// netlink.ErrDumpInterrupted.
func (f *follower) reread() error {
	if err := f.u.feed.drain(f.take); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	links, lerr := f.u.conn.links(f.links)
	if lerr != nil && !interrupted(lerr) {
		return fmt.Errorf("list devices: %w", lerr)
	}
	f.links = links
	addrs, aerr := f.u.conn.addresses(f.addrs)
	if aerr != nil && !interrupted(aerr) {
		return fmt.Errorf("list addresses: %w", aerr)
	}
	f.addrs = addrs
	if f.u.neighbours {
		if err := f.readNeighbours(); err != nil {
			return err
		}
	}
	return errors.Join(lerr, aerr)
}
