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
	w io.Writer
}

// part begins a part.
func (s *screen) part(number int, title string) {
	head := fmt.Sprintf("%d. %s", number, title)
	fmt.Fprintf(s.w, "\n%s\n%s\n", head, strings.Repeat("-", len(head)))
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
	fmt.Fprintln(s.w, strings.TrimRight(fmt.Sprintf("      "+format, args...), " "))
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
		fmt.Fprintln(s.w, "  "+l)
	}
}

// gap leaves a line free.
func (s *screen) gap() { fmt.Fprintln(s.w) }

// wrap prints text with first in front of its first line and next in front of
// the others.
func (s *screen) wrap(first, next, text string) {
	line := first
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > width {
			fmt.Fprintln(s.w, line)
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(s.w, line)
}
