// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"vxsnd/internal/fdb"
)

const (
	// feedCapacity is the number of changes of the table that may wait: those of
	// some 50 ms while a large dump is taken in.
	feedCapacity = 1 << 16

	// longestHoldtime stands in for a holdtime without end: no VTEP registers for
	// a shorter time by default (docs/protocol.md section 3).
	longestHoldtime = 90 * time.Second

	// minRound is the least time between two rounds over the table.
	minRound = 100 * time.Millisecond
)

// A teller watches the table and notes for each peer what it is to be told. It
// belongs to one goroutine.
type teller struct {
	*Group
	feed    *fdb.Feed
	changes []fdb.Change
	// statics has, of each static member of this node's own, the sources that
	// hold it. It shows what was withdrawn also where the feed lost that.
	statics map[member]sources
	// last is when the last round over the table began.
	last fdb.Time

	running map[*peer]context.CancelFunc
	wait    sync.WaitGroup // for what runs for the peers
}

// sources is a set of fdb.Source.
type sources uint8

func (s sources) has(src fdb.Source) bool { return s&(1<<src) != 0 }

// ownStatics are the sources whose members are this node's to tell until they
// are removed.
const ownStatics sources = 1<<fdb.Operator | 1<<fdb.Configuration

// tell notes for the peers what changes in the table and has it told, until
// ctx is done.
func (g *Group) tell(ctx context.Context) {
	t := &teller{
		Group:   g,
		feed:    g.table.Subscribe(feedCapacity, fdb.KindAdded|fdb.KindRemoved),
		statics: make(map[member]sources),
		last:    g.now(),
		running: make(map[*peer]context.CancelFunc),
	}
	defer t.feed.Close()
	defer t.wait.Wait()
	t.match(ctx, false)
	synced := g.synced // nil once all peers were told of everything
	round := time.NewTimer(g.round())
	defer round.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			t.match(ctx, synced == nil)
			// A shorter holdtime makes the next round due sooner.
			round.Reset(t.last.Add(g.round()).Sub(g.now()))
		case <-t.feed.C():
			t.follow()
		case <-synced:
			// A node that has just started held some of its members before
			// anybody listened for changes.
			synced = nil
			t.survey(true)
		case <-round.C:
			t.survey(false)
			round.Reset(g.round())
		}
	}
}

// round returns the time between two rounds over the table. Two of them may
// fail before a member expires at a peer.
func (g *Group) round() time.Duration {
	return max(min(g.settings.Load().Holdtime, longestHoldtime)/3, minRound)
}

// match starts what runs for new peers, and stops what runs for former ones.
// A new peer is told of all there is, if the others were.
func (t *teller) match(ctx context.Context, told bool) {
	former := t.running
	t.running = make(map[*peer]context.CancelFunc)
	for _, p := range *t.peers.Load() {
		if stop, ok := former[p]; ok {
			t.running[p] = stop
			delete(former, p)
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		t.running[p] = stop
		t.wait.Go(func() { t.relay(ctx, p) })
		t.wait.Go(func() { t.updates(ctx, p) })
		t.wait.Go(func() { t.watch(ctx, p) })
		if told {
			t.hand(p, &batch{all: true, round: true})
		}
	}
	for _, stop := range former {
		stop()
	}
}

// follow notes the changes that the feed holds.
func (t *teller) follow() {
	var lost bool
	t.changes, lost = t.feed.Take(t.changes[:0])
	if lost {
		t.survey(true)
		return
	}
	b := newBatch()
	for i := range t.changes {
		if c := &t.changes[i]; c.Identifier == 0 {
			t.note(&b, c)
		}
	}
	t.handAll(&b)
	if cap(t.changes) > feedCapacity/8 {
		t.changes = nil
	}
}

// note adds to b what one change of an entry of identifier 0 means for the peers.
func (t *teller) note(b *batch, c *fdb.Change) {
	m := member{c.VNI, c.Addr}
	static := ownStatics.has(c.Source)
	switch {
	case c.Kind == fdb.Added:
		if static {
			t.statics[m] |= 1 << c.Source
		}
		if static || c.Source == fdb.Data {
			b.change(m)
		}
		return
	case static:
		if t.statics[m] &^= 1 << c.Source; t.statics[m] == 0 {
			delete(t.statics, m)
		}
	}
	switch {
	case c.Reason != fdb.Withdrawn:
	case static, c.Source == fdb.Registration && c.Expires == fdb.Never && !t.via.knows(m):
		// A peer that has such a registration from a table takes it for a group's
		// member, which no relayed message withdraws.
		b.withdrawn[m] = struct{}{}
	default:
		// Who withdrew it here has done so at the peers, where identifier 0 has
		// but one entry for all that vouch for the member. What this node still has
		// of it, static or learned, is told again; nothing is where it has nothing.
		b.change(m)
	}
}

// survey reads the table as a whole and notes what the peers are to be told:
// all there is, or what they might lack though it lives on here. Those are the
// learned members that were heard since the last survey, and the static ones: a
// registration without identifier makes them age at a peer, and the withdrawal
// of another node that held the same one may reach a peer late.
func (t *teller) survey(all bool) {
	since := t.last.Add(-time.Second) // Entry.Heard is exact to the second
	t.last = t.now()
	b := newBatch()
	b.all, b.round = all, true
	former := t.statics
	t.statics = make(map[member]sources)
	told := t.via.begin()
	held := t.table.Stats().BySource
	if told || held[fdb.Data]+held[fdb.Operator]+held[fdb.Configuration] > 0 {
		var es []fdb.Entry
		for _, vni := range t.table.VNIs(nil) {
			es = t.table.Entries(t.last, vni, es[:0])
			for i := range es {
				e := &es[i]
				m := member{vni, e.Addr}
				switch {
				case e.Identifier != 0:
				case ownStatics.has(e.Source):
					t.statics[m] |= 1 << e.Source
					b.change(m)
				case e.Source == fdb.Peer && e.Expires == fdb.Never:
					t.via.keep(m)
				case e.Source == fdb.Data && e.Heard >= since:
					b.change(m)
				}
			}
		}
	}
	for m, held := range former {
		if held&^t.statics[m] != 0 {
			b.withdrawn[m] = struct{}{}
		}
	}
	t.via.end()
	t.handAll(&b)
}

// handAll has every peer be told of the members of b. What this node withdraws
// goes from its own table too, where peers have told it back.
func (t *teller) handAll(b *batch) {
	if len(b.withdrawn) > 0 {
		for m := range b.withdrawn {
			t.via.forget(m)
		}
		t.release(slices.Collect(maps.Keys(b.withdrawn)))
	}
	for p := range t.running {
		t.hand(p, b)
	}
}
