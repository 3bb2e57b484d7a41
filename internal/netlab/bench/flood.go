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

// A key names measurements that can be compared.
type key struct {
	table
	name string
	kind kind
}

// results are the figures of each key, one per round.
type results map[key][]figure

func (p *plan) measureFlooding(nl *netlab.Lab) error {
	return p.measureTrials(nl, p.trials(), p.report)
}

func (p *plan) measureWorkers(nl *netlab.Lab) error { return p.measureTrials(nl, p.workerTrials(), "") }

// measureTrials runs trials, and writes their report to a directory if there is
// one.
func (p *plan) measureTrials(nl *netlab.Lab, ts []trial, report string) error {
	l, err := p.buildLab(nl)
	if err != nil {
		return err
	}
	defer l.headend.Close()
	begin, rs := time.Now(), results{}
	for _, t := range ts {
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
	if report == "" {
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
	if t.workers > 0 {
		where += fmt.Sprintf(", workers on all CPUs: %d", t.workers)
	}
	if t.vnis == 1 {
		return fmt.Sprintf("%d members %s", t.members, where)
	}
	return fmt.Sprintf("%d VNIs of %d members %s", t.vnis, t.members, where)
}

// tries is how often a measurement is made in which nothing happens, or not where
// it is to happen.
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
			vain := errors.Is(err, errSilent) || errors.Is(err, errHandedUp)
			// What waits in its receive buffer must not be flooded in the next
			// measurement, whose packets have the same numbers.
			if c.queues && (vain || err == nil && w.rate == 0) {
				if err := end(true); err != nil {
					return err
				}
			}
			if !vain {
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
	fmt.Printf("%-9s %12s %8s %9s %9s %14s %6s %8s %10s %9s %9s %9s\n",
		"", "copies/s", "spread", "missing", "not sent", "CPU s/M copies", "own", "user", "in kernel", "p50", "p99", "p99.9")
	for _, c := range contenders {
		fs := rs[key{t.table, c.name, k}]
		if len(fs) == 0 {
			continue
		}
		m := summarize(fs)
		fmt.Printf("%-9s %12.0f %7.1f%% %8.3f%% %8.3f%% %14.2f %6.2f %8s %10s %9s %9s %9s\n", c.name, m.rate, 100*spreadOf(fs),
			100*m.missing, 100*m.unsent, m.cpu, m.own, m.userShare(), m.kernelShare(), quantile(m.delays, 0.5).Round(time.Microsecond),
			quantile(m.delays, 0.99).Round(time.Microsecond), quantile(m.delays, 0.999).Round(time.Microsecond))
		if ds := m.changes; len(ds) > 0 {
			fmt.Printf("%-9s %d changes were in force after %s in the median, %s at most\n", "", len(ds), quantile(ds, 0.5).Round(time.Microsecond), quantile(ds, 1).Round(time.Microsecond))
		}
	}
}

// leastBusy is the CPU time of which the kernel's ticks (100 to 1000 per second) tell
// something, seconds.
const leastBusy = 0.25

// userShare is what part of the program's CPU time was in user mode, for people;
// empty where that is not known.
func (f *figure) userShare() string {
	if f.busy < leastBusy {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*f.user/f.busy)
}

// kernelShare is what part of the packets the engine tc flooded in the kernel, for
// people: empty for others.
func (f *figure) kernelShare() string {
	if f.kernel == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*f.kernel)
}

// summarize returns the medians of figures, all their delays, and the sums of what
// their CPU times are: single ones are too short for what the kernel counts in
// ticks.
func summarize(fs []figure) figure {
	m := figure{
		rate: median(fs, func(f figure) float64 { return f.rate }), missing: median(fs, func(f figure) float64 { return f.missing }),
		unsent: median(fs, func(f figure) float64 { return f.unsent }), cpu: median(fs, func(f figure) float64 { return f.cpu }),
		own:    median(fs, func(f figure) float64 { return f.own }),
		kernel: median(fs, func(f figure) float64 { return f.kernel }),
	}
	for _, f := range fs {
		m.delays = append(m.delays, f.delays...)
		m.changes = append(m.changes, f.changes...)
		m.user += f.user
		m.busy += f.busy
		m.exactness += f.exactness
	}
	slices.Sort(m.delays)
	slices.Sort(m.changes)
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
