// SPDX-License-Identifier: Apache-2.0

package e2e

// Files of a node that root starts and that goes on as another user: whose they
// are, and what becomes of them.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const msgCannotRotate = "log file cannot be rotated: keep it in a directory of that user's"

// wantOwner fails the test unless a file is this user's and group's, with these
// permissions.
func wantOwner(t *testing.T, name string, uid, gid uint32, mode os.FileMode) {
	t.Helper()
	info := must(os.Lstat(name))(t)
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != uid || st.Gid != gid || info.Mode().Perm() != mode {
		t.Errorf("%s: got user %d, group %d, mode %v, want %d, %d, %v", name, st.Uid, st.Gid, info.Mode().Perm(), uid, gid, mode)
	}
}

// directory makes a directory of a user and a group.
func directory(t *testing.T, uid, gid int) (name string) {
	t.Helper()
	name = must(os.MkdirTemp(binaryDir, "files-"))(t)
	check(t, os.Chmod(name, 0o755))
	check(t, os.Chown(name, uid, gid))
	return name
}

// startLogging starts a node that logs to a file and becomes another user, and
// waits until it is ready.
func (n *node) startLogging(log string, config ...string) *manager {
	n.lab.t.Helper()
	n.logFlags = []string{"-l", log, "-L", "debug"}
	m := newManager(n.lab.t)
	n.proc = n.launch(m.command(0), append(config, becomes, "workers = 1")...)
	m.ready()
	return m
}

// summarize has the node write a summary to the log, a few hundred bytes, and
// waits until some of it is there.
func (n *node) summarize(log string) {
	n.lab.t.Helper()
	var before os.FileInfo
	check(n.lab.t, netlab.Wait(within(n.lab.t), log, func() bool {
		var err error
		before, err = os.Stat(log) // it has no file in the midst of a rotation
		return err == nil
	}))
	n.signal(syscall.SIGUSR1)
	check(n.lab.t, netlab.Wait(within(n.lab.t), "a summary", func() bool {
		now, err := os.Stat(log)
		return err == nil && (now.Size() != before.Size() || !os.SameFile(now, before))
	}))
}

// awaitLine waits until a file has a line with this message, and returns it.
func awaitLine(t *testing.T, name, msg string) (got map[string]string) {
	t.Helper()
	check(t, netlab.Wait(within(t), "a line "+msg+" in "+name, func() bool {
		b, err := os.ReadFile(name)
		if found := with(lines(string(b)), msg); err == nil && len(found) > 0 {
			got = found[0]
		}
		return got != nil
	}))
	return got
}

// In a directory of the user's the log is rotated and opened anew as root would
// do it. The pid file stays root's, and says nothing in the end.
func TestFilesAreTheUsers(t *testing.T) {
	t.Parallel()
	own, roots := directory(t, otherUser, otherGroup), directory(t, 0, 0)
	log, pid := filepath.Join(own, "vxsnd.log"), filepath.Join(roots, "vxsnd.pid")
	l := newLab(t, 0)
	vs := l.vteps(2)
	base := []string{"pidfile = " + pid, "logbackupcount = 2", markerConfig(vs...)}
	n := l.idle()
	m := n.startLogging(log, append(base, "logfilesize = 3000")...)
	wantOwner(t, log, otherUser, otherGroup, 0o640)
	wantOwner(t, n.file("vxsnd.sock"), otherUser, otherGroup, 0o660)
	wantOwner(t, pid, 0, 0, 0o600)

	// What was begun by root is what is rotated first.
	older := log + ".1.gz"
	check(t, netlab.Wait(within(t), older, func() bool {
		n.summarize(log)
		_, err := os.Stat(older)
		return err == nil
	}))
	wantOwner(t, older, otherUser, otherGroup, 0o640)

	// As logrotate does it, and with another configuration.
	check(t, os.Rename(log, log+".moved"))
	n.configure(append(base, "workers = 1", becomes, "logfilesize = 0", memberConfig([]vxlan.VNI{privilegeVNI}, vs[1]))...)
	n.signal(syscall.SIGHUP)
	m.next()
	m.ready()
	awaitLine(t, log, msgReloaded)
	wantOwner(t, log, otherUser, otherGroup, 0o640)
	wantMember(t, n, vs[0], vs[1], privilegeVNI, true)

	if status := n.end(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
	if b := must(os.ReadFile(pid))(t); len(b) > 0 {
		t.Errorf("got pid file %q, want it empty", b)
	}
	if _, err := os.Lstat(n.file("vxsnd.sock")); !os.IsNotExist(err) {
		t.Errorf("got %v, want no socket any more", err)
	}
	for _, name := range must(filepath.Glob(filepath.Join(own, "*")))(t) {
		var r io.Reader = must(os.Open(name))(t)
		if strings.HasSuffix(name, ".gz") {
			r = must(gzip.NewReader(r))(t)
		}
		for _, line := range lines(string(must(io.ReadAll(r))(t))) {
			if slices.Contains([]string{"warning", "error"}, line["level"]) && line["check"] == "" {
				t.Errorf("%s: got %q, want no complaint", name, line)
			}
		}
	}
}

// In a directory of root's the log can neither be rotated nor be opened anew.
// That is said at the start, and the log goes on in the file that is open.
func TestLogInADirectoryOfRoots(t *testing.T) {
	t.Parallel()
	const size = 3000 // as in the configuration
	roots := directory(t, 0, 0)
	log := filepath.Join(roots, "vxsnd.log")
	l := newLab(t, 0)
	n := l.idle()
	m := n.startLogging(log, "logfilesize = 3000")
	if got := awaitLine(t, log, msgCannotRotate); got["level"] != "warning" || !strings.Contains(got["error"], roots) {
		t.Errorf("got %q, want a warning that names %s", got, roots)
	}
	for must(os.Stat(log))(t).Size() <= 2*size {
		n.summarize(log)
	}
	awaitLine(t, log, "log file not rotated")

	check(t, os.Rename(log, log+".moved"))
	n.signal(syscall.SIGHUP)
	m.next()
	m.ready()
	awaitLine(t, log+".moved", "log file not opened anew")
	awaitLine(t, log+".moved", msgReloaded)
	if names := must(filepath.Glob(filepath.Join(roots, "*")))(t); len(names) != 1 {
		t.Errorf("got files %v, want the log alone", names)
	}
	// Made for the user, it is taken.
	check(t, os.WriteFile(log, nil, 0o640))
	check(t, os.Chown(log, otherUser, otherGroup))
	n.signal(syscall.SIGHUP)
	m.next()
	m.ready()
	awaitLine(t, log, msgReloaded)
	if status := n.end(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
	awaitLine(t, log, "stopped")
}

// A configuration that only root may read is said at the start to be in the way
// of reloads, and it is.
func TestConfigurationThatTheUserCannotRead(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	base := []string{"workers = 1", becomes, markerConfig(vs...)}
	n := l.idle()
	n.startAs(exec.Command("sh", "-c", `chmod 600 "$2" && exec "$0" "$@"`, program(t)), base...) // $2 is behind -c
	line := must(n.proc.WaitLine(within(t), says("configuration file cannot be read any more: a reload will fail")))(t)
	if f := fields(line); f["level"] != "warning" || !strings.Contains(f["error"], n.file("vxsnd.conf")) {
		t.Errorf("got %q, want a warning that names the file", line)
	}
	if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], n.file("vxsnd.conf")) || !strings.Contains(got[0], "permission denied") {
		t.Errorf("got a reload refused by %q, want it by the file", got)
	}
	wantMember(t, n, vs[0], vs[1], markerVNI-1, false)
	n.reload(append(base, memberConfig([]vxlan.VNI{privilegeVNI}, vs[1]))...) // for everybody to read
	wantMember(t, n, vs[0], vs[1], privilegeVNI, true)
}
