// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"slices"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
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
		}
		vnis := n.table.VNIs(nil)
		n.traffic.Keep(func(v vxlan.VNI) bool {
			_, known := slices.BinarySearch(vnis, v)
			return known
		})
	}
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
func (n *Node) stats(_ context.Context, args *control.StatsArgs, call *control.Call) error {
	var vnis []vxlan.VNI
	if args.VNI != nil {
		vni, err := checkVNI(*args.VNI)
		if err != nil {
			return err
		}
		vnis = []vxlan.VNI{vni}
	}
	now := clock()
	head := control.Stats{At: time.Now(), Monotonic: int64(now)}
	// Before the rows: what goes from them to it is missing for once then, and
	// counted twice the other way round.
	other := n.traffic.Other()
	var rows []metrics.VNITotal
	if args.VNI != nil {
		rows = []metrics.VNITotal{{VNI: vnis[0], VNICount: n.traffic.VNI(vnis[0])}}
	} else {
		rows = n.traffic.VNIs(nil)
		vnis = n.table.VNIs(nil)
	}
	f := n.flooding.counters()
	total := metrics.VNICount{Packets: f.Packets, Bytes: f.Bytes, Copies: f.Copies, CopyBytes: f.CopyBytes, Drops: f.Drops}
	if c := n.config(); c.MetricsMaxVNIs == 0 {
		other = total // nothing is counted by itself
	}
	head.Total, head.Other = shownVNI(0, n.table.Stats().Members, &total), shownVNI(0, 0, &other)
	if err := call.Send(&head); err != nil {
		return err
	}

	// A VNI may have figures and no members any more.
	for i := range rows {
		vnis = append(vnis, rows[i].VNI)
	}
	slices.Sort(vnis)
	vnis = slices.Compact(vnis)
	part := make([]control.VNIStat, 0, min(len(vnis), control.MaxPart))
	for i, vni := range vnis {
		var count metrics.VNICount
		if len(rows) > 0 && rows[0].VNI == vni {
			count, rows = rows[0].VNICount, rows[1:]
		}
		part = append(part, shownVNI(vni, n.members(now, vni), &count))
		if len(part) == control.MaxPart || i == len(vnis)-1 {
			if err := call.Send(part); err != nil {
				return err
			}
			part = part[:0]
		}
	}
	return nil
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
