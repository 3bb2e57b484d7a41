// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/logging"
	"vxsnd/internal/netlab"
)

func TestReopenTakesTheNameAgain(t *testing.T) {
	name := logFile(t)
	log := open(t, logging.Options{Kind: logging.File, Path: name})
	log.Info(numbered(0))
	until(t, "a line", func() bool { return read(t, name) != "" })
	if err := os.Rename(name, name+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v, want one that says %s is a directory", err, name)
	}
	log.Info(numbered(1))
	until(t, "a line in the old file", func() bool { return strings.Contains(read(t, name+".moved"), numbered(1)) })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	log.Info(numbered(2))
	closeLog(t, log)
	once(t, read(t, name+".moved"), 2)
	if got := read(t, name); !strings.Contains(got, numbered(2)) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want the last line", got)
	}
	if err := log.Reopen(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reopen after Close: got %v, want ErrClosed", err)
	}
}

func TestChownGivesTheFileAway(t *testing.T) {
	name := logFile(t)
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 12346
	}
	log := open(t, logging.Options{Kind: logging.File, Path: name})
	if err := log.Chown(uid, gid); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != uid || int(st.Gid) != gid {
		t.Errorf("got owner %d:%d, want %d:%d", st.Uid, st.Gid, uid, gid)
	}
	if err := os.Link(name, name+".link"); err != nil {
		t.Fatal(err)
	}
	if err := log.Chown(uid, gid); err == nil {
		t.Error("got no error, want one for a file with two names")
	}
}

func TestRotatableSaysWhyNot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	tests := []struct {
		name string
		o    logging.Options
		want error
	}{
		{"rotated", logging.Options{Kind: logging.File, MaxSize: 1000, Backups: 1}, fs.ErrNotExist},
		{"emptied", logging.Options{Kind: logging.File, MaxSize: 1000}, nil},
		{"never rotated", logging.Options{Kind: logging.File, Backups: 1}, nil},
		{"no file", logging.Options{Stdout: new(buffer), MaxSize: 1000, Backups: 1}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			tt.o.Path = filepath.Join(dir, "vxsnd.log")
			log := open(t, tt.o)
			if err := log.Rotatable(); err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if got := len(names(t, dir)); got > 1 {
				t.Errorf("got %v, want nothing but the log file", names(t, dir))
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := log.Rotatable(); !errors.Is(err, tt.want) {
				t.Errorf("without the directory: got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestReopenableSaysWhyNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vxsnd.log")
	log := open(t, logging.Options{Kind: logging.File, Path: path})
	defer closeLog(t, log)
	for _, step := range []struct {
		name string
		do   func() error
		want error
	}{
		{"as it was", func() error { return nil }, nil},
		{"moved", func() error { return os.Rename(path, path+".old") }, nil},
		{"a directory", func() error { return os.Mkdir(path, 0o700) }, syscall.EISDIR},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if err := log.Reopenable(); !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, err, step.want)
		}
	}
}

func TestDeviceIsNeitherRotatedNorGivenAway(t *testing.T) {
	log := open(t, logging.Options{Kind: logging.File, Path: os.DevNull, MaxSize: 1, Backups: 1})
	for i := range 10 {
		log.Info(numbered(i))
	}
	if err := errors.Join(log.Rotatable(), log.Reopenable(), log.Chown(12345, 12345), log.Reopen()); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	closeLog(t, log)
	fi, err := os.Stat(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Sys().(*syscall.Stat_t).Uid == 12345 || exists(os.DevNull+".1") {
		t.Error("got a changed device, want it as it was")
	}
}

func TestLinesToAFullDeviceAreCounted(t *testing.T) {
	log := open(t, logging.Options{Kind: logging.File, Path: "/dev/full"})
	for i := range 10 {
		log.Info(numbered(i))
	}
	if err := log.Close(); err == nil {
		t.Error("close: got no error, want one")
	}
	if got := log.Lost(); got != 10 {
		t.Errorf("got %d lines lost, want 10", got)
	}
}

// smallDisk returns a directory of 64 KiB that goes with the test. It belongs to
// a mount namespace of one thread: nothing is left on the machine, and the path
// by which others reach it cannot be renamed in.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	made, end := make(chan error), make(chan struct{})
	var thread int
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its mounts
		thread = syscall.Gettid()
		err := os.NewSyscallError("unshare", syscall.Unshare(syscall.CLONE_NEWNS))
		if err == nil {
			err = os.NewSyscallError("mount", syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		}
		if err == nil {
			err = os.NewSyscallError("mount", syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
		}
		made <- err
		<-end
		close(made)
	}()
	t.Cleanup(func() { close(end); <-made })
	if err := <-made; err != nil {
		netlab.Lacks(t, "mounts", err)
	}
	return filepath.Join("/proc/self/task", strconv.Itoa(thread), "root", dir)
}

func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	name, ballast := filepath.Join(dir, "vxsnd.log"), filepath.Join(dir, "ballast")
	write(t, ballast, strings.Repeat("x", 32<<10))
	log := open(t, logging.Options{Kind: logging.File, Path: name})
	const lines = 1000 // more than fits the disk, and not more than the queue
	for i := range lines {
		log.Info(numbered(i))
	}
	until(t, "a line lost", func() bool { return log.Lost() > 0 })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	log.Info("room again")
	closeLog(t, log)
	text := read(t, name)
	reported := 0
	for _, m := range regexp.MustCompile(`level=warning msg="log lines lost" count=(\d+)\n`).FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		reported += n
	}
	if got := log.Lost(); uint64(reported) != got {
		t.Errorf("got %d lines reported lost, want %d", reported, got)
	}
	whole := regexp.MustCompile(`(?m)^time="\S+" level=info msg=(line-\d{5}|"room again")$`).FindAllString(text, -1)
	if got := len(whole) + reported; got != lines+1 {
		t.Errorf("got %d whole lines and %d lost, want %d together", len(whole), reported, lines+1)
	}
	if !strings.Contains(text, `msg="room again"`) {
		t.Error("got no line after there was room again, want one")
	}
}
