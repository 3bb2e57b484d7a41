// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// batchSize is how many entries are handed to the table at a time.
const batchSize = 1024

// converse reads the one message of a connection, takes in what it says and
// answers what it asks. The error says more about what was refused or failed.
func (s *server) converse(ctx context.Context, c net.Conn, from netip.Addr, src *source) (Verdict, error) {
	leave := func() {}
	b, err := s.limits.pace(c, s.limits.receive).readAll(func() (err error) {
		leave, err = s.limits.enter(ctx, src.large, s.large)
		return err
	})
	defer leave()
	switch {
	case errors.Is(err, errBusy):
		return VerdictBusy, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return VerdictSlow, err
	case errors.Is(err, errLarge):
		return VerdictLarge, err
	case err != nil:
		return VerdictBroken, err
	case len(b) == 0:
		return VerdictEmpty, nil
	}
	m, err := vxfld.ScanSync(b)
	if err != nil {
		return malformed(err), err
	}
	if m.Digest != nil && len(m.Digest) != digestLen {
		return VerdictDigest, nil
	}

	if seen := s.settings.Load().Seen; seen != nil {
		seen(from)
	}
	if p := s.peer(from); p != nil {
		p.heardAt(s.now())
		if m.Node != 0 {
			s.know(p, true)
		}
	}
	if m.Entries > 0 {
		s.take(m, from, false)
	}
	if m.Round != 0 && m.Complete {
		s.lapse(from, m.Round)
	}
	w := s.limits.pace(c, s.limits.answer)
	switch {
	case m.Digest != nil:
		return VerdictRepair, s.answerRepair(ctx, w, m)
	case m.Response == vxfld.ResponseAll:
		return VerdictRequest, s.answerTable(ctx, w, m)
	case m.Node == 0:
		return VerdictUpdate, nil
	}
	v := VerdictUpdate
	if m.Entries == 0 && m.Round == 0 {
		v = VerdictGreeting
	}
	return v, s.answer(w, m, func(*stream) error { return nil })
}

// take takes the members that a peer tells of into the table: as an update, or
// as an answer, which adds to the table alone. It returns how many entries are
// new.
func (g *Group) take(m *vxfld.SyncScan, from netip.Addr, answer bool) int {
	in := intake{Group: g, from: from, answer: answer, round: m.Round, updates: make([]fdb.Update, 0, min(m.Entries, batchSize))}
	for vni, e := range m.All() {
		in.add(vni, e)
	}
	in.flush()
	g.log.WithFields(logrus.Fields{"peer": from, "count": m.Entries}).Debug("members taken from peer")
	return in.added
}

// An intake hands members to the table in batches.
type intake struct {
	*Group
	from    netip.Addr
	answer  bool
	round   uint64
	updates []fdb.Update
	owners  []netip.Addr // of updates
	added   int
}

// add takes in one member. An address that cannot be a VTEP's is left out. An
// exclusion may come and go, so who became a member before it may be withdrawn
// while it lasts.
func (in *intake) add(vni vxlan.VNI, e vxfld.SyncEntry) {
	holdtime := vxfld.HoldtimeDuration(e.Holdtime)
	owner := e.Owner
	switch {
	case !owner.IsValid():
	case owner.IsUnspecified() || !in.answer:
		owner = in.from // nobody speaks for another but in an answer
	case !fdb.Usable(owner) && !(owner.IsLoopback() && in.from.IsLoopback()):
		owner = netip.Addr{} // no node has it, so nobody's round would end it
	}
	switch {
	case !fdb.Usable(e.Addr):
		in.counters.Unusable.Add(1)
		in.leftOut(vni, e.Addr, "unusable")
		return
	case holdtime == 0 && in.answer:
		return // dead already: nothing to add
	case in.answer && owner.IsValid() && in.isOwn(owner):
		return // its configuration is known here
	case holdtime > 0:
		if x := in.table.Excluded(e.Addr); x != fdb.NotExcluded {
			in.counters.Excluded.Add(1)
			in.leftOut(vni, e.Addr, x.String())
			return
		}
	}
	in.owners = append(in.owners, owner)
	in.updates = append(in.updates, fdb.Update{
		VNI: vni, Addr: e.Addr, Identifier: e.Identifier, Source: fdb.Peer, Holdtime: holdtime, Repair: in.answer,
	})
	if len(in.updates) == cap(in.updates) {
		in.flush()
	}
}

// flush hands over what was collected.
func (in *intake) flush() {
	if len(in.updates) == 0 {
		return
	}
	res := in.table.Apply(in.now(), in.updates)
	in.counters.count(&res)
	in.added += res.Added
	for why, n := range res.Refused {
		// A repair is meant not to bring some of them back.
		if n > 0 && !(in.answer && (fdb.Refusal(why) == fdb.RefusedTombstone || fdb.Refusal(why) == fdb.RefusedOwned)) {
			in.repeats.Do("refused "+fdb.Refusal(why).String(), func(count int) {
				in.log.WithFields(logrus.Fields{"peer": in.from, "reason": fdb.Refusal(why).String(), "count": count}).
					Warn("members of a peer not taken into the table")
			})
		}
	}
	for i := range in.updates {
		u := &in.updates[i]
		switch m := (member{u.VNI, u.Addr}); {
		case u.Identifier != 0:
		case u.Holdtime == fdb.Static:
			in.via.told(m, in.from, in.owners[i], in.round)
		case !in.answer:
			in.via.forget(m)
		}
	}
	in.updates, in.owners = in.updates[:0], in.owners[:0]
}

// isOwn tells whether a is an address of this node.
func (g *Group) isOwn(a netip.Addr) bool {
	return a == g.source || g.table.Excluded(a) == fdb.ExcludedOwn
}

// leftOut reports a member that was left out.
func (in *intake) leftOut(vni vxlan.VNI, a netip.Addr, why string) {
	in.repeats.Do("left out "+why, func(count int) {
		in.log.WithFields(logrus.Fields{"peer": in.from, "vni": vni, "vtep": a, "reason": why, "count": count}).
			Warn("address cannot be a vtep")
	})
}
