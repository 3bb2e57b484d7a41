// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// A source is the text of one file.
type source struct {
	name     string
	text     []byte
	override bool
}

// A setting is one occurrence of an option that may take effect.
type setting struct {
	entry
	flag  string // as written, "" for a file
	order int    // place among the flags
	rank  int    // the highest wins, of equal ones the last
}

func (s *setting) at(text, hint string) *Problem {
	if s.flag != "" {
		return &Problem{Flag: s.flag, Text: shorten(text, maxText), Hint: hint, order: s.order}
	}
	return s.entry.at(text, hint)
}

// The ranks of a setting. What stands in an override file beats any section of
// the file.
const (
	rankNoSection = iota
	rankCommon
	rankOwn
	rankOverride // added to one of those above
	rankFlag     = 2 * rankOverride
	rankSet      = rankFlag + 1 // in a running daemon
)

// loader gathers settings and problems of one configuration.
type loader struct {
	program  Program
	settings [][]setting     // by place in table
	bad      map[string]bool // options that have a problem, by name
	problems Problems
	warnings []*Problem
}

func newLoader(p Program) *loader {
	if p == 0 {
		p = Vxsnd
	}
	return &loader{program: p, settings: make([][]setting, len(table)), bad: make(map[string]bool)}
}

// load returns the configuration that the sources, flags and values that were
// set give, which is one only if l then has no problems.
func (l *loader) load(srs []source, flags, set []Flag) Config {
	for _, s := range srs {
		l.addFile(s)
	}
	for i, f := range flags {
		l.addFlag(i, f, rankFlag)
	}
	for i, f := range set {
		l.addFlag(len(flags)+i, f, rankSet)
	}
	c := l.resolve()
	l.check(&c)
	sortProblems(l.problems, srs)
	sortProblems(l.warnings, srs)
	return c
}

// sortProblems brings ps into the order of files, lines and flags.
func sortProblems(ps []*Problem, srs []source) {
	place := func(p *Problem) int {
		i := slices.IndexFunc(srs, func(s source) bool { return s.name == p.File })
		if i < 0 {
			return len(srs)
		}
		return i
	}
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		if d := a.Line - b.Line; d != 0 {
			return d
		}
		return a.order - b.order
	})
}

// maxHints is how many problems may have a hint that has to be looked for.
const maxHints = 100

func (l *loader) addFile(s source) {
	es, ps := scan(s.name, s.text)
	l.problems = append(l.problems, ps...)
	for i := range es {
		e := &es[i]
		n, ok := byName[strings.ToLower(e.key)]
		if !ok {
			hint := ""
			if len(l.problems) > maxHints {
				// A file of something else: hints are no help and take their time.
			} else if n := Nearest(e.key, names()); n != "" {
				hint = "did you mean " + n + "?"
			}
			l.problems = append(l.problems, e.at("not a known option", hint))
			continue
		}
		rank := rankNoSection
		switch e.section {
		case "":
		case "common":
			rank = rankCommon
		case l.program.String():
			rank = rankOwn
		default:
			continue // the other program's: its name is all that is checked
		}
		if s.override {
			rank += rankOverride
		}
		l.warnings = append(l.warnings, e.odd...)
		l.settings[n] = append(l.settings[n], setting{entry: *e, rank: rank})
	}
}

func (l *loader) addFlag(order int, f Flag, rank int) {
	n, ok := byName[strings.ToLower(f.Option)]
	if !ok {
		l.problems = append(l.problems, &Problem{Flag: f.Name, Text: "not a known option", order: order})
		return
	}
	l.settings[n] = append(l.settings[n], setting{
		entry: entry{key: table[n].Name, value: strings.TrimSpace(f.Value)}, flag: f.Name, order: order, rank: rank,
	})
}

// names returns all names and older names, in the order of the table.
func names() []string {
	var ns []string
	for i := range table {
		ns = append(append(ns, table[i].Name), table[i].Aliases...)
	}
	return ns
}

// resolve checks every setting, also one that is overruled, and returns the
// Config that the winning ones give.
func (l *loader) resolve() Config {
	c := DefaultFor(l.program)
	for i := range table {
		if ss := l.settings[i]; len(ss) > 0 {
			l.apply(&c, &table[i], ss)
		}
	}
	if !l.given("vxlan_listen_port") {
		c.VXLANListenPort = c.VXLANPort
	}
	if !l.given("vxlan_dest_port") {
		c.VXLANDestPort = c.VXLANPort
	}
	for _, ps := range []*[]Peer{&c.SvcnodePeers, &c.Tiers.ProxyServers} {
		for i := range *ps {
			if p := &(*ps)[i]; p.Port == 0 {
				p.Port = c.VxfldPort
			}
		}
	}
	l.install(&c)
	return c
}

// install has an address of the command line installed, unless that itself
// says no. A no of the file may be one that spells out the defaults.
func (l *loader) install(c *Config) {
	s := l.winner("svcnode_ip")
	if l.program != Vxsnd || s == nil || s.rank != rankFlag || c.SvcnodeIP.IsUnspecified() {
		return
	}
	asked := l.winner("install_svcnode_ip")
	if asked != nil && asked.rank >= rankFlag {
		return
	}
	if asked != nil && !c.InstallSvcnodeIP {
		l.warnings = append(l.warnings, asked.at("overruled: "+s.flag+" has the address installed, unless --install-svcnode-ip=no is given too", ""))
	}
	c.InstallSvcnodeIP = true
}

// apply checks the settings ss of option o and puts the winner into c.
func (l *loader) apply(c *Config, o *Option, ss []setting) {
	if o.Obsolete {
		l.warnings = append(l.warnings, ss[len(ss)-1].at("no longer needed", ""))
		return
	}
	for i := range ss {
		var scratch Config
		if ss[i].bad != nil {
			l.problems = append(l.problems, ss[i].bad)
			l.bad[o.Name] = true
		} else if err := o.set(&scratch, l.program, ss[i].value); err != nil {
			l.refuse(o, &ss[i], err)
		}
	}
	if l.bad[o.Name] {
		return
	}
	win := winner(ss)
	text := win.value
	if o.List {
		text = joined(o, ss, win.rank)
	}
	if err := o.set(c, l.program, text); err != nil {
		l.refuse(o, win, err)
		return
	}
	l.warnRepeated(o, ss)
	if o.Programs&l.program == 0 && (win.flag != "" || win.section == l.program.String()) {
		l.warnings = append(l.warnings, win.at("is an option of "+o.Programs.String()+" and has no effect here", ""))
	}
}

// refuse adds the problem that setting s of option o has.
func (l *loader) refuse(o *Option, s *setting, err error) {
	hint := o.defaultHint(l.program, s)
	line := s.next
	if len(s.odd) > 0 {
		line = s.odd[0].Line
	} else if o.List {
		line = 0 // lists are made for it
	}
	if line > 0 {
		hint = fmt.Sprintf("line %d begins with a blank and continues this value: remove the blank if it is something else", line)
	}
	l.problems = append(l.problems, s.at(err.Error(), hint))
	l.bad[o.Name] = true
}

// joined returns the values of a list option that add up: all of them where
// the option sums, else those of the command line.
func joined(o *Option, ss []setting, rank int) string {
	if !o.Sums && rank != rankFlag {
		return winner(ss).value
	}
	var vs []string
	for _, s := range ss {
		if (o.Sums || s.rank == rank) && !isNone(s.value) {
			vs = append(vs, s.value)
		}
	}
	return strings.Join(vs, " ")
}

// warnRepeated warns of values in one section of one file of which only the
// last counts.
func (l *loader) warnRepeated(o *Option, ss []setting) {
	if o.Sums {
		return
	}
	type place struct{ file, section string }
	first := make(map[place]int)
	for i := range ss {
		s := &ss[i]
		if s.flag != "" {
			continue
		}
		at := place{s.file, s.section}
		if line, again := first[at]; again {
			l.warnings = append(l.warnings, s.at(fmt.Sprintf("set before in line %d: the last one counts", line), ""))
		}
		first[at] = s.line
	}
}

// winner returns the setting of highest rank, of equal ones the last.
func winner(ss []setting) *setting {
	win := &ss[0]
	for i := range ss {
		if ss[i].rank >= win.rank {
			win = &ss[i]
		}
	}
	return win
}

// winner returns the setting of the named option that takes effect, nil where
// it is not set.
func (l *loader) winner(name string) *setting {
	if ss := l.settings[byName[name]]; len(ss) > 0 {
		return winner(ss)
	}
	return nil
}

func (l *loader) given(name string) bool { return l.winner(name) != nil }

// named returns the names of all options that are given.
func (l *loader) named() map[string]bool {
	m := make(map[string]bool)
	for i, ss := range l.settings {
		if len(ss) > 0 {
			m[table[i].Name] = true
		}
	}
	return m
}

// defaultHint says how to get the default, where that is something.
func (o *Option) defaultHint(p Program, s *setting) string {
	def := o.DefaultFor(p)
	if o.List || def == none {
		return ""
	}
	if note := o.as(p).DefaultNote; note != "" {
		def = note
	}
	switch {
	case s.rank == rankSet:
		return "the default is " + def
	case s.flag != "":
		return "leave the flag out to get the default, " + def
	}
	return "remove the line to get the default, " + def
}
