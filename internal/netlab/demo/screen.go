// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// width is where lines end at the latest.
const width = 100

// A screen prints what the demonstration says. One goroutine uses it.
type screen struct {
	w   io.Writer
	err error // the first of w
}

// line prints a line.
func (s *screen) line(text string) {
	if _, err := fmt.Fprintln(s.w, strings.TrimRight(text, " ")); s.err == nil {
		s.err = err
	}
}

// part begins a part.
func (s *screen) part(number int, title string) {
	head := fmt.Sprintf("%d. %s", number, title)
	s.gap()
	s.line(head)
	s.line(strings.Repeat("-", len(head)))
}

// say prints prose, wrapped.
func (s *screen) say(format string, args ...any) {
	s.wrap("", "", fmt.Sprintf(format, args...))
}

// ok prints something that has been checked.
func (s *screen) ok(format string, args ...any) {
	s.wrap("  ok  ", "      ", fmt.Sprintf(format, args...))
}

// row prints a line of a table or a drawing as it is.
func (s *screen) row(format string, args ...any) {
	s.line(fmt.Sprintf("      "+format, args...))
}

// log prints a line of vxsnd's.
func (s *screen) log(line string) {
	s.wrap("    | ", "    |     ", line)
}

// command prints a command line with the machine that it is for.
func (s *screen) command(at, line string) {
	for i, l := range strings.Split(line, "\n") {
		if i == 0 {
			l = at + "$ " + l
		}
		s.line("  " + l)
	}
}

// gap leaves a line free.
func (s *screen) gap() { s.line("") }

// wrap prints text with first in front of its first line and next in front of
// the others.
func (s *screen) wrap(first, next, text string) {
	line := first
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > width {
			s.line(line)
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	s.line(line)
}
