// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
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

// caughtUp waits until the kernel floods to the members that the table has at the
// time of the call, where it floods at all. Raw reads the table itself, and knows
// all ways.
func (n *node) caughtUp() {
	t := n.lab.t
	t.Helper()
	if n.lab.engine != engineTC || n.status().Engine != string(engineTC) {
		return
	}
	n.mirrored()
	check(t, netlab.Wait(within(t), "the ways to all members", func() bool {
		s := n.status()
		if s.Kernel == nil {
			return true // it has just stopped to flood in the kernel
		}
		known := s.Kernel.VNIs
		for _, of := range s.Kernel.RawVNIs {
			known += of
		}
		return known == s.VNIs && s.Kernel.RawVNIs["pending"] == 0 && (s.Kernel.VNIs == 0 || len(s.Devices) > 0)
	}))
}

// mirrored returns when what the table has at the time of the call is in the
// kernel. A capture has to wait for that, too, to miss nothing.
func (n *node) mirrored() {
	n.lab.t.Helper()
	const nobodys = uint32(vxlan.MaxVNI - 2)
	begun := errors.New("begun")
	ctx := within(n.lab.t)
	c := must(control.Dial(ctx, n.file("vxsnd.sock")))(n.lab.t)
	defer c.Close()
	err := c.Call(ctx, control.CommandCapture, control.CaptureArgs{VNI: nobodys}, func(json.RawMessage) error { return begun })
	if !errors.Is(err, begun) {
		n.lab.t.Fatalf("capture: %v", err)
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
	var k *control.Kernel
	// The figures are taken over a few times a second.
	err := netlab.Wait(within(t), "packets flooded in the kernel", func() bool {
		k = n.status().Kernel
		return k != nil && k.Packets >= uint64(packets)
	})
	if err != nil {
		t.Fatalf("got %+v, want %d packets at least flooded in the kernel: %v", k, packets, err)
	}
}
