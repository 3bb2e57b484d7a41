// SPDX-License-Identifier: Apache-2.0

package e2e

// Flood workers that are stuck, and who is told.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// What the log says of the watchdog.
const (
	msgNotAlive = "watchdog is not told that the daemon is alive"
	msgAlive    = "watchdog is told again that the daemon is alive"
)

// threads returns the threads of a process that have this name.
func threads(t *testing.T, pid int, comm string) (tids []int) {
	t.Helper()
	for _, name := range must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid)))(t) {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(b)) == comm {
			tids = append(tids, must(strconv.Atoi(filepath.Base(filepath.Dir(name))))(t))
		}
	}
	return tids
}

// freeze stops a flood worker of the node, as a system call that never returns
// would, and all else of it goes on. thaw lets it go on; it may be called again.
func (n *node) freeze(worker string) (thaw func()) {
	t := n.lab.t
	t.Helper()
	var tids []int
	check(t, netlab.Wait(within(t), worker, func() bool {
		tids = threads(t, n.proc.PID(), worker)
		return len(tids) > 0
	}))
	if len(tids) != 1 {
		t.Fatalf("got threads %v named %s, want one", tids, worker)
	}
	frozen, release, done := make(chan error), make(chan struct{}), make(chan error, 1)
	go func() {
		// It is a thread that traces, and has to let go itself.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := unix.PtraceSeize(tids[0])
		if err == nil {
			err = stopInReceive(n.proc.PID(), tids[0])
		}
		frozen <- err
		if err == nil {
			<-release
			done <- unix.PtraceDetach(tids[0])
		}
	}()
	check(t, <-frozen)
	thaw = sync.OnceFunc(func() {
		close(release)
		if err := <-done; err != nil {
			t.Errorf("detach from %s: %v", worker, err)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

// stopInReceive stops a thread where it waits for packets. Anywhere else it
// might have something that the other threads need.
func stopInReceive(pid, tid int) error {
	for {
		if err := unix.PtraceInterrupt(tid); err != nil {
			return fmt.Errorf("interrupt thread %d: %w", tid, err)
		}
		var ws unix.WaitStatus
		_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
		for errors.Is(err, unix.EINTR) {
			_, err = unix.Wait4(tid, &ws, unix.WALL, nil)
		}
		if err != nil || !ws.Stopped() {
			return fmt.Errorf("wait for thread %d: status %#x, %w", tid, ws, err)
		}
		pass := int(ws.StopSignal()) // one that was on its way
		if ws>>16 == unix.PTRACE_EVENT_STOP {
			call, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
			if err != nil {
				return err
			}
			if strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_RECVMMSG, " ")) {
				return nil
			}
			pass = 0
		}
		if err := unix.PtraceCont(tid, pass); err != nil {
			return fmt.Errorf("continue thread %d: %w", tid, err)
		}
	}
}

// ping tells whether a message is for the watchdog.
func ping(msg told) bool { return msg.only("WATCHDOG") && msg["WATCHDOG"] == "1" }

// While one flood worker is stuck the watchdog is told nothing, although all
// else goes on. When it goes on so do the pings, and nothing is lost.
func TestWatchdogIsNotFedWhileAWorkerIsStuck(t *testing.T) {
	t.Parallel()
	const interval = 600 * time.Millisecond
	const flows = 64 // enough for each of two workers to get some
	l := engineRaw.lab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	n.mishaps = []string{msgNotAlive}
	m := newManager(t)
	n.startAs(m.command(interval), "workers = 2", markerConfig(vs...), memberConfig([]vxlan.VNI{notifyVNI}, vs[:2]...))
	m.ready()
	for range 3 {
		m.await("a ping", ping)
	}

	thaw := n.freeze("flood/1")
	var frames [][]byte
	for i := range flows {
		d := vs[0].packet(n, notifyVNI, frame(netlab.Broadcast, i, 64))
		d.Src = netip.AddrPortFrom(vs[0].addr, uint16(50000+i))
		frames = append(frames, d.Frame(n.mac, vs[0].mac))
	}
	check(t, vs[0].Send("eth0", frames...))
	line := must(n.proc.WaitLine(within(t), says(msgNotAlive)))(t)
	if got := fields(line)["error"]; !strings.HasPrefix(got, "a flood worker is stuck for ") {
		t.Errorf("got %q, want it to name a worker", line)
	}
	if got := len(vs[1].got()); got == 0 || got == flows {
		t.Errorf("got %d of %d packets while one of two workers is stuck, want those of the other", got, flows)
	}
	m.rest()
	vs[2].agent(n).register(notifyVNI, 90, 5)
	since := time.Now()
	check(t, netlab.Wait(within(t), "several intervals to pass for a node that answers", func() bool {
		n.status()
		return time.Since(since) > 3*interval
	}))
	if got := m.rest(); slices.ContainsFunc(got, ping) {
		t.Errorf("got %v, want no ping while a worker is stuck", got)
	}

	thaw()
	m.await("a ping", ping)
	must(n.proc.WaitLine(within(t), says(msgAlive)))(t)
	vs[1].await(flows)
	vs[0].flush(n, vs[1], vs[2])
	var got, want []int
	for i, g := range vs[1].got() {
		got, want = append(got, number(g.inner)), append(want, i)
	}
	if slices.Sort(got); !slices.Equal(got, want) || len(got) != flows {
		t.Errorf("got packets %v, want each of %d once", got, flows)
	}
	m.await("a ping", ping)
}

// That a node stops is the first thing that is told of it, and the last but for
// pings, which go on until the last worker has come to its end.
func TestNotifyStop(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.idle()
			m := newManager(t)
			n.startAs(m.command(150*time.Millisecond), "workers = 2")
			m.ready()
			thaw := n.freeze("flood/0")
			check(t, n.proc.Signal(signal))
			if got := m.next(); !maps.Equal(got, told{"STOPPING": "1"}) {
				t.Errorf("got %v, want STOPPING=1 first", got)
			}
			for range 3 {
				m.await("a ping", ping)
			}
			select {
			case <-n.proc.Done():
				t.Error("vxsnd ended before its workers")
			default:
			}
			thaw()
			n.ended = append(n.ended, n.proc)
			if status := must(n.proc.Wait(within(t)))(t); status != 0 {
				t.Errorf("got status %d, want 0", status)
			}
			if got := slices.DeleteFunc(m.rest(), ping); len(got) > 0 {
				t.Errorf("got %v after STOPPING=1, want pings alone", got)
			}
		})
	}
}
