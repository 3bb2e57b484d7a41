// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"vxsnd/internal/logging"
	"vxsnd/internal/netlab"
)

// stranger is the number of a user that is nobody on the machine.
const stranger = 64321

// Root writes to no file that another user chose for it.
func TestRootIsNotLedElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		netlab.Lacks(t, "root", os.ErrPermission)
	}
	tests := []struct {
		name  string
		owner int // of the directory
		link  func(victim, name string) error
		want  string // in the error, "" for none
	}{
		{"symbolic link of a user", stranger, os.Symlink, "symbolic link"},
		{"hard link of a user", stranger, os.Link, "other names"},
		{"symbolic link to nothing", stranger, func(victim, name string) error { return os.Symlink(victim+".none", name) }, "symbolic link"},
		{"symbolic link of root", 0, os.Symlink, ""},
		{"file of a user", stranger, func(_, name string) error { return os.WriteFile(name, nil, 0o600) }, ""},
		{"no file", stranger, func(string, string) error { return nil }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			victim := filepath.Join(t.TempDir(), "victim")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			name := filepath.Join(dir, "vxsnd.log")
			if err := tt.link(victim, name); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, tt.owner, -1); err != nil {
				t.Fatal(err)
			}
			log, err := logging.Open(logging.Options{Level: logrus.InfoLevel, Kind: logging.File, Path: name, MaxSize: 1 << 20, Backups: 1})
			if err == nil {
				log.Info("line")
				if err := log.Close(); err != nil {
					t.Error(err)
				}
			}
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error that says %q", err, tt.want)
			}
			text, err := os.ReadFile(victim)
			if err != nil || tt.want != "" && string(text) != "precious" {
				t.Errorf("got %q and %v in the file, want it untouched", text, err)
			}
			if _, err := os.Lstat(victim + ".none"); err == nil {
				t.Error("got a file made through a link, want none")
			}
		})
	}
}

// A log file sets nothing of the kernel, and is no device that lines would harm.
func TestWhatIsNoLogFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"a file of the kernel", "/proc/self/oom_score_adj", "a file of the kernel's"},
		{"a device", "/dev/zero", "neither a regular file"},
		{"a socket", socket, "no such device or address"},
		{"a directory", dir, "is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log, err := logging.Open(logging.Options{Kind: logging.File, Path: tt.path})
			if err == nil {
				closeLog(t, log)
			}
			if err == nil || !strings.Contains(err.Error(), tt.path) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that says %s: %s", err, tt.path, tt.want)
			}
		})
	}
}

// Who could not read the file that is rotated cannot read those that come of it.
func TestRotationKeepsModeAndOwner(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = stranger, stranger+1
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o604, 0o660} {
		t.Run(mode.String(), func(t *testing.T) {
			name := logFile(t)
			write(t, name, strings.Repeat("old\n", 100))
			if err := errors.Join(os.Chown(name, uid, gid), os.Chmod(name, mode)); err != nil {
				t.Fatal(err)
			}
			log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 100, Backups: 2})
			log.Info(numbered(1))
			closeLog(t, log) // which may keep it from being compressed
			log = open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 1 << 20, Backups: 2})
			until(t, "the compressed file", func() bool { return exists(name+".1.gz") && !exists(name+".1") })
			closeLog(t, log)
			for _, n := range []string{name, name + ".1.gz"} {
				fi, err := os.Stat(n)
				if err != nil {
					t.Fatal(err)
				}
				st := fi.Sys().(*syscall.Stat_t)
				if fi.Mode() != mode || int(st.Uid) != uid || int(st.Gid) != gid {
					t.Errorf("%s: got %v of %d:%d, want %v of %d:%d", filepath.Base(n), fi.Mode(), st.Uid, st.Gid, mode, uid, gid)
				}
			}
		})
	}
}

// A file of a third user is not given away.
func TestChownLeavesFilesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		netlab.Lacks(t, "root", os.ErrPermission)
	}
	name := logFile(t)
	write(t, name, "theirs\n")
	if err := os.Chown(name, stranger, -1); err != nil {
		t.Fatal(err)
	}
	log := open(t, logging.Options{Kind: logging.File, Path: name})
	if err := log.Chown(stranger+1, stranger+1); err == nil || !strings.Contains(err.Error(), "belongs to user 64321") {
		t.Errorf("got %v, want an error that says whose it is", err)
	}
	if err := log.Chown(stranger, stranger); err != nil {
		t.Errorf("to its user: got %v, want nil", err)
	}
	closeLog(t, log)
}

// A file grows until somebody says that it may be rotated.
func TestHeldFileIsNotRotated(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vxsnd.log")
	if err := os.WriteFile(name, []byte(strings.Repeat("old\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := logging.Open(logging.Options{Level: logrus.InfoLevel, Kind: logging.File, Path: name, MaxSize: 100, Backups: 1, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("before")
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), "old") || time.Now().After(deadline) {
			t.Fatalf("got %q and %v, want the line behind the old ones", text, err)
		}
		if strings.Contains(string(text), "before") {
			break
		}
	}
	if err := log.Rotatable(); err != nil {
		t.Fatal(err)
	}
	log.Info("after")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(name); err != nil || strings.Contains(string(text), "before") || !strings.Contains(string(text), "after") {
		t.Errorf("got %q and %v, want the last line alone", text, err)
	}
}
