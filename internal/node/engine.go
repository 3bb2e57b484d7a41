// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/flood"
	"vxsnd/internal/flood/tc"
	"vxsnd/internal/metrics/prom"
)

// aroundRaw returns the engine tc with raw behind it.
func (n *Node) aroundRaw(c *config.Config, raw *flood.Raw) *tc.Tc {
	return tc.New(tc.Config{
		Raw: raw, Table: n.table, Required: c.Engine == config.EngineTC,
		Listen: dataAddrs(c), DestPort: c.VXLANDestPort, VRF: c.VRF, MaxVNIs: c.Limits.MaxVNIs,
		Clock: clock, Flood: floodSettings(c), Settings: tcSettings(c), Traffic: n.traffic, Log: n.log,
	})
}

func tcSettings(c *config.Config) tc.Settings {
	return tc.Settings{MaxMembers: c.TCMaxMembers, LearnHoldtime: holdtime(c.Holdtime), Interfaces: c.Interfaces}
}

// configureEngine puts settings of the engine in force, once those of the table are.
func configureEngine(e flood.Engine, c *config.Config) {
	e.Configure(floodSettings(c))
	if t, ok := e.(*tc.Tc); ok {
		t.Adjust(tcSettings(c))
	}
}

// kernel says what the kernel floods. It is not ok where nobody asked for that, or
// nothing is flooded.
func (n *Node) kernel() (s tc.Status, ok bool) {
	if t, ok := n.flooding.current().(*tc.Tc); ok {
		return t.Status(), true
	}
	return tc.Status{}, false
}

// A syncer is an engine whose changes and figures come with delay.
type syncer interface {
	Sync(context.Context) error
}

// syncTime is how long an answer waits for figures of now: those of a moment ago
// are better than none.
const syncTime = time.Second

// sync has the engine take in what has changed, and what it has flooded count.
func (n *Node) sync(ctx context.Context) {
	if e, ok := n.flooding.current().(syncer); ok {
		ctx, cancel := context.WithTimeout(ctx, syncTime)
		defer cancel()
		_ = e.Sync(ctx)
	}
}

// NeedsKernel tells whether the node goes on needing the capabilities to flood in
// the kernel. It is for the time after Listen.
func (n *Node) NeedsKernel() bool {
	s, _ := n.kernel()
	return s.Loaded
}

// shownKernel is what the management socket shows of the kernel's part.
func shownKernel(s *tc.Status) *control.Kernel {
	return &control.Kernel{
		Hook: s.Hook, VNIs: s.VNIs, Members: s.Members, Pending: s.Pending, Bytes: s.Bytes, RawVNIs: s.RawVNIs,
		Packets: s.Packets, Copies: s.Copies, HandedUp: s.HandedUp, Differences: s.Differences,
	}
}

func kernelFigures(s *tc.Status) *prom.Kernel {
	return &prom.Kernel{
		VNIs: s.VNIs, Members: s.Members, Pending: s.Pending, Bytes: s.Bytes, Devices: len(s.Devices), RawVNIs: s.RawVNIs,
		Packets: s.Packets, Copies: s.Copies, HandedUp: s.HandedUp, Differences: s.Differences,
	}
}
