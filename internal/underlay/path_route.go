// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// questions is how many questions go into one system call. Their answers, of
// about 2 KB of the kernel's memory each with what ends them, fit any receive
// buffer.
const questions = 64

// A wanted is an address whose way is followed.
type wanted struct {
	addr  netip.Addr
	route pathRoute
	hop   *hop // where route.state is PathGood
}

// leavesBy tells whether the way to t leaves by a device.
func (t *wanted) leavesBy(index int) bool { return t.hop != nil && t.hop.link == index }

// A pathRoute is what the routes say of an address. A route of PathPending is
// not known yet; one of PathGood leads to a next hop by a device, whatever these
// are like.
type pathRoute struct {
	state PathState
	next  neighbour
	mtu   int // 0 for that of the device
}

// lookUp asks for the routes that are to be looked up.
func (f *pathFollower) lookUp() {
	if f.all {
		f.all = false
		for _, t := range f.wanted {
			f.routes[t] = struct{}{}
		}
	}
	var ask []*wanted
	for t := range f.routes {
		switch {
		case !t.addr.Is4():
			f.setRoute(t, pathRoute{state: PathUnfit})
		case f.p.u.vrf != "" && f.vrf == 0:
			f.setRoute(t, pathRoute{state: PathUnreachable})
		default:
			ask = append(ask, t)
		}
	}
	clear(f.routes)
	for ts := range slices.Chunk(ask, questions) {
		rs := make([]request, len(ts))
		for i, t := range ts {
			rs[i] = f.routeRequest(t.addr)
		}
		found := make([]pathRoute, len(ts))
		errs := f.p.u.conn.ask(rs, func(i int, b []byte) { found[i] = parseRoute(b, ts[i].addr) })
		for i, t := range ts {
			switch {
			case errs[i] == nil:
				f.setRoute(t, found[i])
			case errors.Is(errs[i], unix.EACCES):
				f.setRoute(t, pathRoute{state: PathRefused})
			case noRoute(errs[i]):
				f.setRoute(t, pathRoute{state: PathUnreachable})
			default:
				f.p.u.log.WithError(errs[i]).WithField("vtep", t.addr).Debug("route not read, trying again")
				f.routes[t] = struct{}{}
			}
		}
	}
	f.readLinks(false)
}

// noRoute tells whether an error is what the kernel says of an address that it has
// no route to (fib_props of net/ipv4/fib_semantics.c), or no VRF device.
func noRoute(err error) bool {
	for _, e := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (f *pathFollower) routeRequest(a netip.Addr) request {
	b := make([]byte, unix.SizeofRtMsg, 48)
	b[0], b[1] = unix.AF_INET, 32
	b = appendAttribute(b, unix.RTA_DST, a.AsSlice())
	if f.vrf != 0 {
		b = appendAttribute(b, unix.RTA_OIF, ne.AppendUint32(nil, uint32(f.vrf)))
	}
	return request{typ: unix.RTM_GETROUTE, flags: unix.NLM_F_ACK, body: b}
}

// parseRoute reads the route to an address (struct rtmsg).
func parseRoute(b []byte, to netip.Addr) pathRoute {
	if len(b) < unix.SizeofRtMsg {
		return pathRoute{}
	}
	switch b[7] {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL:
		return pathRoute{state: PathUnfit}
	case unix.RTN_PROHIBIT, unix.RTN_BROADCAST:
		return pathRoute{state: PathRefused}
	default:
		return pathRoute{state: PathUnreachable}
	}
	r := pathRoute{state: PathGood, next: neighbour{addr: to}}
	for typ, v := range attributes(b, unix.SizeofRtMsg) {
		switch {
		case typ == unix.RTA_OIF:
			r.next.link = int(number(v))
		case typ == unix.RTA_GATEWAY:
			r.next.addr, _ = fromIP(v)
		case typ == unix.RTA_VIA && len(v) > 2:
			r.next.addr, _ = fromIP(v[2:]) // of another family (struct rtvia)
		case typ == unix.RTA_ENCAP, typ == unix.RTA_ENCAP_TYPE:
			return pathRoute{state: PathUnfit}
		case typ == unix.RTA_METRICS:
			for metric, v := range attributes(v, 0) {
				if metric == unix.RTAX_MTU {
					r.mtu = int(number(v))
				}
			}
		}
	}
	return r
}

// setRoute takes in the route to an address.
func (f *pathFollower) setRoute(t *wanted, r pathRoute) {
	if r == t.route {
		return
	}
	f.stale[t] = struct{}{}
	if r.next != t.route.next || r.state != t.route.state {
		f.leave(t)
		if r.state == PathGood {
			f.enter(t, r.next)
		}
	}
	t.route = r
}

// enter has an address use a next hop.
func (f *pathFollower) enter(t *wanted, n neighbour) {
	h := f.hops[n]
	if h == nil {
		h = &hop{neighbour: n, users: make(map[*wanted]struct{})}
		f.hops[n] = h
		f.doubted[h] = struct{}{}
	}
	t.hop = h
	h.users[t] = struct{}{}
	if f.leaving[n.link]++; f.leaving[n.link] == 1 {
		f.moved = true
	}
}

// leave is the reverse of enter, where that was done.
func (f *pathFollower) leave(t *wanted) {
	h := t.hop
	if h == nil {
		return
	}
	t.hop = nil
	delete(h.users, t)
	if len(h.users) == 0 {
		delete(f.hops, h.neighbour)
		delete(f.doubted, h)
		delete(f.resolve, h)
	}
	if f.leaving[h.link]--; f.leaving[h.link] == 0 {
		delete(f.leaving, h.link)
		f.moved = true
	}
}

// ask sends requests, each of which asks for an acknowledgement (NLM_F_ACK), in
// one system call, hands the messages that answer them to each, valid until it
// returns, and returns their errors.
func (c *conn) ask(rs []request, each func(i int, body []byte)) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := slices.Repeat([]error{errNoAnswer}, len(rs))
	first := c.seq + 1
	err := c.exchange(rs, errs, func(m message) {
		if m.typ != unix.NLMSG_ERROR && m.typ != unix.NLMSG_DONE {
			each(int(m.seq-first), m.body)
		}
	}, nil)
	if err != nil {
		for i := range errs {
			if errs[i] == errNoAnswer {
				errs[i] = fmt.Errorf("%w: %w", errNoAnswer, err)
			}
		}
	}
	return errs
}
