// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A topView is what top shows: figures, and how the user wants to see them.
type topView struct {
	terminal
	now      *trafficSample
	rates    *trafficRates
	interval time.Duration
	order    topOrder
	offset   int // rows scrolled past
}

// topColumns are the columns of top, those of stats, in the order of topOrder.
var topColumns = [numOrders]struct {
	head  string
	width int
	cell  func(*trafficRate) string
}{
	{"VNI", 8, func(r *trafficRate) string { return strconv.FormatUint(uint64(r.VNI), 10) }},
	{"Members", 9, func(r *trafficRate) string { return strconv.Itoa(r.Members) }},
	{"pkt/s", 12, func(r *trafficRate) string { return figure(r.Packets) }},
	{"copies/s", 12, func(r *trafficRate) string { return figure(r.Copies) }},
	{"Mbit/s in", 12, func(r *trafficRate) string { return figure(megabits(r.Bytes)) }},
	{"Mbit/s out", 12, func(r *trafficRate) string { return figure(megabits(r.CopyBytes)) }},
	{"drops/s", 12, func(r *trafficRate) string { return figure(r.Drops) }},
}

// line returns the texts of cell in those columns that the terminal has room for:
// the VNI, what the rows are sorted by, and of the others the first.
func (v *topView) line(cell func(column int) string) string {
	var b strings.Builder
	room := v.width - topColumns[byVNI].width
	if v.order != byVNI {
		room -= topColumns[v.order].width
	}
	for i, c := range topColumns {
		if i != int(byVNI) && i != int(v.order) {
			if room -= c.width; v.width > 0 && room < 0 {
				continue
			}
		}
		fmt.Fprintf(&b, "%*s", c.width, cell(i))
	}
	return b.String()
}

// row is the row of one VNI, or of all others together.
func (v *topView) row(r *trafficRate, name string) string {
	known := v.rates.Seconds > 0
	return v.line(func(i int) string {
		text := topColumns[i].cell(r)
		switch {
		case i == int(byVNI):
			text = cmp.Or(name, text)
		case i == int(byMembers) && name != "" || i > int(byMembers) && (!known || r.Uncounted):
			text = "-"
		}
		return text
	})
}

// figure returns a rate with as many digits as say something.
func figure(rate float64) string {
	if rate > 0 && rate < 99.95 {
		return strconv.FormatFloat(max(rate, 0.1), 'f', 1, 64)
	}
	return strconv.FormatFloat(rate, 'f', 0, 64)
}

func megabits(bytes float64) float64 { return bytes * 8 / 1e6 }

// head returns what is above the table: who, totals, and why packets are dropped.
func (v *topView) head() []string {
	r, s := v.rates, &v.now.status
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	rate := func(n float64, format string) string {
		text := figure(n)
		if r.Seconds <= 0 {
			text = "-"
		}
		return fmt.Sprintf(format, text)
	}
	return []string{
		fmt.Sprintf("%s %s, up %s, engine %s, %s", s.Program, s.Version, uptime(s.UptimeSeconds), s.Engine, ready),
		rate(r.Total.Packets, "Received %12s packets/s") + rate(megabits(r.Total.Bytes), "%12s Mbit/s"),
		rate(r.Total.Copies, "Sent     %12s copies/s ") + rate(megabits(r.Total.CopyBytes), "%12s Mbit/s"),
		rate(r.Total.Drops, "Dropped  %12s /s") + dropReasons(r.Total.Reasons),
		fmt.Sprintf("Table    %12d members in %s", s.Members, amount(s.VNIs, "VNI", "VNIs")),
	}
}

// dropReasons lists why packets and copies are dropped, the most frequent first.
func dropReasons(reasons map[string]float64) string {
	var text strings.Builder
	for _, reason := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(&text, "  %s %s", reason, figure(reasons[reason]))
	}
	return text.String()
}

// rows returns the rows of the table.
func (v *topView) rows() []string {
	var rows []string
	// It comes first, for it is where drops are that no VNI explains.
	if o := &v.rates.Other; o.Packets+o.Copies+o.Drops > 0 {
		rows = append(rows, v.row(o, "other"))
	}
	for _, r := range v.rates.sorted(v.order) {
		rows = append(rows, v.row(&r, ""))
	}
	return rows
}

// heads returns the heads of the table, that of the order marked.
func (v *topView) heads(mark bool) string {
	return v.line(func(i int) string {
		if mark && i == int(v.order) {
			return "*" + topColumns[i].head
		}
		return topColumns[i].head
	})
}

// look shows what happened from before, which may be nil, to now.
func (v *topView) look(before, now *trafficSample) { v.now, v.rates = now, ratesBetween(before, now) }

// block returns all of it, for a file or a pipe.
func (v *topView) block() string {
	lines := append([]string{v.now.stats.At.Local().Format(time.RFC3339)}, v.head()...)
	lines = append(append(lines, "", v.heads(false)), v.rows()...)
	return strings.Join(lines, "\n") + "\n"
}

// json returns what stats has, in one line and in the order of top.
func (v *topView) json() (string, error) {
	report := newStatReport(v.rates, v.now)
	slices.SortStableFunc(report.VNIs, func(a, b vniRow) int { return cmp.Compare(b.Rates.Copies, a.Rates.Copies) })
	line, err := json.Marshal(report)
	return string(line) + "\n", err
}

// The control sequences that a terminal of today has in common with xterm
// (ECMA-48, and xterm's private modes for the alternate screen and the cursor).
const (
	screenEnter = "\x1b[?1049h\x1b[?25l"
	screenLeave = "\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	eraseLine   = "\x1b[K"
	reverse     = "\x1b[7m"
	normal      = "\x1b[m"
)

// frame returns what draws all of it over what was there before: nothing is
// erased that is not replaced in the same write, so that nothing flickers.
func (v *topView) frame(now time.Time) string {
	head := v.head()
	clock := fmt.Sprintf("every %v  %s", v.interval, now.Format(time.TimeOnly))
	if room := v.width - utf8.RuneCountInString(head[0]) - len(clock); room > 1 {
		head[0] += strings.Repeat(" ", room) + clock
	}
	const footer = 1
	// A terminal of few lines shows a row rather than all of the head.
	if most := v.height - footer - 3; len(head) > most {
		head = head[:max(most, 0)]
	}
	lines := append(head, "", v.heads(true))
	if len(head) == 0 {
		lines = lines[1:]
	}
	all := v.rows()
	room := max(v.height-len(lines)-footer, 0)
	v.offset = max(min(v.offset, len(all)-room), 0)
	shown := all[v.offset:min(v.offset+room, len(all))]
	headLine := len(lines) - 1
	lines = append(lines, shown...)
	for len(lines) < v.height-footer {
		lines = append(lines, "")
	}
	last := "q quit  ← → sort by  ↑ ↓ scroll"
	if len(all) > room {
		last += fmt.Sprintf("  %d to %d of %d", v.offset+1, v.offset+len(shown), len(all))
	}
	lines = append(lines[:min(len(lines), max(v.height-footer, 0))], last)

	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines {
		line = clip(line, v.width)
		// A line that fills its width has nothing to erase but its last column.
		erase := eraseLine
		if utf8.RuneCountInString(line) >= v.width {
			erase = ""
		}
		switch {
		case i == headLine:
			line = reverse + line + strings.Repeat(" ", max(v.width-utf8.RuneCountInString(line), 0)) + normal
		case i == 0:
			line = v.paint(strong, line)
		case i == len(lines)-1:
			line = v.paint(faint, line)
		}
		b.WriteString(line + erase)
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	return b.String()
}
