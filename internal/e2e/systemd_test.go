// SPDX-License-Identifier: Apache-2.0

package e2e

// What make install puts down, run by a systemd of its own in user-mode Linux,
// as an operator would have it, sandbox and all.
//
//	node 192.0.2.254: vxsnd.service
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
	"vxsnd/internal/vxlan"
)

const (
	unitConfig  = "/etc/vxsnd.conf"
	unitDropIns = "/etc/systemd/system/vxsnd.service.d"
	unitPIDFile = "/run/vxsnd/vxsnd.pid"
	unitVNI     = vxlan.VNI(75)
)

func TestUnitRuns(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if !uml.Inside() {
		must(systemd(t, "systemctl", "--version"))(t)
		inUML(t, "systemd", nil, uml.Program{Modules: []string{"vxlan", "veth", "bridge", "sch_ingress", "cls_bpf"}, Systemd: true})
		return
	}
	awaitSystemd(t)
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	n.dir = "/run/vxsnd" // has the socket

	netns := nameNamespace(t, n.machine)
	rmemMax(t, 8<<20) // as much as receive_queue

	installTo(t, "")
	configure := func(t *testing.T, lines ...string) {
		t.Helper()
		lines = append(lines, "workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{unitVNI}, vs...))
		check(t, os.WriteFile(unitConfig, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
	configure(t)
	check(t, os.Mkdir(unitDropIns, 0o755))
	check(t, os.WriteFile(unitDropIns+"/lab.conf", []byte("[Service]\nNetworkNamespacePath="+netns+"\n"), 0o644))
	must(systemd(t, "systemd-sysusers", "/usr/local/lib/sysusers.d/vxsnd.conf"))(t)
	systemctl(t, "daemon-reload")
	floods := func(t *testing.T) {
		t.Helper()
		wantMember(t, n, vs[0], vs[1], unitVNI, true)
	}

	t.Run("start", func(t *testing.T) {
		systemctl(t, "start", "vxsnd")
		floods(t)
		vs[1].forget()
		large := frame(netlab.Broadcast, 2, 5000)
		vs[0].floodLarge(n, unitVNI, large)
		vs[1].await(1) // the VTEP looks for the node's Ethernet address first
		wantCopies(t, vs[1], sent{src: vs[0].packet(n, unitVNI, large).Src, ttl: 64, vni: unitVNI, inner: large})
		wantThreads(t, 1<<unix.CAP_NET_RAW, 1<<unix.CAP_NET_RAW)
		wantConfined(t)
		wantProperties(t, "ActiveState=active", "StatusText=.+", "NRestarts=0")
		wantNoWarning(t)
	})
	t.Run("files", func(t *testing.T) {
		for name, mode := range map[string]os.FileMode{
			"/run/vxsnd":            os.ModeDir | 0o750,
			unitPIDFile:             0o600,
			"/run/vxsnd/vxsnd.sock": os.ModeSocket | 0o660,
			"/var/log/vxsnd":        os.ModeDir | 0o750,
			"/var/lib/vxsnd":        os.ModeDir | 0o750,
		} {
			info := must(os.Stat(name))(t)
			owner := must(exec.Command("stat", "-c", "%U:%G", name).Output())(t)
			if got := strings.TrimSpace(string(owner)); info.Mode() != mode || got != "vxsnd:vxsnd" {
				t.Errorf("%s: got %v of %s, want %v of vxsnd:vxsnd", name, info.Mode(), got, mode)
			}
		}
		must(systemd(t, "/usr/local/sbin/vxsndctl", "show"))(t)
	})
	t.Run("reload", func(t *testing.T) {
		pid := mainPID(t)
		configure(t, "loglevel = debug")
		systemctl(t, "reload", "vxsnd")
		configure(t, "loglevel = nonsense")
		if out, err := systemd(t, "systemctl", "reload", "vxsnd"); err == nil {
			t.Errorf("reload with a wrong configuration: got success, want a failure: %s", out)
		}
		floods(t)
		wantProperties(t, "ActiveState=active", fmt.Sprintf("MainPID=%d", pid), "NRestarts=0")
	})
	t.Run("stop", func(t *testing.T) {
		configure(t)
		systemctl(t, "stop", "vxsnd")
		wantProperties(t, "ActiveState=inactive", "Result=success", "ExecMainStatus=0")
		if _, err := os.Stat("/run/vxsnd"); err == nil {
			t.Error("/run/vxsnd is still there")
		}
	})
	t.Run("log file", func(t *testing.T) {
		configure(t, "logdest = /var/log/vxsnd/vxsnd.log")
		systemctl(t, "restart", "vxsnd")
		floods(t)
		check(t, netlab.Wait(within(t), "'ready' in the log file", func() bool {
			return strings.Contains(string(must(os.ReadFile("/var/log/vxsnd/vxsnd.log"))(t)), "msg=ready")
		}))
		configure(t)
	})
	t.Run("with drop-in", func(t *testing.T) {
		must(systemd(t, "cp", "/usr/local/share/doc/vxsnd/examples/vxsnd.service.d/anycast.conf", unitDropIns))(t)
		systemctl(t, "daemon-reload")
		rmemMax(t, 208<<10) // the kernel's default; CAP_NET_ADMIN is not bound by it
		systemctl(t, "restart", "vxsnd")
		floods(t)
		wantNoWarning(t)
		// Cleaning up is not refused for what a killed one leaves.
		cleaned := func() int {
			out := must(systemd(t, "journalctl", "-u", "vxsnd", "-o", "cat", "-q", "--no-pager"))(t)
			return strings.Count(out, "nothing to clean up\n")
		}
		before := cleaned()
		check(t, syscall.Kill(mainPID(t), syscall.SIGKILL))
		check(t, netlab.Wait(within(t), "the unit to clean up", func() bool { return cleaned() > before }))
		systemctl(t, "stop", "vxsnd")
		rmemMax(t, 8<<20)
		check(t, os.Remove(unitDropIns+"/anycast.conf"))
	})
	t.Run("with drop-in of tc", func(t *testing.T) { testUnitFloodsInKernel(t, n, floods) })
	// Death and a hang end with a new process.
	check(t, os.WriteFile(unitDropIns+"/watchdog.conf", []byte("[Service]\nWatchdogSec=10\n"), 0o644))
	systemctl(t, "daemon-reload")
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run("after "+s.String(), func(t *testing.T) {
			systemctl(t, "restart", "vxsnd") // NRestarts counts from here
			old := mainPID(t)
			check(t, syscall.Kill(old, s))
			// The directory of the file goes with the old process.
			check(t, netlab.Wait(within(t), "another process", func() bool {
				b, err := os.ReadFile(unitPIDFile)
				return err == nil && len(b) > 0 && strings.TrimSpace(string(b)) != strconv.Itoa(old)
			}))
			systemctl(t, "start", "vxsnd") // waits until it has started
			wantProperties(t, "ActiveState=active", "NRestarts=1")
			floods(t)
		})
	}
	t.Run("wrong configuration", func(t *testing.T) {
		configure(t, "loglevel = nonsense")
		if out, err := systemd(t, "systemctl", "restart", "vxsnd"); err == nil {
			t.Errorf("got success, want a failure: %s", out)
		}
		// It is not tried again, and the next start needs no reset-failed.
		wantProperties(t, "ActiveState=failed", "ExecMainStatus=3", "NRestarts=0")
		configure(t)
		systemctl(t, "restart", "vxsnd")
	})
	t.Run("busy port", func(t *testing.T) {
		systemctl(t, "stop", "vxsnd")
		c := n.listen(ctlPort)
		if out, err := systemd(t, "systemctl", "start", "vxsnd"); err == nil {
			t.Errorf("got success, want a failure: %s", out)
		}
		wantProperties(t, "ActiveState=activating", "SubState=auto-restart", "ExecMainStatus=4")
		check(t, c.Close())
		awaitFile(t, unitPIDFile)
		systemctl(t, "start", "vxsnd") // waits until it has started
		floods(t)
		systemctl(t, "stop", "vxsnd")
	})
}

// systemctl runs systemctl and fails the test where it fails.
// awaitSystemd waits for the systemd that is coming up beside the test. What it
// has in its journal is shown if the test fails.
func awaitSystemd(t *testing.T) {
	t.Helper()
	awaitFile(t, "/run/systemd/private")
	systemctl(t, "start", "basic.target")
	t.Cleanup(func() {
		if t.Failed() {
			out, err := exec.Command("journalctl", "--no-pager").CombinedOutput()
			t.Logf("journal: %v\n%s", err, tail(string(out)))
		}
	})
}

// nameNamespace makes a machine's namespace known to others, as 'ip netns' does,
// and returns the file that is it.
func nameNamespace(t *testing.T, m *machine) string {
	t.Helper()
	const file = "/run/netns/lab"
	check(t, os.Mkdir(filepath.Dir(file), 0o755))
	check(t, os.WriteFile(file, nil, 0o600))
	check(t, m.Do(func() error { return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "") }))
	t.Cleanup(func() { check(t, unix.Unmount(file, unix.MNT_DETACH)) })
	return file
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := systemd(t, "systemctl", args...); err != nil {
		t.Fatalf("systemctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// wantProperties fails the test unless the unit has the properties, each as
// NAME=REGEXP.
func wantProperties(t *testing.T, want ...string) {
	t.Helper()
	text := must(systemd(t, "systemctl", "show", "vxsnd"))(t)
	for _, w := range want {
		if !regexp.MustCompile("(?m)^" + w + "$").MatchString(text) {
			name, _, _ := strings.Cut(w, "=")
			t.Errorf("got %q, want %s", regexp.MustCompile("(?m)^"+name+"=.*").FindString(text), w)
		}
	}
}

// journal returns what vxsnd's present process has logged with severities as
// journalctl's -p has them.
func journal(t *testing.T, severity string) string {
	t.Helper()
	return must(systemd(t, "journalctl", "-t", "vxsnd", fmt.Sprintf("_PID=%d", mainPID(t)), "-p", severity, "-o", "cat", "-q", "--no-pager"))(t)
}

// wantNoWarning fails the test if vxsnd missed something of what it needs when
// it started.
func wantNoWarning(t *testing.T) {
	t.Helper()
	check(t, netlab.Wait(within(t), "'ready' in the journal", func() bool {
		return strings.Contains(journal(t, "info"), "msg=ready")
	}))
	if out := journal(t, "warning"); out != "" {
		t.Errorf("got warnings, want none:\n%s", out)
	}
}

func rmemMax(t *testing.T, bytes int) {
	t.Helper()
	check(t, os.WriteFile("/proc/sys/net/core/rmem_max", []byte(strconv.Itoa(bytes)), 0))
}

func awaitFile(t *testing.T, name string) {
	t.Helper()
	check(t, netlab.Wait(within(t), name, func() bool {
		_, err := os.Stat(name)
		return err == nil
	}))
}

func mainPID(t *testing.T) int {
	t.Helper()
	out := must(systemd(t, "systemctl", "show", "-P", "MainPID", "vxsnd"))(t)
	return must(strconv.Atoi(strings.TrimSpace(out)))(t)
}

// wantThreads fails the test unless each thread of vxsnd has the capabilities of
// the set alone, and may not have others than those of bound, a user that is not
// root, and a filter of system calls.
func wantThreads(t *testing.T, set, bound uint64) {
	t.Helper()
	files := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", mainPID(t))))(t)
	if len(files) < 2 {
		t.Errorf("got %d threads, want more", len(files))
	}
	caps := fmt.Sprintf("%016x", set)
	for _, f := range files {
		got := make(map[string]string)
		for line := range strings.Lines(string(must(os.ReadFile(f))(t))) {
			k, v, _ := strings.Cut(line, ":")
			got[k] = strings.TrimSpace(v)
		}
		for k, want := range map[string]string{"CapEff": caps, "CapPrm": caps, "CapBnd": fmt.Sprintf("%016x", bound), "NoNewPrivs": "1", "Seccomp": "2"} {
			if got[k] != want {
				t.Errorf("%s: got %s %s, want %s", f, k, got[k], want)
			}
		}
		if strings.HasPrefix(got["Uid"], "0") || strings.HasPrefix(got["Gid"], "0") {
			t.Errorf("%s: got user %s, group %s, want another than root", f, got["Uid"], got["Gid"])
		}
	}
}

// wantConfined fails the test unless vxsnd sees / read-only, and can run
// nothing from where it can write.
func wantConfined(t *testing.T) {
	t.Helper()
	mounts := make(map[string]string) // directory -> options
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/mounts", mainPID(t))))(t))) {
		f := strings.Fields(line)
		mounts[f[1]] = "," + f[3] + ","
	}
	if got := mounts["/"]; !strings.Contains(got, ",ro,") {
		t.Errorf("got / mounted %q, want it read-only", got)
	}
	for _, dir := range []string{"/dev/shm", "/tmp", "/var/tmp", "/run/vxsnd", "/var/lib/vxsnd", "/var/log/vxsnd"} {
		if got := mounts[dir]; !strings.Contains(got, ",noexec,") {
			t.Errorf("got %s mounted %q, want noexec", dir, got)
		}
	}
}
