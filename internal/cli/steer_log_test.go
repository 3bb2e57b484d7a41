// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vxsnd/internal/control"
)

// A log file that is set by mistake does no harm to what is there.
func TestSetLogdest(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	s := newSteered(t, "run", "logdest = "+in("v.log")+"\n")
	write := func(name string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte("precious\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(in("theirs"), 0o664)
	write(in("linked"), 0o640)
	write(filepath.Join(elsewhere, "theirs"), 0o640)
	write(filepath.Join(elsewhere, "target"), 0o640)
	if err := os.Link(in("linked"), in("again")); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"symlink": "target", "dangling": "none"} {
		if err := os.Symlink(filepath.Join(elsewhere, to), in(name)); err != nil {
			t.Fatal(err)
		}
	}
	hint := " (name a file that does not exist yet, or write the name to FILE and reload)\n"
	for _, tt := range []struct{ name, value, want string }{
		{"relative", "v.log", "only the absolute name of a file is taken"},
		{"relative, with directories", "./a/../v.log", "only the absolute name of a file is taken"},
		{"not regular", os.DevNull, os.DevNull + " is not a regular file"},
		{"a directory", dir, dir + " is not a regular file"},
		{"a symbolic link", in("symlink"), in("symlink") + " is not a regular file"},
		{"a symbolic link to nothing", in("dangling"), in("dangling") + " is not a regular file"},
		{"a file elsewhere", filepath.Join(elsewhere, "theirs"), filepath.Join(elsewhere, "theirs") + " exists, and is not in the directory of the log file"},
		{"a file of others", in("theirs"), in("theirs") + " exists, and is not the daemon's alone"},
		{"a file with two names", in("linked"), in("linked") + " exists, and is not the daemon's alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			s.expect("set", s.set("logdest", tt.value), "error: logdest: "+tt.want+hint)
		})
	}
	s.t = t
	s.expect("logdest", s.value("logdest"), in("v.log"))
	for _, name := range []string{in("theirs"), in("linked"), filepath.Join(elsewhere, "theirs"), filepath.Join(elsewhere, "target")} {
		if text, err := os.ReadFile(name); err != nil || string(text) != "precious\n" {
			t.Errorf("%s: got %q and %v, want it as it was", name, text, err)
		}
	}

	changes := func(value, from, to string) {
		t.Helper()
		s.expect("set to "+value, s.set("logdest", value), "+ logdest "+from+" "+to+"\n")
	}
	fresh := filepath.Join(elsewhere, "new.log")
	changes(fresh, in("v.log"), fresh)
	changes(in("w.log"), fresh, in("w.log"))
	changes("stdout", in("w.log"), "stdout")
	changes(in("w.log"), "stdout", in("w.log")) // in the directory of the configured one
	s.expect("debug", s.debug(true), "+ loglevel info debug\n")
	write(in("v.log"), 0o666)
	changes(in("v.log"), in("w.log"), in("v.log")) // which the configuration names
	s.expect("reload", s.reloads(), "+ loglevel debug info\n")
}

// What is left out is not the empty value.
func TestSettingsAreNotGuessed(t *testing.T) {
	s := newSteered(t, "run", "loglevel = debug\nlogdest = stdout\nmetrics_listen = none\n")
	for _, tt := range []struct {
		command string
		args    any
	}{
		{control.CommandSetConfig, nil},
		{control.CommandSetConfig, map[string]any{"name": "metrics_listen"}},
		{control.CommandSetConfig, map[string]any{"value": "info"}},
		{control.CommandSetConfig, map[string]any{"name": "loglevel", "value": nil}},
		{control.CommandSetDebug, nil},
		{control.CommandSetDebug, map[string]any{}},
		{control.CommandSetDebug, map[string]any{"on": nil}},
	} {
		if got := s.change(tt.command, tt.args); !strings.HasPrefix(got, "bad_argument: ") || !strings.Contains(got, "to be named") {
			t.Errorf("%s %v: got %q, want a bad argument", tt.command, tt.args, got)
		}
	}
	s.expect("loglevel", s.value("loglevel"), "debug")
}
