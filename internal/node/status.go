// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

const (
	// stuckWorker is how long a flood worker may go without showing that it
	// lives: it does so several times a second, and serves what is queued for two
	// seconds when it stops.
	stuckWorker = 5 * time.Second

	// stuckTable is the same for the sweep, which needs the table's lock each
	// second.
	stuckTable = 10 * time.Second

	// summaryVNIs and summaryVTEPs bound a summary of the table.
	summaryVNIs  = 32
	summaryVTEPs = 16
)

// Alive returns nil while every flood worker and the table show that they
// live, and else which of them does not.
func (n *Node) Alive() error {
	now := clock()
	if d := now.Sub(n.flooding.alive(now)); d > stuckWorker {
		return fmt.Errorf("a flood worker is stuck for %v", d.Round(time.Second))
	}
	if d := now.Sub(fdb.Time(n.swept.Load())); d > stuckTable {
		return fmt.Errorf("the table is stuck for %v", d.Round(time.Second))
	}
	return nil
}

// A meter turns counters into rates.
type meter struct {
	mu     sync.Mutex // guards what follows
	at     fdb.Time
	before metrics.FloodCount
}

// rates returns packets, copies and drops per second since the call before.
func (m *meter) rates(now fdb.Time, c metrics.FloodCount) (packets, copies, drops float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seconds := now.Sub(m.at).Seconds()
	for d := range c.Drops {
		drops += float64(c.Drops[d] - m.before.Drops[d])
	}
	packets = float64(c.Packets-m.before.Packets) / seconds
	copies = float64(c.Copies-m.before.Copies) / seconds
	m.at, m.before = now, c
	return packets, copies, drops / seconds
}

// Status returns one line that says how the node does, with rates since the
// call before.
func (n *Node) Status() string {
	s := n.table.Stats()
	line := counted(s.Members, "member") + " in " + counted(s.VNIs, "VNI")
	if n.flooding.current() == nil {
		return line + ", floods nothing"
	}
	packets, copies, drops := n.meter.rates(clock(), n.flooding.counters())
	return fmt.Sprintf("%s, %.0f packets/s in, %.0f copies/s out, %.0f drops/s", line, packets, copies, drops)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// Summary writes to the log what the table holds: its numbers, and the VNIs with
// the most members, up to a bound.
func (n *Node) Summary() {
	n.sync(context.Background())
	s := n.table.Stats()
	f := logrus.Fields{"vnis": s.VNIs, "members": s.Members, "entries": s.Entries}
	for src, count := range s.BySource {
		f[fdb.Source(src).String()] = count
	}
	n.log.WithFields(f).Info("table")

	type size struct {
		vni   vxlan.VNI
		count int
	}
	now := clock()
	var sizes []size
	var members []netip.Addr
	for _, vni := range n.table.VNIs(nil) {
		members = n.table.Members(now, vni, members[:0])
		sizes = append(sizes, size{vni, len(members)})
	}
	slices.SortFunc(sizes, func(a, b size) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.vni, b.vni))
	})
	for i, z := range sizes {
		if i == summaryVNIs {
			n.log.WithField("count", len(sizes)-i).Info("table: more vnis")
			break
		}
		members = n.table.Members(now, z.vni, members[:0])
		f := logrus.Fields{"vni": z.vni, "count": len(members), "vteps": someVTEPs(members)}
		if no := n.without(now, z.vni); len(no) > 0 {
			f["excluded"] = someVTEPs(no)
		}
		n.log.WithFields(f).Info("table: members")
	}
	n.logCounters("counters")
}

// without returns the members of a VNI that get no copies.
func (n *Node) without(now fdb.Time, vni vxlan.VNI) (no []netip.Addr) {
	for _, e := range n.table.Entries(now, vni, nil) {
		if n.table.Excluded(e.Addr) != fdb.NotExcluded && !slices.Contains(no, e.Addr) {
			no = append(no, e.Addr)
		}
	}
	return no
}

// someVTEPs lists addresses up to the bound of a summary.
func someVTEPs(addrs []netip.Addr) string {
	text := strings.Trim(fmt.Sprint(addrs[:min(len(addrs), summaryVTEPs)]), "[]")
	if len(addrs) > summaryVTEPs {
		text += " …"
	}
	return text
}
