// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A gridColumn is one of a grid.
type gridColumn struct {
	head  string
	width int  // it has at least that where there is room
	right bool // numbers
	// spare tells in which order columns are left out of a terminal that is too
	// narrow: the highest first, 0 never.
	spare int
}

// A cell is a text in a column. The zero value is an empty one.
type cell struct {
	text  string
	style style
}

// plainCells returns cells without a style.
func plainCells(texts ...string) []cell {
	cells := make([]cell, len(texts))
	for i, t := range texts {
		cells[i].text = t
	}
	return cells
}

const (
	columnGap = "    " // as the Python suite has it
	narrowGap = "  "   // where there is no room for that
)

// A grid is a table under heads, as the Python suite prints it. Where it goes to
// a terminal it keeps to its width as well as it can: narrower gaps, then fewer
// columns, then the last column in several lines. It may be written in parts;
// columns then grow with what is in them.
type grid struct {
	terminal
	tight   bool // narrow gaps in any case: it has many columns
	columns []gridColumn
	widths  []int // of what was seen
	rows    [][]cell
	started bool
	gap     string
	shown   []bool
}

func newGrid(t terminal, columns ...gridColumn) *grid {
	g := &grid{terminal: t, columns: columns, widths: make([]int, len(columns)), shown: make([]bool, len(columns))}
	for i, c := range columns {
		g.widths[i], g.shown[i] = len(c.head), true
	}
	return g
}

// row takes a row. Cells that are not given are empty.
func (g *grid) row(cells ...cell) { g.rows = append(g.rows, cells) }

// flush writes the rows that were taken, and the heads before the first.
func (g *grid) flush(b *screen) {
	for _, r := range g.rows {
		for i := range r {
			r[i].text = printable(r[i].text)
			g.widths[i] = max(g.widths[i], utf8.RuneCountInString(r[i].text))
		}
	}
	if !g.started {
		g.started = true
		g.arrange()
		heads, lines := make([]cell, len(g.columns)), make([]cell, len(g.columns))
		for i, c := range g.columns {
			heads[i], lines[i] = cell{c.head, faint}, cell{strings.Repeat("=", len(c.head)), faint}
		}
		g.write(b, heads)
		g.write(b, lines)
	}
	for _, r := range g.rows {
		g.write(b, r)
	}
	g.rows = g.rows[:0]
}

// end writes what is left, and which columns had no room.
func (g *grid) end(b *screen) {
	g.flush(b)
	var names []string
	for i, c := range g.columns {
		if !g.shown[i] {
			names = append(names, c.head)
		}
	}
	if len(names) > 0 {
		text := "(no room for " + strings.Join(names, ", ") + ")"
		b.WriteString(g.paint(faint, clip(text, g.width)) + "\n")
	}
}

// arrange finds what the width has room for.
func (g *grid) arrange() {
	g.gap = columnGap
	roomy := make([]int, len(g.widths))
	for i, c := range g.columns {
		roomy[i] = max(g.widths[i], c.width)
	}
	if g.tight {
		g.gap = narrowGap
	}
	if g.width == 0 || g.total(roomy) <= g.width {
		g.widths = roomy
		return
	}
	g.gap = narrowGap
	for g.total(g.widths) > g.width {
		last := 0
		for i, c := range g.columns {
			if g.shown[i] && c.spare > g.columns[last].spare {
				last = i
			}
		}
		if g.columns[last].spare == 0 {
			return
		}
		g.shown[last] = false
	}
}

func (g *grid) total(widths []int) int {
	sum := -len(g.gap)
	for i, w := range widths {
		if g.shown[i] {
			sum += len(g.gap) + w
		}
	}
	return sum
}

// write writes one row.
func (g *grid) write(b *screen, cells []cell) {
	at, blanks := 0, 0
	for i, c := range g.columns {
		if !g.shown[i] {
			continue
		}
		var text cell
		if i < len(cells) {
			text = cells[i]
		}
		if at > 0 {
			blanks += len(g.gap)
			at += len(g.gap)
		}
		pad := max(g.widths[i]-utf8.RuneCountInString(text.text), 0)
		if c.right {
			blanks += pad
		}
		if text.text != "" {
			b.WriteString(strings.Repeat(" ", blanks))
			blanks = 0
			g.text(b, text, at, i == len(g.columns)-1)
		}
		if !c.right {
			blanks += pad
		}
		at += g.widths[i]
	}
	b.WriteByte('\n')
}

// text writes a cell that begins in column at; the last one of a row is wrapped.
func (g *grid) text(b *screen, c cell, at int, last bool) {
	lines := []string{c.text}
	if last {
		lines = fold(c.text, g.width-at)
	}
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\n" + strings.Repeat(" ", at))
		}
		b.WriteString(g.paint(c.style, line))
	}
}

// printable returns text without what a terminal would take for more than text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
