// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const (
	// feedCapacity is how many changes wait for the mirror at most. What does not
	// fit costs reading the table again.
	feedCapacity = 1 << 16

	// settle is the least time between two turns: changes that come in a burst
	// become one change of a VNI's list.
	settle = 2 * time.Millisecond

	// turnWork is how many records one turn looks at, about: a few milliseconds, in
	// which nothing new is taken in. compareWork is the part of it that a
	// comparison without need takes.
	turnWork    = 1 << 15
	compareWork = turnWork / 4

	// compareEvery is the time between two comparisons of all of the table with the
	// maps.
	compareEvery = 30 * time.Second

	// tickEvery is the longest time between two turns, and activityTicks are those
	// between two looks at what the program saw.
	tickEvery     = 250 * time.Millisecond
	activityTicks = 2

	// leaseFor is how long the maps hold without user space; each turn renews it. It
	// is less than the time for which the kernel itself would trust a neighbour
	// that does not answer any more: five seconds until it asks, and three
	// questions a second apart (arp(7)).
	leaseFor = 5 * time.Second
)

// run keeps the maps equal to the table until ctx is done, and has raw do
// everything then.
func (m *mirror) run(ctx context.Context) error {
	m.follow()
	defer m.feed.Close()
	defer m.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.wait(ctx) })
	g.Go(func() error { return m.turns(ctx) })
	return g.Wait()
}

// follow begins with reading the table.
func (m *mirror) follow() {
	m.feed = m.table.Subscribe(feedCapacity, fdb.KindAdded|fdb.KindRefreshed|fdb.KindRemoved)
	m.readAll(false)
}

// close has raw do everything, and tells what the program counted last.
func (m *mirror) close() {
	m.now.raw = true
	m.renew()
	left := []garbage{m.held, m.gone}
	for len(m.dying)+len(m.waiting) > 0 {
		select {
		case g := <-m.dying:
			left = append(left, g)
		case g := <-m.waiting:
			left = append(left, g)
		}
	}
	if err := m.maps.grace(); err != nil {
		m.log.WithError(err).Warn("what the kernel floods at the end is not counted")
	}
	for _, g := range left {
		m.release(g)
	}
	m.activity()
	m.publish()
}

// wait hands on what no run of the program can look at any more.
func (m *mirror) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case g := <-m.dying:
			if err := m.maps.grace(); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				m.held = g
				return nil
			case m.waiting <- g:
			}
		}
	}
}

func (m *mirror) turns(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		if more := m.turn(); more {
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		pause.Reset(settle)
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if !m.pass.done() {
			continue
		}
		pause.Reset(m.awake().Sub(m.clock()))
		select {
		case <-ctx.Done():
			return nil
		case <-m.feed.C():
		case <-m.wake:
		case <-pause.C:
		case g := <-m.waiting:
			m.release(g)
		}
	}
}

// tick returns how often time alone is reason for a turn: several times in the
// life of a learned member.
func (m *mirror) tick() time.Duration {
	if m.now.hold <= 0 {
		return tickEvery
	}
	return min(tickEvery, max(m.now.hold/8, settle))
}

// awake returns when there is something to do because of the time alone.
func (m *mirror) awake() fdb.Time {
	at := min(m.ticked.Add(m.tick()), m.lateUntil)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nextSync != nil {
		at = min(at, m.synced)
	}
	return at
}

// turn does some of what there is to do, and tells whether there is more that
// cannot wait.
func (m *mirror) turn() (more bool) {
	m.renew()
	for len(m.waiting) > 0 {
		m.release(<-m.waiting)
	}
	answers := m.requests()
	m.drain()
	now := m.clock()
	if now.Sub(m.ticked) >= m.tick() {
		m.ticked = now
		m.ask(now)
	}
	if now.Sub(m.looked) >= activityTicks*m.tick() {
		m.looked = now
		m.activity()
	}
	m.admit(now)
	m.work = 0
	for len(m.queue) > 0 && m.work < turnWork {
		v := m.queue[0]
		m.queue = m.queue[1:]
		delete(m.dirty, v)
		m.update(v)
	}
	m.compare(now)
	if done := m.endSync(); done != nil {
		answers = append(answers, done)
	}
	m.finish()
	m.publish()
	for _, done := range answers {
		close(done)
	}
	return len(m.queue) > 0 || m.pass.urgent
}

// mark has a VNI updated soon.
func (m *mirror) mark(v vxlan.VNI) {
	if _, ok := m.dirty[v]; !ok {
		m.dirty[v] = struct{}{}
		m.queue = append(m.queue, v)
	}
}

// ask marks the VNIs of which the table has to be asked about expiries.
func (m *mirror) ask(now fdb.Time) {
	soon := now.Add(2 * m.tick())
	for _, v := range m.list {
		if v.count > 0 && v.due <= soon {
			m.mark(v.id)
		}
	}
}

// renew has the maps hold for some time from now.
func (m *mirror) renew() {
	now, lease := m.clock(), uint64(0)
	if !m.now.raw {
		lease = uint64(now.Add(leaseFor))
	}
	if old := atomic.SwapUint64(&m.maps.settings.Lease, lease); old != 0 && fdb.Time(old) < now {
		m.log.WithField("interval", now.Sub(fdb.Time(old)).Round(time.Millisecond)).
			Warn("the kernel left all packets to raw, since this process did not run for long")
	}
}

// requests puts in force what others ask for, and returns whom to tell.
func (m *mirror) requests() (answers []chan struct{}) {
	m.mu.Lock()
	wanted, asked, changed, answers := m.wanted, m.asked, m.changed, m.answers
	m.wanted, m.asked, m.changed, m.answers = nil, nil, nil, nil
	m.beginSync()
	m.mu.Unlock()
	if wanted != nil {
		m.now = wanted.sound()
		m.storeHold()
		m.renew()
		m.readAll(false)
	}
	for id, on := range asked {
		if !on {
			delete(m.holds, id)
			m.mark(id)
			continue
		}
		m.holds[id] = struct{}{}
		if v := m.vnis[id]; v != nil {
			m.update(id)
		}
	}
	if len(changed) > 0 {
		m.redirect(changed)
	}
	return answers
}

// drain takes in what has happened to the table.
func (m *mirror) drain() {
	var lost bool
	m.changes, lost = m.feed.Take(m.changes[:0])
	if lost {
		m.stats.Lost++
		m.readAll(false)
	}
	for i := range m.changes {
		c := &m.changes[i]
		if c.Kind != fdb.Refreshed || !m.refreshed(c) {
			m.mark(c.VNI)
		}
	}
	if cap(m.changes) > turnWork {
		m.changes = nil
	}
}

// refreshed takes in that an entry has another expiry. It is false where that is
// not all there is to do.
func (m *mirror) refreshed(c *fdb.Change) bool {
	v := m.vnis[c.VNI]
	if v == nil {
		return false
	}
	if v.count == 0 {
		return true
	}
	if !c.Addr.Is4() {
		return false
	}
	r := m.find(v, network(c.Addr))
	if r == nil {
		return false
	}
	m.work++
	// Mostly it is later. One that never ages may be known from then on.
	if old := atomic.LoadUint64(&r.Expires); c.Expires != fdb.Never && uint64(c.Expires) > old {
		raise(&r.Expires, uint64(c.Expires))
		return true
	}
	d, ok := m.table.MirrorOne(m.clock(), c.VNI, c.Addr)
	if ok {
		m.refresh(r, &d)
		v.due = min(v.due, m.dueOf(m.clock(), &d))
	}
	return ok
}

// release lets go of what the program cannot look at any more.
func (m *mirror) release(g garbage) {
	for i := range g.blocks {
		m.lookBack(&g.blocks[i])
		m.blocks.give(g.blocks[i].at)
	}
	for _, i := range g.dests {
		m.dests.release(i)
	}
	for _, slot := range g.slots {
		m.fold(vxlan.VNI(m.maps.slots[slot].Vni), slot)
	}
	m.spare = append(m.spare, g.slots...)
	m.dests.forgetDevices(g.idle)
}

// finish tells of new destinations, and has what is not used any more let go of
// when the program cannot look at it any more.
func (m *mirror) finish() {
	m.dests.settle(m.clock())
	m.gone.idle = append(m.gone.idle, m.dests.idle...)
	m.dests.idle = m.dests.idle[:0]
	if m.gone.empty() {
		return
	}
	select {
	case m.dying <- m.gone:
		m.gone = garbage{}
	default: // one is waited for: the next takes it along
	}
}
