// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
)

// static stands for the seconds of what never ages.
const static = "STATIC"

// none stands for what is not there, so that each column of a row has a word.
const none = "-"

// sourceNames are the sources of entries.
var sourceNames = func() (names []string) {
	for s := fdb.Source(0); s < fdb.NumSources; s++ {
		names = append(names, s.String())
	}
	return names
}()

// fdbCommand tells of the members of VNIs.
var fdbCommand = ctlCommand{
	name: "fdb", doc: "the members of all VXLANs, or of one",
	more: "One line for each entry: a VTEP may have several, from several sources. " +
		"With debug the columns are those of the Python suite's debug, and then the others.",
	operands: []operand{oneVNI, {name: "debug", kind: wordOperand, optional: true}},
	flags: func(fs *pflag.FlagSet) {
		prefixFlag(fs, "vtep", "", "only the entries of this VTEP, or in this prefix: `ADDRESS[/LEN]`")
		wordFlag(fs, "source", "", sourceNames, "only the entries of this source, a `NAME`: "+strings.Join(sourceNames, ", "))
	},
	asks: control.CommandFDB,
	args: func(c *ctlCall) (any, error) {
		a := control.FDBArgs{VNI: c.vni("VNI")}
		a.VTEP, _ = flagValueOf[netip.Prefix](c, "vtep")
		a.Source, _ = flagValueOf[string](c, "source")
		return a, nil
	},
	printer: newFDBPrinter,
}

// newFDBPrinter returns a printer of the answer to fdb, which holds one piece
// of it at a time.
func newFDBPrinter(c *ctlCall) printer {
	switch c.format {
	case formatDeployed:
		return &grouper{members: &fdbDeployed{w: c.out}}
	case formatJSON:
		return &arrayPrinter{w: c.out}
	}
	return newFDBText(c)
}

// A grouper hands on what the table has about one VTEP in one VNI at a time. It
// may be spread over two pieces.
type grouper struct {
	members interface {
		next() error // a piece begins
		member([]control.FDBEntry) error
		end() error
	}
	held []control.FDBEntry
}

func (g *grouper) piece(data json.RawMessage) error {
	var part control.FDBPart
	if err := json.Unmarshal(data, &part); err != nil {
		return notUnderstood(err)
	}
	if err := g.members.next(); err != nil {
		return err
	}
	for _, e := range part {
		if len(g.held) > 0 && (g.held[0].VNI != e.VNI || g.held[0].Address != e.Address) {
			if err := g.members.member(g.held); err != nil {
				return err
			}
			g.held = g.held[:0]
		}
		g.held = append(g.held, e)
	}
	return nil
}

func (g *grouper) end() error {
	if len(g.held) > 0 {
		if err := g.members.member(g.held); err != nil {
			return err
		}
	}
	return g.members.end()
}

// outlives tells whether a lives longer than b.
func outlives(a, b *control.FDBEntry) bool {
	return b.Seconds != nil && (a.Seconds == nil || *a.Seconds > *b.Seconds)
}

// ageout is the time left as the Python suite shows it.
func ageout(e *control.FDBEntry) string {
	if e.Seconds == nil {
		return static
	}
	return strconv.FormatInt(*e.Seconds, 10)
}

// fdbText prints a table for people.
type fdbText struct {
	c       *ctlCall
	g       *grid
	columns []fdbColumn
	last    int64 // the VNI of the row before, -1 for none
}

// An fdbColumn is a column of the table, and what is in it.
type fdbColumn struct {
	gridColumn
	cell func(*control.FDBEntry) string
}

// The columns of the table. The first three are those of the Python suite; a
// fourth is its NodeId, with debug. The others are ours.
var (
	fdbAddress = fdbColumn{gridColumn{head: "Address", width: 12}, func(e *control.FDBEntry) string { return e.Address.String() }}
	fdbAgeout  = fdbColumn{gridColumn{head: "Ageout"}, ageout}
	fdbSource  = fdbColumn{gridColumn{head: "Source", width: 13}, func(e *control.FDBEntry) string { return e.Source }}
	fdbNodeID  = fdbColumn{gridColumn{head: "NodeId", spare: 1}, func(e *control.FDBEntry) string {
		if e.Identifier == 0 {
			return none
		}
		return strconv.FormatUint(e.Identifier, 10)
	}}
	fdbHeard = fdbColumn{gridColumn{head: "Heard", spare: 2}, func(e *control.FDBEntry) string { return heardText(e.LastHeard) }}
	fdbVia   = fdbColumn{gridColumn{head: "Via", spare: 3}, func(e *control.FDBEntry) string {
		if !e.Via.IsValid() {
			return none
		}
		return e.Via.String()
	}}
)

func newFDBText(c *ctlCall) *fdbText {
	p := &fdbText{c: c, last: -1, columns: []fdbColumn{fdbAddress, fdbAgeout, fdbSource, fdbNodeID, fdbHeard}}
	if c.has("debug") {
		p.columns = []fdbColumn{fdbAddress, fdbAgeout, fdbNodeID, fdbSource, fdbHeard, fdbVia}
	}
	columns := []gridColumn{{head: "VNI", width: 8}}
	for _, f := range p.columns {
		columns = append(columns, f.gridColumn)
	}
	p.g = newGrid(c.terminal, columns...)
	return p
}

func (p *fdbText) piece(data json.RawMessage) error {
	var part control.FDBPart
	if err := json.Unmarshal(data, &part); err != nil {
		return notUnderstood(err)
	}
	for i := range part {
		e := &part[i]
		row := make([]cell, 1, 1+len(p.columns))
		if vni := int64(e.VNI); vni != p.last {
			row[0].text, p.last = strconv.FormatInt(vni, 10), vni
		}
		for _, f := range p.columns {
			row = append(row, cell{text: f.cell(e)})
		}
		p.g.row(row...)
	}
	// The longer a block, the less often its columns grow.
	if len(p.g.rows) < control.MaxPart {
		return nil
	}
	return p.write((*grid).flush)
}

// write writes what was held back.
func (p *fdbText) write(what func(*grid, *screen)) error {
	b := p.c.newScreen()
	what(p.g, b)
	_, err := p.c.out.Write(b.Bytes())
	return err
}

func (p *fdbText) end() error {
	if p.last >= 0 {
		return p.write((*grid).end)
	}
	return p.write(func(g *grid, b *screen) {
		g.flush(b)
		b.WriteString("Empty\n")
	})
}

// heardText is how long ago something was heard of.
func heardText(seconds *int64) string {
	if seconds == nil {
		return none
	}
	return uptime(*seconds)
}

// fdbDeployed prints one JSON object as the Python suite does:
// {"VNI": [["address", "seconds", "identifier"], …], …}.
type fdbDeployed struct {
	w    io.Writer
	b    []byte // held back until the next piece
	open bool
	last uint32 // the VNI that is open
}

func (p *fdbDeployed) member(entries []control.FDBEntry) error {
	sep := ", "
	if vni := entries[0].VNI; !p.open || vni != p.last {
		start := "{"
		if p.open {
			start = "], "
		}
		p.b = fmt.Appendf(p.b, `%s"%d": [`, start, vni)
		sep, p.open, p.last = "", true, vni
	}
	for i := range entries {
		if p.outlived(entries, i) {
			continue
		}
		e := &entries[i]
		id := ""
		if e.Identifier != 0 {
			id = strconv.FormatUint(e.Identifier, 10)
		}
		p.b = fmt.Appendf(p.b, `%s["%s", "%s", "%s"]`, sep, e.Address, ageout(e), id)
		sep = ", "
	}
	return nil
}

// outlived tells whether another entry stands for entry i: the suite has one
// entry for each address and identifier, whoever vouches for it.
func (p *fdbDeployed) outlived(entries []control.FDBEntry, i int) bool {
	for j := range entries {
		if j == i || entries[j].Identifier != entries[i].Identifier {
			continue
		}
		if outlives(&entries[j], &entries[i]) || j < i && !outlives(&entries[i], &entries[j]) {
			return true
		}
	}
	return false
}

func (p *fdbDeployed) next() error {
	_, err := p.w.Write(p.b)
	p.b = p.b[:0]
	return err
}

func (p *fdbDeployed) end() error {
	if p.open {
		p.b = append(p.b, "]}\n"...)
	} else {
		p.b = append(p.b, "{}\n"...)
	}
	return p.next()
}
