// SPDX-License-Identifier: Apache-2.0

package e2e

// A display that is redrawn in place, on a terminal of its own.

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// A screen is a terminal that a program has for itself. What the program writes is
// kept.
type screen struct {
	keyboard *os.File
	name     string // of the program's end
	done     chan struct{}

	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

// newScreen makes a terminal of that size (pty(7)).
func newScreen(t *testing.T, columns, rows uint16) *screen {
	t.Helper()
	f := must(os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0))(t)
	fd := int(f.Fd())
	check(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number := must(unix.IoctlGetInt(fd, unix.TIOCGPTN))(t)
	check(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}))
	s := &screen{keyboard: f, name: fmt.Sprintf("/dev/pts/%d", number), done: make(chan struct{})}
	// While this end is open what the program has written stays readable.
	held := must(os.OpenFile(s.name, os.O_RDWR|syscall.O_NOCTTY, 0))(t)
	go func() {
		defer close(s.done)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			s.mu.Lock()
			s.text.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return // EIO, when nobody has the other end open
			}
		}
	}()
	t.Cleanup(func() {
		held.Close()
		<-s.done
		f.Close()
	})
	return s
}

func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// runOn starts vxsndctl on a terminal.
func (n *node) runOn(s *screen, args ...string) *ctl {
	n.lab.t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `exec "$CTL" -u "$SOCKET" "$@" <"$TTY" >"$TTY" 2>&1`, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "CTL="+must(ctlLink())(n.lab.t), "SOCKET="+n.file("vxsnd.sock"), "TTY="+s.name, "TERM=xterm", "NO_COLOR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return n.runCtl(cmd)
}

// top draws what is flooded again and again, also when the terminal becomes smaller,
// and leaves the terminal as it was, by its key or a signal.
func TestSeeTop(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).watched(0, "learning = off")
	const enter, leave = "\x1b[?1049h", "\x1b[?25h\x1b[?1049l"
	for _, tt := range []struct {
		name string
		end  func(*screen, *ctl)
	}{
		{"key", func(s *screen, c *ctl) { must(io.WriteString(s.keyboard, "q"))(t) }},
		{"Ctrl-C", func(s *screen, c *ctl) { must(io.WriteString(s.keyboard, "\x03"))(t) }},
		{"signal", func(s *screen, c *ctl) { check(t, c.Signal(syscall.SIGTERM)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScreen(t, 100, 24)
			c := n.runOn(s, "top", "-i", "0.2")
			n.waitFor("copies on the screen", func() bool {
				vs[0].flood(n, seeVNI, frame(netlab.Broadcast, 1, 64))
				text := s.shown()
				return strings.Contains(text, enter) && strings.Contains(text, "VNI") && strings.Contains(text, seeVNI.String())
			})
			check(t, unix.IoctlSetWinsize(int(s.keyboard.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 60, Row: 10}))
			before := len(s.shown())
			n.waitFor("the screen redrawn", func() bool { return len(s.shown()) > before+100 })
			tt.end(s, c)
			if status := must(c.Wait(within(t)))(t); status != 0 {
				t.Errorf("got status %d, want 0", status)
			}
			n.waitFor("the terminal as it was", func() bool { return strings.HasSuffix(s.shown(), leave) })
			mode := must(unix.IoctlGetTermios(int(s.keyboard.Fd()), unix.TCGETS))(t)
			if mode.Lflag&(unix.ICANON|unix.ECHO) != unix.ICANON|unix.ECHO {
				t.Errorf("got terminal mode %#x, want lines and echo", mode.Lflag)
			}
		})
	}
}
