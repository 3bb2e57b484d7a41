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
	// So many members take as long as a VNI.
	maxLookups       = 1024
	membersPerLookup = 64

	// shares is into how many shares a burst is divided where an asker has
	// several answers in progress.
	shares = 4
)

// ask hands a question of somebody of class cl to the answering goroutine. It
// never waits for it.
func (s *Server) ask(from netip.AddrPort, rt route, cl class, resp vxfld.Response, vnis []vxfld.VNIMembers) {
	out := s.answers.ask(from, rt, cl, resp, vnis)
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
		s.tooMany(from.Addr())
	}
}

// tooMany reports that there is no room for a question, or for the rest of its
// answer.
func (s *Server) tooMany(from netip.Addr) {
	s.repeats.Do("question dropped", func(count int) {
		s.log.WithFields(logrus.Fields{"src": from, "count": count}).Warn("too many questions to answer")
	})
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

// A round is one asker's turn: the messages and bytes that it has room for, and
// what was done in it.
type round struct {
	room, space         int
	sent, bytes         int
	failed, lookups     int
	shareSent, shareEnd int // messages and bytes at which a part's share ends
}

// more tells whether another VNI may be looked at. It may take two messages,
// what was packed before it and its own, and what is left at the end another:
// there must be room for all three. The bytes may end in the midst of a
// datagram, which may be larger than a burst.
func (rd *round) more(ctx context.Context) bool {
	return !rd.spent() && rd.lookups < maxLookups && ctx.Err() == nil
}

// spent tells whether the asker's window has no room for more.
func (rd *round) spent() bool { return rd.sent > rd.room-3 || rd.bytes >= rd.space }

// share begins the share of a part, which is all that there is room for if it
// is alone.
func (rd *round) share(alone bool, limit int) {
	rd.shareSent, rd.shareEnd = rd.room, rd.space
	if !alone {
		rd.shareSent, rd.shareEnd = rd.sent+burst/shares, rd.bytes+limit/shares
	}
}

// shared tells whether the part's share is used up.
func (rd *round) shared() bool { return rd.sent >= rd.shareSent || rd.bytes >= rd.shareEnd }

// serve sends an asker what its window has room for: a burst of messages of
// max_packet_size.
func (a *sender) serve(ctx context.Context, k *asker) {
	st := a.settings.Load()
	limit := burst * max(st.MaxPacketSize-vxfld.Overhead, 1)
	rd := round{room: burst - k.sent, space: limit - k.bytes}
	for rd.more(ctx) {
		p, alone := a.answers.first(k)
		if p == nil {
			break
		}
		rd.share(alone, limit)
		if !a.servePart(ctx, st, k, p, &rd) {
			a.answers.rotate(k, p)
		}
	}
	if p, _ := a.answers.first(k); p != nil && rd.sent > 0 && rd.failed == rd.sent {
		a.counters.Abandoned.Add(1)
		a.answers.abandon(k)
	}
	cut := a.answers.served(k, rd.sent, rd.bytes, rd.spent(), st.Pause, time.Now())
	if cut > 0 {
		a.counters.Cut.Add(uint64(cut))
		a.tooMany(k.addr)
	}
	if a.answers.idle() {
		a.list = nil
	}
}

// servePart goes on with one part and tells whether it is done. Each VNI is
// read from the table when its turn comes, so a large table is never copied.
func (a *sender) servePart(ctx context.Context, st *Settings, k *asker, p *part, rd *round) bool {
	head := vxfld.Refresh{
		Holdtime: vxfld.HoldtimeOf(st.Holdtime),
		Partial:  p.version == vxfld.V3 && st.Partial != nil && st.Partial(), // others have no place for it
	}
	pack, err := vxfld.NewPacker(p.version, head, st.MaxPacketSize-vxfld.Overhead)
	if err != nil {
		panic("register: " + err.Error())
	}
	emit := func(msg []byte) error {
		a.send(msg, k.addr, p, rd)
		return nil
	}
	for rd.more(ctx) && !rd.shared() {
		vni, ok := a.answers.pop(p, a.vnis)
		if !ok {
			_ = pack.Flush(emit)
			return a.finish(k, p, pack.Head(), rd)
		}
		a.pack(pack, vni, emit)
		rd.lookups += 1 + len(a.members)/membersPerLookup
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

// finish ends a part that has nothing left, and tells whether it did. Where
// nothing was sent since its last question it ends with a message without VNIs,
// which tells the asker that the node lives.
func (a *sender) finish(k *asker, p *part, empty []byte, rd *round) bool {
	ended, silent := a.answers.finish(k, p)
	if !ended {
		return false
	}
	if silent {
		a.counters.Empty.Add(1)
		a.send(empty, k.addr, p, rd)
	}
	a.counters.Answers.Add(1)
	return true
}

// send sends one message of an answer.
func (a *sender) send(msg []byte, addr netip.Addr, p *part, rd *round) {
	to := netip.AddrPortFrom(addr, p.port)
	rd.sent++
	a.answers.told(p)
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
	rd.bytes += len(msg)
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
