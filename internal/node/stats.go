// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"iter"
	"slices"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/vxlan"
)

const (
	// forgetEvery is the time between two looks for figures of VNIs that have gone.
	forgetEvery = time.Minute

	// sendersPerVNI is for how many VTEPs in a VNI there are figures on average, and
	// maxSenders bounds those of all VNIs: 10 MB for each flood worker.
	sendersPerVNI = 16
	maxSenders    = 1 << 17
)

func trafficLimits(c *config.Config) metrics.TrafficLimits {
	return metrics.TrafficLimits{VNIs: c.MetricsMaxVNIs, Senders: min(sendersPerVNI*c.MetricsMaxVNIs, maxSenders)}
}

// forget lets go of figures of VNIs that the table does not hold any more, until
// ctx is done.
func (n *Node) forget(ctx context.Context) error {
	t := time.NewTicker(forgetEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			n.forgetVNIs()
		}
	}
}

func (n *Node) forgetVNIs() {
	vnis := n.table.VNIs(nil)
	n.traffic.Keep(func(v vxlan.VNI) bool {
		_, known := slices.BinarySearch(vnis, v)
		return known
	})
}

// members returns how many VTEPs get the copies of a VNI.
func (n *Node) members(now fdb.Time, vni vxlan.VNI) int {
	l := fdb.Lookup{VNI: vni}
	n.table.Peek(now, &l)
	if l.AllLive(now) {
		return len(l.Destinations)
	}
	count := 0
	for i := range l.Destinations {
		if l.Live(i, now) {
			count++
		}
	}
	return count
}

// stats sends figures of traffic.
func (n *Node) stats(ctx context.Context, args *control.StatsArgs, call *control.Call) error {
	var vnis []vxlan.VNI
	if args.VNI != nil {
		vni, err := checkVNI(*args.VNI)
		if err != nil {
			return err
		}
		vnis = []vxlan.VNI{vni}
	}
	n.sync(ctx)
	head := control.Stats{At: time.Now(), Monotonic: int64(clock())}
	var rows []metrics.VNITotal
	var other metrics.VNICount
	if args.VNI != nil {
		rows = []metrics.VNITotal{{VNI: vnis[0], VNICount: n.traffic.VNI(vnis[0])}}
		other = n.traffic.Other()
	} else {
		rows, other = n.traffic.Load(nil)
		vnis = n.table.VNIs(nil)
	}
	f := n.flooding.counters()
	total := metrics.VNICount{Packets: f.Packets, Bytes: f.Bytes, Copies: f.Copies, CopyBytes: f.CopyBytes, Drops: f.Drops}
	if c := n.config(); c.MetricsMaxVNIs == 0 {
		other = total // nothing is counted by itself
	}
	all := vnis
	if args.VNI != nil {
		all = n.table.VNIs(nil)
	}
	members, now := 0, clock()
	for _, vni := range all {
		members += n.members(now, vni)
	}
	head.Total, head.Other = shownVNI(0, members, &total), shownVNI(0, 0, &other)
	if err := call.Send(&head); err != nil {
		return err
	}
	part := make([]control.VNIStat, 0, control.MaxPart)
	for row := range n.eachVNI(vnis, rows) {
		if len(part) == control.MaxPart {
			if err := call.Send(part); err != nil {
				return err
			}
			part = part[:0]
		}
		s := shownVNI(row.VNI, row.Members, &row.VNICount)
		s.Uncounted = row.VNICount == metrics.VNICount{} && !n.traffic.Counts(row.VNI)
		part = append(part, s)
	}
	if len(part) == 0 {
		return nil
	}
	return call.Send(part)
}

// eachVNI goes through the VNIs of the table and those that were counted, both
// sorted: a VNI may have figures and no members any more. It changes vnis.
func (n *Node) eachVNI(vnis []vxlan.VNI, counted []metrics.VNITotal) iter.Seq[prom.VNI] {
	for i := range counted {
		vnis = append(vnis, counted[i].VNI)
	}
	slices.Sort(vnis)
	vnis = slices.Compact(vnis)
	now := clock()
	return func(yield func(prom.VNI) bool) {
		for _, vni := range vnis {
			row := prom.VNI{VNI: vni, Members: n.members(now, vni)}
			if len(counted) > 0 && counted[0].VNI == vni {
				row.VNICount, counted = counted[0].VNICount, counted[1:]
			}
			if !yield(row) {
				return
			}
		}
	}
}

// shownVNI is what was counted as the management socket shows it.
func shownVNI(vni vxlan.VNI, members int, c *metrics.VNICount) control.VNIStat {
	s := control.VNIStat{
		VNI: uint32(vni), Members: members,
		Packets: c.Packets, Bytes: c.Bytes, Copies: c.Copies, CopyBytes: c.CopyBytes,
	}
	for d, count := range c.Drops {
		if count > 0 {
			if s.Drops == nil {
				s.Drops = make(map[string]uint64)
			}
			s.Drops[metrics.Drop(d).String()] = count
		}
	}
	return s
}
