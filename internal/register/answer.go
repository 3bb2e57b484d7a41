// SPDX-License-Identifier: Apache-2.0

package register

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// burst is how many messages go to an asker between two pauses: as many as
	// deployed nodes send (docs/protocol.md section 3, response_type).
	burst = 32

	// maxLookups bounds the VNIs looked at in one turn of an asker, of which
	// there may be many without members, so that nobody waits long for theirs.
	maxLookups = 1024
)

// ask hands a question to the answering goroutine. It never waits for it.
func (s *Server) ask(from netip.AddrPort, rt route, resp vxfld.Response, vnis []vxfld.VNIMembers) {
	out := s.answers.ask(from, rt, resp, vnis)
	c := &s.counters
	c.Questions.Add(1)
	c.VNIsDropped.Add(uint64(out.vnis))
	switch {
	case out.dropped:
		c.Dropped.Add(1)
	case out.merged:
		c.Merged.Add(1)
	}
	if out.dropped || out.vnis > 0 {
		s.repeats.Do("question dropped", func(count int) {
			s.log.WithFields(logrus.Fields{"src": from, "count": count}).Warn("too many questions to answer")
		})
	}
}

// A sender answers. It belongs to one goroutine.
type sender struct {
	*Server
	members []netip.Addr // reused from VNI to VNI

	// list are all VNIs as they were after the question with the number listed
	// came. Answers in progress share it, so it is never changed.
	list   []vxlan.VNI
	listed uint64
}

// answer sends answers until ctx is done.
func (s *Server) answer(ctx context.Context) {
	a := &sender{Server: s}
	for ctx.Err() == nil {
		now := time.Now()
		k, wait := s.answers.next(now)
		if k != nil {
			a.serve(ctx, k)
			continue
		}
		var timeout <-chan time.Time
		if wait >= 0 {
			timeout = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-s.answers.wake:
		case <-timeout:
		}
	}
}

// A round is one asker's turn: what it has room for and what was done in it.
type round struct {
	room, sent, failed, lookups int
}

// more tells whether another VNI may be looked at. It may take two messages,
// what was packed before it and its own, and what is left at the end another:
// there must be room for all three.
func (rd *round) more(ctx context.Context) bool {
	return rd.sent <= rd.room-3 && rd.lookups < maxLookups && ctx.Err() == nil
}

// serve sends an asker what its window has room for.
func (a *sender) serve(ctx context.Context, k *asker) {
	st := a.settings.Load()
	rd := round{room: burst - k.sent}
	for rd.more(ctx) {
		p := a.answers.first(k)
		if p == nil || !a.servePart(ctx, st, k, p, &rd) {
			break
		}
	}
	if rd.sent > 0 && rd.failed == rd.sent && a.answers.first(k) != nil {
		a.counters.Abandoned.Add(1)
		a.answers.abandon(k)
	}
	if a.answers.idle() {
		a.list = nil
	}
	a.answers.served(k, rd.sent, st.Pause, time.Now())
}

// servePart goes on with one part and tells whether it is done. Each VNI is
// read from the table when its turn comes, so a large table is never copied.
func (a *sender) servePart(ctx context.Context, st *Settings, k *asker, p *part, rd *round) bool {
	head := vxfld.Refresh{Holdtime: vxfld.HoldtimeOf(st.Holdtime)}
	pack, err := vxfld.NewPacker(p.version, head, st.MaxPacketSize-vxfld.Overhead)
	if err != nil {
		panic("register: " + err.Error())
	}
	emit := func(msg []byte) error {
		a.send(msg, k.addr, p, rd)
		return nil
	}
	for rd.more(ctx) {
		vni, ok := a.answers.pop(p, a.vnis)
		if !ok {
			_ = pack.Flush(emit)
			return a.finish(k, p, pack.Head(), rd)
		}
		rd.lookups++
		a.pack(pack, vni, emit)
	}
	_ = pack.Flush(emit)
	return false
}

// pack puts the members of a VNI into the messages of an answer.
func (a *sender) pack(pack *vxfld.Packer, vni vxlan.VNI, emit func([]byte) error) {
	a.members = a.table.Members(a.now(), vni, a.members[:0])
	// No version has a place for IPv6 members.
	a.members = slices.DeleteFunc(a.members, func(m netip.Addr) bool { return !m.Is4() })
	if len(a.members) == 0 {
		return
	}
	err := pack.Add(vxfld.VNIMembers{VNI: vni, Addrs: a.members}, emit)
	if err == nil {
		return
	}
	if !errors.Is(err, vxfld.ErrTooLarge) && !errors.Is(err, vxfld.ErrRange) {
		panic("register: " + err.Error())
	}
	a.counters.TooLarge.Add(1)
	n := len(a.members)
	a.repeats.Do("too large", func(count int) {
		a.log.WithFields(logrus.Fields{"vni": vni, "members": n, "count": count}).
			Warn("vni has too many members to be answered for")
	})
}

// finish ends a part that has nothing left, and tells whether it did. One for
// which nothing was sent ends with a message without VNIs, which tells the
// asker that the node lives.
func (a *sender) finish(k *asker, p *part, empty []byte, rd *round) bool {
	if !a.answers.finish(k) {
		return false
	}
	if p.messages == 0 {
		a.counters.Empty.Add(1)
		a.send(empty, k.addr, p, rd)
	}
	a.counters.Answers.Add(1)
	return true
}

// send sends one message of an answer.
func (a *sender) send(msg []byte, to netip.AddrPort, p *part, rd *round) {
	rd.sent++
	p.messages++
	c := &a.counters
	if err := a.conns[p.conn].WriteTo(msg, to, p.local); err != nil {
		rd.failed++
		if errors.Is(err, net.ErrClosed) {
			return // the node stops
		}
		c.WriteErrors.Add(1)
		a.repeats.Do("write", func(count int) {
			a.log.WithFields(logrus.Fields{"vtep": to, "local": p.local, "count": count}).WithError(err).
				Warn("answer not sent")
		})
		return
	}
	c.Messages.Add(1)
	c.Bytes.Add(uint64(len(msg)))
}

// vnis returns a list of all VNIs that has those that were there before the
// question with this number: what came with the question is answered for.
func (a *sender) vnis(number uint64) []vxlan.VNI {
	if a.list == nil || a.listed < number {
		a.listed = a.answers.last()
		a.list = a.table.VNIs(make([]vxlan.VNI, 0, len(a.list)+16))
	}
	return a.list
}
