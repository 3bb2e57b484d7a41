// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/headend"
	"vxsnd/internal/netlab"
	"vxsnd/internal/startup"
)

// testUID is a user that owns nothing.
const testUID = 65534

func TestReadsWhatCanBeRead(t *testing.T) {
	const head = "vxrd-flood-entries 1 ns-1 boot-1\n"
	tests := []struct {
		name    string
		content string
		want    []string // own on device 5 where the kernel has .1, .2 and .3
		warns   bool
	}{
		{"empty", "", nil, false},
		{"torn header", "vxrd-flood-ent", nil, false},
		{"header alone", head, nil, false},
		{"two", head + "+ vxlan1 5 100 10.0.0.1\n+ vxlan1 5 100 10.0.0.2\n", []string{"10.0.0.1", "10.0.0.2"}, false},
		{"added and removed", head + "+ vxlan1 5 100 10.0.0.1\n+ vxlan1 5 100 10.0.0.2\n- vxlan1 5 100 10.0.0.1\n", []string{"10.0.0.2"}, false},
		{"added again", head + "+ vxlan1 5 100 10.0.0.1\n- vxlan1 5 100 10.0.0.1\n+ vxlan1 5 100 10.0.0.1\n", []string{"10.0.0.1"}, false},
		{"torn line", head + "+ vxlan1 5 100 10.0.0.1\n+ vxlan1 5 100 10.0.0.2", []string{"10.0.0.1"}, true},
		{"garbage", head + "+ vxlan1 5 100 10.0.0.1\n\x00\x01\xff\n\n+ vxlan1 5 100 10.0.0.2\n", []string{"10.0.0.1", "10.0.0.2"}, true},
		{"long line", head + "+ vxlan1 5 100 10.0.0.1\n" + strings.Repeat("x", 10000) + "\n+ vxlan1 5 100 10.0.0.2\n", []string{"10.0.0.1", "10.0.0.2"}, true},
		{"lines run together", head + "+ vxlan1 5 100 10.0.+ vxlan1 5 100 10.0.0.1\n", nil, true},
		{"zeros", strings.Repeat("\x00", 10000), nil, true},
		{"newer format", "vxrd-flood-entries 2 ns-1 boot-1\n+ vxlan1 5 100 10.0.0.1\n", nil, false},
		{"other boot", "vxrd-flood-entries 1 ns-1 boot-0\n+ vxlan1 5 100 10.0.0.1\n", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernel(t, 5)
			for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
				k.entries[entry(5, a)] = us
			}
			d := newDaemon(t, k, filepath.Join(t.TempDir(), "state"))
			if err := os.WriteFile(d.options.StateFile, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			d.start()
			defer d.end()
			if got, want := d.lists.Adopted()[one], addrs(tt.want...); !slices.Equal(got, want) {
				t.Errorf("got %v adopted, want %v", got, want)
			}
			if lines := len(d.logs.AllEntries()); (lines > 0) != tt.warns {
				t.Errorf("got %d warnings, want some: %v", lines, tt.warns)
			}
			b, err := os.ReadFile(d.options.StateFile)
			if lines := 1 + len(tt.want); err != nil || !strings.HasPrefix(string(b), head) || strings.Count(string(b), "\n") != lines {
				t.Errorf("got content %q, %v, want the header and what is own", b, err)
			}
		})
	}
}

func TestRefusedFiles(t *testing.T) {
	tests := []struct {
		name string
		make func(name string) error
		root bool
		want string
	}{
		{"symbolic link", func(name string) error {
			return os.Symlink(name+".target", name)
		}, false, "refused: is a symbolic link"},
		{"FIFO", func(name string) error {
			return syscall.Mkfifo(name, 0o600)
		}, false, "refused: not a regular file"},
		{"directory", func(name string) error {
			return os.Mkdir(name, 0o700)
		}, false, "is a directory"},
		{"hard link", func(name string) error {
			if err := os.WriteFile(name+".other", nil, 0o600); err != nil {
				return err
			}
			return os.Link(name+".other", name)
		}, false, "refused: has another name (hard link)"},
		{"somebody's text", func(name string) error {
			return os.WriteFile(name, []byte("[vxrd]\nhead_rep = true\n"), 0o644)
		}, false, "refused: holds something else than flood entries"},
		{"somebody's data", func(name string) error {
			return os.WriteFile(name, append(make([]byte, 10000), "data"...), 0o644)
		}, false, "refused: holds something else than flood entries"},
		{"no directory", func(name string) error {
			return os.Remove(filepath.Dir(name))
		}, false, "no such file or directory"},
		{"another user's", func(name string) error {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				return err
			}
			return os.Chown(name, testUID, -1)
		}, true, fmt.Sprintf("refused: belongs to another user (uid %d)", testUID)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				netlab.Need(t)
			}
			dir := filepath.Join(t.TempDir(), "run")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			d := newDaemon(t, newKernel(t), filepath.Join(dir, "state"))
			if err := tt.make(d.options.StateFile); err != nil {
				t.Fatal(err)
			}
			content := func() string {
				info, err := os.Lstat(d.options.StateFile)
				if err != nil || !info.Mode().IsRegular() {
					return ""
				}
				b, err := os.ReadFile(d.options.StateFile)
				if err != nil {
					t.Error(err)
				}
				return info.Mode().String() + " " + string(b)
			}
			before := content()
			_, err := headend.Open(d.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), d.options.StateFile) {
				t.Errorf("got error %v, want %q of the file", err, tt.want)
			}
			if startup.Hint(err) == "" || !errors.Is(err, startup.ErrConfig) {
				t.Errorf("got %v with hint %q, want a hint and that it matches %q", err, startup.Hint(err), startup.ErrConfig)
			}
			if after := content(); after != before {
				t.Errorf("got content %q, want %q", after, before)
			}
		})
	}
}

func TestRootTakesAFileOfTheDirectorysUser(t *testing.T) {
	netlab.Need(t)
	d := newDaemon(t, newKernel(t), filepath.Join(t.TempDir(), "state"))
	if err := os.WriteFile(d.options.StateFile, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{d.options.StateFile, filepath.Dir(d.options.StateFile)} {
		if err := os.Chown(name, testUID, -1); err != nil {
			t.Fatal(err)
		}
	}
	d.start()
	d.end()
	info, err := os.Stat(d.options.StateFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
}

func TestFileHasOneUser(t *testing.T) {
	d := newDaemon(t, newKernel(t), filepath.Join(t.TempDir(), "state"))
	d.start()
	_, err := headend.Open(d.options)
	if !errors.Is(err, headend.ErrInUse) || !errors.Is(err, startup.ErrBind) || startup.Hint(err) == "" {
		t.Errorf("got error %v, want %v with a hint", err, headend.ErrInUse)
	}
	if _, err := headend.Cleanup(d.options); !errors.Is(err, headend.ErrInUse) || !strings.Contains(startup.Hint(err), "stop it instead") {
		t.Errorf("got error %v with hint %q, want %v and to stop the other", err, startup.Hint(err), headend.ErrInUse)
	}
	d.end()
	d.start()
	d.end()
}

func TestKernelThatCannotBeRead(t *testing.T) {
	k := newKernel(t)
	k.readErr = errTest
	d := newDaemon(t, k, filepath.Join(t.TempDir(), "state"))
	if _, err := headend.Open(d.options); !errors.Is(err, errTest) {
		t.Errorf("got error %v, want %v", err, errTest)
	}
	k.readErr = nil
	d.start() // nothing holds the lock
	d.end()
}

// TestClosedDirectory has the daemon give up the right to make files there, as
// one that has dropped its privileges.
func TestClosedDirectory(t *testing.T) {
	k := newKernel(t, 5)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		dir := filepath.Dir(d.options.StateFile)
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		for range 2000 {
			d.set(one, "10.0.0.1")
			d.set(one)
		}
		info, err := os.Stat(d.options.StateFile)
		if err != nil || info.Size() > 65<<10 {
			t.Errorf("got %d bytes, %v, want 65 KiB at most", info.Size(), err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("got files %v, %v, want the journal alone", files, err)
		}
	})
}

func TestKeysThatLookAlike(t *testing.T) {
	keys := []headend.Key{
		{Device: "+", Index: 5, VNI: 1}, {Device: "-", Index: 6, VNI: 1}, {Device: "a\u00a0b", Index: 7, VNI: 0},
		{Device: "\xff\xfe", Index: 8, VNI: 1<<24 - 1}, {Device: "external", Index: 9, VNI: 1, External: true},
		{Device: "external", Index: 9, VNI: 2, External: true},
	}
	k := newKernel(t, 5, 6, 7, 8, 9)
	inBubble(t, k, func(t *testing.T, d *daemon) {
		lists := map[headend.Key][]netip.Addr{}
		for _, key := range keys {
			lists[key] = addrs("10.0.0.1", "2001:db8::1")
		}
		d.lists.Set(lists)
		d.compare()
		d.restart()
		got := d.lists.Adopted()
		for _, key := range keys {
			if !slices.Equal(got[key], lists[key]) {
				t.Errorf("%+v: got %v adopted, want %v", key, got[key], lists[key])
			}
		}
		if lines, _ := d.logged("lines of the state file mean nothing"); lines != 0 {
			t.Error("got a warning, want none")
		}
	})
}
