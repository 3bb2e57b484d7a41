// SPDX-License-Identifier: Apache-2.0

package e2e

// What keeps vxsnd from going into the background is said on the command's
// standard error, with the same status as in the foreground.

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

// exitUsage is the status of a program that is called in a wrong way.
const exitUsage = 2

// wantBackgroundRefusal starts a daemon that cannot be, and fails the test
// unless the command says so with a line that has all of the words, and one with
// a hint, and nothing of the daemon is left.
func (n *node) wantBackgroundRefusal(cmd *exec.Cmd, args []string, want int, words ...string) {
	n.lab.t.Helper()
	before := len(n.processes())
	status, said := n.command(cmd, args...)
	if status != want {
		n.lab.t.Errorf("%q: got status %d, want %d", args, status, want)
	}
	line, hint, _ := strings.Cut(said, "\n")
	if !strings.HasPrefix(line, "vxsnd: ") || !strings.HasPrefix(hint, "vxsnd: hint: ") || strings.Count(said, "\n") != 2 {
		n.lab.t.Errorf("%q: got %q, want a line and a hint", args, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			n.lab.t.Errorf("%q: got %q, want it to say %q", args, said, w)
		}
	}
	if got := n.processes(); len(got) != before {
		n.lab.t.Errorf("%q: got processes %v, want %d", args, got, before)
	}
}

func TestBackgroundRefused(t *testing.T) {
	t.Parallel()
	root := func(t *testing.T) *exec.Cmd { return exec.Command(program(t)) }
	raw := func(t *testing.T) *exec.Cmd { return asNobody(t, unix.CAP_NET_RAW) }
	// A file system that cannot be written to, which the command alone sees.
	sealed := func(t *testing.T) *exec.Cmd {
		cmd := exec.Command("/bin/sh", "-c", `mount -t tmpfs -o ro none closed && exec "$0" "$@"`, program(t))
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		return cmd
	}
	tests := []struct {
		name   string
		as     func(t *testing.T) *exec.Cmd
		args   []string
		config string
		status int
		words  []string
	}{
		{name: "port that is none, flag", as: root, args: []string{"--vxfld-port=70000"}, status: exitUsage,
			words: []string{"--vxfld-port: 70000", "1..65535"}},
		{name: "port that is none", as: root, config: "vxfld_port = 70000", status: exitConfig,
			words: []string{"vxsnd.conf:1: vxfld_port: 70000", "1..65535"}},
		{name: "privileged port", as: raw, config: "vxfld_port = 100", status: exitBind,
			words: []string{"0.0.0.0:100: ", "CAP_NET_BIND_SERVICE"}},
		{name: "privileged data port", as: raw, config: "vxlan_listen_port = 100", status: exitBind,
			words: []string{"0.0.0.0:100: ", "CAP_NET_BIND_SERVICE"}},
		{name: "no privilege to flood", as: func(t *testing.T) *exec.Cmd { return asNobody(t) }, status: exitBind,
			words: []string{"CAP_NET_RAW", "-R"}},
		{name: "vrf that is not there", as: root, config: "vrf = blue", status: exitBind, words: []string{"blue"}},
		{name: "user that is not there", as: root, config: "user = no-such-user", status: exitConfig, words: []string{"no-such-user", "user"}},
		{name: "missing file", as: root, args: []string{"-c", "missing.conf"}, status: exitConfig, words: []string{"missing.conf: no such file"}},
		{name: "unreadable file", as: raw, args: []string{"-c", "secret.conf"}, status: exitConfig, words: []string{"secret.conf: permission denied"}},
		{name: "pid file is a directory", as: root, args: []string{"-p", "closed"}, status: exitConfig, words: []string{"closed: is a directory", "(pidfile)"}},
		{name: "pid file in no directory", as: root, args: []string{"-p", "none/pid"}, status: exitConfig, words: []string{"none/pid: no such file", "(pidfile)"}},
		{name: "pid file in a directory of root's", as: raw, args: []string{"-p", "closed/pid"}, status: exitBind, words: []string{"closed/pid: permission denied", "(pidfile)"}},
		{name: "pid file on a sealed file system", as: sealed, args: []string{"-p", "closed/pid"}, status: exitConfig, words: []string{"closed/pid: read-only file system", "can be written"}},
		{name: "pid file is a link", as: root, args: []string{"-p", "link"}, status: exitConfig, words: []string{"link: is a symbolic link"}},
		{name: "log is a directory", as: root, args: []string{"-l", "./closed"}, status: exitConfig, words: []string{"closed: is a directory", "(logdest)"}},
		{name: "log in a directory of root's", as: raw, args: []string{"-l", "closed/log"}, status: exitBind, words: []string{"closed/log: permission denied", "(logdest)"}},
		{name: "log on a sealed file system", as: sealed, args: []string{"-l", "closed/log"}, status: exitConfig, words: []string{"closed/log: read-only file system", "can be written"}},
		{name: "socket in a directory of root's", as: raw, args: []string{"-u", "closed/sock"}, status: exitBind, words: []string{"closed/sock: ", "permission denied", "(udsfile)"}},
		{name: "socket is a directory", as: root, args: []string{"-u", "closed"}, status: exitBind, words: []string{"closed: ", "(udsfile)"}},
		{name: "socket of another program", as: root, args: []string{"-u", "other.sock"}, status: exitBind,
			words: []string{"other.sock: ", fmt.Sprint(os.Getpid()), "(udsfile)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n, _ := l.backgroundNode()
			n.configure(tt.config)
			check(t, os.Mkdir(n.file("closed"), 0o755))
			check(t, os.WriteFile(n.file("secret.conf"), nil, 0o600))
			check(t, os.Symlink("target", n.file("link")))
			other := must(net.ListenUnix("unix", &net.UnixAddr{Name: n.file("other.sock"), Net: "unix"}))(t)
			t.Cleanup(func() { other.Close() })
			n.wantBackgroundRefusal(tt.as(t), tt.args, tt.status, tt.words...)
			n.wantFiles(false, "vxsnd.pid", "vxsnd.sock", "closed/pid", "closed/log", "closed/sock", "target")
			n.wantFiles(true, "other.sock", "link", "closed", "vxsnd.conf")
		})
	}
}

// What holds a port is not ours to name for sure; the likely ones are named, and
// how to find out.
func TestBackgroundBusyPort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		occupy func(n *node)
		port   int
	}{
		{"kernel VXLAN device", func(n *node) { check(n.lab.t, n.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 1, Local: n.addr})) }, dataPort},
		{"program at the data port", func(n *node) { n.listen(dataPort) }, dataPort},
		{"program at the registration port", func(n *node) { n.listen(ctlPort) }, ctlPort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, _ := newLab(t, 0).backgroundNode()
			tt.occupy(n)
			n.wantBackgroundRefusal(exec.Command(program(t)), nil, exitBind,
				fmt.Sprintf("0.0.0.0:%d: ", tt.port), "address already in use", "another vxsnd", "kernel VXLAN device", "ss -ulnp")
			n.wantFiles(false, "vxsnd.pid", "vxsnd.sock")
		})
	}
}

// A second daemon is refused by the pid file of the first, which it names, or by
// the registration address, and the first goes on.
func TestBackgroundSecondInstance(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode()
	b := n.background(exec.Command(program(t)))
	apart := []string{"-p", "second.pid", "-u", "second.sock", "-l", "second.log"}
	ports := []string{"--vxfld-port=10002", "--vxlan-listen-port=4790"}
	running := fmt.Sprintf("vxsnd.pid: another instance is running with pid %d\n", b.pid)
	for _, tt := range []struct {
		args  []string
		words []string
	}{
		{nil, []string{running}},
		{slices.Concat(apart[2:], ports), []string{running}},
		{apart, []string{"0.0.0.0:10001: ", "address already in use", "another vxsnd"}},
		{slices.Concat(apart, []string{"-R"}), []string{"0.0.0.0:10001: ", "address already in use"}},
		{slices.Concat(apart, []string{"--svcnode-ip=" + nodeAddr, "--src-ip=" + nodeAddr, "--install-svcnode-ip=no"}), []string{nodeAddr + ":10001: "}},
		{slices.Concat(apart, ports[:1]), []string{"0.0.0.0:4789: ", "address already in use", "another vxsnd"}},
		{slices.Concat(apart[:2], apart[4:], ports), []string{"vxsnd.sock: ", fmt.Sprintf("process %d ", b.pid)}},
	} {
		n.wantBackgroundRefusal(exec.Command(program(t)), tt.args, exitBind, tt.words...)
		n.wantFiles(false, "second.pid", "second.sock")
		n.wantFiles(true, "vxsnd.pid", "vxsnd.sock")
	}
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	// One that shares nothing is no second instance.
	second := n.begin(exec.Command(program(t)), slices.Concat(apart, ports)...)
	if status := must(second.Wait(within(t)))(t); status != 0 {
		t.Errorf("got status %d and %q, want 0", status, second.Output())
	}
	n.daemon("second.pid").end(unix.SIGTERM)
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	b.end(unix.SIGTERM)
}

// A user without privileges but CAP_NET_RAW floods from the background too.
func TestBackgroundAsUser(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).backgroundNode()
	b := n.background(asNobody(t, unix.CAP_NET_RAW))
	if got, want := b.status("CapPrm"), fmt.Sprintf("%016x", 1<<unix.CAP_NET_RAW); got != want {
		t.Errorf("got capabilities %s, want %s", got, want)
	}
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	b.end(unix.SIGTERM)
	n.wantFiles(false, "vxsnd.pid", "vxsnd.sock")
}
