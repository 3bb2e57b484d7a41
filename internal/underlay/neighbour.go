// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Unresolved returns the neighbours whose link-layer address does not
// resolve: the kernel keeps packets to them for seconds before it drops them.
// It is nil if there are none, or they are not followed, and must not be
// modified.
func (u *Underlay) Unresolved() map[netip.Addr]struct{} {
	if m := u.unresolved.Load(); m != nil {
		return *m
	}
	return nil
}

// Recheck has Run look for neighbours that do not resolve, and returns when
// Unresolved shows them, or after wait. The kernel says nothing of neighbours
// that it has only begun to resolve, so whoever waits for them asks.
func (u *Underlay) Recheck(wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	done := make(chan struct{})
	select {
	case u.ask <- done:
	case <-t.C:
		return
	}
	select {
	case <-done:
	case <-t.C:
	}
}

// A neighbour is an address on a link.
type neighbour struct {
	link int
	addr netip.Addr
}

// neighbours are those that the kernel knows, as many as its table holds
// (gc_thresh3, arp(7)), with whether they do not resolve.
type neighbours map[neighbour]bool

// unresolved returns the addresses that do not resolve on any link: one that
// has moved to another link may be a failed neighbour on the old one for long.
func (ns neighbours) unresolved() map[netip.Addr]struct{} {
	var set map[netip.Addr]struct{}
	for n, bad := range ns {
		if bad {
			if set == nil {
				set = make(map[netip.Addr]struct{})
			}
			set[n.addr] = struct{}{}
		}
	}
	if set == nil {
		return nil
	}
	for n, bad := range ns {
		if !bad {
			delete(set, n.addr)
		}
	}
	return set
}

// parseNeighbour reads a message about a neighbour (struct ndmsg), and its state
// (NUD_…). It returns false for one about something else, as a bridge's
// forwarding entry.
func parseNeighbour(b []byte) (n neighbour, state uint16, ok bool) {
	if len(b) < unix.SizeofNdMsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return n, 0, false
	}
	n.link, state = int(ne.Uint32(b[4:])), ne.Uint16(b[8:])
	for typ, v := range attributes(b, unix.SizeofNdMsg) {
		if typ == unix.NDA_DST {
			n.addr, ok = fromIP(v)
		}
	}
	return n, state, ok
}

// readNeighbours lists the neighbours. f.mu is held.
func (f *follower) readNeighbours() error {
	list, err := retry(func() (neighbours, error) {
		ns := make(neighbours)
		_, err := f.u.conn.list(request{typ: unix.RTM_GETNEIGH, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofNdMsg)}, func(b []byte) {
			if n, state, ok := parseNeighbour(b); ok && f.in(n.link) {
				ns[n] = state&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0
			}
		})
		return ns, err
	})
	if err != nil && !interrupted(err) {
		return fmt.Errorf("list neighbours: %w", err)
	}
	f.neighs = list
	f.publish()
	return nil
}

// neighbour takes in a change of one neighbour. The kernel tells when it fails
// to resolve and when it resolves; while it tries (NUD_INCOMPLETE) it says
// nothing, or nothing new. f.mu is held.
func (f *follower) neighbour(b []byte, gone bool) {
	n, state, ok := parseNeighbour(b)
	if !ok || !f.in(n.link) || !gone && state&unix.NUD_INCOMPLETE != 0 {
		return
	}
	before, known := f.neighs[n]
	if gone {
		delete(f.neighs, n)
	} else {
		f.neighs[n] = state&unix.NUD_FAILED != 0
	}
	// Most changes are of neighbours that are well and stay so.
	if after, still := f.neighs[n]; after != before || still != known {
		f.publish()
	}
}

// publish hands out a new set: readers hold the old one without a lock.
func (f *follower) publish() {
	set := f.neighs.unresolved()
	if len(set) == 0 {
		f.u.unresolved.Store(nil)
		return
	}
	f.u.unresolved.Store(&set)
}
