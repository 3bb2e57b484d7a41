// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// DefaultFile is read where no other file is named.
	DefaultFile = "/etc/vxsnd.conf"

	// OverrideSuffix behind the name of a file names the one that is read
	// after it and wins.
	OverrideSuffix = ".override"
)

// A Flag is an option given on the command line.
type Flag struct {
	Name   string // as the user wrote it, with its hyphens: "--holdtime" or "-s"
	Option string // name of the option
	Value  string
}

// An Input says where a configuration comes from. What stands later wins:
// defaults, File, File with OverrideSuffix, Flags.
type Input struct {
	Program  Program // Vxsnd where 0
	File     string  // "" reads no file
	Required bool    // a File that does not exist is an error
	Flags    []Flag  // in the order of the command line
}

// A Result is what Load makes of an Input.
type Result struct {
	Config   Config
	Warnings []*Problem // what was accepted and deserves a word, in the order of files, lines and flags
	Files    []string   // files that were read
}

// Load reads the files of in, checks all that it finds and returns the
// configuration. File names in it are made absolute by the working directory.
// The error is a Problems with everything that is wrong; the Result is then
// the zero value.
func Load(in Input) (Result, error) {
	var (
		r   Result
		srs []source
		ps  Problems
	)
	for i, name := range []string{in.File, in.File + OverrideSuffix} {
		if in.File == "" {
			break
		}
		text, err := os.ReadFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && (i > 0 || !in.Required):
		case err != nil:
			if len(ps) == 0 {
				ps = append(ps, unreadable(name, err))
			}
		default:
			srs = append(srs, source{name, text, i > 0})
			r.Files = append(r.Files, name)
		}
	}
	c, warnings, err := parse(in.Program, srs, in.Flags)
	if err != nil {
		ps = append(ps, err...)
	}
	if len(ps) > 0 {
		return Result{}, ps
	}
	if err := c.makeAbsolute(); err != nil {
		return Result{}, Problems{{Text: err.Error(), Err: err}}
	}
	r.Config, r.Warnings = c, warnings
	return r, nil
}

func unreadable(name string, err error) *Problem {
	p := &Problem{File: name, Text: err.Error(), Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		p.Text = pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "check the name, or leave -c out to read " + DefaultFile + " if there is one"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "make the file readable for the user that runs the daemon"
	}
	return p
}

func (c *Config) makeAbsolute() error {
	for _, name := range []*string{&c.PIDFile, &c.UDSFile, &c.LogDest.Path} {
		if *name == "" {
			continue
		}
		abs, err := filepath.Abs(*name)
		if err != nil {
			return fmt.Errorf("make %s absolute: %w", *name, err)
		}
		*name = abs
	}
	if len(c.UDSFile) > maxUDSPath {
		return fmt.Errorf("udsfile: %q is longer than %d bytes", c.UDSFile, maxUDSPath)
	}
	return nil
}

// Parse is Load for one text instead of files: name stands for its place in
// errors, and file names in it stay as they are.
func Parse(p Program, name string, text []byte, flags []Flag) (Result, error) {
	c, warnings, ps := parse(p, []source{{name: name, text: text}}, flags)
	if len(ps) > 0 {
		return Result{}, ps
	}
	return Result{Config: c, Warnings: warnings, Files: []string{name}}, nil
}

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
)

// loader gathers settings and problems of one configuration.
type loader struct {
	program  Program
	settings [][]setting // by place in table
	problems Problems
	warnings []*Problem
}

func parse(p Program, srs []source, flags []Flag) (Config, []*Problem, Problems) {
	if p == 0 {
		p = Vxsnd
	}
	l := loader{program: p, settings: make([][]setting, len(table))}
	for _, s := range srs {
		l.addFile(s)
	}
	for i, f := range flags {
		l.addFlag(i, f)
	}
	c := l.resolve()
	if len(l.problems) == 0 {
		l.check(&c)
	}
	if len(l.problems) > 0 {
		sortProblems(l.problems, srs)
		return Config{}, nil, l.problems
	}
	sortProblems(l.warnings, srs)
	return c, l.warnings, nil
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

func (l *loader) addFile(s source) {
	es, ps := scan(s.name, s.text)
	l.problems = append(l.problems, ps...)
	for i := range es {
		e := &es[i]
		n, ok := byName[strings.ToLower(e.key)]
		if !ok {
			hint := ""
			if n := Nearest(e.key, names()); n != "" {
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
		l.settings[n] = append(l.settings[n], setting{entry: *e, rank: rank})
	}
}

func (l *loader) addFlag(order int, f Flag) {
	n, ok := byName[strings.ToLower(f.Option)]
	if !ok {
		l.problems = append(l.problems, &Problem{Flag: f.Name, Text: "not a known option", order: order})
		return
	}
	l.settings[n] = append(l.settings[n], setting{
		entry: entry{key: table[n].Name, value: strings.TrimSpace(f.Value)}, flag: f.Name, order: order, rank: rankFlag,
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
	if s := l.winner("svcnode_ip"); s != nil && s.rank == rankFlag &&
		!l.given("install_svcnode_ip") && !c.SvcnodeIP.IsUnspecified() {
		c.InstallSvcnodeIP = true
	}
	return c
}

// apply checks the settings ss of option o and puts the winner into c.
func (l *loader) apply(c *Config, o *Option, ss []setting) {
	if o.Obsolete {
		l.warnings = append(l.warnings, ss[len(ss)-1].at("no longer needed", ""))
		return
	}
	good := true
	for i := range ss {
		var scratch Config
		if err := o.set(&scratch, l.program, ss[i].value); err != nil {
			l.problems = append(l.problems, ss[i].at(err.Error(), o.defaultHint(l.program, ss[i].flag)))
			good = false
		}
	}
	if !good {
		return
	}
	win := winner(ss)
	text := win.value
	if o.List {
		text = joined(o, ss, win.rank)
	}
	if err := o.set(c, l.program, text); err != nil {
		l.problems = append(l.problems, win.at(err.Error(), o.defaultHint(l.program, win.flag)))
		return
	}
	l.warnRepeated(o, ss)
	if o.Programs&l.program == 0 && (win.flag != "" || win.section == l.program.String()) {
		l.warnings = append(l.warnings, win.at("is an option of "+o.Programs.String()+" and has no effect here", ""))
	}
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

// defaultHint says how to get the default, where that is something.
func (o *Option) defaultHint(p Program, flag string) string {
	def := o.DefaultFor(p)
	if o.List || def == none {
		return ""
	}
	what := "remove the line"
	if flag != "" {
		what = "leave the flag out"
	}
	if o.DefaultNote != "" {
		def = o.DefaultNote
	}
	return what + " to get the default, " + def
}
