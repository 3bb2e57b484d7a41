// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// explainCommand tells what would happen to a packet.
var explainCommand = ctlCommand{
	name: "explain", doc: "what would happen to a packet of a VTEP",
	more: "Nothing is sent. It is told whether a packet that SOURCE sends in VNI would be flooded, which members " +
		"get a copy, and which do not and by which rule.",
	operands: []operand{{name: "VNI", kind: vniOperand}, {name: "SOURCE", kind: addressOperand}},
	flags: func(fs *pflag.FlagSet) {
		numberFlag(fs, "ttl", "", defaultTTL, 0, 255, "the TTL that it arrives with, a `NUMBER`")
		numberFlag(fs, "length", "", 0, 0, maxFrame, "the length of its inner Ethernet frame in `BYTES`; without it, it fits")
	},
	asks: control.CommandExplain,
	args: func(c *ctlCall) (any, error) {
		a := control.ExplainArgs{VNI: *c.vni("VNI"), Source: c.address("SOURCE")}
		if n, given := flagValueOf[int](c, "ttl"); given {
			a.TTL = &n
		}
		if n, given := flagValueOf[int](c, "length"); given {
			a.Length = &n
		}
		return a, nil
	},
	printer: func(c *ctlCall) printer { return &explainPrinter{c: c} },
}

// maxFrame is the length of the longest frame that a VXLAN packet has room for, as
// the daemon takes it.
const maxFrame = 0xffff - ipv4Header - udpHeader - vxlan.HeaderLen

// defaultTTL is that of Linux, and what the daemon takes where none is told.
const defaultTTL = 64

// An explainPrinter prints the answer to explain: one Explanation, and then
// destinations.
type explainPrinter struct {
	c            *ctlCall
	head         json.RawMessage
	destinations []json.RawMessage
}

func (p *explainPrinter) piece(data json.RawMessage) error {
	if p.head == nil {
		p.head = bytes.Clone(data)
		return nil
	}
	var part []json.RawMessage
	if err := json.Unmarshal(data, &part); err != nil {
		return notUnderstood(err)
	}
	p.destinations = append(p.destinations, part...)
	return nil
}

func (p *explainPrinter) end() error {
	if p.head == nil {
		return errEmpty
	}
	if p.c.format != formatText {
		return p.json()
	}
	var e control.Explanation
	if err := json.Unmarshal(p.head, &e); err != nil {
		return notUnderstood(err)
	}
	destinations := make([]control.ExplainedDestination, len(p.destinations))
	for i, d := range p.destinations {
		if err := json.Unmarshal(d, &destinations[i]); err != nil {
			return notUnderstood(err)
		}
	}
	b := p.c.newScreen()
	explainText(b, &e, destinations)
	_, err := p.c.out.Write(b.Bytes())
	return err
}

// json prints one object: the head, and the destinations as a member of it.
func (p *explainPrinter) json() error {
	head, ok := bytes.CutSuffix(bytes.TrimRight(p.head, " \n"), []byte("}"))
	if !ok {
		return notUnderstood(fmt.Errorf("no object: %.20s", p.head))
	}
	list, err := json.Marshal(append([]json.RawMessage{}, p.destinations...))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, fmt.Appendf(nil, `%s,"destinations":%s}`, head, list), "", "  "); err != nil {
		return notUnderstood(err)
	}
	b.WriteByte('\n')
	_, err = io.Copy(p.c.out, &b)
	return err
}

// explainColumns are the columns of the table of destinations.
var explainColumns = []gridColumn{
	{head: "Address"}, {head: "Copy"}, {head: "Rule"}, {head: "Sources", spare: 2}, {head: "Way", spare: 1}, {head: "Why"},
}

// explainText writes what would happen: sentences, and then each member.
func explainText(b *screen, e *control.Explanation, destinations []control.ExplainedDestination) {
	what := fmt.Sprintf("A packet from %s in VNI %d ", e.Source, e.VNI)
	switch {
	case !e.Flooded:
		b.say(bad, what+"is not flooded ("+e.Rule+"): "+e.Text)
	case e.Copies == 0:
		b.say(warning, what+"is flooded, but nobody gets a copy: "+e.Text)
	default:
		b.say(good, what+"is flooded: "+e.Text)
	}
	if e.LearnText != "" {
		b.say(plain, "Learning: "+e.LearnText)
	}
	if len(destinations) == 0 {
		return
	}
	b.WriteByte('\n')
	g := newGrid(b.terminal, explainColumns...)
	g.tight = true
	for i := range destinations {
		d := &destinations[i]
		s := plain
		switch {
		case d.Rule == "sender":
			s = faint // as it should be
		case !d.Copy:
			s = warning
		}
		g.row(cell{d.Address.String(), s}, cell{yesNo(d.Copy), s}, cell{d.Rule, s},
			cell{text: orNone(strings.Join(d.Sources, ", "))}, cell{text: way(d)}, cell{oneLine(d.Text), s})
	}
	g.end(b)
}

// say writes a sentence on as many lines as the terminal takes for it.
func (b *screen) say(s style, text string) {
	lines := fold(printable(oneLine(text)), b.width-1)
	if last := &lines[len(lines)-1]; !strings.HasSuffix(*last, ".") {
		*last += "."
	}
	for _, line := range lines {
		b.WriteString(b.paint(s, line) + "\n")
	}
}

// way is how a copy leaves the machine.
func way(d *control.ExplainedDestination) string {
	if d.Gateway.IsValid() {
		return strings.TrimSpace(d.Device + " via " + d.Gateway.String())
	}
	return orNone(d.Device)
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}
