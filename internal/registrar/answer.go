// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/headend"
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

	// maxSenders bounds the senders that are remembered because they are not
	// believed, and those that answer and are no service nodes.
	maxSenders = 16

	// strangerTime is how long a sender that is not believed is told of.
	strangerTime = time.Hour
)

// A verdict says what became of a datagram: each has exactly one. Its name
// (String) is stable: it is shown.
type verdict uint8

const (
	// verdictAnswer is an answer that was taken in.
	verdictAnswer verdict = iota
	// verdictEmpty is an answer about no VNI at all, which says nothing.
	verdictEmpty
	// verdictNotAsked is anything that comes where nobody asks, without head-end
	// replication. It is not looked at.
	verdictNotAsked
	// verdictStranger is a datagram of a sender that is not believed.
	verdictStranger
	// verdictMalformed is a datagram that cannot be read.
	verdictMalformed
	// verdictNotRefresh is a SYNC or PROXY message.
	verdictNotRefresh
	// verdictRegistration is a REFRESH of a VTEP's daemon, or a question.
	verdictRegistration
	// verdictUnknownVNI is an answer about VNIs alone that are not registered.
	verdictUnknownVNI
	// verdictNoOwn is an answer about registered VNIs whose lists all lack the
	// address that is registered.
	verdictNoOwn

	numVerdicts
)

var verdictNames = [numVerdicts]string{
	verdictAnswer:       "answer",
	verdictEmpty:        "empty",
	verdictNotAsked:     "not_asked",
	verdictStranger:     "stranger",
	verdictMalformed:    "malformed",
	verdictNotRefresh:   "not_refresh",
	verdictRegistration: "registration",
	verdictUnknownVNI:   "unknown_vni",
	verdictNoOwn:        "no_own",
}

// String returns the verdict's stable name.
func (v verdict) String() string {
	if v < numVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// receive takes in answers until the socket is closed.
func (r *Registrar) receive(ctx context.Context) error {
	b := make([]byte, readBuffer)
	backoff := minBackoff
	for {
		n, from, _, err := r.conn.ReadFrom(b)
		switch {
		case err == nil:
			backoff = minBackoff
			r.handle(b[:n], from, time.Now())
			continue
		case errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("answers on %s: %w", r.conn.LocalAddr(), err)
		}
		r.repeats.Do("read", func(count int) {
			r.log.WithFields(logrus.Fields{"local": r.conn.LocalAddr(), "count": count}).WithError(err).Warn("registration socket not readable")
		})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// handle deals with one datagram, counts its verdict, and reports what is of no
// use.
func (r *Registrar) handle(b []byte, from netip.AddrPort, now time.Time) {
	before := r.leftOut.Load()
	v, vni, err := r.judge(b, from.Addr(), now)
	r.verdicts[v].Add(1)
	if r.leftOut.Load() != before {
		r.repeats.Do("left out", func(count int) {
			r.log.WithFields(logrus.Fields{"src": from, "count": count}).Warn("answer names addresses that cannot be members: left out")
		})
	}
	log := r.log.WithFields(logrus.Fields{"src": from, "reason": v.String()})
	switch v {
	case verdictAnswer:
		r.log.WithField("src", from).Debug("answer")
	case verdictEmpty:
		log.Debug("empty answer")
	case verdictNotAsked:
	case verdictUnknownVNI: // a device may have gone since
		log.WithField("vni", vni).Debug("answer about others")
	default:
		r.repeats.Do(v.String(), func(count int) {
			log := log.WithField("count", count)
			if v == verdictNoOwn {
				log = log.WithField("vni", vni)
			}
			if err != nil {
				log = log.WithError(err)
			}
			log.Warn("answer not believed")
		})
	}
}

// judge decides about one datagram and takes in what it believes. The VNI is one
// that the datagram is refused for.
func (r *Registrar) judge(b []byte, from netip.Addr, now time.Time) (verdict, vxlan.VNI, error) {
	if v, ok := r.welcome(from, now); !ok {
		return v, 0, nil
	}
	m, err := vxfld.Parse(b)
	if err != nil {
		return verdictMalformed, 0, err
	}
	a, ok := m.Body.(*vxfld.Refresh)
	switch {
	case !ok:
		return verdictNotRefresh, 0, nil
	case a.Originator || a.Response != vxfld.ResponseNone:
		return verdictRegistration, 0, nil
	case len(a.VNIs) == 0:
		return verdictEmpty, 0, nil
	}
	v, vni := r.take(a, from, now)
	return v, vni, nil
}

// welcome tells whether a datagram of this sender is looked at, and what becomes
// of it if not.
func (r *Registrar) welcome(from netip.Addr, now time.Time) (verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.cfg.HeadRep:
		return verdictNotAsked, false
	case !r.believesLocked(from):
		noteSender(r.strangers, from, now)
		return verdictStranger, false
	}
	return 0, true
}

// believesLocked tells whether answers from an address are believed.
func (r *Registrar) believesLocked(a netip.Addr) bool {
	w := &r.cfg.AnswerFrom
	if w.Any {
		return true
	}
	if w.Service {
		if _, ok := r.service[a]; ok || r.peers.has(a) {
			return true
		}
	}
	return slices.ContainsFunc(w.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// take takes in an answer about some VNIs.
func (r *Registrar) take(m *vxfld.Refresh, from netip.Addr, now time.Time) (verdict, vxlan.VNI) {
	// The records of one VNI add up.
	slices.SortStableFunc(m.VNIs, func(a, b vxfld.VNIMembers) int { return cmp.Compare(a.VNI, b.VNI) })
	r.mu.Lock()
	defer r.mu.Unlock()
	lists := make(map[headend.Key][]netip.Addr)
	took, known := false, false
	var refused vxlan.VNI
	for i := 0; i < len(m.VNIs); {
		vni, named := m.VNIs[i].VNI, m.VNIs[i].Addrs
		for i++; i < len(m.VNIs) && m.VNIs[i].VNI == vni; i++ {
			named = append(named, m.VNIs[i].Addrs...) // a piece of the message has no room behind it
		}
		e := r.entries[vni]
		if e == nil {
			if !known {
				refused = vni
			}
			continue
		}
		if len(named) > 0 && !slices.Contains(named, e.Local) {
			refused, known = vni, true
			continue
		}
		took = true
		before := e.list.members()
		if e.list.take(now, patience(&r.cfg), from, r.membersLocked(e, named), m.Partial) {
			after := e.list.members()
			lists[e.Device] = after
			r.tellMembers(e.Device, before, after, "answer of "+from.String())
			r.news.filled = r.news.filled || (len(before) == 0) != (len(after) == 0)
		}
	}
	switch {
	case took:
		r.heardLocked(from, now)
		if len(lists) > 0 {
			r.lists.Set(lists)
		}
		if r.silent || r.news.filled {
			r.wake()
		}
		return verdictAnswer, 0
	case known:
		return verdictNoOwn, refused
	}
	return verdictUnknownVNI, refused
}
