// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"slices"

	"vxsnd/internal/underlay"
)

// redirect stores ways that changed. What makes lists smaller or keeps them from
// the kernel comes before packets take the new ways, and what does the opposite
// after it.
func (m *mirror) redirect(paths map[netip.Addr]underlay.Path) {
	ts := m.dests.plan(paths)
	m.again(m.dests.tighten(ts))
	now := m.clock()
	for i := range ts {
		m.dests.store(now, &ts[i])
	}
	m.again(m.dests.loosen(ts))
}

// again looks at the lists with a destination whose limit changed.
func (m *mirror) again(changed []bool) {
	if changed == nil {
		return
	}
	is := func(i uint32) bool { return changed[i] }
	for _, v := range m.list {
		if slices.ContainsFunc(v.late, is) {
			m.mark(v.id)
		}
		if !slices.ContainsFunc(v.dests, is) {
			continue
		}
		mtu, why := m.ways(v.dests)
		switch {
		case v.count > 0 && why == inKernel:
			m.point(v, v.count, mtu)
		case v.count > 0:
			m.foldVNI(v)
			m.look(v)
			m.toRaw(v, why)
		case v.why != pendingPath && v.why != unfitPath:
		case why == inKernel:
			m.mark(v.id)
		default:
			m.because(v, why)
		}
	}
}

// ways returns the smallest MTU on the ways to destinations, or why raw has to
// take them.
func (m *mirror) ways(dests []uint32) (mtu int, why reason) {
	least := limitNone
	for _, i := range dests {
		l := m.dests.limits[i]
		if l == limitUnfit {
			return 0, unfitPath
		}
		least = min(least, l)
	}
	if least == limitPending {
		return 0, pendingPath
	}
	return int(least), inKernel
}
