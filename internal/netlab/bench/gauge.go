// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"time"
)

// gaugeEvery is the time between two changes of a gauge: what takes longer counts
// as that long.
const gaugeEvery = 60 * time.Millisecond

// gauge has one member of a table's first VNI join a service node and leave it in
// turns, for a while. It returns the moments (CLOCK_MONOTONIC, ns), the first of
// which is of a join.
func (l *lab) gauge(t table, length time.Duration) (moments []int64, err error) {
	join := change{addr: t.member(gaugeIndex), add: true}
	ms, err := changeMessages(l.service(t), []change{join, {addr: join.addr}})
	if err != nil {
		return nil, err
	}
	err = l.receivers.Do(func() error {
		pc, err := openTransparent()
		if err != nil {
			return err
		}
		defer pc.Close()
		for begin := time.Now(); time.Since(begin) < length; time.Sleep(gaugeEvery) {
			i := len(moments) % len(ms)
			moments = append(moments, monotonic())
			if _, err := pc.WriteBatch(ms[i:i+1], 0); err != nil {
				return err
			}
		}
		return nil
	})
	return moments, err
}

// changeTimes returns how long the changes of a gauge took which were made within
// from and until: a join until the first copy after it, a leave until the last
// copy. Arrivals are those of copies, in any order.
func changeTimes(moments, arrivals []int64, from, until int64) (ds []time.Duration) {
	slices.Sort(arrivals)
	for i := range max(len(moments)-1, 0) {
		at, next := moments[i], moments[i+1]
		if at < from || next > until {
			continue
		}
		first, _ := slices.BinarySearch(arrivals, at)
		end, _ := slices.BinarySearch(arrivals, next)
		switch join := i%2 == 0; {
		case join && first == end:
			ds = append(ds, time.Duration(next-at))
		case join:
			ds = append(ds, time.Duration(arrivals[first]-at))
		case first == end:
			ds = append(ds, 0)
		default:
			ds = append(ds, time.Duration(arrivals[end-1]-at))
		}
	}
	return ds
}
