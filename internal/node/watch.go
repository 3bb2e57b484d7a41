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

// sweepEvery is the time between two sweeps, which age_check cannot ask to be
// shorter. What has expired gets no copies before it is swept; the sweep
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
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	var before fdb.Stats
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		swept := n.table.Sweep(clock())
		n.swept.Store(int64(clock()))
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
	c := n.config()
	f := logrus.Fields{"svcnode_ip": c.SvcnodeIP, "vxfld_port": c.VxfldPort, "engine": "none"}
	if !c.SrcIP.IsUnspecified() {
		f["src_ip"] = c.SrcIP
	}
	if e := n.flooding.current(); e != nil {
		f["engine"] = e
		f["vxlan_listen_port"] = c.VXLANListenPort
		f["vxlan_dest_port"] = c.VXLANDestPort
	}
	if c.VRF != "" {
		f["vrf"] = c.VRF
	}
	n.log.WithFields(f).Info("ready")
}

// logStopped says what the node did while it ran.
func (n *Node) logStopped() { n.logCounters("stopped") }

// logCounters writes a line with what the node did so far.
func (n *Node) logCounters(message string) {
	f := logrus.Fields{}
	if c := n.flooding.counters(); n.flooding.current() != nil || c.Packets > 0 {
		f["packets"], f["copies"], f["fragmented"], f["learned"] = c.Packets, c.Copies, c.Fragmented, c.Learned
		if c.Loops > 0 {
			f["loops"] = c.Loops
		}
		if d := drops(&c); d != "" {
			f["drops"] = d
		}
	}
	n.log.WithFields(f).Info(message)
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
