// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
)

// sweepEvery is the time between two sweeps, unless age_check asks for a
// shorter one. What has expired gets no copies before it is swept; the sweep
// frees its room.
const sweepEvery = time.Second

// capNames are the options behind the refusals that an operator can do
// something about.
var capNames = map[fdb.Refusal]string{
	fdb.RefusedVNIs:    "max_vnis",
	fdb.RefusedMembers: "max_members",
	fdb.RefusedEntries: "max_entries",
	fdb.RefusedLearned: "max_learned",
}

// sweep removes what has expired, and reports a table that is full, until ctx
// is done.
func (n *Node) sweep(ctx context.Context) error {
	t := time.NewTicker(min(sweepEvery, n.cfg.AgeCheck))
	defer t.Stop()
	var before fdb.Stats
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		swept := n.table.Sweep(clock())
		for source, count := range swept.Expired {
			if count > 0 {
				n.log.WithFields(logrus.Fields{"source": fdb.Source(source), "count": count}).Debug("members expired")
			}
		}
		now := n.table.Stats()
		for why, option := range capNames {
			if now.Refused[why] > before.Refused[why] {
				n.repeats.Do(option, func(int) {
					n.log.WithFields(logrus.Fields{"option": option, "count": n.table.Stats().Refused[why]}).
						Warn("table full: members refused since the start")
				})
			}
		}
		before = now
		n.repeats.Flush()
	}
}

// logReady says that all sockets are bound and served.
func (n *Node) logReady() {
	f := logrus.Fields{"svcnode_ip": n.cfg.SvcnodeIP, "vxfld_port": n.cfg.VxfldPort, "engine": "none"}
	if !n.cfg.SrcIP.IsUnspecified() {
		f["src_ip"] = n.cfg.SrcIP
	}
	if n.engine != nil {
		f["engine"] = n.engine
		f["vxlan_listen_port"] = n.cfg.VXLANListenPort
		f["vxlan_dest_port"] = n.cfg.VXLANDestPort
	}
	if n.cfg.VRF != "" {
		f["vrf"] = n.cfg.VRF
	}
	n.log.WithFields(f).Info("ready")
}

// logStopped says what the node did while it ran.
func (n *Node) logStopped() {
	f := logrus.Fields{}
	if n.engine != nil {
		c := n.engine.Counters()
		f["packets"], f["copies"], f["fragmented"], f["learned"] = c.Packets, c.Copies, c.Fragmented, c.Learned
		if c.Loops > 0 {
			f["loops"] = c.Loops
		}
		if d := drops(&c); d != "" {
			f["drops"] = d
		}
	}
	n.log.WithFields(f).Info("stopped")
}

// drops lists the reasons that occurred, as "reason=count reason=count".
func drops(c *metrics.FloodCount) string {
	var out []string
	for d, count := range c.Drops {
		if count > 0 {
			out = append(out, fmt.Sprintf("%s=%d", metrics.Drop(d), count))
		}
	}
	return strings.Join(out, " ")
}
