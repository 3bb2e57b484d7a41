// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/netlab"
)

// A manager is what a service manager has of a daemon: what that tells it.
type manager struct {
	t      *testing.T
	socket string

	mu    sync.Mutex // guards what follows
	told  []told
	taken int // how many of them the test has been through
}

// A told message has the assignments of one datagram.
type told map[string]string

// newManager opens a notification socket that everybody may write to.
func newManager(t *testing.T) *manager {
	t.Helper()
	dir := must(os.MkdirTemp(binaryDir, "notify-"))(t)
	check(t, os.Chmod(dir, 0o755))
	m := &manager{t: t, socket: filepath.Join(dir, "notify")}
	conn := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"}))(t)
	check(t, os.Chmod(m.socket, 0o777))
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		m.read(conn)
	}()
	return m
}

func (m *manager) read(conn *net.UnixConn) {
	b := make([]byte, 4097) // systemd takes 4096
	for {
		k, err := conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || k == len(b) {
			m.t.Errorf("notification socket: got %d bytes, error %v", k, err)
			return
		}
		msg := make(told)
		for line := range strings.Lines(string(b[:k])) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			msg[key] = value
		}
		m.mu.Lock()
		m.told = append(m.told, msg)
		m.mu.Unlock()
	}
}

// rest returns what was told and has not been looked at.
func (m *manager) rest() []told {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.told[m.taken:]
	m.taken = len(m.told)
	return out
}

// await waits for the next message that match accepts, and returns it with
// those before it.
func (m *manager) await(what string, match func(told) bool) (got told, before []told) {
	m.t.Helper()
	err := netlab.Wait(within(m.t), what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.IndexFunc(m.told[m.taken:], match)
		if i < 0 {
			return false
		}
		before = m.told[m.taken : m.taken+i]
		got = m.told[m.taken+i]
		m.taken += i + 1
		return true
	})
	if err != nil {
		m.t.Fatalf("%v; told instead: %v", err, m.rest())
	}
	return got, before
}

// next waits for the next message that says more than how the daemon is.
func (m *manager) next() told {
	m.t.Helper()
	got, _ := m.await("a change of state", func(msg told) bool { return !msg.only("STATUS") && !msg.only("WATCHDOG") })
	return got
}

// only tells whether the message has exactly these names.
func (msg told) only(names ...string) bool {
	slices.Sort(names)
	return slices.Equal(slices.Sorted(maps.Keys(msg)), names)
}

// ready waits until the next thing that the daemon says is that it is ready,
// and returns its status.
func (m *manager) ready() status {
	m.t.Helper()
	got := m.next()
	if !got.only("READY", "STATUS") || got["READY"] != "1" {
		m.t.Fatalf("got %v, want READY=1 with a status", got)
	}
	return m.parse(got)
}

// A status is what a line of status says: numbers, and rates per second.
type status struct{ members, vnis, packets, copies, drops int }

var statusLine = regexp.MustCompile(`^(\d+) members? in (\d+) VNIs?, (\d+) packets/s in, (\d+) copies/s out, (\d+) drops/s$`)

func (m *manager) parse(msg told) status {
	m.t.Helper()
	f := statusLine.FindStringSubmatch(msg["STATUS"])
	if f == nil {
		m.t.Fatalf("got %v, want a status line", msg)
	}
	var n []int
	for _, s := range f[1:] {
		n = append(n, must(strconv.Atoi(s))(m.t))
	}
	return status{n[0], n[1], n[2], n[3], n[4]}
}

// command returns vxsnd as the manager starts it. watchdog 0 is none.
func (m *manager) command(watchdog time.Duration) *exec.Cmd {
	m.t.Helper()
	cmd := exec.Command(program(m.t))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket)
	if watchdog > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	}
	return cmd
}
