// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// An engine floods. What it promises does not depend on which one it is, so the
// tests of the data plane run over all of them.
type engine string

const (
	engineRaw engine = "raw"
	engineTC  engine = "tc"
)

// overEngines runs a test of the data plane over each engine.
func overEngines(t *testing.T, f func(t *testing.T, e engine)) {
	t.Parallel()
	for _, e := range []engine{engineRaw, engineTC} {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			f(t, e)
		})
	}
}

// lab is newLab for nodes that flood by this engine, whatever their configuration.
func (e engine) lab(t *testing.T, mtu int) *lab {
	t.Helper()
	l := newLab(t, mtu)
	if e == engineTC {
		if err := features.HaveProgramHelper(ebpf.SchedCLS, asm.FnLoop); err != nil {
			netlab.Lacks(t, "bpf_loop (Linux 5.17)", err)
		}
	}
	l.engine = e
	return l
}

// config returns the configuration line that chooses the engine.
func (e engine) config() string {
	if e == "" {
		return "" // what the program itself prefers
	}
	return "engine = " + string(e)
}

// settled waits until the kernel floods to the members that the table has at the
// time of the call, where it floods at all. Raw reads the table itself, and knows
// all ways.
func (n *node) settled() {
	t := n.lab.t
	t.Helper()
	if n.registers || n.lab.engine == engineRaw {
		return
	}
	var k *control.Kernel
	err := netlab.Wait(within(t), "a kernel that is up to date", func() bool {
		k = n.status().Kernel
		return k == nil || k.Pending == 0
	})
	if err != nil {
		t.Fatalf("got %+v: %v", k, err)
	}
}

// wantKernel fails the test unless the kernel itself has flooded so many packets,
// where it is to do that.
func (n *node) wantKernel(packets int) {
	t := n.lab.t
	t.Helper()
	if n.lab.engine != engineTC {
		return
	}
	if k := n.status().Kernel; k == nil || k.Packets < uint64(packets) {
		t.Fatalf("got %+v, want %d packets at least flooded in the kernel", k, packets)
	}
}
