// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vxsnd/internal/config"
)

// FuzzParse checks that no text makes the parser panic, that each error has
// its place, that what is printed is one line of text each, and that what is
// taken reads back the same.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "deployed", "*.conf*"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	def := config.Default()
	f.Add(def.Dump())
	f.Add("[common\n= x\nkey\n x\n\"\"\" = `\nlogdest = \"a\nno = '\nvtep_membership = 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if checkDump(t, text) {
			return
		}
		_, err := parse(text)
		var ps config.Problems
		if !errors.As(err, &ps) || len(ps) == 0 {
			t.Fatalf("got %T %v, want Problems", err, err)
		}
		for _, p := range ps {
			if p.File != "f" || p.Line < 1 || p.Line > strings.Count(text, "\n")+1 || p.Text == "" {
				t.Errorf("got %+v, want a place and a text", p)
			}
			if s := p.Error() + p.Hint; strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				t.Errorf("got %q, want one line of text", s)
			}
		}
	})
}
