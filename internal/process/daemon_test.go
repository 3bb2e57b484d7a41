// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vxsnd/internal/process"
)

const (
	markVar      = "_GO_DAEMON"
	handshakeVar = "_DETACHED_FROM"
)

// mechanism are the variables that a daemon's children must not see.
var mechanism = []string{markVar, handshakeVar, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// manyLines are more than one message has room for, and not all of them text.
var manyLines = strings.Repeat("first\nsecond \x00\xff line\n\n\t\"third\" \u20ac\n", 2000)

// A report is what the daemon sees of itself.
type report struct {
	PID    int
	Args   []string
	Dir    string
	Env    []string // of a program that it starts
	Socket string   // NOTIFY_SOCKET
}

// daemon is the role of a program that goes into the background. Its argument
// says how it goes on. It takes the name "report" relative to the directory, and
// holds on until nobody has "hold" open for writing.
func daemon() error {
	if !process.Reborn() {
		status, err := process.Detach(os.Stderr)
		err = errors.Join(err, goleak.Find(goleak.IgnoreAnyFunction("os/signal.loop")))
		if err == nil {
			os.Exit(status)
		}
		return err
	}
	if err := process.Continue(); err != nil {
		return err
	}
	if _, err := fmt.Println("nobody reads this"); err != nil {
		return err
	}
	r := report{PID: os.Getpid(), Args: os.Args, Socket: os.Getenv("NOTIFY_SOCKET")}
	n, err := process.NewNotifier()
	if err != nil {
		return err
	}
	if r.Dir, err = os.Getwd(); err != nil {
		return err
	}
	env, err := exec.Command("env", "-0").Output()
	if err != nil {
		return err
	}
	r.Env = strings.Split(strings.Trim(string(env), "\x00"), "\x00")
	stop := make(chan os.Signal, 1)
	if os.Args[1] == "stop" {
		signal.Notify(stop, syscall.SIGTERM)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile("report", text, 0o666); err != nil {
		return err
	}
	switch os.Args[1] {
	case "ready":
		n.Ready("serving")
		return hold()
	case "warned":
		n.Warn("one\n\xfftwo")
		n.Warn(strings.Repeat("\u20ac", 1000))
		n.Ready("serving")
		n.Warn("too late")
		return hold()
	case "fail":
		n.Status("about to fail")
		n.Fail(7, "one\ntwo")
		os.Exit(8)
	case "long":
		n.Fail(2, manyLines)
	case "status 0":
		os.Exit(0)
	case "status 3":
		os.Exit(3)
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "wait":
		if err := hold(); err != nil {
			return err
		}
		n.Fail(5, "waited")
	case "stop":
		<-stop
		n.Fail(4, "stopped")
	}
	return nil
}

func hold() error {
	f, err := os.Open("hold")
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, f)
	return err
}

// A starter is a process that starts a daemon, under one of the program's names.
type starter struct {
	*exec.Cmd
	stderr bytes.Buffer
	held   *os.File // what the daemon waits for the end of
}

func newStarter(t *testing.T, name, does string) *starter {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(exe, filepath.Join(dir, name)), syscall.Mkfifo(filepath.Join(dir, "hold"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := &starter{Cmd: play(t, "daemon", does)}
	s.Path, s.Args[0], s.Dir, s.Stderr = filepath.Join(dir, name), name, dir, &s.stderr
	// For reading too, or it would wait for the daemon.
	if s.held, err = os.OpenFile(filepath.Join(dir, "hold"), os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.held.Close() })
	return s
}

// run starts the daemon and checks what the starting process makes of it.
func (s *starter) run(t *testing.T, status int, stderr string) {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.wait(t, status, stderr)
}

func (s *starter) wait(t *testing.T, status int, stderr string) {
	t.Helper()
	_ = s.Wait()
	if got := s.ProcessState.ExitCode(); got != status {
		t.Errorf("got %v, want status %d", s.ProcessState, status)
	}
	if got := s.stderr.String(); got != stderr {
		t.Errorf("got %.300q on stderr, want %.300q", got, stderr)
	}
}

// report waits for the daemon's report.
func (s *starter) report(t *testing.T) report {
	t.Helper()
	var r report
	waitFor(t, "report", func() bool {
		text, err := os.ReadFile(filepath.Join(s.Dir, "report"))
		return err == nil && json.Unmarshal(text, &r) == nil
	})
	return r
}

func TestDetach(t *testing.T) {
	ended := func(how string) func(name string) string {
		return func(name string) string {
			return fmt.Sprintf("%s: daemon ended before it was ready (%s)\n", name, how)
		}
	}
	says := func(text string) func(string) string { return func(string) string { return text } }
	for _, name := range []string{"vxsnd", "vxrd", "vxsndctl", "vxrdctl"} {
		for _, tt := range []struct {
			name   string
			status int
			stderr func(name string) string
		}{
			{"ready", 0, says("")},
			{"warned", 0, func(name string) string {
				return fmt.Sprintf("%[1]s: warning: one two\n%[1]s: warning: %[2]s\n", name, strings.Repeat("\u20ac", 320))
			}},
			{"fail", 7, says("one\ntwo\n")},
			{"long", 2, says(manyLines)},
			{"status 0", 1, ended("exit status 0")},
			{"status 3", 1, ended("exit status 3")},
			{"kill", 1, ended("killed by signal SIGKILL")},
		} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				newStarter(t, name, tt.name).run(t, tt.status, tt.stderr(name))
			})
		}
	}
}

// TestDetached looks at a daemon that was started from a terminal, with
// descriptors and variables that are not for it.
func TestDetached(t *testing.T) {
	s := newStarter(t, "vxsnd", "ready")
	s.Stdin = openTerminal(t)
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.ExtraFiles = []*os.File{w}
	s.Env = append(s.Env, markVar+"=1", handshakeVar+"=@other", "NOTIFY_SOCKET=/other", "WATCHDOG_USEC=1", "WATCHDOG_PID=1")
	s.run(t, 0, "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %d, %v from a pipe that the daemon should not have, want its end", n, err)
	}

	got := s.report(t)
	if want := []string{"vxsnd", "ready"}; !slices.Equal(got.Args, want) {
		t.Errorf("got arguments %q, want %q", got.Args, want)
	}
	if got.Dir != s.Dir {
		t.Errorf("got directory %s, want %s", got.Dir, s.Dir)
	}
	env := slices.DeleteFunc(s.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(mechanism, name)
	})
	slices.Sort(env)
	slices.Sort(got.Env)
	if diff := cmp.Diff(env, got.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(s.Dir, "report"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o640); got != want {
		t.Errorf("got mode %v of a file, want %v", got, want)
	}
	stat := statFields(t, got.PID)
	if pid := strconv.Itoa(got.PID); stat[3] != pid || stat[4] != "0" {
		t.Errorf("got session %s and terminal %s, want %s and none (0)", stat[3], stat[4], pid)
	}
	fds := fmt.Sprintf("/proc/%d/fd", got.PID)
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(fds, e.Name()))
		std := slices.Contains([]string{"0", "1", "2"}, e.Name())
		if err == nil && std != (to == os.DevNull) {
			t.Errorf("got %s as descriptor %s", to, e.Name())
		}
	}
}

// statFields returns what /proc/PID/stat shows after the name: state, ppid,
// pgrp, session, tty_nr and more.
func statFields(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// openTerminal returns a new terminal.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	const flags = os.O_RDWR | syscall.O_NOCTTY
	ptmx, err := os.OpenFile("/dev/ptmx", flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ptmx.Close() })
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return tty
}

// TestDetachStranger checks that only the child is listened to.
func TestDetachStranger(t *testing.T) {
	s := newStarter(t, "vxsnd", "wait")
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrUnix{Name: s.report(t).Socket}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, msg := range []string{"READY=1", `X_FAIL="nonsense\n"`, "X_EXIT_STATUS=6"} {
		// With a descriptor, for which there is no room.
		if err := unix.Sendmsg(fd, []byte(msg), unix.UnixRights(fd), to, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.held.Close(); err != nil {
		t.Fatal(err)
	}
	s.wait(t, 5, "waited\n")
}

func TestDetachSignal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		does   string
		signal os.Signal
		status int
		stderr string
	}{
		{"passed on", "stop", syscall.SIGTERM, 4, "stopped\n"},
		{"passed on and not caught", "wait", syscall.SIGINT, 1, "vxsnd: daemon ended before it was ready (killed by signal SIGINT)\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStarter(t, "vxsnd", tt.does)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			s.report(t)
			if err := s.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			s.wait(t, tt.status, tt.stderr)
		})
	}
}

func TestReborn(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		mark, handshake, notify string
		want                    bool
	}{
		{"nothing", "", "", "", false},
		{"another daemon's child", "1", "", "", false},
		{"another daemon's child with a service manager", "1", "", "/run/systemd/notify", false},
		{"left from another start", "1", "@1", "/run/systemd/notify", false},
		{"no mark", "", "@1", "@1", false},
		{"child", "1", "@1", "@1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(markVar, tt.mark)
			t.Setenv(handshakeVar, tt.handshake)
			t.Setenv("NOTIFY_SOCKET", tt.notify)
			if got := process.Reborn(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if !tt.want {
				if err := process.Continue(); !errors.Is(err, os.ErrInvalid) {
					t.Errorf("got %v of Continue, want %v", err, os.ErrInvalid)
				}
			}
		})
	}
}
