// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const (
	// coalesce is how long changes are gathered before a peer is told of them.
	coalesce = 50 * time.Millisecond

	// maxUpdate is the number of members that a peer is told of in one message:
	// some 250 KB.
	maxUpdate = 10_000

	// minRetry and maxRetry bound the wait before a peer that could not be told
	// is tried again, which doubles from one to the next.
	minRetry = time.Second
	maxRetry = 30 * time.Second
)

// updates tells one peer what waits for it, until ctx is done. What could not
// be told is told when the peer is back, as it is then.
func (g *Group) updates(ctx context.Context, p *peer) {
	retry := minRetry
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.backlog.wake:
		}
		if !sleep(ctx, coalesce) {
			return
		}
		b := p.backlog.take()
		err := g.flush(ctx, p, &b)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			retry = minRetry
			continue
		}
		p.updateErrors.Add(1)
		g.repeats.Do("update "+p.name, func(count int) {
			g.log.WithFields(logrus.Fields{"peer": p.addr, "count": count}).WithError(err).Warn("peer not told of members")
		})
		g.hand(p, &b)
		// The peers of a node that was away should not all come at once.
		if !sleep(ctx, retry-rand.N(retry/4)) {
			return
		}
		retry = min(2*retry, maxRetry)
	}
}

// hand has a peer be told of the members of b.
func (g *Group) hand(p *peer, b *batch) {
	if lost := p.backlog.add(b); lost > 0 {
		g.repeats.Do("withdrawals "+p.name, func(int) {
			g.log.WithFields(logrus.Fields{"peer": p.addr, "count": lost}).Warn("withdrawals not told to peer, too many wait")
		})
	}
}

// sleep waits, and tells whether ctx lives on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// flush tells a peer of the members of b as the table has them now, in as many
// connections as that takes.
func (g *Group) flush(ctx context.Context, p *peer, b *batch) error {
	u := &update{Group: g, peer: p, ours: p.ours.Load(), batch: b, standings: make(map[netip.Addr]standing)}
	if u.ours && b.round {
		u.sync.Round = rand.Uint64() | 1 // any but 0
	}
	var vnis []vxlan.VNI
	if b.all {
		vnis = g.table.VNIs(nil)
	}
	for m := range b.changed {
		vnis = append(vnis, m.vni)
	}
	gone := slices.SortedFunc(maps.Keys(b.withdrawn), func(a, b member) int { return cmp.Compare(a.vni, b.vni) })
	for _, m := range gone {
		vnis = append(vnis, m.vni)
	}
	slices.Sort(vnis)
	for _, vni := range slices.Compact(vnis) {
		for len(gone) > 0 && gone[0].vni == vni {
			u.standings[gone[0].addr] = standing{}
			gone = gone[1:]
		}
		if err := u.tell(ctx, vni); err != nil {
			return err
		}
		clear(u.standings)
	}
	u.sync.Complete = u.sync.Round != 0
	return u.end(ctx)
}

// A standing is what the table holds of one VTEP in one VNI under identifier 0.
type standing struct {
	// local says that this node knows of it from others than peers, and own that
	// it does so by other means than a registration, which is relayed. until is
	// when the last of that ends.
	local, own bool
	until      fdb.Time
	// vouched says that something else here than the configuration holds it for
	// ever.
	vouched bool
	// foreign says that a peer told of it as static.
	foreign bool
}

// seconds returns what a peer is told: the seconds left, 0 for a member that
// was withdrawn. The peers have one entry for what all nodes say of identifier
// 0, so what ages is not told where another node holds the member for ever.
func (s *standing) seconds(now fdb.Time, withdrawn bool) (_ uint32, told bool) {
	switch {
	case !s.local:
		return vxfld.HoldtimeWithdraw, withdrawn
	case !s.own && !withdrawn:
		return 0, false
	}
	// A member that lives for less than a second more is not withdrawn.
	return max(secondsLeft(s.until, now), 1), !s.foreign || s.until == fdb.Never
}

// An update is what a peer is being told.
type update struct {
	*Group
	peer  *peer
	ours  bool // the peer is of this kind
	batch *batch

	entries   []fdb.Entry             // of one VNI; reused
	standings map[netip.Addr]standing // of one VNI; reused
	sync      vxfld.Sync              // the message at hand
	n         int                     // its entries
	withdraw  []vxfld.VNIMembers      // what was withdrawn since the last message
}

// tell tells of the members of one VNI. The standings hold those that were
// withdrawn.
func (u *update) tell(ctx context.Context, vni vxlan.VNI) error {
	now := u.now()
	u.entries = u.table.Entries(now, vni, u.entries[:0])
	for i := range u.entries {
		u.add(&u.entries[i])
	}
	u.sync.VNIs = append(u.sync.VNIs, vxfld.VNIEntries{VNI: vni})
	for a, st := range u.standings {
		_, withdrawn := u.batch.withdrawn[member{vni, a}]
		seconds, told := st.seconds(now, withdrawn)
		// Version 3 has no place for IPv6 members.
		if !told || !a.Is4() || seconds > 0 && u.table.Excluded(a) != fdb.NotExcluded {
			continue
		}
		if u.n >= maxUpdate {
			if err := u.end(ctx); err != nil {
				return err
			}
			u.sync.VNIs = append(u.sync.VNIs, vxfld.VNIEntries{VNI: vni})
		}
		rec := &u.sync.VNIs[len(u.sync.VNIs)-1]
		e := vxfld.SyncEntry{Addr: a, Holdtime: seconds}
		if seconds == vxfld.HoldtimeStatic && !st.vouched {
			e.Owner = netip.IPv4Unspecified()
			if u.ours && withdrawn {
				// It is not the group's any more.
				rec.Entries = append(rec.Entries, vxfld.SyncEntry{Addr: a, Holdtime: vxfld.HoldtimeWithdraw})
				u.n++
			}
		}
		rec.Entries = append(rec.Entries, e)
		u.n++
		if seconds == vxfld.HoldtimeWithdraw {
			u.withdraw = append(u.withdraw, vxfld.VNIMembers{VNI: vni, Addrs: []netip.Addr{a}})
		}
	}
	if rec := u.sync.VNIs[len(u.sync.VNIs)-1]; len(rec.Entries) == 0 {
		u.sync.VNIs = u.sync.VNIs[:len(u.sync.VNIs)-1]
	}
	return nil
}

// add adds an entry to the standing of its VTEP, if that is one to tell of.
func (u *update) add(e *fdb.Entry) {
	if e.Identifier != 0 {
		return
	}
	st, ok := u.standings[e.Addr]
	if !ok && !u.batch.all {
		if _, ok := u.batch.changed[member{e.VNI, e.Addr}]; !ok {
			return
		}
	}
	if e.Source == fdb.Peer {
		st.foreign = st.foreign || e.Expires == fdb.Never
	} else {
		st.local = true
		st.own = st.own || e.Source != fdb.Registration
		st.until = max(st.until, e.Expires)
		st.vouched = st.vouched || e.Expires == fdb.Never && e.Source != fdb.Configuration
	}
	u.standings[e.Addr] = st
}

// end sends the message at hand, if it says anything. A peer of this kind
// answers once it has taken that in, so what it is told comes in order; nobody
// else does.
func (u *update) end(ctx context.Context) error {
	if u.n == 0 && !u.sync.Complete {
		return nil
	}
	if err := u.say(ctx); err != nil {
		return err
	}
	u.peer.updates.Add(uint64(u.n))
	u.peer.updateConnections.Add(1)
	// Deployed nodes keep what SYNC withdraws until their next sweep
	// (docs/protocol.md section 4).
	if len(u.withdraw) > 0 && !u.ours {
		u.encode(&vxfld.Refresh{VNIs: u.withdraw}, func(msg []byte) { u.enqueue(u.peer, msg) })
	}
	u.sync.VNIs, u.withdraw, u.n = u.sync.VNIs[:0], nil, 0
	return nil
}

func (u *update) say(ctx context.Context) error {
	if u.ours {
		_, err := u.ask(ctx, u.peer, u.sync)
		return err
	}
	msg, err := vxfld.Message{Version: vxfld.V3, Body: &u.sync}.Append(nil)
	if err != nil {
		panic("peer: " + err.Error()) // the table holds no VNI that cannot be written
	}
	err = u.deliver(ctx, u.peer.addr, msg)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	u.connected(u.peer, err)
	return err
}

// know records whether a peer has shown itself to be of this kind. One that has
// done so just now is told of everything, as only such a peer can be told.
func (g *Group) know(p *peer, ours bool) {
	if p.ours.Swap(ours) != ours && ours {
		g.hand(p, &batch{all: true, round: true})
	}
}
