// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"vxsnd/internal/control"
)

// vtepCommand tells of one VTEP.
var vtepCommand = ctlCommand{
	name: "vtep", doc: "the VXLANs that a VTEP is in, and what it sent",
	more: "It is told by which entries the VTEP is a member, what it sent in each VXLAN and how many " +
		"copies were made of that.",
	operands: []operand{{name: "ADDRESS", kind: addressOperand}},
	asks:     control.CommandVTEP,
	args:     func(c *ctlCall) (any, error) { return control.VTEPArgs{Address: c.address("ADDRESS")}, nil },
	printer: func(c *ctlCall) printer {
		return printList(func(b *screen, all []control.VTEPMember) { vtepText(b, c.address("ADDRESS").String(), all) }, nil)(c)
	},
}

// vtepColumns are the columns of the table of a VTEP.
var vtepColumns = []gridColumn{
	{head: "VNI"}, {head: "Sources"}, {head: "Ageout"}, {head: "NodeId", spare: 3}, {head: "Heard", spare: 4},
	{head: "Packets", right: true}, {head: "Bytes", right: true, spare: 2}, {head: "Copies", right: true},
	{head: "Drops", right: true, spare: 1}, {head: "Last packet", right: true},
}

// vtepText writes what is known of a VTEP, and below it why it gets no copies
// where it is so.
func vtepText(b *screen, vtep string, all []control.VTEPMember) {
	if len(all) == 0 {
		fmt.Fprintf(b, "%s is in no VXLAN, and nothing came from it\n", vtep)
		return
	}
	g := newGrid(b.terminal, vtepColumns...)
	g.tight = true
	var uncounted []uint32
	number := func(n uint64) cell { return cell{text: strconv.FormatUint(n, 10)} }
	for i := range all {
		m := &all[i]
		last := none
		if m.LastPacket != nil {
			last = shortSeconds(*m.LastPacket)
		}
		row := append([]cell{{text: strconv.FormatUint(uint64(m.VNI), 10)}}, membership(m)...)
		if m.Uncounted {
			uncounted = append(uncounted, m.VNI)
			g.row(append(row, plainCells(none, none, none, none, none)...)...)
			continue
		}
		g.row(append(row, number(m.Packets), number(m.Bytes), number(m.Copies), b.worry(m.Drops), cell{text: last})...)
	}
	g.end(b)
	b.uncounted(uncounted)
	var reasons []string
	excluded := make(map[string][]uint32)
	for i := range all {
		if m := &all[i]; m.Excluded != "" {
			if excluded[m.Excluded] == nil {
				reasons = append(reasons, m.Excluded)
			}
			excluded[m.Excluded] = append(excluded[m.Excluded], m.VNI)
		}
	}
	for i, reason := range reasons {
		if i == 0 {
			b.WriteByte('\n')
		}
		b.indented(0, b.paint(warning, someVNIs(excluded[reason])+": gets no copies: "+oneLine(reason)))
	}
}

// maxVNIs is how many VNIs are named in a sentence.
const maxVNIs = 8

// someVNIs names VNIs, of many the first few.
func someVNIs(vnis []uint32) string {
	if len(vnis) == 1 {
		return fmt.Sprintf("VNI %d", vnis[0])
	}
	var names []string
	for _, v := range vnis[:min(len(vnis), maxVNIs)] {
		names = append(names, strconv.FormatUint(uint64(v), 10))
	}
	text := "VNIs " + strings.Join(names, ", ")
	if more := len(vnis) - maxVNIs; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// membership is by which entries a VTEP is a member: their sources, the time of
// the one that lives longest, an identifier if one has any, and when the VTEP
// was heard last.
func membership(m *control.VTEPMember) []cell {
	if len(m.Sources) == 0 {
		return []cell{{"no member", warning}, {text: none}, {text: none}, {text: none}}
	}
	var sources []string
	longest, node := &m.Sources[0], none
	var heard *int64
	for i := range m.Sources {
		e := &m.Sources[i]
		sources = append(sources, e.Source)
		if outlives(e, longest) {
			longest = e
		}
		if e.Identifier != 0 && node == none {
			node = strconv.FormatUint(e.Identifier, 10)
		}
		if e.LastHeard != nil && (heard == nil || *e.LastHeard < *heard) {
			heard = e.LastHeard
		}
	}
	return []cell{{text: strings.Join(sources, ", ")}, {text: ageout(longest)}, {text: node}, {text: heardText(heard)}}
}

// shortSeconds is a time of less than a minute with a digit of its fraction, and a
// longer one without.
func shortSeconds(s float64) string {
	if s < 60 {
		return strconv.FormatFloat(max(s, 0), 'f', 1, 64) + "s"
	}
	return uptime(int64(s))
}
