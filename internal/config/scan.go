// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/ini.v1"
)

// An entry is one key of a file with its value, continuation lines joined by
// a blank.
type entry struct {
	file    string
	line    int    // of the key
	section string // lower case, "" for none
	key     string // as written
	value   string
	bad     *Problem   // what is malformed about the value, nil if nothing is
	next    int        // first line that continues the value, 0 for none
	odd     []*Problem // continuation lines that look like something else
}

// at makes a Problem of the place where e stands.
func (e *entry) at(text, hint string) *Problem {
	return &Problem{
		File: e.file, Line: e.line, Section: e.section,
		Key: shorten(e.key, maxWord), Text: shorten(text, maxText), Hint: hint,
	}
}

// scan reads the text of a file into entries. It finds the lines and what is
// malformed itself, because ini knows no line numbers and gives up at the first
// bad line; ini reads the value of each line.
func scan(file string, text []byte) ([]entry, Problems) {
	var (
		es       []entry
		ps       Problems
		section  string
		unknown  bool                     // in a section that nobody knows: its lines are passed over
		last     = -1                     // entry that a continuation line belongs to
		more     = make(map[int][]string) // continuation lines, by place in es
		lineNo   int
		complain = func(text, hint string) {
			ps = append(ps, &Problem{File: file, Line: lineNo, Section: section, Text: text, Hint: hint})
		}
	)
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	for raw := range strings.SplitSeq(string(text), "\n") {
		lineNo++
		raw = strings.TrimRight(raw, " \t\r")
		line := strings.TrimLeft(raw, " \t")
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		switch {
		case len(line) < len(raw):
			if unknown {
				continue
			}
			if last < 0 {
				complain("a line that starts with a blank continues a value, but there is none before it",
					"remove the blank at the start of the line")
				continue
			}
			v, err := readValue(line)
			e := &es[last]
			if err != nil && e.bad == nil {
				e.bad = e.at(err.Error(), "")
				e.bad.Line = lineNo
			}
			if what := mistaken(line, e.key); what != "" {
				w := e.at("the line continues this value, since it starts with a blank: remove the blank if it is "+what, "")
				w.Line = lineNo
				e.odd = append(e.odd, w)
			}
			if e.next == 0 {
				e.next = lineNo
			}
			more[last] = append(more[last], v)
		case line[0] == '[':
			last = -1
			name, problem := sectionName(line)
			if problem != "" {
				complain(problem, "")
				unknown = true
				continue
			}
			section = strings.ToLower(name)
			if unknown = !slices.Contains(sections, section); unknown {
				section = ""
				hint := "known sections are [common], [vxsnd] and [vxrd]"
				if n := Nearest(name, sections); n != "" {
					hint = "did you mean [" + n + "]?"
				}
				complain(quote("["+name+"]")+" is not a known section", hint)
			}
		default:
			last = -1
			if unknown {
				continue
			}
			i := strings.IndexAny(line, "=:")
			if i < 0 {
				complain(quote(line)+" is neither KEY = VALUE nor [SECTION]", "")
				continue
			}
			key := strings.TrimSpace(line[:i])
			if key == "" || unprintable(key) != "" {
				complain(quote(line)+" has no key before the "+quote(line[i:i+1]), "")
				continue
			}
			e := entry{file: file, line: lineNo, section: section, key: key}
			var err error
			if e.value, err = readValue(line[i+1:]); err != nil {
				e.bad = e.at(err.Error(), "")
			}
			last = len(es)
			es = append(es, e)
		}
	}
	for i, vs := range more {
		es[i].value = strings.TrimSpace(es[i].value + " " + strings.Join(vs, " "))
	}
	return es, ps
}

// mistaken says what a line that continues the value of key looks like, "" if
// it looks like nothing else. A host of a list may have an option's name and a
// port behind it.
func mistaken(line, key string) string {
	if line[0] == '[' {
		if name, problem := sectionName(line); problem == "" && slices.Contains(sections, strings.ToLower(name)) {
			return "the section [" + strings.ToLower(name) + "]"
		}
		return ""
	}
	i := strings.IndexAny(line, "=:")
	if i < 0 {
		return ""
	}
	o := lookup(strings.TrimSpace(line[:i]))
	if o == nil {
		return ""
	}
	blank := strings.ContainsAny(line[i-1:min(i+2, len(line))], " \t")
	if continued := lookup(key); line[i] == ':' && !blank && continued != nil && continued.List {
		return ""
	}
	return "the option " + strings.TrimSpace(line[:i])
}

// sections are the names of all sections.
var sections = []string{"common", "vxsnd", "vxrd"}

// sectionName reads a line that begins with a bracket.
func sectionName(line string) (name, problem string) {
	name, rest, ok := strings.Cut(line[1:], "]")
	if !ok {
		return "", quote(line) + " has no closing bracket"
	}
	rest = strings.TrimSpace(rest)
	if rest != "" && rest[0] != '#' && rest[0] != ';' {
		return "", quote(line) + " has something behind the bracket"
	}
	return strings.TrimSpace(name), ""
}

var errQuote = errors.New("a quote that begins the value does not end it")

// readValue reads what stands behind the delimiter, or a continuation line.
// The comment goes first: ini would cut at any '#', or see only those behind a
// space, or miss a ';' before a '#'. Quotes are compared first too: ini drops
// what stands behind a closed backquote, and keeps a quote that is not closed.
func readValue(s string) (string, error) {
	s = strings.TrimSpace(cutComment(s))
	if bad := unprintable(s); bad != "" {
		return "", fmt.Errorf("%s has %s in it", quote(s), bad)
	}
	if s != "" && strings.IndexByte(quotes, s[0]) >= 0 && (len(s) < 2 || s[len(s)-1] != s[0]) {
		return "", errQuote
	}
	f, err := ini.LoadSources(ini.LoadOptions{
		IgnoreInlineComment: true,
		IgnoreContinuation:  true,
	}, []byte("value = "+s))
	if err != nil {
		return "", errQuote
	}
	// Value and not String, which would expand %(name)s.
	return strings.TrimSpace(f.Section("").Key("value").Value()), nil
}

// quotes are the characters that may enclose a value.
const quotes = "\"'`"

// cutComment removes what follows a '#' or ';' behind a blank, outside of
// quotes that begin the value.
func cutComment(s string) string {
	start := 0
	if t := strings.TrimLeft(s, " \t"); t != "" && strings.IndexByte(quotes, t[0]) >= 0 {
		open := len(s) - len(t)
		if n := strings.IndexByte(t[1:], t[0]); n >= 0 {
			start = open + 1 + n + 1
		}
	}
	for i := start; i < len(s); i++ {
		if (s[i] == '#' || s[i] == ';') && i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') {
			return s[:i]
		}
	}
	return s
}

// unprintable describes the first thing in s that is no text, "" if all is.
func unprintable(s string) string {
	if !utf8.ValidString(s) {
		return "invalid UTF-8"
	}
	for _, r := range s {
		if r != '\t' && unicode.IsControl(r) {
			return "a control character"
		}
	}
	return ""
}

// The longest parts of a message, in bytes. Beyond them is no honest mistake.
const (
	maxWord = 64
	maxText = 512
)

// shorten cuts s at the end of a character so that at most limit bytes are
// left.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// quote shortens and quotes a word or line for a message.
func quote(s string) string { return strconv.Quote(shorten(s, maxWord)) }
