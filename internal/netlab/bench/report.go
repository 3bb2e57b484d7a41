// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Where the report goes in performance.md: what is between these lines is
// replaced.
const (
	reportBegin = "<!-- written by make bench FULL=1: from here -->"
	reportEnd   = "<!-- to here -->"
)

// writeReport writes the tables to performance.md and the plots beside it.
func (p *plan) writeReport(rs results, took time.Duration) error {
	file := filepath.Join(p.report, "performance.md")
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok1 := bytes.Cut(old, []byte(reportBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(reportEnd))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: no place for the report", file)
	}
	var b bytes.Buffer
	b.Write(head)
	b.WriteString(reportBegin + "\n\n")
	rs.markdown(&b, p, took)
	b.WriteString(reportEnd)
	b.Write(tail)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return err
	}
	for _, g := range rs.plots() {
		if err := os.WriteFile(filepath.Join(p.report, g.file), g.svg(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A selection is the figures of a table: those of some contenders over members.
type selection struct {
	vnis    int
	onLink  bool
	workers int
	kind    kind
}

func (s selection) key(name string, members int) key {
	return key{table{members: members, vnis: s.vnis, onLink: s.onLink, workers: s.workers}, name, s.kind}
}

// members returns the numbers of members that a selection has figures of for
// others than tc alone.
func (rs results) members(s selection) []int {
	var ns []int
	for k := range rs {
		if k == s.key(k.name, k.table.members) && k.name != "tc" && !slices.Contains(ns, k.table.members) {
			ns = append(ns, k.table.members)
		}
	}
	slices.Sort(ns)
	return ns
}

// markdown writes all tables.
func (rs results) markdown(b *bytes.Buffer, p *plan, took time.Duration) {
	goVersion := runtime.Version()
	if i, ok := debug.ReadBuildInfo(); ok {
		goVersion = i.GoVersion
	}
	backlog, _ := os.ReadFile("/proc/sys/net/core/netdev_max_backlog")
	fmt.Fprintf(b, "%s; %s, %d CPUs, %s, net.core.netdev_max_backlog %s; %s in all, rounds of %s.\n\n",
		time.Now().UTC().Format("2006-01-02"), machine(), runtime.NumCPU(), goVersion,
		bytes.TrimSpace(backlog), took.Round(time.Second), p.time)
	one := selection{vnis: 1, kind: small}
	b.WriteString("![Copies per second over members](flooding.svg)\n\n")
	rs.rates(b, "One VNI, "+string(small), one)
	rs.ratios(b, one)
	rs.rates(b, "One VNI, "+string(large), selection{vnis: 1, kind: large})
	rs.rates(b, "1,000 VNIs, "+string(small), selection{vnis: 1000, kind: small})
	rs.rates(b, "1,000 VNIs, "+string(large), selection{vnis: 1000, kind: large})
	rs.workers(b)
	rs.churns(b, "One VNI, ", selection{vnis: 1, kind: churned})
	rs.churns(b, "1,000 VNIs, ", selection{vnis: 1000, kind: churned})
	rs.rates(b, "Members on link", selection{vnis: 1, onLink: true, kind: small})
	rs.calm(b)
	rs.capTable(b)
	rs.closing(b)
}

// columns writes the head of a table over numbers of members.
func columns(b *bytes.Buffer, first string, ns []int) {
	fmt.Fprintf(b, "| %s |", first)
	for _, n := range ns {
		fmt.Fprintf(b, " N=%d |", n)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(ns)) + "\n")
}

// rates writes thousands of copies per second, and what share of copies is
// missing where that is more than a few.
func (rs results) rates(b *bytes.Buffer, title string, s selection) {
	ns := rs.members(s)
	if len(ns) == 0 {
		return
	}
	fmt.Fprintf(b, "### %s\n\nThousands of copies per second with N members; in brackets the share of copies that were lost.\n\n", title)
	rs.grid(b, s, ns, func(m figure) string { return lossy(fmt.Sprintf("%.0f", m.rate/1000), m.missing) })
}

// grid writes a table with a line for each contender, of what is to be told of
// its figures.
func (rs results) grid(b *bytes.Buffer, s selection, ns []int, tell func(m figure) string) {
	columns(b, "", ns)
	for _, c := range contenders {
		rs.figures(b, c.what, s, c.name, ns, tell)
	}
	b.WriteByte('\n')
}

// figures writes a line of a table: what is to be told of a contender's figures.
func (rs results) figures(b *bytes.Buffer, what string, s selection, name string, ns []int, tell func(m figure) string) {
	rs.row(b, what, ns, func(n int) string {
		fs := rs[s.key(name, n)]
		if len(fs) == 0 {
			return ""
		}
		return tell(summarize(fs))
	})
}

// lossy adds the share of lost copies to a cell, where it is more than a few.
func lossy(cell string, share float64) string {
	if share < lossShown {
		return cell
	}
	return fmt.Sprintf("%s (%s)", cell, percent(share))
}

// churns writes what becomes of flooding while members change, and how long it is
// until changes are in force.
func (rs results) churns(b *bytes.Buffer, title string, s selection) {
	rs.rates(b, title+string(s.kind), s)
	ns := rs.members(s)
	if len(ns) == 0 {
		return
	}
	if s.vnis == 1 {
		b.WriteString("From the message of one more VTEP that joins until its first copy, and from that which it leaves by until its last, p50 / longest in ms. " +
			"Where copies are lost nothing can be told. The last line is what part of the packets the engine tc flooded in the kernel:\n\n")
	}
	columns(b, "", ns)
	for _, c := range contenders {
		rs.figures(b, c.what+": changes in force", s, c.name, ns, func(m figure) string {
			if len(m.changes) == 0 {
				return ""
			}
			ms := func(q float64) float64 { return quantile(m.changes, q).Seconds() * 1000 }
			return fmt.Sprintf("%.1f / %.1f", ms(0.5), ms(1))
		})
	}
	rs.figures(b, "flooded in the kernel", s, "tc", ns, func(m figure) string { return m.kernelShare() })
	b.WriteByte('\n')
}

// workers writes how the engine raw grows with CPUs.
func (rs results) workers(b *bytes.Buffer) {
	s := selection{vnis: 1, workers: 1, kind: small}
	ns := rs.members(s)
	if len(ns) == 0 {
		return
	}
	b.WriteString("### Workers of the engine raw\n\nThousands of copies per second with N members, where workers and the sender share all CPUs:\n\n")
	columns(b, "", ns)
	var ratios []func()
	for _, w := range workerCounts {
		more := s
		more.workers = w
		rs.figures(b, fmt.Sprintf("workers: %d", w), more, "raw", ns, func(m figure) string { return lossy(fmt.Sprintf("%.0f", m.rate/1000), m.missing) })
		if w > 1 {
			ratios = append(ratios, func() {
				rs.row(b, fmt.Sprintf("%d workers / 1", w), ns, func(n int) string {
					return rs.ratio(more.key("raw", n), s.key("raw", n), func(f figure) float64 { return f.rate })
				})
			})
		}
	}
	for _, r := range ratios {
		r()
	}
	b.WriteByte('\n')
}

// lossShown is the smallest share of lost copies that a table of rates shows.
const lossShown = 0.00005

// percent writes a share as people do.
func percent(share float64) string {
	switch {
	case share < lossShown:
		return "0"
	case share < 0.1:
		return fmt.Sprintf("%.2f %%", 100*share)
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

// row writes a line of a table, unless it is empty.
func (rs results) row(b *bytes.Buffer, name string, ns []int, cell func(n int) string) {
	line, any := "| "+name+" |", false
	for _, n := range ns {
		c := cell(n)
		any = any || c != ""
		line += " " + c + " |"
	}
	if any {
		b.WriteString(line + "\n")
	}
}

// ratios writes what decides whether the engines are what they should be. Each
// is the median of the ratios of rounds, whose parts were measured next to each
// other.
func (rs results) ratios(b *bytes.Buffer, s selection) {
	ns := rs.members(s)
	if len(ns) == 0 {
		return
	}
	fmt.Fprintf(b, "Ratios of the same figures, the medians over rounds, and the program's own share of user time:\n\n")
	columns(b, "", ns)
	for _, r := range []struct{ name, over, under string }{
		{"engine tc / kernel head-end replication", "tc", "kernel"},
		{"engine tc / engine raw", "tc", "raw"},
		{"engine raw / batched raw sender", "raw", "batched"},
		{"engine raw / obvious program", "raw", "obvious"},
	} {
		rs.row(b, r.name, ns, func(n int) string {
			return rs.ratio(s.key(r.over, n), s.key(r.under, n), func(f figure) float64 { return f.rate })
		})
	}
	rs.row(b, "CPU time per copy, batched raw sender / engine raw", ns, func(n int) string {
		return rs.ratio(s.key("batched", n), s.key("raw", n), func(f figure) float64 { return f.own })
	})
	busy := func(n int) (fs []figure) {
		for k, v := range rs {
			if k.name == "raw" && k.vnis == 1 && (n == 0 || k.members == n) && (k.kind == small || k.kind == large) {
				fs = append(fs, v...)
			}
		}
		return fs
	}
	rs.row(b, "user time of engine raw", ns, func(n int) string {
		if fs := busy(n); len(fs) > 0 {
			m := summarize(fs)
			return m.userShare()
		}
		return ""
	})
	b.WriteByte('\n')
	if fs := busy(0); len(fs) > 0 {
		m := summarize(fs)
		fmt.Fprintf(b, "The kernel tells user time from system time by what it finds at its ticks, so the last line sums up all measurements under full load "+
			"with one VNI and N members, frames of 64 and 1400 bytes. In all of them together it is %s of %.0f s.\n\n", m.userShare(), m.busy)
	}
}

// ratio returns the median of ratios, round by round.
func (rs results) ratio(over, under key, of func(figure) float64) string {
	as, bs := rs[over], rs[under]
	var qs []figure
	for i := range min(len(as), len(bs)) {
		if d := of(bs[i]); d > 0 {
			qs = append(qs, figure{rate: of(as[i]) / d})
		}
	}
	if len(qs) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", median(qs, func(f figure) float64 { return f.rate }))
}

// calm writes the figures at half load.
func (rs results) calm(b *bytes.Buffer) {
	s := selection{vnis: 1, kind: half}
	ns := rs.members(s)
	if len(ns) == 0 {
		return
	}
	b.WriteString("### Half load\n\nEach gets half of the packets that it can flood. CPU seconds of the whole machine per million copies, sender and receivers included:\n\n")
	rs.grid(b, s, ns, func(m figure) string { return fmt.Sprintf("%.2f", m.cpu) })
	b.WriteString("From the sender's system call to a copy's arrival, p50 / p99 / p99.9 in µs; in brackets the share of copies, of all packets that were sent, that did not arrive:\n\n")
	rs.grid(b, s, ns, func(m figure) string {
		us := func(q float64) int64 { return quantile(m.delays, q).Microseconds() }
		return lossy(fmt.Sprintf("%d / %d / %d", us(0.5), us(0.99), us(0.999)), m.unsent)
	})
}

// capTable writes what the cap of the engine tc is taken from.
func (rs results) capTable(b *bytes.Buffer) {
	var ns []int
	for k := range rs {
		if k.name == "tc" && k.vnis == 1 && !k.onLink && k.kind == small {
			ns = append(ns, k.members)
		}
	}
	slices.Sort(ns)
	if len(ns) == 0 {
		return
	}
	b.WriteString("### How many members the kernel can serve\n\nThe engine tc with its cap lifted:\n\n| members | thousands of copies/s | lost | one packet's copies take |\n|---|---|---|---|\n")
	for _, n := range ns {
		m := summarize(rs[key{table{members: n, vnis: 1}, "tc", small}])
		fmt.Fprintf(b, "| %d | %.0f | %s | %s |\n", n, m.rate/1000, percent(m.missing),
			time.Duration(float64(n)/m.rate*(1-m.missing)*1e9).Round(time.Microsecond))
	}
	b.WriteByte('\n')
}

// closing says how far the figures can be believed.
func (rs results) closing(b *bytes.Buffer) {
	var spreads []figure
	packets := 0
	for _, fs := range rs {
		if len(fs) > 1 {
			spreads = append(spreads, figure{rate: spreadOf(fs)})
		}
		for _, f := range fs {
			packets += f.exactness
		}
	}
	if len(spreads) > 0 {
		widest := 0.0
		for _, f := range spreads {
			widest = max(widest, f.rate)
		}
		fmt.Fprintf(b, "The rounds of one figure differ by %.0f %% of their median in the median, and by %.0f %% at most. ",
			100*median(spreads, func(f figure) float64 { return f.rate }), 100*widest)
	}
	fmt.Fprintf(b, "Each copy of %d packets was looked at: none came twice, and none to somebody else.\n\n", packets)
}
