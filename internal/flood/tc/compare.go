// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"slices"
	"sync/atomic"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A pass is one comparison of all of the table with the maps.
type pass struct {
	vnis   []vxlan.VNI // still to be compared
	urgent bool        // the maps may be wrong
	again  bool        // and so may be what is compared already
	counts bool        // what is mended should not have been wrong
	began  fdb.Time
}

func (p *pass) done() bool { return len(p.vnis) == 0 }

// readAll has all of the table compared with the maps, and what the maps have
// beyond it. Where it is a check alone, what is mended counts.
func (m *mirror) readAll(check bool) {
	p := &m.pass
	if !p.done() && !check {
		// To begin again each time might never come to the end.
		p.urgent, p.again, p.counts = true, true, false
		return
	}
	vnis := m.table.VNIs(p.vnis[:0])
	for _, v := range m.list {
		vnis = append(vnis, v.id)
	}
	slices.Sort(vnis)
	*p = pass{vnis: slices.Compact(vnis), urgent: !check, counts: check, began: m.clock()}
}

// compare compares some VNIs, if it is time to.
func (m *mirror) compare(now fdb.Time) {
	p := &m.pass
	if p.done() && !p.urgent {
		if now.Sub(p.began) < compareEvery {
			return
		}
		m.readAll(true)
	}
	work := m.work + compareWork
	if p.urgent {
		work = max(work, turnWork)
	}
	for !p.done() && m.work < work {
		id := p.vnis[0]
		p.vnis = p.vnis[1:]
		m.check(id)
	}
	if !p.done() {
		return
	}
	m.stats.Synced = now
	if p.again {
		m.readAll(false)
	} else {
		p.urgent = false
	}
}

// check compares one VNI.
func (m *mirror) check(id vxlan.VNI) {
	v := m.vnis[id]
	mended := 0
	if v != nil && v.count > 0 {
		s := &m.maps.slots[v.slot]
		if atomic.LoadUint64(&s.Word) != v.word() || s.Vni != uint32(id) {
			mended++
		}
	}
	fresh := v == nil
	mended += m.update(id)
	if fresh && m.vnis[id] != nil {
		mended++
	}
	if mended == 0 || !m.pass.counts {
		return
	}
	// What the feed has to tell of by now is no difference.
	m.drain()
	_, dirty := m.dirty[id]
	if dirty || !m.pass.counts || slices.ContainsFunc(m.changes, func(c fdb.Change) bool { return c.VNI == id }) {
		return
	}
	m.stats.Differences += uint64(mended)
	m.repeats.Do("difference", func(count int) {
		m.log.WithField("vni", id).WithField("count", count).Warn("kernel differed from the table, mended")
	})
}
