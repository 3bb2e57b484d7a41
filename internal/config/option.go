// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
)

// An Option is one line of the table from which files, flags, help and the
// tests of the documents are made. The slices of an Option must not be changed.
type Option struct {
	Name    string   // in files; flags have hyphens for its underscores
	Aliases []string // older names, accepted in files and as flags

	Group     string  // heading in help and in the example file
	Shorthand string  // one-letter flag, "" for none
	Flag      string  // older name that comes first among the flags, "" for Name
	Arg       string  // what stands for the value in help, "" for a boolean
	Programs  Program // who makes use of it
	Reload    bool    // a reload can change it in a running daemon
	List      bool    // several values, separated by blanks or commas; a repeated flag adds to them
	Sums      bool    // repeated lines and flags add up, wherever they stand
	Later     bool    // some or all of it has no effect in this version
	Obsolete  bool    // accepted with a warning, without a flag, its value not looked at

	Doc string // what it is, in one line

	// DefaultNote says in words what the default is where Default cannot.
	DefaultNote string

	def, defVxrd string
	bind         binding

	// vxrd makes of a copy what the documents of vxrd say; nil where they say the
	// same.
	vxrd func(*Option)

	// pending says what does not work yet where the value is not the default.
	// Where it is "", Later decides.
	pending string
}

// DefaultFor returns the default under program p in the syntax of the
// configuration file.
func (o *Option) DefaultFor(p Program) string {
	if p == Vxrd && o.defVxrd != "" {
		return o.defVxrd
	}
	return o.def
}

// Boolean tells whether the option takes yes or no, so that its flag may
// stand without a value.
func (o *Option) Boolean() bool { return o.Arg == "" && !o.Obsolete }

// BooleanAlias tells whether the older name alias takes yes or no although the
// option itself takes words: enable_udp_chksum does.
func (o *Option) BooleanAlias(alias string) bool {
	return o.Boolean() || alias == "enable_udp_chksum"
}

// FlagNames returns the long flags of the option without their hyphens in
// front: the one to show first, then the others. An obsolete option has none.
func (o *Option) FlagNames() []string {
	if o.Obsolete {
		return nil
	}
	var names []string
	if o.Flag != "" {
		names = append(names, o.Flag)
	}
	for _, n := range append([]string{o.Name}, o.Aliases...) {
		if n != o.Flag {
			names = append(names, strings.ReplaceAll(n, "_", "-"))
		}
	}
	return names
}

// Value returns what c holds for the option, in the syntax of the
// configuration file; "" for an obsolete option.
func (o *Option) Value(c *Config) string {
	if o.Obsolete {
		return ""
	}
	return o.bind.get(c)
}

func (o *Option) set(c *Config, p Program, text string) error {
	return o.bind.set(c, p, text)
}

// Options returns the table of all options in the order of the documents. The
// caller owns the slice.
func Options() []Option { return slices.Clone(table) }

// OptionsFor returns the table as program p has it: with what its documents say
// of an option, in their order, and with the one-letter flags of its own options
// alone. The caller owns the slice.
func OptionsFor(p Program) []Option {
	os := Options()
	for i := range os {
		os[i] = os[i].as(p)
	}
	place := func(o Option) int { return slices.Index(groups, o.Group) }
	slices.SortStableFunc(os, func(a, b Option) int { return place(a) - place(b) })
	return os
}

// as returns the option as program p has it.
func (o Option) as(p Program) Option {
	if p == Vxrd && o.vxrd != nil {
		o.vxrd(&o)
	}
	if o.Programs&p == 0 {
		o.Shorthand = ""
	}
	return o
}

// Lookup returns the option that has the name or older name given, in any
// case. The second result tells whether there is one.
func Lookup(name string) (Option, bool) {
	if o := lookup(name); o != nil {
		return *o, true
	}
	return Option{}, false
}

func lookup(name string) *Option {
	i, ok := byName[strings.ToLower(name)]
	if !ok {
		return nil
	}
	return &table[i]
}

// byName maps each name and older name to its place in the table.
var byName = func() map[string]int {
	m := make(map[string]int)
	for i, o := range table {
		m[o.Name] = i
		for _, a := range o.Aliases {
			m[a] = i
		}
	}
	return m
}()

// A binding connects an option with its place in a Config.
type binding struct {
	set func(c *Config, p Program, text string) error
	get func(c *Config) string
}

// A kind is a type of value: how its text is read and written.
type kind[T any] struct {
	parse  func(string) (T, error)
	format func(T) string
}

// to binds a kind to the field that at points out.
func to[T any](at func(*Config) *T, k kind[T]) binding {
	return binding{
		set: func(c *Config, _ Program, text string) error {
			v, err := k.parse(text)
			if err == nil {
				*at(c) = v
			}
			return err
		},
		get: func(c *Config) string { return k.format(*at(c)) },
	}
}

// missing returns what does not work yet where the value is not the default,
// "" if all does.
func (o *Option) missing() string {
	if o.pending == "" && o.Later {
		return "has no effect in this version"
	}
	return o.pending
}
