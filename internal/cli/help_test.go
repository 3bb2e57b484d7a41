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

func helpText(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := help(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHelpFitsATerminal(t *testing.T) {
	for line := range strings.SplitSeq(helpText(t), "\n") {
		if len(line) > helpWidth || strings.TrimRight(line, " ") != line || strings.Contains(line, hardBlank) {
			t.Errorf("got line %q, want at most %d bytes and no blank at its end", line, helpWidth)
		}
	}
}

func TestHelpNamesEachFlagWithItsDefault(t *testing.T) {
	text := strings.Join(strings.Fields(helpText(t)), " ")
	for _, m := range modes {
		want := "--" + m.name
		if m.short != "" {
			want = "-" + m.short + ", " + want
		}
		if !strings.Contains(text, want) {
			t.Errorf("not in help: %s", want)
		}
	}
	for _, o := range config.Options() {
		if o.Obsolete {
			continue
		}
		want := "--" + strings.ReplaceAll(o.Name, "_", "-") + " "
		if o.Arg != "" {
			want += o.Arg + " "
		}
		i := strings.Index(text, want+o.Doc)
		if i < 0 {
			t.Errorf("not in help: %s%s", want, o.Doc)
			continue
		}
		rest := text[i+len(want+o.Doc):]
		def := o.DefaultFor(config.Vxsnd)
		if o.DefaultNote != "" {
			def = o.DefaultNote
		}
		if def = " (default " + def + ")"; def != " (default none)" && !strings.HasPrefix(rest, def) {
			t.Errorf("%s: got %.40q behind its text, want %q", o.Name, rest, def)
		}
	}
}

func TestEachNameOfAnOptionIsAFlag(t *testing.T) {
	fs := newFlagSet()
	for _, o := range config.Options() {
		for _, n := range append([]string{o.Name}, o.Aliases...) {
			f := fs.Lookup(n)
			if o.Obsolete {
				if f != nil && n != "debug" {
					t.Errorf("%s: got a flag, want none", n)
				}
				continue
			}
			if f == nil || f != fs.Lookup(strings.ReplaceAll(n, "_", "-")) {
				t.Errorf("%s: got no flag, or two, want one with underscores and hyphens", n)
			}
		}
		if o.Shorthand != "" && fs.ShorthandLookup(o.Shorthand) == nil {
			t.Errorf("-%s: got no flag", o.Shorthand)
		}
	}
}

func TestManualNamesEachFlag(t *testing.T) {
	text, err := os.ReadFile("../../docs/vxsnd.8")
	if err != nil {
		t.Fatal(err)
	}
	has := func(pattern string) {
		t.Helper()
		if !regexp.MustCompile(`(?m)` + pattern).Match(text) {
			t.Errorf("got no line that matches %s", pattern)
		}
	}
	for _, m := range modes {
		if m.short == "" {
			has(`^\.It Fl -` + m.name + `( Ar |$)`)
			continue
		}
		has(`^\.It Fl ` + m.short + ` , -` + m.name + `( Ar |$)`)
	}
	has(`^\.Fl -` + configAlias + `$`)
	for _, o := range config.Options() {
		for i, n := range o.FlagNames() {
			if i == 0 && o.Shorthand != "" {
				has(`^\.It Fl ` + o.Shorthand + ` , -` + n + `( Ar |$)`)
			} else {
				has(`^\.(It )?Fl -` + n + `( |$)`)
			}
		}
	}
}
