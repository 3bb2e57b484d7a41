// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"slices"
	"time"

	"vxsnd/internal/fdb"
)

// lateTime is for how long a member that joins a list in the kernel is left out of
// it while its way is being found out: mostly a round trip. A list that raw has for
// that moment would take all its flows along.
const lateTime = 20 * time.Millisecond

// leaveOut leaves members out of the buffer that match has not found in the list
// of before, and whose way has been looked for for a moment only. They are in
// v.late then, where none has to wait any more.
func (m *mirror) leaveOut(now fdb.Time, v *vni, why reason) {
	late := v.late
	v.late = nil
	defer func() { m.gone.dests = append(m.gone.dests, late...) }()
	if v.count == 0 || why != inKernel {
		return
	}
	waits := func(i int) bool { return m.from[i] < 0 && m.dests.limits[m.next[i]] == limitPending }
	until, n := fdb.Never, 0
	for i, d := range m.next {
		if waits(i) {
			until = min(until, m.dests.all[d].since.Add(lateTime))
			n++
		}
	}
	if n == 0 || n == len(m.next) || until <= now {
		return
	}
	v.late, v.lateUntil = make([]uint32, 0, n), until
	to := 0
	for i, d := range m.next {
		if waits(i) {
			v.late = append(v.late, d)
			continue
		}
		m.buffer[to], m.next[to], m.from[to] = m.buffer[i], d, m.from[i]
		to++
	}
	m.buffer, m.next, m.from = m.buffer[:to], m.next[:to], m.from[:to]
	m.lates = append(m.lates, v)
	m.lateUntil = min(m.lateUntil, until)
}

// forgetLate lets go of the members of a VNI that were left out.
func (m *mirror) forgetLate(v *vni) {
	m.gone.dests = append(m.gone.dests, v.late...)
	v.late = nil
}

// admit marks the VNIs whose members have been left out for long enough.
func (m *mirror) admit(now fdb.Time) {
	if now < m.lateUntil {
		return
	}
	m.lateUntil = fdb.Never
	m.lates = slices.DeleteFunc(m.lates, func(v *vni) bool {
		switch {
		case v.late == nil:
			return true
		case v.lateUntil <= now:
			m.mark(v.id)
			return true
		}
		m.lateUntil = min(m.lateUntil, v.lateUntil)
		return false
	})
}
