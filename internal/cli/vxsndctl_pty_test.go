// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
)

// A console is a terminal with a control program in it.
type console struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	before unix.Termios
	cmd    *exec.Cmd

	mu   sync.Mutex // guards what follows
	text []byte     // what the program has written
}

// job returns the process group that has the terminal.
func (c *console) job() (group int) {
	c.t.Helper()
	onDescriptor(c.t, c.master, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return group
}

// startConsole runs a control program in a terminal of 80 columns and 24 lines.
func startConsole(t *testing.T, program string, args ...string) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, master: master}
	number := 0
	onDescriptor(t, master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if c.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	c.resize(80, 24)
	c.before = c.modes()
	c.cmd = exec.Command(program, args...)
	c.cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=", "GORACE="+noRaceSleep)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.slave, c.slave, c.slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.text = append(c.text, b[:n]...)
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.slave.Close()
		_ = master.Close()
		reading.Wait()
	})
	return c
}

// onDescriptor calls fn with the descriptor of a file.
func onDescriptor(t *testing.T, f *os.File, fn func(fd int) error) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = fn(int(fd)) }), failed); err != nil {
		t.Fatal(err)
	}
}

// modes returns how the terminal is set.
func (c *console) modes() (modes unix.Termios) {
	c.t.Helper()
	onDescriptor(c.t, c.slave, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			modes = *m
		}
		return err
	})
	return modes
}

func (c *console) resize(width, height uint16) {
	c.t.Helper()
	onDescriptor(c.t, c.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
}

// written returns all that the program has written.
func (c *console) written() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// await waits until what the program has written is as ok wants it.
func (c *console) await(what string, ok func(text string) bool) {
	c.t.Helper()
	if !waitFor(func() bool { return ok(c.written()) }) {
		c.t.Fatalf("got %q, want %s", c.written(), what)
	}
}

func (c *console) hit(keys string) {
	c.t.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// ended waits until the program ends, and checks its status and that the terminal
// is as it was.
func (c *console) ended(status int) {
	c.t.Helper()
	err := c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != status {
		c.t.Errorf("got status %d (%v), want %d: %q", got, err, status, c.written())
	}
	if got := c.modes(); got != c.before {
		c.t.Errorf("got a terminal with modes %+v, want those of before, %+v", got, c.before)
	}
}

// restored checks that the screen was taken and given back.
func (c *console) restored() {
	c.t.Helper()
	c.await("the screen to be given back", func(text string) bool {
		return strings.Count(text, screenEnter) == strings.Count(text, screenLeave) && strings.Contains(text, screenEnter)
	})
}

// topNode serves show and stats.
func topNode(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, append(cannedCommands(cannedStatus(), nil, nil, 1), countingStats()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return path
}

// frames returns the frames that top has drawn.
func frames(text string) []string { return strings.Split(text, cursorHome)[1:] }

func lastFrame(text string) string {
	all := frames(text)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func TestTopGivesTheTerminalBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*console)
	}{
		{"q", func(c *console) { c.hit("q") }},
		{"interrupt", func(c *console) { c.hit("\x03") }},
		{"termination", func(c *console) { _ = c.cmd.Process.Signal(syscall.SIGTERM) }},
		{"hang-up", func(c *console) { _ = c.cmd.Process.Signal(syscall.SIGHUP) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startConsole(t, "vxsndctl", "-u", topNode(t), "top", "-i", "0.1")
			c.await("rates", func(text string) bool { return strings.Contains(text, "30.0 packets/s") })
			if c.modes() == c.before {
				t.Error("got a terminal that echoes, want keys without")
			}
			tt.end(c)
			c.ended(exitStopped)
			c.restored()
		})
	}
}

func TestTopIsDrawnAnew(t *testing.T) {
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "top", "-i", "0.1")
	c.await("the busiest first", func(text string) bool {
		f := lastFrame(text)
		i, j := strings.Index(f, "    2000 "), strings.Index(f, "      10 ")
		return strings.Contains(f, "*copies/s") && i > 0 && i < j
	})
	// Each frame is written over the one before.
	for _, f := range frames(c.written()) {
		if strings.Contains(f, "\x1b[2J") || strings.Contains(f, "\x1b[J") {
			t.Errorf("got a frame that erases the screen: %q", f)
		}
	}
	c.hit("\x1b[D\x1bOD\x1b[D")
	c.await("the order of VNIs", func(text string) bool {
		f := lastFrame(text)
		i, j := strings.Index(f, "      10 "), strings.Index(f, "    2000 ")
		return strings.Contains(f, "*VNI") && i > 0 && i < j
	})
	c.hit("q")
	c.ended(exitStopped)
	c.restored()
}

// TestTopFollowsTheSizeOfTheTerminal waits for no look at the daemon.
func TestTopFollowsTheSizeOfTheTerminal(t *testing.T) {
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "top", "-i", "3600")
	c.await("a frame", func(text string) bool { return strings.Count(lastFrame(text), "\r\n") == 23 })
	c.resize(60, 12)
	c.await("lines for a smaller terminal", func(text string) bool {
		f := lastFrame(text)
		return strings.Count(f, "\r\n") == 11 && strings.Contains(f, "q quit")
	})
	c.hit("q")
	c.ended(exitStopped)
	c.restored()
}

// A stop where nobody is to have it go on is none: the program has no parent in
// its session.
func TestTopSurvivesAStopOfNobodys(t *testing.T) {
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "top", "-i", "0.1")
	c.await("rates", func(text string) bool { return strings.Contains(text, "30.0 packets/s") })
	c.hit("\x1a")
	c.await("the screen again", func(text string) bool { return strings.Count(text, screenEnter) == 2 })
	c.hit("q")
	c.ended(exitStopped)
	c.restored()
}

// A shell that has it go on finds its terminal as it was meanwhile, whoever stops
// it.
func TestTopLeavesTheTerminalWhileItIsStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(*console)
	}{
		{"Ctrl-Z", func(c *console) { c.hit("\x1a") }},
		{"a signal", func(c *console) { _ = syscall.Kill(c.job(), syscall.SIGTSTP) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := startConsole(t, "bash", "--norc", "-c", `set -m; vxsndctl -u "$0" top -i 0.1; stty -a; read; fg >/dev/null`, topNode(t))
			c.await("rates", func(text string) bool { return strings.Contains(text, "30.0 packets/s") })
			tt.stop(c)
			c.await("a terminal that echoes, behind the screen", func(text string) bool {
				_, after, ok := strings.Cut(text, screenLeave)
				return ok && strings.Contains(after, " icanon ") && strings.Contains(after, " echo ")
			})
			c.hit("\n")
			c.await("the screen again", func(text string) bool {
				return strings.Count(text, screenEnter) > 1 && strings.HasSuffix(text, lastFrame(text)) && c.modes() != c.before
			})
			c.hit("q")
			c.ended(exitStopped)
			c.restored()
		})
	}
}

func TestTopEndsAfterSoManyLooks(t *testing.T) {
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "top", "-i", "0.1", "-n", "3")
	c.ended(exitStopped)
	c.restored()
	if got := len(frames(c.written())); got < 3 {
		t.Errorf("got %d frames, want 3 at least", got)
	}
}

func TestTopOfADaemonThatEndsSaysSoOnTheUsersScreen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, append(cannedCommands(cannedStatus(), nil, nil, 1), countingStats()))
	if err != nil {
		t.Fatal(err)
	}
	c := startConsole(t, "vxsndctl", "-u", path, "top", "-i", "0.1")
	c.await("a frame", func(text string) bool { return len(frames(text)) > 0 })
	stop()
	c.ended(exitFailed)
	c.await("why it ended, behind the screen", func(text string) bool {
		_, after, ok := strings.Cut(text, screenLeave)
		return ok && strings.Contains(after, "vxsndctl: the daemon stops\r\n")
	})
}

func TestATerminalGetsNoPackets(t *testing.T) {
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "capture", "100", "-w", "-")
	c.ended(exitUsage)
	c.await("a refusal", func(text string) bool {
		return strings.Contains(text, "vxsndctl: -w -: standard output is a terminal\r\n")
	})
}

func TestEventsHaveColourOnATerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, append(cannedCommands(cannedStatus(), nil, nil, 1),
		streaming(control.CommandMonitor, nil, []control.MembershipEvent{}, cannedEvents())))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := startConsole(t, "vxsndctl", "-u", path, "monitor")
	c.ended(exitStopped)
	c.await("colours", func(text string) bool {
		return strings.Contains(text, "\x1b[32madded\x1b[0m") && strings.Contains(text, "\x1b[31mremoved\x1b[0m")
	})
	for _, line := range strings.Split(c.written(), "\r\n") {
		if plain := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(line); len([]rune(plain)) > 80 {
			t.Errorf("got %q, want at most 80 columns", plain)
		}
	}
}
