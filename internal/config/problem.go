// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong or worth a word in a configuration, and
// where. It is the type of all errors and warnings of this package.
type Problem struct {
	File    string // "" for the command line and for what concerns no one place
	Line    int    // counted from 1; 0 for the file as a whole
	Section string // "" for no section
	Key     string // the option as it was written; "" for a line without one
	Flag    string // the flag as it was written, "" for a file
	Text    string // what is wrong, with the value and what is allowed
	Hint    string // what to do, "" where Text says it
	Err     error  // cause where a file cannot be read, for errors.Is

	order int // place among the flags
}

// Error returns the place and the text in one line, as
// "FILE:LINE: [section] key: text" or "--flag: text".
func (p *Problem) Error() string {
	var b strings.Builder
	if p.Flag != "" {
		b.WriteString(p.Flag + ": ")
	}
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Section != "" {
		b.WriteString("[" + p.Section + "] ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Unwrap returns the cause, if there is one.
func (p *Problem) Unwrap() error { return p.Err }

// Problems is the error that Load returns: all that is wrong, in the order of
// files, lines and flags. It is never empty.
type Problems []*Problem

// Error returns all problems, one per line.
func (ps Problems) Error() string {
	ss := make([]string, len(ps))
	for i, p := range ps {
		ss[i] = p.Error()
	}
	return strings.Join(ss, "\n")
}

// Unwrap returns the problems one by one, for errors.Is and errors.As.
func (ps Problems) Unwrap() []error {
	es := make([]error, len(ps))
	for i, p := range ps {
		es[i] = p
	}
	return es
}

// Flags tells whether all problems are those of the command line.
func (ps Problems) Flags() bool {
	return !slices.ContainsFunc(ps, func(p *Problem) bool { return p.Flag == "" })
}
