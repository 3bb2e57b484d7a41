// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.conf")
	if r, err := config.Load(config.Input{File: missing}); err != nil || len(r.Files) > 0 {
		t.Errorf("missing file that need not be there: got %v and %v, want nothing read", r.Files, err)
	}
	_, err := config.Load(config.Input{File: missing, Required: true})
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != missing+": no such file or directory" {
		t.Errorf("missing file that must be there: got %v", err)
	}
	if _, err := config.Load(config.Input{File: dir, Required: true}); err == nil || err.Error() != dir+": is a directory" {
		t.Errorf("directory: got %v", err)
	}
	if err := os.WriteFile(missing+".override", []byte("holdtime = 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := config.Load(config.Input{File: missing})
	if got, want := outcome(r, err), "holdtime = 5\n"; got != want {
		t.Errorf("override alone: got %q, want %q", got, want)
	}
}

func TestFileNamesBecomeAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("v.conf", []byte("pidfile = run/v.pid\nudsfile = ./v.sock\nlogdest = v.log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := config.Load(config.Input{File: "v.conf", Required: true})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{r.Config.PIDFile, r.Config.UDSFile, r.Config.LogDest.Path}
	want := []string{dir + "/run/v.pid", dir + "/v.sock", dir + "/v.log"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.conf")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 32<<20+1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{large, "/dev/zero"} {
		_, err := config.Load(config.Input{Program: config.Vxsnd, File: name, Required: true})
		if err == nil || !strings.Contains(err.Error(), "larger than 32 MiB") {
			t.Errorf("%s: got %v, want that it is too large", name, err)
		}
	}
	odd := filepath.Join(dir, "odd.conf")
	if err := os.WriteFile(odd, []byte(strings.Repeat("holdtme = 1\n", 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(config.Input{Program: config.Vxsnd, File: odd, Required: true})
	var ps config.Problems
	if !errors.As(err, &ps) || len(ps) != 200 || ps[0].Hint == "" || ps[199].Hint != "" {
		t.Errorf("got %d problems, want all 200, and hints for the first alone", len(ps))
	}
}
