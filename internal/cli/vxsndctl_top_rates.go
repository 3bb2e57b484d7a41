// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"vxsnd/internal/control"
)

// A trafficSample is what a service node has counted up to one moment.
type trafficSample struct {
	status control.Status
	stats  control.Stats
	vnis   []control.VNIStat // in the order of VNI
}

// sample asks the daemon for its figures, those of one VNI or, for nil, of all.
func (c *ctlCall) sample(ctx context.Context, vni *uint32) (*trafficSample, error) {
	s := &trafficSample{}
	show, err := c.describe(ctx)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(show, &s.status); err != nil {
		return nil, notUnderstood(err)
	}
	head := false
	err = c.ask(ctx, control.CommandStats, control.StatsArgs{VNI: vni}, func(data json.RawMessage) error {
		var part []control.VNIStat
		var err error
		if !head {
			head, err = true, json.Unmarshal(data, &s.stats)
		} else {
			err = json.Unmarshal(data, &part)
		}
		if err != nil {
			return notUnderstood(err)
		}
		s.vnis = append(s.vnis, part...)
		return nil
	})
	if err == nil && !head {
		err = errEmpty
	}
	return s, err
}

// A trafficRate is what happens in a VNI in a second.
type trafficRate struct {
	VNI       uint32
	Members   int
	Uncounted bool // there are no figures
	Packets   float64
	Bytes     float64
	Copies    float64
	CopyBytes float64
	Drops     float64
	Reasons   map[string]float64 // of drops; nil for none
}

// trafficRates is what happens in a second, between two samples.
type trafficRates struct {
	Seconds float64       // between the samples; 0 where nothing is known of the time before
	Total   trafficRate   // of all packets
	Other   trafficRate   // of those that no VNI of its own counts
	VNIs    []trafficRate // in the order of VNI
}

// ratesBetween returns what happened from before, which may be nil, to now.
func ratesBetween(before, now *trafficSample) *trafficRates {
	if before == nil || before.stats.Monotonic >= now.stats.Monotonic {
		before = now
	}
	r := &trafficRates{
		Seconds: time.Duration(now.stats.Monotonic - before.stats.Monotonic).Seconds(), VNIs: make([]trafficRate, len(now.vnis)),
	}
	r.Total = r.between(&before.stats.Total, &now.stats.Total)
	r.Other = r.between(&before.stats.Other, &now.stats.Other)
	old := before.vnis
	for i := range now.vnis {
		n := &now.vnis[i]
		for len(old) > 0 && old[0].VNI < n.VNI {
			old = old[1:]
		}
		// What was not there before has counted since.
		b := &control.VNIStat{}
		if len(old) > 0 && old[0].VNI == n.VNI {
			b = &old[0]
		}
		r.VNIs[i] = r.between(b, n)
	}
	return r
}

// between returns the rates of one row.
func (r *trafficRates) between(before, now *control.VNIStat) trafficRate {
	rate := trafficRate{VNI: now.VNI, Members: now.Members, Uncounted: now.Uncounted}
	if r.Seconds <= 0 {
		return rate
	}
	// Counters that began anew have counted since.
	if now.Packets < before.Packets || now.Copies < before.Copies {
		before = &control.VNIStat{}
	}
	of := func(before, now uint64) float64 {
		if now < before {
			return 0
		}
		return float64(now-before) / r.Seconds
	}
	rate.Packets, rate.Bytes = of(before.Packets, now.Packets), of(before.Bytes, now.Bytes)
	rate.Copies, rate.CopyBytes = of(before.Copies, now.Copies), of(before.CopyBytes, now.CopyBytes)
	for reason, n := range now.Drops {
		if drops := of(before.Drops[reason], n); drops > 0 {
			if rate.Reasons == nil {
				rate.Reasons = make(map[string]float64)
			}
			rate.Reasons[reason] = drops
			rate.Drops += drops
		}
	}
	return rate
}

// A topOrder is what VNIs are sorted by.
type topOrder int

const (
	byVNI topOrder = iota
	byMembers
	byPackets
	byCopies
	byBytes
	byCopyBytes
	byDrops
	numOrders
)

// sorted returns the rates of VNIs, the highest first, and those that are equal by
// VNI.
func (r *trafficRates) sorted(order topOrder) []trafficRate {
	key := func(v *trafficRate) float64 {
		return [numOrders]float64{
			0, float64(v.Members), v.Packets, v.Copies, v.Bytes, v.CopyBytes, v.Drops,
		}[order]
	}
	all := slices.Clone(r.VNIs)
	slices.SortStableFunc(all, func(a, b trafficRate) int {
		return cmp.Or(cmp.Compare(key(&b), key(&a)), cmp.Compare(a.VNI, b.VNI))
	})
	return all
}
