// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

// names returns the file names that a configuration holds.
func names(c *config.Config) []string { return []string{c.PIDFile, c.UDSFile, c.LogDest.Path} }

// TestNamesBeginAtTheDirectoryThatIsGiven loads twice, as a daemon does that
// has gone to another directory in between.
func TestNamesBeginAtTheDirectoryThatIsGiven(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"v.conf":          "pidfile = run/v.pid\nlogdest = v.log\n",
		"v.conf.override": "logdest = ../w.log\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := config.Input{File: "v.conf", Required: true, Dir: dir,
		Flags: []config.Flag{{Name: "-u", Option: "udsfile", Value: "v.sock"}}}
	want := []string{dir + "/run/v.pid", dir + "/v.sock", filepath.Dir(dir) + "/w.log"}
	for _, wd := range []string{dir, t.TempDir()} {
		t.Chdir(wd)
		r, err := config.Load(in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, names(&r.Config)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if diff := cmp.Diff([]string{"v.conf", "v.conf.override"}, r.Files); diff != "" {
			t.Errorf("files: (-want +got)\n%s", diff)
		}
	}
	in.File = "none.conf"
	if _, err := config.Load(in); err == nil || err.Error() != "none.conf: no such file or directory" {
		t.Errorf("got %v, want that none.conf is not there", err)
	}
}

func TestRuntimeDirectoryHoldsTheDefaults(t *testing.T) {
	tests := []struct {
		name, runtimeDir string
		program          config.Program
		flags            []config.Flag
		want             []string
	}{
		{"none", "", config.Vxsnd, nil, []string{"/var/run/vxsnd.pid", "/var/run/vxsnd.sock", ""}},
		{"one", "/run/vxsnd", config.Vxsnd, nil, []string{"/run/vxsnd/vxsnd.pid", "/run/vxsnd/vxsnd.sock", ""}},
		{"the first of several", "/run/a:/run/b", config.Vxrd, nil, []string{"/run/a/vxrd.pid", "/run/a/vxrd.sock", "", "/run/a/vxrd.state"}},
		{"a state file that is given", "/run/a", config.Vxrd, []config.Flag{{Name: "--statefile", Option: "statefile", Value: "my.state"}},
			[]string{"/run/a/vxrd.pid", "/run/a/vxrd.sock", "", "/start/my.state"}},
		{"what is given stays", "/run/vxsnd", config.Vxsnd, []config.Flag{
			{Name: "-p", Option: "pidfile", Value: "/var/run/vxsnd.pid"}, {Name: "-l", Option: "logdest", Value: "a"}},
			[]string{"/var/run/vxsnd.pid", "/run/vxsnd/vxsnd.sock", "/start/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := config.Load(config.Input{Program: tt.program, Dir: "/start", RuntimeDir: tt.runtimeDir, Flags: tt.flags})
			if err != nil {
				t.Fatal(err)
			}
			got := names(&r.Config)
			if tt.program == config.Vxrd {
				got = append(got, r.Config.StateFile)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	_, err := config.Load(config.Input{RuntimeDir: "/" + strings.Repeat("x", 100)})
	if err == nil || !strings.Contains(err.Error(), "is longer than 107 bytes") {
		t.Errorf("got %v, want that the socket's name is too long", err)
	}
}

func TestEachFileHasOneUse(t *testing.T) {
	dir := t.TempDir()
	tests := []struct{ name, text, want string }{
		{"pid file and log", "pidfile = a\nlogdest = ./b/../a\n", "v.conf:2: logdest: DIR/a is the file of pidfile, too"},
		{"pid file and socket", "udsfile = a\npidfile = a\n", "v.conf:1: udsfile: DIR/a is the file of pidfile, too"},
		{"socket and log", "[common]\nlogdest = /var/run/vxsnd.sock\n", "v.conf:2: [common] logdest: /var/run/vxsnd.sock is the file of udsfile, too"},
		{"all", "pidfile = a\nudsfile = a\nlogdest = a\n",
			"v.conf:2: udsfile: DIR/a is the file of pidfile, too\nv.conf:3: logdest: DIR/a is the file of udsfile, too"},
		{"the file itself", "pidfile = v.conf\n", "v.conf:1: pidfile: DIR/v.conf is the file of the configuration, too"},
		{"the override file, if it were there", "logdest = v.conf.override\n", "v.conf:1: logdest: DIR/v.conf.override is the file of the configuration, too"},
		{"nothing", "pidfile = a\nlogdest = /dev/null\n", ""},
	}
	file := filepath.Join(dir, "v.conf")
	load := func(name string, flags ...config.Flag) string {
		_, err := config.Load(config.Input{File: name, Dir: dir, Flags: flags})
		if err == nil {
			return ""
		}
		return strings.ReplaceAll(err.Error(), dir, "DIR")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := load("v.conf"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	flag := config.Flag{Name: "-p", Option: "pidfile", Value: "none.conf"}
	if got, want := load("none.conf", flag), "pidfile: DIR/none.conf is the file of the configuration, too"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := load("/dev/null", config.Flag{Name: "-l", Option: "logdest", Value: "/dev/null"}); got != "" {
		t.Errorf("got %q for /dev/null, want nothing", got)
	}
}

func TestNamedIsWhatSomebodyGave(t *testing.T) {
	r, err := parse("no_replicate = no\n[vxrd]\npidfile = a\n", config.Flag{Name: "-u", Option: "udsfile", Value: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]bool{
		"no_flood": true, "no_replicate": true, "No_Flood": true, "udsfile": true,
		"pidfile": false, "holdtime": false, "nonsense": false,
	} {
		if got := r.Named(option); got != want {
			t.Errorf("%s: got %t, want %t", option, got, want)
		}
	}
}

// A FIFO that nobody writes does not hold up who wants regular files.
func TestFIFOIsNoFileToReadAgain(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(config.Input{File: fifo, Regular: true})
	if err == nil || !strings.Contains(err.Error(), "FIFO") {
		t.Errorf("got %v, want an error that says it is a FIFO", err)
	}
}

func TestDefaultsAreInTheRuntimeDirectory(t *testing.T) {
	in := config.Input{Program: config.Vxrd, RuntimeDir: "/run/red:/run/blue"}
	for option, want := range map[string]string{
		"pidfile": "/run/red/vxrd.pid", "udsfile": "/run/red/vxrd.sock", "statefile": "/run/red/vxrd.state", "logdest": "syslog",
	} {
		o, _ := config.Lookup(option)
		if got := in.Default(&o); got != want {
			t.Errorf("%s: got %q, want %q", option, got, want)
		}
	}
}

// A program that is taken for a configuration has little to say about lines.
func TestFileThatIsNoTextIsOneProblem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("\x7fELF\x02\x01\x01\x00\na\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(config.Input{File: file})
	var ps config.Problems
	if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Text != "not a text file: it has a zero byte" {
		t.Errorf("got %v, want that it is no text", err)
	}
}
