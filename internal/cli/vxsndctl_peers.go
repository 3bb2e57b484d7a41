// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"vxsnd/internal/control"
)

// peerColumns are the heads of the table of peers.
var peerColumns = []string{
	"Address", "Name", "Kind", "State", "Heard", "Queue", "Waiting", "Relayed", "Dropped", "Updates", "Dump", "Differ",
}

// peersText writes the peers for people: a table, and below it what is wrong.
func peersText(b *screen, peers *[]control.Peer) {
	if len(*peers) == 0 {
		b.WriteString("no peers are configured\n")
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	var lines []string
	for _, c := range peerColumns {
		lines = append(lines, strings.Repeat("=", len(c)))
	}
	row(peerColumns...)
	row(lines...)
	for i := range *peers {
		p := &(*peers)[i]
		if !p.Address.IsValid() {
			row(append([]string{"-", p.Name, "-", "unresolved"}, slices.Repeat([]string{"-"}, len(peerColumns)-4)...)...)
			continue
		}
		waiting := strconv.Itoa(p.Waiting)
		if p.All {
			waiting = "all"
		}
		row(p.Address.String(), cmp.Or(p.Name, "-"), p.Kind, peerState(p), peerHeard(p), strconv.Itoa(p.Queue), waiting,
			strconv.FormatUint(p.Relayed, 10), strconv.FormatUint(p.Dropped+p.RelayErrors, 10),
			strconv.FormatUint(p.Updates, 10), lastDump(p), strconv.Itoa(p.Differ))
	}
	t.Flush() // a bytes.Buffer takes everything

	sep := "\n"
	problem := func(p *control.Peer, what, text string) {
		if text != "" {
			who := p.Name
			if p.Address.IsValid() {
				who = p.Address.String()
			}
			fmt.Fprintf(b, "%s%s: %s%s\n", sep, who, what, oneLine(text))
			sep = ""
		}
	}
	for i := range *peers {
		p := &(*peers)[i]
		problem(p, "", p.Problem)
		problem(p, "relay: ", p.RelayProblem)
		if d := p.LastDump; d != nil && d.Problem != p.Problem {
			problem(p, "dump: ", d.Problem)
		}
	}
}

func peerState(p *control.Peer) string {
	switch {
	case p.Faulty:
		return "faulty"
	case p.Silent:
		return "silent"
	case p.Reachable:
		return "up"
	case p.Refuses:
		return "refuses"
	case p.Problem != "":
		return "unreachable"
	}
	return "-" // nothing was to be told or asked yet
}

func peerHeard(p *control.Peer) string {
	if p.LastHeard == nil {
		return "-"
	}
	return uptime(*p.LastHeard) + " ago"
}

func lastDump(p *control.Peer) string {
	d := p.LastDump
	switch {
	case p.AskedFor != nil:
		return fmt.Sprintf("asked for %s", uptime(*p.AskedFor))
	case d == nil:
		return "-"
	case d.Problem != "":
		return fmt.Sprintf("failed, %s ago", uptime(d.Ago))
	}
	return fmt.Sprintf("%d, %s ago", d.Entries, uptime(d.Ago))
}

// oneLine returns a text of several errors as one line.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
