// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vxsnd/internal/process"
)

// A manager is a service manager's socket.
type manager struct {
	fd   int
	name string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{name: filepath.Join(t.TempDir(), "notify")}
	m.listen(t)
	t.Cleanup(func() { _ = unix.Close(m.fd) })
	return m
}

func (m *manager) listen(t *testing.T) {
	t.Helper()
	var err error
	if m.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(m.fd, &unix.SockaddrUnix{Name: m.name}); err != nil {
		t.Fatal(err)
	}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(m.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
}

// receive waits for a message.
func (m *manager) receive(t *testing.T) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(m.fd, buf, 0)
		if err == nil {
			return string(buf[:n])
		}
		if err != unix.EINTR {
			t.Fatalf("no message: %v", err)
		}
	}
}

// pending returns the messages that are there.
func (m *manager) pending() []string {
	var msgs []string
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(m.fd, buf, unix.MSG_DONTWAIT)
		switch err {
		case nil:
			msgs = append(msgs, string(buf[:n]))
		case unix.EINTR:
		default:
			return msgs
		}
	}
}

// notifier returns a notifier for m with a watchdog interval, if any.
func (m *manager) notifier(t *testing.T, usec string) *process.Notifier {
	t.Helper()
	t.Setenv("NOTIFY_SOCKET", m.name)
	t.Setenv("WATCHDOG_USEC", usec)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n, err := process.NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func TestNotifier(t *testing.T) {
	long := strings.Repeat("\u20ac", 2000)
	for _, tt := range []struct {
		name string
		call func(n *process.Notifier)
		want []string
	}{
		{"ready", func(n *process.Notifier) { n.Ready("3 members") }, []string{"READY=1\nSTATUS=3 members"}},
		{"stopping", func(n *process.Notifier) { n.Stopping() }, []string{"STOPPING=1"}},
		{"status", func(n *process.Notifier) { n.Status("a\nSTOPPING=1\nb\n") }, []string{"STATUS=a STOPPING=1 b"}},
		{"status that is not text", func(n *process.Notifier) { n.Status("a\xff\xfeb") }, []string{"STATUS=ab"}},
		{"long status", func(n *process.Notifier) { n.Status(long) }, []string{"STATUS=" + long[:2046]}},
		{"warn", func(n *process.Notifier) { n.Warn("one\nREADY=1\n") }, []string{`X_WARN="one READY=1"`}},
		{"fail", func(n *process.Notifier) { n.Fail(2, "one\ntwo\n") },
			[]string{`X_FAIL="one\ntwo\n"`, "STATUS=one two\nEXIT_STATUS=2\nX_EXIT_STATUS=2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t)
			n := m.notifier(t, "")
			tt.call(n)
			if diff := cmp.Diff(tt.want, m.pending()); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			for _, v := range mechanism[2:] {
				if value, ok := os.LookupEnv(v); ok {
					t.Errorf("got %s=%s left in the environment", v, value)
				}
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			tt.call(n)
			if got := m.pending(); got != nil {
				t.Errorf("got %q after Close, want nothing", got)
			}
		})
	}
}

func TestNotifierReloading(t *testing.T) {
	m := newManager(t)
	n := m.notifier(t, "")
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
		t.Fatal(err)
	}
	n.Reloading()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
		t.Fatal(err)
	}
	msg := m.receive(t)
	match := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)$`).FindStringSubmatch(msg)
	if match == nil {
		t.Fatalf("got %q", msg)
	}
	if at, _ := strconv.ParseInt(match[1], 10, 64); at < before.Nano()/1000 || at > after.Nano()/1000 {
		t.Errorf("got time %d, want one from %d to %d", at, before.Nano()/1000, after.Nano()/1000)
	}
}

// TestNotifierLongFailure checks that no message is longer than systemd takes.
func TestNotifierLongFailure(t *testing.T) {
	m := newManager(t)
	n := m.notifier(t, "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Fail(2, strings.Repeat("\x01", 20000))
	}()
	total := 0
	for {
		msg := m.receive(t)
		if len(msg) > 4096 {
			t.Errorf("got a message of %d bytes, want 4096 at most", len(msg))
		}
		quoted, ok := strings.CutPrefix(msg, "X_FAIL=")
		if !ok {
			break
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatal(err)
		}
		total += len(text)
	}
	<-done
	if total != 20001 {
		t.Errorf("got %d bytes, want 20001", total)
	}
}

func TestNotifierNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	nobody, err := process.NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*process.Notifier{nil, nobody} {
		n.Ready("")
		n.Reloading()
		n.Stopping()
		n.Status("")
		n.Fail(1, "")
		if got := n.Watchdog(); got != 0 {
			t.Errorf("got watchdog interval %v, want none", got)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewNotifierError(t *testing.T) {
	good := newManager(t).name
	for _, tt := range []struct {
		name, socket, usec string
		want               string
	}{
		{"virtual machine", "vsock:2:1234", "", "NOTIFY_SOCKET=vsock:2:1234: neither a socket file nor an abstract name"},
		{"relative", "notify", "", "NOTIFY_SOCKET=notify: neither a socket file nor an abstract name"},
		{"nobody there", "/nowhere/notify", "", "NOTIFY_SOCKET=/nowhere/notify: no such file or directory"},
		{"nobody there, abstract", "@vxsnd-nowhere", "", "NOTIFY_SOCKET=@vxsnd-nowhere: connection refused"},
		{"interval", good, "1s", "WATCHDOG_USEC=1s: not a number of microseconds"},
		{"interval of 0", good, "0", "WATCHDOG_USEC=0: not a number of microseconds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", tt.socket)
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", "")
			_, err := process.NewNotifier()
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if got := os.Getenv("NOTIFY_SOCKET"); got != "" {
				t.Errorf("got NOTIFY_SOCKET=%s left in the environment", got)
			}
		})
	}
}

func TestNotifierWatchdog(t *testing.T) {
	for _, tt := range []struct {
		name, usec, pid string
		want            time.Duration
	}{
		{"nobody watches", "", "", 0},
		{"everybody is watched", "1500000", "", 1500 * time.Millisecond},
		{"we are watched", "1500000", strconv.Itoa(os.Getpid()), 1500 * time.Millisecond},
		{"another is watched", "1500000", "1", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", newManager(t).name)
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			n, err := process.NewNotifier()
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if got := n.Watchdog(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestNotifierFull checks that a manager that reads nothing loses the status,
// and gets what matters once it reads again.
func TestNotifierFull(t *testing.T) {
	m := newManager(t)
	n := m.notifier(t, "")
	const sent = 10000 // beyond any net.unix.max_dgram_qlen and buffer
	for range sent {
		n.Status("busy")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Ready("")
	}()
	got := 0
	for msg := m.receive(t); msg != "READY=1\nSTATUS="; msg = m.receive(t) {
		got++
	}
	<-done
	if got == 0 || got >= sent {
		t.Errorf("got %d of %d states, want some", got, sent)
	}
}

// TestNotifierAgain checks that a manager that was started anew is found.
func TestNotifierAgain(t *testing.T) {
	m := newManager(t)
	n := m.notifier(t, "")
	if err := unix.Close(m.fd); err != nil {
		t.Fatal(err)
	}
	n.Status("lost")
	if err := os.Remove(m.name); err != nil {
		t.Fatal(err)
	}
	n.Ready("lost too")
	m.listen(t)
	n.Status("found")
	if got, want := m.pending(), []string{"STATUS=found"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNotifierConcurrent(t *testing.T) {
	n := newManager(t).notifier(t, "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n.Status("busy")
			}
		})
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
