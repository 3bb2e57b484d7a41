// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/netlab"
)

// An operator's shell has no directory of the service manager's, whose daemon may
// be the one that crashed.
func TestCleanupLooksWhereTheStateFileMayBe(t *testing.T) {
	tests := []struct {
		name  string
		flags []config.Flag
		dir   string
		want  []string
	}{
		{"by an operator", nil, "", []string{"/run/vxrd/vxrd.state", "/var/run/vxrd.state"}},
		{"by the service manager", nil, "/run/red", []string{"/run/red/vxrd.state"}},
		{"named", []config.Flag{{Name: "--statefile", Option: "statefile", Value: "/my/state"}}, "", []string{"/my/state"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("RUNTIME_DIRECTORY", tt.dir)
			d := newDaemon(config.Vxrd, &commandLine{options: tt.flags}, nil, nil)
			if err := d.load(); err != nil {
				t.Fatal(err)
			}
			if got := d.stateFiles(); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCleanupSaysWhatBecameOfEachStateFile(t *testing.T) {
	netlab.Need(t)
	lab := netlab.New()
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	ns, err := lab.Namespace("m")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := func(base string) string { return filepath.Join(dir, base) }
	for base, text := range map[string]string{"empty": "", "strange": "[vxrd]\n"} {
		if err := os.WriteFile(name(base), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(name("empty"), name("link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		files []string
		want  []string
		err   string
	}{
		{"none", []string{"a", "b"}, []string{"nothing to clean up: there is no " + name("a"), "nothing to clean up: there is no " + name("b")}, ""},
		{"the second", []string{"a", "empty"}, []string{"nothing to clean up: there is no " + name("a"), "nothing to clean up in " + name("empty")}, ""},
		{"after a strange one", []string{"strange", "empty"}, []string{"nothing to clean up in " + name("empty")},
			"state file: open " + name("strange") + ": refused: holds something else than flood entries"},
		{"all strange", []string{"link", "strange"}, nil, "state file: open " + name("link") + ": refused: is a symbolic link; " +
			"state file: open " + name("strange") + ": refused: holds something else than flood entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var files, said []string
			for _, base := range tt.files {
				files = append(files, name(base))
			}
			text := ""
			if err := ns.Do(func() error {
				var err error
				if said, err = cleanUpEntries(config.DefaultFor(config.Vxrd), files); err != nil {
					text = err.Error()
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(said, tt.want) || text != tt.err {
				t.Errorf("got %q and error %q, want %q and %q", said, text, tt.want, tt.err)
			}
		})
	}
}
