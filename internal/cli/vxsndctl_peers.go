// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vxsnd/internal/control"
)

// peerColumns are the columns of the table of peers. Those with figures for
// whoever looks into something are left out first.
var peerColumns = []gridColumn{
	{head: "Address"}, {head: "Name", spare: 2}, {head: "Kind", spare: 6}, {head: "State"}, {head: "Heard"},
	{head: "Queue", right: true, spare: 3}, {head: "Waiting", right: true, spare: 4}, {head: "Relayed", right: true, spare: 7},
	{head: "Dropped", right: true, spare: 1}, {head: "Updates", right: true, spare: 8}, {head: "Dump", spare: 5},
	{head: "Differ", right: true},
}

// peersText writes the peers for people: a table, and below it what is wrong.
func peersText(b *screen, peers *[]control.Peer) {
	if len(*peers) == 0 {
		b.WriteString("no peers are configured\n")
		return
	}
	g := newGrid(b.terminal, peerColumns...)
	g.tight = true
	for i := range *peers {
		p := &(*peers)[i]
		address, kind := p.Address.String(), p.Kind
		if !p.Address.IsValid() {
			address, kind = none, none
		}
		state := shownState(p)
		row := []cell{{text: address}, {text: cmp.Or(p.Name, none)}, {text: kind}, {state, stateStyle(state)}}
		if !p.Address.IsValid() {
			g.row(append(row, plainCells(slices.Repeat([]string{none}, len(peerColumns)-len(row))...)...)...)
			continue
		}
		waiting := strconv.Itoa(p.Waiting)
		if p.All {
			waiting = "all"
		}
		g.row(append(row, cell{text: heardText(p.LastHeard)}, cell{text: strconv.Itoa(p.Queue)}, cell{text: waiting},
			cell{text: strconv.FormatUint(p.Relayed, 10)}, b.worry(p.Dropped+p.RelayErrors),
			cell{text: strconv.FormatUint(p.Updates, 10)}, cell{text: lastDump(p)}, b.worry(uint64(p.Differ)))...)
	}
	g.end(b)

	sep := "\n"
	problem := func(p *control.Peer, what, text string) {
		if text != "" {
			who := p.Name
			if p.Address.IsValid() {
				who = p.Address.String()
			}
			b.WriteString(sep)
			b.indented(0, who+": "+what+oneLine(text))
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

// shownState is the state of a peer, or of a name that does not resolve.
func shownState(p *control.Peer) string {
	if !p.Address.IsValid() {
		return "unresolved"
	}
	return peerState(p)
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
	return none // nothing was to be told or asked yet
}

// stateStyle is how a state of peerState looks.
func stateStyle(state string) style {
	switch state {
	case "up":
		return good
	case "silent":
		return warning
	case none:
		return plain
	}
	return bad
}

// worry is a number that should be 0.
func (b *screen) worry(n uint64) cell {
	c := cell{text: strconv.FormatUint(n, 10)}
	if n > 0 {
		c.style = warning
	}
	return c
}

func lastDump(p *control.Peer) string {
	d := p.LastDump
	switch {
	case p.AskedFor != nil:
		return fmt.Sprintf("asked for %s", uptime(*p.AskedFor))
	case d == nil:
		return none
	case d.Problem != "":
		return fmt.Sprintf("failed, %s ago", uptime(d.Ago))
	}
	return fmt.Sprintf("%d, %s ago", d.Entries, uptime(d.Ago))
}

// oneLine returns a text of several errors as one line.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
