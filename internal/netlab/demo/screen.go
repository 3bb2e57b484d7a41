// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is where lines end at the latest.
const width = 100

// A screen prints what the demonstration says. One goroutine uses it.
type screen struct {
	w      io.Writer
	err    error // the first of w
	checks int   // calls of ok
}

// line prints a line.
func (s *screen) line(text string) {
	if _, err := fmt.Fprintln(s.w, strings.TrimRight(text, " ")); s.err == nil {
		s.err = err
	}
}

// head begins a part.
func (s *screen) head(title string) {
	s.gap()
	s.line(title)
	s.line(strings.Repeat("-", utf8.RuneCountInString(title)))
}

// say prints prose, wrapped.
func (s *screen) say(format string, args ...any) {
	s.wrap("", "", fmt.Sprintf(format, args...))
}

// ok prints something that has been checked.
func (s *screen) ok(format string, args ...any) {
	s.checks++
	s.wrap("  ok  ", "      ", fmt.Sprintf(format, args...))
}

// failed prints something that is not as it should be.
func (s *screen) failed(format string, args ...any) {
	s.wrap("  FAILED  ", "          ", fmt.Sprintf(format, args...))
}

// row prints a line of a table or a drawing as it is.
func (s *screen) row(format string, args ...any) {
	s.line(fmt.Sprintf("      "+format, args...))
}

// log prints a line that a daemon of a machine has logged.
func (s *screen) log(at, line string) {
	s.wrap("  "+at+" | ", "  "+strings.Repeat(" ", len(at))+" |     ", line)
}

// command prints a command line with the machine that it is for.
func (s *screen) command(at, line string) {
	for i, l := range strings.Split(line, "\n") {
		if i == 0 {
			l = at + "$ " + l
		}
		for utf8.RuneCountInString(l) > width-len("  ") {
			cut := strings.LastIndexByte(l[:width-len("   \\")], ' ')
			if cut < 0 {
				break // one long word
			}
			s.line("  " + l[:cut] + " \\")
			l = "           " + l[cut+1:]
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
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
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

// summary tells how each part went, and all of them. err is why it ended, if not
// well.
func (s *screen) summary(parts []*part, err error) {
	s.head("Summary")
	for i, p := range parts {
		result := "ok    "
		switch {
		case p.failed:
			result = "FAILED"
		case !p.begun:
			result = "not run"
		}
		s.line(fmt.Sprintf("  %-7s  %2d. %-73s %2d ok", result, i+1, p.title, p.checks))
	}
	s.gap()
	if err != nil {
		s.failed("%s were ok, then one was not. The lab is taken down, and nothing of it is left on this machine.", count(s.checks, "check"))
		return
	}
	s.ok("All %s. The lab is taken down, and nothing of it is left on this machine.", count(s.checks, "check"))
}
