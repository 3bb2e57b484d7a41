// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"vxsnd/internal/control"
)

// The widths of the columns in the Python suite's tables. Longer addresses
// make theirs wider.
const (
	vniWidth     = 8
	addressWidth = 12
	columnGap    = "    "
)

// static stands for the seconds of what never ages.
const static = "STATIC"

// newFDBPrinter returns a printer of the answer to fdb, which holds one piece
// of it at a time.
func newFDBPrinter(c *ctlCall) printer {
	switch c.format {
	case formatDeployed:
		return &grouper{members: &fdbDeployed{w: c.out}}
	case formatJSON:
		return &arrayPrinter{w: c.out}
	}
	return &grouper{members: &fdbText{w: c.out, width: addressWidth, last: -1}}
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
		return fmt.Errorf("the answer is not understood: %w", err)
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
	w       io.Writer
	width   int         // of the addresses; grows as they come
	rows    [][3]string // held back for their width
	started bool        // the head is printed
	last    int64       // the VNI of the row before, -1 for none
}

func (p *fdbText) member(entries []control.FDBEntry) error {
	longest := &entries[0]
	for i := range entries {
		if outlives(&entries[i], longest) {
			longest = &entries[i]
		}
	}
	row := [3]string{"", longest.Address.String(), ageout(longest)}
	if vni := int64(longest.VNI); vni != p.last {
		row[0], p.last = strconv.FormatInt(vni, 10), vni
	}
	p.width = max(p.width, len(row[1]))
	p.rows = append(p.rows, row)
	return nil
}

func (p *fdbText) next() error {
	if len(p.rows) < control.MaxPart {
		return nil
	}
	return p.flush()
}

// flush writes the rows that are held back, and the head before the first.
func (p *fdbText) flush() error {
	var b []byte
	if !p.started {
		p.started = true
		b = p.line(p.line(b, "VNI", "Address", "Ageout"), "===", "=======", "======")
	}
	for _, r := range p.rows {
		b = p.line(b, r[0], r[1], r[2])
	}
	p.rows = p.rows[:0]
	_, err := p.w.Write(b)
	return err
}

func (p *fdbText) end() error {
	empty := p.last < 0
	err := p.flush()
	if err == nil && empty {
		_, err = io.WriteString(p.w, "Empty\n")
	}
	return err
}

func (p *fdbText) line(b []byte, vni, address, ageout string) []byte {
	return fmt.Appendf(b, "%-*s%s%-*s%s%s\n", vniWidth, vni, columnGap, p.width, address, columnGap, ageout)
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
