// SPDX-License-Identifier: Apache-2.0

package e2e

// The end of a daemon in the background, and what it leaves to the next one.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// What a daemon leaves behind that had no time to clean up, or has no right to
// any more, is no hindrance.
func TestBackgroundRestarts(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode()
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGSEGV, unix.SIGINT} {
		b := n.background(exec.Command(program(t)))
		wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
		b.end(signal)
		killed := signal == unix.SIGKILL || signal == unix.SIGSEGV
		n.wantFiles(killed, "vxsnd.pid", "vxsnd.sock")
		if text := n.text("vxsnd.pid")(); killed && text != fmt.Sprintln(b.pid) {
			t.Errorf("got pid file %q, want %d left in it", text, b.pid)
		}
	}
	if got := with(lines(n.text("vxsnd.log")()), "stopped"); len(got) != 2 {
		t.Errorf("got %d clean stops logged, want 2: %q", len(got), got)
	}
}

// A daemon that became another user cannot remove files from a directory of
// root's: the pid file is empty then.
func TestBackgroundFilesInDirectoryOfRoot(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode("user = 64321", "group = 64321")
	check(t, os.Mkdir(n.file("run"), 0o755))
	check(t, os.Symlink("run/vxsnd.sock", n.file("vxsnd.sock"))) // where status looks for it
	for range 2 {
		status, said := n.command(exec.Command(program(t)), "-p", "run/vxsnd.pid", "-u", "run/vxsnd.sock")
		if status != 0 || said != "" {
			t.Fatalf("got status %d and %q, want 0 and silence", status, said)
		}
		b := n.daemon("run/vxsnd.pid")
		if got, want := b.status("Uid"), strings.Repeat("64321\t", 4); got+"\t" != want {
			t.Errorf("got user %q, want %q", got, want)
		}
		if s := n.status(); s.PID != b.pid {
			t.Errorf("got status %+v, want that of %d", s, b.pid)
		}
		wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
		b.end(unix.SIGTERM)
		if text := n.text("run/vxsnd.pid")(); text != "" {
			t.Errorf("got pid file %q, want it empty", text)
		}
	}
	if log := lines(n.text("vxsnd.log")()); len(with(log, "stopped")) != 2 || slices.Contains(values(log, "level"), "error") {
		t.Errorf("got log %q, want two clean stops", log)
	}
}

// A signal to the command that waits is one to the daemon: while that reads its
// configuration, it has nothing to clean up.
func TestBackgroundStopWhileItReadsItsConfiguration(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			t.Parallel()
			n, _ := newLab(t, 0).backgroundNode()
			check(t, os.Remove(n.file("vxsnd.conf")))
			check(t, unix.Mkfifo(n.file("vxsnd.conf"), 0o644))
			p := n.begin(exec.Command(program(t)))
			// The command reads it to the end; the daemon gets nothing to read.
			check(t, netlab.Wait(within(t), "the command to read", func() bool {
				w, err := os.OpenFile(n.file("vxsnd.conf"), os.O_WRONLY|unix.O_NONBLOCK, 0)
				if err == nil {
					err = w.Close()
				}
				return err == nil
			}))
			check(t, netlab.Wait(within(t), "the daemon", func() bool { return len(n.processes()) == 2 }))
			check(t, p.Signal(signal))
			if status := must(p.Wait(within(t)))(t); status != 1 {
				t.Errorf("got status %d, want 1", status)
			}
			want := "vxsnd: daemon ended before it was ready (killed by signal " + unix.SignalName(signal) + ")\n"
			if got := p.Output(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			n.wantFiles(false, "vxsnd.pid", "vxsnd.sock", "vxsnd.log")
		})
	}
}

// Told to stop while it makes itself ready, a daemon removes its pid file. The
// command says so, unless the daemon was ready before.
func TestBackgroundStopWhileItStarts(t *testing.T) {
	t.Parallel()
	n, _ := newLab(t, 0).backgroundNode()
	// Many members take a while, after the pid file is written.
	var config strings.Builder
	config.WriteString("[vxsnd]\n")
	for i := range 500 {
		fmt.Fprintf(&config, "vtep_membership = 10.%d.%d.1", i/256, i%256)
		for vni := range 100 {
			fmt.Fprintf(&config, " %d", vni+1)
		}
		config.WriteByte('\n')
	}
	n.configure(config.String())
	caught := false
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		p := n.begin(exec.Command(program(t)))
		var text string
		check(t, netlab.Wait(within(t), "the pid file", func() bool {
			text = n.text("vxsnd.pid")()
			return strings.HasSuffix(text, "\n")
		}))
		n.daemon("vxsnd.pid").end(signal)
		status, said := must(p.Wait(within(t)))(t), p.Output()
		early := status == 1 && said == "vxsnd: daemon ended before it was ready (exit status 0)\n"
		if !early && (status != 0 || said != "") {
			t.Errorf("got status %d and %q, want 0 and silence, or 1 and that the daemon has ended", status, said)
		}
		caught = caught || early
		n.wantFiles(false, "vxsnd.pid", "vxsnd.sock")
	}
	if !caught {
		t.Error("got a daemon that was ready before each signal, want one that was not")
	}
	if log := lines(n.text("vxsnd.log")()); slices.Contains(values(log, "level"), "error") {
		t.Errorf("got log %q, want no error", log)
	}
	if got := n.processes(); len(got) > 0 {
		t.Errorf("got processes %v left, want none", got)
	}
}

// In the foreground a pid file is kept where one is named.
func TestForegroundPIDFile(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode()
	first := *n
	pidfile := n.file("vxsnd.pid") // each launch has a directory of its own
	config := []string{"workers = 1", markerConfig(vs...), "pidfile = " + pidfile}
	first.start(config...)
	b := n.daemon("vxsnd.pid")
	if b.pid != first.proc.PID() {
		t.Errorf("got pid file of %d, want %d", b.pid, first.proc.PID())
	}
	second := n.launch(exec.Command(program(t)), config...)
	wantRefusal(t, second, "another instance is running with pid "+fmt.Sprint(b.pid))
	wantMember(t, &first, vs[0], vs[1], backgroundVNI, false)
	first.stop()
	if _, err := os.Lstat(pidfile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want no pid file left", err)
	}
}
