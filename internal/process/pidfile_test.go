// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/process"
)

// nobody is a user without an account.
const nobody = 64321

// lock is the role of a daemon with the pid file that its argument names.
func lock() error {
	if _, err := process.LockPIDFile(os.Args[1]); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// empty is the role of a daemon that cannot remove its pid file.
func empty() error {
	name := os.Args[1]
	p, err := process.LockPIDFile(name)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		id := &process.Identity{Name: "nobody", UID: nobody, GID: nobody, Groups: []int{nobody}}
		if err := process.Drop(id); err != nil {
			return err
		}
	}
	return p.Remove()
}

func mustLock(t *testing.T, name string) *process.PIDFile {
	t.Helper()
	p, err := process.LockPIDFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustWrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPIDFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stale string // "none" for no file
	}{
		{"new", "none"},
		{"empty", ""},
		{"long dead", "99999999\n"},
		{"of other programs", "\t  99999999 \r\n\n"},
		{"white space", " \n"},
		{"number of no process", "99999999999999999999999999\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0o077))
			name := filepath.Join(t.TempDir(), "pid")
			if tt.stale != "none" {
				mustWrite(t, name, tt.stale)
			}
			p := mustLock(t, name)
			got, err := os.ReadFile(name)
			if want := fmt.Sprintln(os.Getpid()); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := info.Mode(), fs.FileMode(0o600); got != want {
				t.Errorf("got mode %v, want %v", got, want)
			}
			if err := p.Remove(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v after Remove, want %v", err, fs.ErrNotExist)
			}
			if err := mustLock(t, name).Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPIDFileInstance locks a file that another process has locked, and takes
// it over when that was killed.
func TestPIDFileInstance(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	cmd := play(t, "lock", name)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("got no line")
	}
	_, err = process.LockPIDFile(name)
	want := fmt.Sprintf("%s: another instance is running with pid %d", name, cmd.Process.Pid)
	if !errors.Is(err, process.ErrRunning) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	_, err = process.LockPIDFile(name)
	var running *process.RunningError
	if !errors.As(err, &running) || *running != (process.RunningError{File: name}) {
		t.Errorf("got %#v, want no pid", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := mustLock(t, name).Remove(); err != nil {
		t.Error(err)
	}
}

func TestPIDFileRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(name string) error
		want string
	}{
		{"symbolic link", func(name string) error { return os.Symlink("other", name) },
			"NAME: is a symbolic link"},
		{"hard link", func(name string) error { return os.Link(filepath.Join(filepath.Dir(name), "other"), name) },
			"NAME: has another name (hard link)"},
		{"fifo", func(name string) error { return syscall.Mkfifo(name, 0o600) }, "NAME: not a regular file"},
		{"directory", func(name string) error { return os.Mkdir(name, 0o700) }, "open NAME: is a directory"},
		{"text", func(name string) error { return os.WriteFile(name, []byte("holdtime = 90\n"), 0o600) },
			"NAME: holds something else than a process id"},
		{"negative number", func(name string) error { return os.WriteFile(name, []byte("-1\n"), 0o600) },
			"NAME: holds something else than a process id"},
		{"two numbers", func(name string) error { return os.WriteFile(name, []byte("1 2\n"), 0o600) },
			"NAME: holds something else than a process id"},
		{"long", func(name string) error { return os.WriteFile(name, []byte(strings.Repeat("1", 33)), 0o600) },
			"NAME: holds something else than a process id"},
		{"zeros", func(name string) error { return os.WriteFile(name, make([]byte, 4), 0o600) },
			"NAME: holds something else than a process id"},
		{"no directory", func(name string) error { return os.Remove(filepath.Dir(name)) }, "open NAME: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "dir", "pid")
			other := filepath.Join(filepath.Dir(name), "other")
			if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.name != "no directory" {
				mustWrite(t, other, "kept")
			}
			if err := tt.make(name); err != nil {
				t.Fatal(err)
			}
			read := func() []byte {
				if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
					return nil
				}
				text, _ := os.ReadFile(name)
				return text
			}
			before := read()
			_, err := process.LockPIDFile(name)
			if want := strings.ReplaceAll(tt.want, "NAME", name); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if after := read(); !bytes.Equal(after, before) {
				t.Errorf("got content %q, want %q", after, before)
			}
			if got, err := os.ReadFile(other); err == nil && string(got) != "kept" {
				t.Errorf("got %q in another file, want it unchanged", got)
			}
		})
	}
}

// TestPIDFileReplaced checks that the file of somebody else is not removed.
func TestPIDFileReplaced(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	p := mustLock(t, name)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	other := mustLock(t, name)
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(name); err != nil {
		t.Errorf("got %v, want the other's file to stay", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := other.Remove(); err != nil {
		t.Errorf("got %v for a file that is gone, want nil", err)
	}
}

// TestPIDFilePutToAnotherUse checks that a file which holds something else by now
// is not removed.
func TestPIDFilePutToAnotherUse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	p := mustLock(t, name)
	mustWrite(t, name, "a log line\n")
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "a log line\n" {
		t.Errorf("got %q, %v, want it unchanged", got, err)
	}
}

// TestPIDFileEmptied checks what stays where the file cannot be removed.
func TestPIDFileEmptied(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode fs.FileMode
	}{
		{"directory that cannot be written to", 0o555},
		{"directory that cannot be entered", 0o600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if os.Geteuid() != 0 && tt.mode == 0o600 {
				tt.mode = 0o555 // its owner could not make the file
			}
			// Other users cannot enter what t.TempDir makes.
			base, err := os.MkdirTemp("", "pid")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(base)
			name := filepath.Join(base, "dir", "pid")
			if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(filepath.Dir(name), 0o700)); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, name, "")
			if err := os.Chmod(filepath.Dir(name), tt.mode); err != nil {
				t.Fatal(err)
			}
			out, err := play(t, "empty", name).CombinedOutput()
			if err != nil {
				t.Errorf("got %v: %s", err, out)
			}
			if err := os.Chmod(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(name); err != nil || len(got) != 0 {
				t.Errorf("got %q, %v, want an empty file", got, err)
			}
			if err := mustLock(t, name).Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPIDFileRace has many instances start and stop at once: no two ever run,
// and the file names the one that does.
func TestPIDFileRace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pid")
	var running, ran atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				p, err := process.LockPIDFile(name)
				if errors.Is(err, process.ErrRunning) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				ran.Add(1)
				if n := running.Add(1); n != 1 {
					t.Errorf("got %d instances, want 1", n)
				}
				if got, err := os.ReadFile(name); strings.TrimSpace(string(got)) != strconv.Itoa(os.Getpid()) {
					t.Errorf("got %q, %v, want our pid", got, err)
				}
				running.Add(-1)
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if ran.Load() == 0 {
		t.Error("got no instance that ran")
	}
}

// Root takes no pid file that a user has put there.
func TestPIDFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		netlab.Lacks(t, "root", os.ErrPermission)
	}
	name := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(name, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(name, nobody, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := process.LockPIDFile(name); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("got %v, want an error that says whose it is", err)
	}
}
