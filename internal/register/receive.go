// SPDX-License-Identifier: Apache-2.0

package register

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// readBuffer holds any UDP datagram (RFC 768: 16 bits of length).
	readBuffer = 65535

	// minBackoff and maxBackoff bound the wait after a failed read, which
	// doubles from one to the next.
	minBackoff = 10 * time.Millisecond
	maxBackoff = time.Second
)

// A reader serves one socket. It belongs to one goroutine.
type reader struct {
	*Server
	conn    int
	updates []fdb.Update // this and members are reused from message to message
	members []netip.Addr
}

// receive reads the socket with index conn until it is closed.
func (s *Server) receive(ctx context.Context, conn int) error {
	r := &reader{Server: s, conn: conn}
	c := s.conns[conn]
	b := make([]byte, readBuffer)
	backoff := minBackoff
	for {
		n, from, to, err := c.ReadFrom(b)
		switch {
		case err == nil:
			backoff = minBackoff
			r.handle(b[:n], from, to.Unmap())
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("registration on %s: %w", c.LocalAddr(), err)
		}
		s.counters.ReadErrors.Add(1)
		s.repeats.Do("read", func(count int) {
			s.log.WithFields(logrus.Fields{"local": c.LocalAddr(), "count": count}).WithError(err).
				Warn("registration socket not readable")
		})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// handle deals with one datagram and counts its verdict.
func (r *reader) handle(b []byte, from netip.AddrPort, to netip.Addr) {
	version := 0
	if len(b) > 0 && b[0] <= byte(vxfld.V3) {
		version = int(b[0])
	}
	v, err := r.judge(b, from, to)
	r.counters.Received[version][v].Add(1)
	r.counters.Verdicts[v].Add(1)
	if v.Accepted() {
		return
	}
	r.repeats.Do(v.String(), func(count int) {
		log := r.log.WithFields(logrus.Fields{"src": from, "local": to, "reason": v.String(), "count": count})
		if err != nil {
			log = log.WithError(err)
		}
		log.Warn("control message refused")
	})
}

// judge decides about one datagram, and takes in and answers what it accepts.
// The error says more about a malformed message.
func (r *reader) judge(b []byte, from netip.AddrPort, to netip.Addr) (Verdict, error) {
	if !sendable(from) {
		return VerdictSender, nil
	}
	if r.own(from, to) {
		return VerdictOwn, nil
	}
	st := r.settings.Load()
	peer := st.peer(from.Addr())
	now := r.now()
	if !peer && !r.sources.allow(now, from.Addr(), len(b), st) {
		return VerdictRate, nil
	}
	m, err := vxfld.Parse(b)
	if err != nil {
		return malformed(b, err), err
	}
	switch body := m.Body.(type) {
	case *vxfld.Refresh:
		return r.refresh(now, m.Version, body, peer, from, to), nil
	case *vxfld.Sync:
		return VerdictSync, nil
	}
	return VerdictProxy, nil
}

// sendable tells whether a message can have come from there, and be answered.
// An IPv4 sender is an IPv4 address on an IPv4 socket; on an IPv6 socket, which
// takes no IPv4, a 4-in-6 sender is made up, and is not to pass for that VTEP
// or peer.
func sendable(from netip.AddrPort) bool {
	a := from.Addr()
	return from.Port() != 0 && a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast
}

// own tells whether a message came from one of this node's control sockets.
func (s *Server) own(from netip.AddrPort, to netip.Addr) bool {
	for _, c := range s.conns {
		local := c.LocalAddr()
		if from.Port() != local.Port() {
			continue
		}
		a := from.Addr()
		if a == local.Addr() || a == to || a.IsLoopback() || s.table.Excluded(a) == fdb.ExcludedOwn {
			return true
		}
	}
	return false
}

// malformed returns the verdict for an error of the codec.
func malformed(b []byte, err error) Verdict {
	var r vxfld.Reason
	errors.As(err, &r)
	if r == vxfld.ErrType && vxfld.Type(b[1]) >= vxfld.TypeExtension {
		return VerdictExtension
	}
	return Malformed(r)
}

// refresh deals with a REFRESH message.
func (r *reader) refresh(now fdb.Time, version vxfld.Version, m *vxfld.Refresh, peer bool, from netip.AddrPort, to netip.Addr) Verdict {
	st := r.settings.Load()
	named := 0
	for i := range m.VNIs {
		named += len(m.VNIs[i].Addrs)
	}
	response := m.Response
	if version == vxfld.V1 && m.Originator {
		if peer {
			// A deployed peer would answer the answer with its whole table.
			r.withhold(from)
		} else {
			// Version 1 cannot say that it asks; its vxrd may be waiting.
			response = vxfld.ResponseRequested
		}
	}
	believed := peer || st.Believed != nil && st.Believed(from.Addr())
	asks := response == vxfld.ResponseRequested || response == vxfld.ResponseAll

	verdict, source := VerdictRegistration, fdb.Registration
	switch {
	case m.Originator:
	case version == vxfld.V1 && believed:
		return VerdictAnswer
	case believed && (named > 0 || !asks):
		verdict, source = VerdictRelayed, fdb.Peer
	case named > 0 || !asks:
		return VerdictNotPeer
	}
	if named == 0 && asks {
		verdict = VerdictQuestion
	}
	if source == fdb.Peer && st.Seen != nil {
		st.Seen(from.Addr())
	}
	took := named > 0 && r.take(now, st, m, source, from)
	if m.Originator && r.relayer != nil {
		r.relayer.Relay(m)
	}
	if asks {
		rt := route{conn: r.conn, local: answerable(to), version: version}
		r.ask(from, rt, r.classify(now, m, took, peer, from.Addr()), response, m.VNIs)
	}
	return verdict
}

// withhold counts and reports a message of version 1 that would be answered
// if it came from anybody but a peer.
func (r *reader) withhold(from netip.AddrPort) {
	r.counters.Withheld.Add(1)
	r.repeats.Do("withheld", func(count int) {
		r.log.WithFields(logrus.Fields{"peer": from, "count": count}).Warn("version 1 of a peer not answered")
	})
}

// answerable returns the address to answer from: that which was asked, if a
// packet can carry it as its source.
func answerable(to netip.Addr) netip.Addr {
	if to.IsUnspecified() || to.IsMulticast() || to == broadcast {
		return netip.Addr{}
	}
	return to
}

// take takes a message's members into the table. It removes from the message
// the addresses that cannot be VTEPs. An exclusion may come and go, so who
// became a member before it may withdraw while it lasts. It tells whether the
// table refused nothing.
func (r *reader) take(now fdb.Time, st *Settings, m *vxfld.Refresh, source fdb.Source, from netip.AddrPort) bool {
	us := r.updates[:0]
	holdtime := vxfld.HoldtimeDuration(m.Holdtime)
	// Anybody may have had a peer relay what names no identifier.
	guarded := source == fdb.Peer && m.Identifier == 0 && st.Static != nil
	var left [NumLeftOut]leftover
	for i := range m.VNIs {
		rec := &m.VNIs[i]
		kept := rec.Addrs[:0]
		for _, a := range rec.Addrs {
			x := fdb.NotExcluded
			if holdtime > 0 {
				x = r.table.Excluded(a)
			}
			if why, bad := leave(a, x); bad {
				left[why] = leftover{vni: rec.VNI, vtep: a, n: left[why].n + 1}
				continue
			}
			kept = append(kept, a)
			us = append(us, fdb.Update{
				VNI: rec.VNI, Addr: a, Identifier: m.Identifier, Source: source, Holdtime: holdtime,
				KeepStatic: guarded && st.Static(rec.VNI, a),
			})
		}
		rec.Addrs = kept
	}
	for i := range left {
		if left[i].n > 0 {
			r.leftOut(LeftOut(i), left[i], from)
		}
	}
	r.updates = us
	if len(us) == 0 {
		return true
	}
	res := r.table.Apply(now, us)
	c := &r.counters
	c.Added.Add(uint64(res.Added))
	c.Refreshed.Add(uint64(res.Refreshed))
	c.Withdrawn.Add(uint64(res.Withdrawn))
	c.Replaced.Add(uint64(res.Replaced))
	c.Evicted.Add(uint64(res.Evicted))
	for i, n := range res.Refused {
		if n == 0 {
			continue
		}
		c.Refused[i].Add(uint64(n))
		why := fdb.Refusal(i)
		r.repeats.Do("refused "+why.String(), func(count int) {
			r.log.WithFields(logrus.Fields{"src": from, "reason": why.String(), "count": count}).
				Warn("registration not taken into the table")
		})
	}
	if debugging(r.log) {
		r.log.WithFields(logrus.Fields{"src": from, "holdtime": m.Holdtime, "source": source.String(), "count": len(us)}).
			Debug("registration taken in")
	}
	return res.Refused == [fdb.NumRefusals]int{}
}

// leftover is what was left out of one message for one reason: how many
// addresses, and the last of them.
type leftover struct {
	vni  vxlan.VNI
	vtep netip.Addr
	n    int
}

// leftOut counts and reports addresses that were left out. The line's count is
// that of messages.
func (r *reader) leftOut(why LeftOut, l leftover, from netip.AddrPort) {
	r.counters.LeftOut[why].Add(uint64(l.n))
	r.repeats.Do("left out "+why.String(), func(count int) {
		r.log.WithFields(logrus.Fields{"src": from, "vni": l.vni, "vtep": l.vtep, "reason": why.String(), "count": count}).
			Warn("address cannot be a vtep")
	})
}

// debugging tells whether debug lines are wanted, so that nothing is done for
// them where they are not.
func debugging(log logrus.FieldLogger) bool {
	switch l := log.(type) {
	case *logrus.Entry:
		return l.Logger.IsLevelEnabled(logrus.DebugLevel)
	case *logrus.Logger:
		return l.IsLevelEnabled(logrus.DebugLevel)
	}
	return false
}
