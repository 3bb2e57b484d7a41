// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vxsnd/internal/netlab"
)

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

// A key names measurements that can be compared.
type key struct {
	table
	name string
	kind kind
}

// trials returns what is measured: in about a minute, or all.
func (p *plan) trials() []trial {
	all := []string{"obvious", "batched", "raw", "kernel", "tc"}
	if !p.full {
		return []trial{
			{table{members: 8, vnis: 1}, all, []kind{small, half}, p.rounds},
			{table{members: 64, vnis: 1}, all, []kind{small, half}, p.rounds},
			{table{members: 1000, vnis: 1}, all, []kind{small}, p.rounds},
			{table{members: 64, vnis: 1000}, []string{"raw", "tc"}, []kind{small}, p.rounds},
		}
	}
	var ts []trial
	for _, n := range []int{1, 8, 64, 250, 1000, 4000} {
		ts = append(ts, trial{table{members: n, vnis: 1}, all, []kind{small, large, half}, p.rounds})
	}
	quick := []string{"batched", "raw", "kernel", "tc"}
	living := []string{"raw", "kernel", "tc"}
	for _, n := range []int{8, 64, 250} {
		ts = append(ts,
			trial{table{members: n, vnis: 1}, living, []kind{churned}, p.rounds - 1},
			trial{table{members: n, vnis: 1000}, quick, []kind{small}, p.rounds - 1},
			trial{table{members: n, vnis: 1000}, living, []kind{large, churned}, p.rounds - 1},
			trial{table{members: n, vnis: 1, onLink: true}, quick, []kind{small}, p.rounds - 1})
	}
	for _, n := range capMembers {
		ts = append(ts, trial{table{members: n, vnis: 1}, []string{"tc"}, []kind{small}, 1})
	}
	return ts
}

// capMembers are the numbers of members between which the cap of the engine tc
// is looked for.
var capMembers = []int{128, 256, 512, 768, 900, 1100, 1500, 2000}

// results are the figures of each key, one per round.
type results map[key][]figure

// measureFlooding runs all trials.
func (p *plan) measureFlooding(nl *netlab.Lab) error {
	l, err := p.buildLab(nl)
	if err != nil {
		return err
	}
	defer l.headend.Close()
	begin, rs := time.Now(), results{}
	for _, t := range p.trials() {
		if p.only != 0 && t.members != p.only {
			continue
		}
		for round := range max(t.rounds, 1) {
			cs := slices.DeleteFunc(slices.Clone(contenders), func(c contender) bool { return !slices.Contains(t.names, c.name) || !p.wants(c.name) })
			if round%2 == 1 {
				slices.Reverse(cs)
			}
			for i := range cs {
				if err := l.session(&cs[i], t, rs); err != nil {
					return fmt.Errorf("%s, %s: %w", cs[i].name, t.table, err)
				}
			}
		}
		for _, k := range t.kinds {
			rs.print(t, k)
		}
	}
	fmt.Printf("\n%s in all\n", time.Since(begin).Round(time.Second))
	if p.report == "" {
		return nil
	}
	return p.writeReport(rs, time.Since(begin))
}

// String describes a table.
func (t table) String() string {
	where := "behind a router"
	if t.onLink {
		where = "on link"
	}
	if t.vnis == 1 {
		return fmt.Sprintf("%d members %s", t.members, where)
	}
	return fmt.Sprintf("%d VNIs of %d members %s", t.vnis, t.members, where)
}

// tries is how often a measurement in which nothing happens is made again.
const tries = 3

// session runs a contender and measures all kinds of a trial.
func (l *lab) session(c *contender, t trial, rs results) (err error) {
	var r *running
	end := func(hard bool) error {
		if r == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		err := r.end(ctx, hard)
		r = nil
		return err
	}
	defer func() {
		if r != nil {
			err = errors.Join(err, end(err != nil))
		}
	}()
	rate := 0.0 // of the flood with small frames
	for _, k := range t.kinds {
		w := load{inner: smallFrame}
		switch k {
		case large:
			w.inner = largeFrame
		case half:
			w.rate = rate / 2 / float64(t.members)
		case churned:
			w.churn = true
		}
		var f figure
		for range tries {
			if r == nil {
				if r, err = c.begin(l, t.table); err != nil {
					return err
				}
			}
			f, err = l.measure(c, t.table, r, w)
			silent := errors.Is(err, errSilent)
			// What waits in its receive buffer must not be flooded in the next
			// measurement, whose packets have the same numbers.
			if c.queues && (silent || err == nil && w.rate == 0) {
				if err := end(true); err != nil {
					return err
				}
			}
			if !silent {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		if k == small {
			rate = f.rate
		}
		id := key{t.table, c.name, k}
		rs[id] = append(rs[id], f)
	}
	return nil
}

// print shows the figures of one kind.
func (rs results) print(t trial, k kind) {
	fmt.Printf("\n%s, %s\n\n", t.table, k)
	fmt.Printf("%-9s %12s %8s %9s %9s %14s %6s %7s %9s %9s %9s\n",
		"", "copies/s", "spread", "missing", "not sent", "CPU s/M copies", "own", "user", "p50", "p99", "p99.9")
	for _, c := range contenders {
		fs := rs[key{t.table, c.name, k}]
		if len(fs) == 0 {
			continue
		}
		m := summarize(fs)
		fmt.Printf("%-9s %12.0f %7.1f%% %8.3f%% %8.3f%% %14.2f %6.2f %6.1f%% %9s %9s %9s\n", c.name, m.rate, 100*spreadOf(fs),
			100*m.missing, 100*m.unsent, m.cpu, m.own, 100*m.user, quantile(m.delays, 0.5).Round(time.Microsecond),
			quantile(m.delays, 0.99).Round(time.Microsecond), quantile(m.delays, 0.999).Round(time.Microsecond))
	}
}

// summarize returns the medians of figures, and all their delays.
func summarize(fs []figure) figure {
	m := figure{
		rate: median(fs, func(f figure) float64 { return f.rate }), missing: median(fs, func(f figure) float64 { return f.missing }),
		unsent: median(fs, func(f figure) float64 { return f.unsent }), cpu: median(fs, func(f figure) float64 { return f.cpu }),
		own:  median(fs, func(f figure) float64 { return f.own }),
		user: median(fs, func(f figure) float64 { return f.user }),
	}
	for _, f := range fs {
		m.delays = append(m.delays, f.delays...)
		m.exactness += f.exactness
	}
	slices.Sort(m.delays)
	return m
}

// spreadOf returns by how much the rates of figures differ, as a share of their
// median.
func spreadOf(fs []figure) float64 {
	lo, hi := fs[0].rate, fs[0].rate
	for _, f := range fs {
		lo, hi = min(lo, f.rate), max(hi, f.rate)
	}
	return (hi - lo) / median(fs, func(f figure) float64 { return f.rate })
}

func median(fs []figure, of func(figure) float64) float64 {
	var v []float64
	for _, f := range fs {
		v = append(v, of(f))
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
