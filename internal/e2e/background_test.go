// SPDX-License-Identifier: Apache-2.0

package e2e

// vxsnd in the background: the command returns when the node floods, and leaves
// behind a daemon that has nothing in common with it any more.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const backgroundVNI vxlan.VNI = 80

// backgroundFlags name all files relative to the node's directory, from where
// the command is started. What a test names after them wins.
var backgroundFlags = []string{"-d", "-c", "vxsnd.conf", "-p", "vxsnd.pid", "-u", "vxsnd.sock", "-l", "vxsnd.log", "-L", "debug"}

// backgroundNode adds a node with two VTEPs that are members of backgroundVNI,
// and a configuration. Nothing runs yet.
func (l *lab) backgroundNode(config ...string) (n *node, vs []*machine) {
	l.t.Helper()
	n, vs = l.idle(), l.vteps(2)
	n.dir = must(os.MkdirTemp(binaryDir, "node-"))(l.t)
	check(l.t, os.Chmod(n.dir, 0o777))
	n.configure(append(config, "[vxsnd]", "workers = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{backgroundVNI}, vs...))...)
	l.t.Cleanup(func() {
		for _, pid := range n.processes() {
			check(l.t, ignore(unix.Kill(pid, unix.SIGKILL), unix.ESRCH))
		}
		if l.t.Failed() {
			l.t.Logf("log of %s:\n%s", n.Name, tail(n.text("vxsnd.log")()))
		}
	})
	return n, vs
}

// ignore drops an error that does not matter.
func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// processes returns all processes in the node's namespace, those that left no
// other trace among them.
func (n *node) processes() (pids []int) {
	n.lab.t.Helper()
	var space string
	check(n.lab.t, n.Do(func() (err error) {
		space, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	for _, name := range must(filepath.Glob("/proc/[0-9]*/ns/net"))(n.lab.t) {
		pid := must(strconv.Atoi(strings.Split(name, "/")[2]))(n.lab.t)
		// One that has ended meanwhile, or is not reaped yet, is in no namespace.
		if s, err := os.Readlink(name); err == nil && s == space && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// command runs a command that starts a daemon, in the node's directory, and
// returns its status and what it said. It is an error if the daemon holds on to
// the command's output.
func (n *node) command(cmd *exec.Cmd, args ...string) (status int, said string) {
	n.lab.t.Helper()
	p := n.begin(cmd, args...)
	status = must(p.Wait(within(n.lab.t)))(n.lab.t)
	return status, p.Output()
}

func (n *node) begin(cmd *exec.Cmd, args ...string) *netlab.Process {
	n.lab.t.Helper()
	cmd.Dir = n.dir
	cmd.Args = slices.Concat(cmd.Args, backgroundFlags, args)
	return must(n.Start(cmd))(n.lab.t)
}

// A background is a daemon in the background.
type background struct {
	t   *testing.T
	pid int
	fd  int // a pidfd, since pid may become another's
}

// background starts a daemon, which must get ready without a word, and finds it
// by its pid file.
func (n *node) background(cmd *exec.Cmd, args ...string) *background {
	n.lab.t.Helper()
	if status, said := n.command(cmd, args...); status != 0 || said != "" {
		n.lab.t.Fatalf("got status %d and %q, want 0 and silence", status, said)
	}
	return n.daemon("vxsnd.pid")
}

// daemon returns the daemon that a pid file names.
func (n *node) daemon(pidfile string) *background {
	n.lab.t.Helper()
	text := n.text(pidfile)()
	pid := must(strconv.Atoi(strings.TrimSuffix(text, "\n")))(n.lab.t)
	if got := n.processes(); !slices.Contains(got, pid) {
		n.lab.t.Fatalf("got pid file %q, want the daemon's among %v", text, got)
	}
	return watch(n.lab.t, pid)
}

// watch returns a process as a daemon.
func watch(t *testing.T, pid int) *background {
	t.Helper()
	b := &background{t, pid, must(unix.PidfdOpen(pid, 0))(t)}
	t.Cleanup(func() { unix.Close(b.fd) })
	return b
}

func (b *background) signal(s unix.Signal) {
	b.t.Helper()
	check(b.t, unix.PidfdSendSignal(b.fd, s, nil, 0))
}

// runs tells whether the daemon has not ended yet.
func (b *background) runs() bool {
	b.t.Helper()
	// A pidfd is readable once the process has ended: pidfd_open(2).
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLIN}}, 0)
	check(b.t, ignore(err, unix.EINTR))
	return n <= 0
}

// end ends the daemon with a signal.
func (b *background) end(s unix.Signal) {
	b.t.Helper()
	b.signal(s)
	check(b.t, netlab.Wait(within(b.t), "the daemon's end", func() bool { return !b.runs() }))
}

// status returns a value of /proc/PID/status.
func (b *background) status(name string) string {
	b.t.Helper()
	text := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid)))(b.t)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	b.t.Fatalf("got no %s in status", name)
	return ""
}

// wantFiles fails the test unless exactly those of the names exist in the node's
// directory that are wanted.
func (n *node) wantFiles(want bool, names ...string) {
	n.lab.t.Helper()
	for _, name := range names {
		_, err := os.Lstat(n.file(name))
		check(n.lab.t, ignore(err, os.ErrNotExist))
		if got := err == nil; got != want {
			n.lab.t.Errorf("%s: got it there: %v, want %v", name, got, want)
		}
	}
}

// terminal returns the slave side of a terminal, and what hangs it up.
func terminal(t *testing.T) (slave *os.File, hangup func() error) {
	t.Helper()
	master := must(os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0))(t)
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	check(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number := must(unix.IoctlGetInt(fd, unix.TIOCGPTN))(t)
	slave = must(os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0))(t)
	t.Cleanup(func() { slave.Close() })
	return slave, master.Close
}

// Started from a terminal, by a script that has a pipe open and a service
// manager's variables in its environment, under either name.
func TestBackground(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"vxsnd", "flooder"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, vs := newLab(t, 0).backgroundNode()
			manager := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.file("manager"), Net: "unixgram"}))(t)
			t.Cleanup(func() { manager.Close() })
			slave, hangup := terminal(t)
			reader, writer, err := os.Pipe()
			check(t, err)
			defer reader.Close()
			defer writer.Close()
			check(t, os.Symlink(program(t), n.file(name)))

			cmd := exec.Command(n.file(name))
			cmd.Args[0] = name // as a shell does it that found it by PATH
			cmd.Stdin = slave
			cmd.ExtraFiles = []*os.File{writer, writer} // descriptors 3 and 4
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+n.file("manager"), "WATCHDOG_USEC=1000", "_GO_DAEMON=1", "_DETACHED_FROM=@", "KEPT=yes")
			b := n.background(cmd)
			// At this moment, not some time later.
			vs[0].flood(n, backgroundVNI, frame(netlab.Broadcast, 1, 64))
			vs[1].await(1)
			if s := n.status(); !s.Ready || s.PID != b.pid {
				t.Errorf("got status %+v, want that of %d, ready", s, b.pid)
			}
			wantMember(t, n, vs[0], vs[1], backgroundVNI, true)

			b.wantDetached(append([]string{name}, backgroundFlags...))
			for file, mode := range map[string]os.FileMode{"vxsnd.pid": 0o600, "vxsnd.log": 0o640, "vxsnd.sock": os.ModeSocket | 0o660} {
				if got := must(os.Lstat(n.file(file)))(t).Mode(); got != mode {
					t.Errorf("%s: got mode %v, want %v", file, got, mode)
				}
			}
			// What the script holds open the daemon does not.
			check(t, writer.Close())
			check(t, reader.SetReadDeadline(time.Now().Add(patience)))
			if got, err := reader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("got %d, %v from the inherited pipe, want its end", got, err)
			}
			check(t, slave.Close())
			check(t, hangup())
			wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
			b.end(unix.SIGTERM)
			n.wantFiles(false, "vxsnd.pid", "vxsnd.sock")
			log := lines(n.text("vxsnd.log")())
			if len(with(log, "stopped")) != 1 || len(with(log, msgReloaded, msgKept)) > 0 || slices.Contains(values(log, "level"), "error") {
				t.Errorf("got log %q, want a clean stop and no reload", log)
			}
			check(t, manager.SetReadDeadline(time.Unix(1, 0)))
			if got, err := manager.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got a message of %d bytes (%v) for the service manager of the command, want none", got, err)
			}
		})
	}
}

// wantDetached fails the test unless the process is a daemon, called with args.
func (b *background) wantDetached(args []string) {
	b.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", b.pid)
	if got := must(os.Readlink(dir + "cwd"))(b.t); got != "/" {
		b.t.Errorf("got directory %s, want /", got)
	}
	if got := b.status("Umask"); got != "0027" {
		b.t.Errorf("got umask %s, want 0027", got)
	}
	for fd := range 3 {
		if got := must(os.Readlink(fmt.Sprint(dir, "fd/", fd)))(b.t); got != os.DevNull {
			b.t.Errorf("got descriptor %d open to %s, want %s", fd, got, os.DevNull)
		}
	}
	stat := string(must(os.ReadFile(dir + "stat"))(b.t))
	// Behind the name: state, parent, process group, session, terminal.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if pid := strconv.Itoa(b.pid); f[2] != pid || f[3] != pid || f[4] != "0" {
		b.t.Errorf("got group %s, session %s and terminal %s, want %s, %s, 0", f[2], f[3], f[4], pid, pid)
	}
	split := func(name string) []string {
		return strings.Split(strings.TrimSuffix(string(must(os.ReadFile(dir+name))(b.t)), "\x00"), "\x00")
	}
	if got := split("cmdline"); !slices.Equal(got, args) {
		b.t.Errorf("got command line %q, want %q", got, args)
	}
	// This is the environment that the daemon was started with, so it has the
	// mechanism's part, which the daemon has cleared.
	kept := false
	for _, v := range split("environ") {
		name, value, _ := strings.Cut(v, "=")
		if name == "WATCHDOG_USEC" || name == "NOTIFY_SOCKET" && !strings.HasPrefix(value, "@") {
			b.t.Errorf("got %s in the environment, want the service manager's taken out", v)
		}
		kept = kept || v == "KEPT=yes"
	}
	if !kept {
		b.t.Error("got an environment without KEPT, want the command's")
	}
}

// Names in the configuration begin at the directory of the command too, also
// when they are read again.
func TestBackgroundRelativeNamesInConfiguration(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n, vs := l.backgroundNode()
	check(t, os.Mkdir(n.file("run"), 0o755))
	files := []string{"[common]", "pidfile = run/vxsnd.pid", "udsfile = ./vxsnd.sock", "logdest = run/log"}
	config := []string{"[vxsnd]", "workers = 1", markerConfig(vs...), "learning = off"}
	n.configure(append(files, config...)...)
	cmd := exec.Command(program(t), "-d", "-c", "../"+filepath.Base(n.dir)+"/vxsnd.conf")
	cmd.Dir = n.dir
	p := must(n.Start(cmd))(t)
	if status := must(p.Wait(within(t)))(t); status != 0 || p.Output() != "" {
		t.Fatalf("got status %d and %q, want 0 and silence", status, p.Output())
	}
	b := n.daemon("run/vxsnd.pid")
	if s := n.status(); s.PID != b.pid {
		t.Errorf("got status %+v, want that of %d", s, b.pid)
	}
	wantMember(t, n, vs[0], vs[1], backgroundVNI, false)

	// As logrotate does it.
	check(t, os.Rename(n.file("run/log"), n.file("run/log.1")))
	n.configure(slices.Concat(files, config, []string{memberConfig([]vxlan.VNI{backgroundVNI}, vs[1])})...)
	b.signal(unix.SIGHUP)
	err := netlab.Wait(within(t), "the reload", func() bool {
		return len(with(lines(n.text("run/log")()), msgReloaded)) == 1
	})
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, n.text("run/log.1")())
	}
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	b.end(unix.SIGTERM)
	n.wantFiles(false, "run/vxsnd.pid", "vxsnd.sock")
}

// Of many commands at once one becomes the daemon.
func TestBackgroundManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		t.Run(fmt.Sprintf("same pid file: %v", same), func(t *testing.T) {
			t.Parallel()
			n, vs := newLab(t, 0).backgroundNode()
			const commands = 5
			var ps []*netlab.Process
			for i := range commands {
				var args []string
				if !same {
					name := "vxsnd" + strconv.Itoa(i)
					args = []string{"-p", name + ".pid", "-l", name + ".log"}
				}
				ps = append(ps, n.begin(exec.Command(program(t)), args...))
			}
			winner := -1
			for i, p := range ps {
				status, said := must(p.Wait(within(t)))(t), p.Output()
				switch {
				case status == 0 && winner < 0:
					winner = i
				case status != exitBind:
					t.Errorf("got status %d and %q, want %d from all but one", status, said, exitBind)
				case same && !strings.Contains(said, "another instance is running"):
					t.Errorf("got %q, want it to say that another instance is running", said)
				case !same && !strings.Contains(said, "0.0.0.0:10001: "):
					t.Errorf("got %q, want it to name the registration address", said)
				}
			}
			if winner < 0 {
				t.Fatal("got no daemon, want one")
			}
			if got := n.processes(); len(got) != 1 {
				t.Errorf("got processes %v, want one", got)
			}
			wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
			pidfile := "vxsnd.pid"
			if !same {
				pidfile = fmt.Sprintf("vxsnd%d.pid", winner)
			}
			n.daemon(pidfile).end(unix.SIGTERM)
			if left := must(filepath.Glob(n.file("*.pid")))(t); len(left) > 0 {
				t.Errorf("got %v left, want no pid file", left)
			}
		})
	}
}
