// SPDX-License-Identifier: Apache-2.0

package e2e

// A host with very many VXLAN devices. See vxrd_test.go for the lab.

import (
	"fmt"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

func TestVxrdWithManyDevices(t *testing.T) {
	t.Parallel()
	const devices, firstVNI = 2000, vxlan.VNI(1000)
	l := newLab(t, 0)
	n := l.serve(1)[0]
	m := l.kernelVTEP(1)
	add := func(from, to vxlan.VNI) {
		t.Helper()
		for vni := from; vni < to; vni++ {
			m.vxlan(vni, nowhere)
		}
	}
	// Half of them are there at the start, and half come while it runs.
	const half = firstVNI + devices/2
	add(firstVNI, half)
	v := m.idleVxrd()
	v.start(bothNodes([]*node{n}), "refresh_rate = 3") // the default: the last one counts
	add(half, firstVNI+devices)
	waitRegistered := func(want int) {
		t.Helper()
		check(t, netlab.Wait(within(t), fmt.Sprintf("%d VNIs at the service node", want), func() bool {
			return v.status().Registered == want && n.status().Entries == want
		}))
	}
	waitRegistered(devices)

	// At rest it does next to nothing.
	const rest = 3 * time.Second
	cpu := func() float64 {
		t.Helper()
		user, system, err := v.proc.CPU()
		check(t, err)
		return user + system
	}
	before, began := cpu(), time.Now()
	pass(t, "some rest", began.Add(rest))
	share := (cpu() - before) / time.Since(began).Seconds()
	memory := must(v.proc.Memory("VmHWM"))(t)
	t.Logf("at rest with %d devices: %.1f %% of a CPU, %.0f MB at most so far", devices, 100*share, memory)
	if share > 0.1 || memory > 60 {
		t.Errorf("got %.1f %% of a CPU and %.0f MB, want less than 10 %% and 60 MB", 100*share, memory)
	}

	m.vxlan(vxrdVNI, nowhere)
	n.waitMembers(vxrdVNI, m.addr)
	check(t, m.DeleteLink("vxlan"+firstVNI.String()))
	n.waitMembers(firstVNI)
	waitRegistered(devices)
}
