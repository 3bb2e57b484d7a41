// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
)

// statsCommand tells what is flooded.
var statsCommand = ctlCommand{
	name: "stats", doc: "what is flooded in all VXLANs or in one, with rates",
	more: "The rates are those of a second, or of as many as -i says. Mbit/s are those of the UDP payload: " +
		"of the packets that came in, and of the copies that went out.",
	operands: []operand{oneVNI},
	flags: func(fs *pflag.FlagSet) {
		intervalFlag(fs, "interval", "i", time.Second, "measure for so many `SECONDS`")
	},
	run: runStats,
}

// A statRow is what is told of a VNI, or of all.
type statRow struct {
	control.VNIStat
	Rates statRates `json:"rates"`
}

// statRates is how much of each counter there was in a second.
type statRates struct {
	Packets   float64 `json:"packets"`
	Bytes     float64 `json:"bytes"`
	Copies    float64 `json:"copies"`
	CopyBytes float64 `json:"copy_bytes"`
	Drops     float64 `json:"drops"`
}

// A statSum is a statRow of no VNI of its own.
type statSum struct {
	VNI *struct{} `json:"vni,omitempty"` // hides that of the row
	statRow
}

// A vniRow is the statRow of a VNI, which may have no figures.
type vniRow struct{ statRow }

// MarshalJSON returns null for figures that there are not.
func (r vniRow) MarshalJSON() ([]byte, error) {
	if !r.Uncounted {
		return json.Marshal(r.statRow)
	}
	// A name of the outer struct hides that of the inner one.
	return json.Marshal(struct {
		statRow
		Packets   *uint64    `json:"packets"`
		Bytes     *uint64    `json:"bytes"`
		Copies    *uint64    `json:"copies"`
		CopyBytes *uint64    `json:"copy_bytes"`
		Rates     *statRates `json:"rates"`
	}{statRow: r.statRow})
}

// A statReport is the answer of stats.
type statReport struct {
	At       time.Time `json:"at"`
	Interval float64   `json:"interval"` // seconds
	Total    statSum   `json:"total"`
	Other    statSum   `json:"other"`
	VNIs     []vniRow  `json:"vnis"`
}

func runStats(ctx context.Context, c *ctlCall) error {
	vni := c.vni(oneVNI.name)
	interval, _ := flagValueOf[time.Duration](c, "interval")
	before, err := c.sample(ctx, vni)
	if err != nil {
		return err
	}
	if interval > patientTime {
		p := c.progress("measuring for %v", interval)
		defer p.stop()
		time.Sleep(interval)
		p.stop()
	} else {
		time.Sleep(interval)
	}
	now, err := c.sample(ctx, vni)
	if err != nil {
		return err
	}
	report := newStatReport(ratesBetween(before, now), now)
	b := c.newScreen()
	if c.format == formatText {
		statsText(b, vni, report)
	} else {
		e := json.NewEncoder(b)
		e.SetIndent("", "  ")
		if err := e.Encode(report); err != nil {
			return err
		}
	}
	return c.decouple(func() error {
		_, err := c.out.Write(b.Bytes())
		return err
	})
}

func newStatReport(rates *trafficRates, now *trafficSample) *statReport {
	row := func(v *control.VNIStat, r *trafficRate) statRow {
		return statRow{*v, statRates{r.Packets, r.Bytes, r.Copies, r.CopyBytes, r.Drops}}
	}
	report := &statReport{
		At: now.stats.At, Interval: rates.Seconds, VNIs: make([]vniRow, len(now.vnis)),
		Total: statSum{statRow: row(&now.stats.Total, &rates.Total)},
		Other: statSum{statRow: row(&now.stats.Other, &rates.Other)},
	}
	for i := range now.vnis {
		report.VNIs[i].statRow = row(&now.vnis[i], &rates.VNIs[i])
	}
	return report
}

// statColumns are the columns of stats.
var statColumns = []gridColumn{
	{head: "VNI", width: 8}, {head: "Members", right: true}, {head: "pkt/s", right: true}, {head: "copies/s", right: true},
	{head: "Mbit/s in", right: true}, {head: "Mbit/s out", right: true}, {head: "drops/s", right: true},
	{head: "packets", right: true, spare: 3}, {head: "copies", right: true, spare: 2}, {head: "drops", right: true, spare: 1},
}

// statsText writes a line for each VNI, or for the one that was asked for, and
// those of no VNI.
func statsText(b *screen, vni *uint32, report *statReport) {
	g := newGrid(b.terminal, statColumns...)
	g.tight = true
	var uncounted []uint32
	for i := range report.VNIs {
		r := &report.VNIs[i]
		name, members := strconv.FormatUint(uint64(r.VNI), 10), strconv.Itoa(r.Members)
		if r.Uncounted {
			uncounted = append(uncounted, r.VNI)
			g.row(append(plainCells(name, members), plainCells(slices.Repeat([]string{none}, len(statColumns)-2)...)...)...)
			continue
		}
		g.row(b.statCells(name, members, &r.statRow)...)
	}
	dropped := report.Total.Drops
	switch {
	case vni == nil:
		if o := &report.Other; o.Packets > 0 || dropSum(o.Drops) > 0 {
			g.row(b.statCells("other", none, &o.statRow)...)
		}
		t := &report.Total
		g.row(b.statCells("total", strconv.Itoa(t.Members), &t.statRow)...)
	case len(report.VNIs) == 0:
		fmt.Fprintf(b, "VNI %d has no members, and no packet of it is counted\n", *vni)
		return
	default:
		dropped = report.VNIs[0].Drops
	}
	g.end(b)
	b.uncounted(uncounted)
	if dropSum(dropped) > 0 {
		b.WriteByte('\n')
		b.indented(0, "dropped since the start: "+counts(dropped))
	}
}

// uncounted tells of VNIs that have no figures of their own.
func (b *screen) uncounted(vnis []uint32) {
	if len(vnis) > 0 {
		b.WriteByte('\n')
		b.indented(0, "counted among other, since metrics_max_vnis has no more figures: "+someVNIs(vnis))
	}
}

func (b *screen) statCells(name, members string, r *statRow) []cell {
	number := func(n uint64) cell { return cell{text: strconv.FormatUint(n, 10)} }
	rate := func(n float64) cell { return cell{text: figure(n)} }
	drops := rate(r.Rates.Drops)
	if r.Rates.Drops > 0 {
		drops.style = warning
	}
	return []cell{
		{text: name}, {text: members}, rate(r.Rates.Packets), rate(r.Rates.Copies),
		rate(megabits(r.Rates.Bytes)), rate(megabits(r.Rates.CopyBytes)), drops,
		number(r.Packets), number(r.Copies), number(dropSum(r.Drops)),
	}
}

func dropSum(drops map[string]uint64) (sum uint64) {
	for _, n := range drops {
		sum += n
	}
	return sum
}
