// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// validNeighbour are the states in which the kernel sends to a neighbour
	// (NUD_VALID of net/neighbour.h).
	validNeighbour = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY

	// ndaFlagsExt has the flags beyond those of struct ndmsg, and extManaged is
	// that of a neighbour that the kernel keeps resolved by itself (NDA_FLAGS_EXT
	// and NTF_EXT_MANAGED of linux/neighbour.h).
	ndaFlagsExt = 15
	extManaged  = 1
)

// A hop is a next hop of some address that is wanted.
type hop struct {
	neighbour
	hopState
	users  map[*wanted]struct{}
	known  bool      // its state was read
	failed bool      // it did not resolve since it was good last
	fresh  bool      // that was not told yet
	asked  time.Time // when it was last asked for
}

// hopState is what the kernel says of a neighbour; zero where it has none.
type hopState struct {
	nud     uint16
	flags   byte
	managed bool
	hasMAC  bool
	mac     [6]byte
}

func (s *hopState) good() bool { return s.nud&validNeighbour != 0 && s.hasMAC }

// parseHop reads a message about a neighbour (struct ndmsg).
func parseHop(b []byte) (n neighbour, s hopState, ok bool) {
	n, s.nud, ok = parseNeighbour(b)
	if !ok || b[10]&unix.NTF_PROXY != 0 {
		return n, s, false
	}
	s.flags = b[10]
	for typ, v := range attributes(b, unix.SizeofNdMsg) {
		switch typ {
		case unix.NDA_LLADDR:
			s.hasMAC = copy(s.mac[:], v) == len(v) && len(v) == len(s.mac)
		case ndaFlagsExt:
			s.managed = number(v)&extManaged != 0
		}
	}
	return n, s, true
}

// needsAsking tells whether the kernel must be made to resolve or probe the
// neighbour, which sending to it would. It does so by itself in other states.
func (h *hop) needsAsking(now time.Time) bool {
	if !h.known || h.managed || now.Sub(h.asked) < pathTick {
		return false
	}
	return h.nud == unix.NUD_NONE || h.nud&(unix.NUD_STALE|unix.NUD_FAILED) != 0
}

// setHop takes in the state of a next hop.
func (f *pathFollower) setHop(h *hop, s hopState, now time.Time) {
	good, mac, failed := h.good(), h.mac, h.failed
	h.hopState, h.known = s, true
	switch {
	case h.good():
		h.failed = false
	case h.nud&unix.NUD_FAILED != 0:
		h.failed, h.fresh = true, h.fresh || !failed
	}
	if h.good() != good || h.mac != mac || h.failed != failed {
		f.usersOf(h)
	}
	if h.needsAsking(now) {
		f.resolve[h] = struct{}{}
	}
}

// forgetHop takes in that the kernel knows nothing of a next hop any more. It calls
// one that somebody removes failed just before (neigh_delete of net/core/neighbour.c).
func (f *pathFollower) forgetHop(h *hop, now time.Time) {
	if h.fresh {
		h.failed, h.fresh = false, false
	}
	f.setHop(h, hopState{}, now)
}

// usersOf has the ways by a next hop looked at.
func (f *pathFollower) usersOf(h *hop) {
	for t := range h.users {
		f.stale[t] = struct{}{}
	}
}

// askHops reads the states of next hops that are in doubt, and asks for those
// that are not resolved.
func (f *pathFollower) askHops(now time.Time) error {
	if err := f.exchangeHops(f.doubted, now, func(h *hop) []request { return []request{h.get()} }); err != nil {
		return err
	}
	return f.exchangeHops(f.resolve, now, func(h *hop) []request {
		h.asked = now
		return []request{h.use(), h.get()}
	})
}

// exchangeHops sends the requests of each next hop, the last of which reads its
// state, and empties the set of them but for those that the kernel did not answer.
func (f *pathFollower) exchangeHops(set map[*hop]struct{}, now time.Time, requests func(*hop) []request) error {
	all := make([]*hop, 0, len(set))
	for h := range set {
		all = append(all, h)
	}
	clear(set)
	for hs := range slices.Chunk(all, questions/2) {
		var rs []request
		var of []int // the hop that a request is about
		for i, h := range hs {
			for _, r := range requests(h) {
				rs, of = append(rs, r), append(of, i)
			}
		}
		states := make([]hopState, len(hs))
		errs := f.p.u.conn.ask(rs, func(i int, b []byte) {
			if _, s, ok := parseHop(b); ok {
				states[of[i]] = s
			}
		})
		for i, r := range rs {
			h, err := hs[of[i]], errs[i]
			switch {
			case r.typ == unix.RTM_GETNEIGH && (err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)):
				f.setHop(h, states[of[i]], now)
			case errors.Is(err, unix.EPERM):
				return fmt.Errorf("resolve neighbours: %w", err)
			case errors.Is(err, errNoAnswer):
				f.p.u.log.WithError(err).Debug("neighbour not read, trying again")
				f.doubted[h] = struct{}{}
			case errors.Is(err, unix.ENOBUFS) && !h.failed:
				// The kernel's table of neighbours is full (gc_thresh3, arp(7)): packets
				// to new ones are lost.
				h.failed = true
				f.usersOf(h)
			}
		}
	}
	return nil
}

// get asks for what the kernel knows of h.
func (h *hop) get() request {
	return request{typ: unix.RTM_GETNEIGH, flags: unix.NLM_F_ACK, body: h.body()}
}

// use has the kernel resolve h as it does when a packet is sent there.
func (h *hop) use() request {
	r := request{typ: unix.RTM_NEWNEIGH, flags: unix.NLM_F_ACK | unix.NLM_F_CREATE, body: h.body()}
	if h.nud == unix.NUD_NONE {
		// One that was made permanent meanwhile would not be so any more
		// (__neigh_update of net/core/neighbour.c).
		r.flags |= unix.NLM_F_EXCL
	}
	// Those that are not set would be cleared.
	r.body[10] = unix.NTF_USE | h.flags&(unix.NTF_EXT_LEARNED|unix.NTF_ROUTER)
	return r
}

// body is a message about h (struct ndmsg).
func (h *hop) body() []byte {
	b := make([]byte, unix.SizeofNdMsg, 40)
	b[0] = unix.AF_INET6
	if h.addr.Is4() {
		b[0] = unix.AF_INET
	}
	ne.PutUint32(b[4:], uint32(h.link))
	return appendAttribute(b, unix.NDA_DST, h.addr.AsSlice())
}
