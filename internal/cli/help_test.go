// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"vxsnd/internal/config"
)

// daemons are the programs whose help and manual are the same.
var daemons = []config.Program{config.Vxsnd, config.Vxrd}

func helpText(t *testing.T, p config.Program) string {
	t.Helper()
	var b bytes.Buffer
	if err := help(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHelpFitsATerminal(t *testing.T) {
	for _, p := range daemons {
		for line := range strings.SplitSeq(helpText(t, p), "\n") {
			if len(line) > helpWidth || strings.TrimRight(line, " ") != line || strings.Contains(line, hardBlank) {
				t.Errorf("%s: got line %q, want at most %d bytes and no blank at its end", p, line, helpWidth)
			}
		}
	}
}

func TestHelpNamesEachFlagWithItsDefault(t *testing.T) {
	for _, p := range daemons {
		text := strings.Join(strings.Fields(helpText(t, p)), " ")
		for _, m := range modes(p) {
			want := "--" + m.name
			if m.short != "" {
				want = "-" + m.short + ", " + want
			}
			if !strings.Contains(text, want) {
				t.Errorf("%s: not in help: %s", p, want)
			}
		}
		for _, o := range config.OptionsFor(p) {
			if o.Obsolete {
				continue
			}
			want := "--" + strings.ReplaceAll(o.Name, "_", "-") + " "
			if o.Arg != "" {
				want += o.Arg + " "
			}
			i := strings.Index(text, want+o.Doc)
			if (i >= 0) != (o.Programs&p != 0) {
				t.Errorf("%s: got in help %t, want the other: %s%s", p, i >= 0, want, o.Doc)
			}
			if i < 0 {
				continue
			}
			rest := text[i+len(want+o.Doc):]
			def := o.DefaultFor(p)
			if o.DefaultNote != "" {
				def = o.DefaultNote
			}
			if def = " (default " + def + ")"; def != " (default none)" && !strings.HasPrefix(rest, def) {
				t.Errorf("%s: %s: got %.40q behind its text, want %q", p, o.Name, rest, def)
			}
		}
	}
}

func TestEachNameOfAnOptionIsAFlag(t *testing.T) {
	for _, p := range daemons {
		fs := newFlagSet(p)
		for _, o := range config.OptionsFor(p) {
			for _, n := range append([]string{o.Name}, o.Aliases...) {
				f := fs.Lookup(n)
				if o.Obsolete {
					if f != nil && n != "debug" {
						t.Errorf("%s: %s: got a flag, want none", p, n)
					}
					continue
				}
				if f == nil || f != fs.Lookup(strings.ReplaceAll(n, "_", "-")) {
					t.Errorf("%s: %s: got no flag, or two, want one with underscores and hyphens", p, n)
				}
			}
			if o.Shorthand != "" && fs.ShorthandLookup(o.Shorthand) == nil {
				t.Errorf("%s: -%s: got no flag", p, o.Shorthand)
			}
		}
	}
}

func TestManualNamesEachFlag(t *testing.T) {
	for _, p := range daemons {
		text, err := os.ReadFile("../../docs/" + p.String() + ".8")
		if err != nil {
			t.Fatal(err)
		}
		has := func(pattern string) {
			t.Helper()
			if !regexp.MustCompile(`(?m)` + pattern).Match(text) {
				t.Errorf("%s: got no line that matches %s", p, pattern)
			}
		}
		for _, m := range modes(p) {
			if m.short == "" {
				has(`^\.It Fl -` + m.name + `( Ar |$)`)
				continue
			}
			has(`^\.It Fl ` + m.short + ` , -` + m.name + `( Ar |$)`)
		}
		has(`^\.Fl -` + configAlias + `$`)
		for _, o := range config.OptionsFor(p) {
			if o.Programs&p == 0 {
				continue
			}
			for i, n := range o.FlagNames() {
				if i == 0 && o.Shorthand != "" {
					has(`^\.It Fl ` + o.Shorthand + ` , -` + n + `( Ar |$)`)
				} else {
					has(`^\.(It )?Fl -` + n + `( |$)`)
				}
			}
		}
	}
}
