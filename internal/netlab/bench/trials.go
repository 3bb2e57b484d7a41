// SPDX-License-Identifier: Apache-2.0

package main

import "runtime"

// A kind is what is measured of a contender with a table.
type kind string

const (
	small   kind = "inner frames of 64 bytes"
	large   kind = "inner frames of 1400 bytes"
	half    kind = "half of that load"
	churned kind = "1,000 changes of members per second"
)

// Lengths of inner frames, bytes.
const (
	smallFrame = 64
	largeFrame = 1400
)

// A trial is some contenders with one table, measured in turns.
type trial struct {
	table
	names  []string
	kinds  []kind // half comes after small
	rounds int
}

// trials returns what is measured: in about a minute, or all.
func (p *plan) trials() []trial {
	all := []string{"obvious", "batched", "raw", "kernel", "tc"}
	quick := []string{"batched", "raw", "kernel", "tc"}
	living := []string{"raw", "kernel", "tc"}
	if !p.full {
		return []trial{
			{table{members: 8, vnis: 1}, all, []kind{small, half}, p.rounds},
			{table{members: 64, vnis: 1}, all, []kind{small, half, large}, p.rounds},
			{table{members: 64, vnis: 1}, living, []kind{churned}, p.rounds},
			{table{members: 1000, vnis: 1}, all, []kind{small}, p.rounds},
			{table{members: 64, vnis: 1000}, living, []kind{small}, p.rounds},
		}
	}
	var ts []trial
	for _, n := range []int{1, 8, 64, 250, 1000, 4000} {
		ts = append(ts, trial{table{members: n, vnis: 1}, all, []kind{small, large, half}, p.rounds})
	}
	ts = append(ts, p.workerTrials()...)
	ts = append(ts, trial{table{members: 1, vnis: 1000}, quick, []kind{small}, p.rounds - 1})
	for _, n := range []int{8, 64, 250} {
		ts = append(ts,
			trial{table{members: n, vnis: 1}, living, []kind{churned}, p.rounds - 1},
			trial{table{members: n, vnis: 1000}, quick, []kind{small}, p.rounds - 1},
			trial{table{members: n, vnis: 1000}, living, []kind{large, churned}, p.rounds - 1},
			trial{table{members: n, vnis: 1, onLink: true}, quick, []kind{small}, p.rounds - 1})
	}
	ts = append(ts,
		trial{table{members: 1000, vnis: 1}, living, []kind{churned}, p.rounds - 1},
		// With those that come and go it is more than the kernel's part can take.
		trial{table{members: 4000, vnis: 1}, []string{"raw", "kernel"}, []kind{churned}, p.rounds - 1},
		trial{table{members: 1000, vnis: 1000}, quick, []kind{small}, 1})
	for _, n := range capMembers {
		ts = append(ts, trial{table{members: n, vnis: 1}, []string{"tc"}, []kind{small}, 1})
	}
	return ts
}

// workerCounts are the numbers of workers that are compared, as far as there are
// CPUs.
var workerCounts = []int{1, 2, 4}

// workerTrials compare numbers of workers of the engine raw, which take turns.
func (p *plan) workerTrials() (ts []trial) {
	for range p.rounds {
		for _, n := range []int{8, 64} {
			for _, w := range workerCounts {
				if w <= runtime.NumCPU() {
					ts = append(ts, trial{table{members: n, vnis: 1, workers: w}, []string{"raw"}, []kind{small}, 1})
				}
			}
		}
	}
	return ts
}

// capMembers are the numbers of members between which the cap of the engine tc
// is looked for.
var capMembers = []int{128, 256, 512, 768, 900, 1100, 1500, 2000}
