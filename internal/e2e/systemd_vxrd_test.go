// SPDX-License-Identifier: Apache-2.0

package e2e

// The unit of the registration daemon, as TestUnitRuns has that of the service
// node, which is a program of the test here.
//
//	node 192.0.2.254: vxsnd, with a static member 192.0.2.9
//	      │
//	── switch ────
//	      │
//	vtep1 192.0.2.1: vxrd.service

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

const (
	vxrdUnitConfig  = "/etc/vxrd.conf"
	vxrdUnitDropIns = "/etc/systemd/system/vxrd.service.d"
	vxrdUnitDevice  = "vxlan75"
	vxrdUnitMember  = "192.0.2.9"
)

func TestVxrdUnitRuns(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if !uml.Inside() {
		must(systemd(t, "systemctl", "--version"))(t)
		inUML(t, "systemd", nil, uml.Program{Modules: []string{"vxlan", "veth", "bridge"}, Systemd: true})
		return
	}
	awaitSystemd(t)
	l := newLab(t, 0)
	v := l.kernelVTEP(1)
	check(t, v.AddVXLAN(vxrdUnitDevice, netlab.VXLAN{VNI: uint32(unitVNI), Local: v.addr, Device: "eth0"}))
	check(t, v.SetUp(vxrdUnitDevice))
	n := l.node("svcnode_ip = "+nodeAddr, fmt.Sprintf("vtep_membership = %s %d", vxrdUnitMember, unitVNI))

	netns := nameNamespace(t, v)
	installTo(t, "")
	configure := func(lines ...string) {
		t.Helper()
		lines = append(lines, "svcnode_ip = "+nodeAddr)
		check(t, os.WriteFile(vxrdUnitConfig, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	}
	configure()
	check(t, os.Mkdir(vxrdUnitDropIns, 0o755))
	check(t, os.WriteFile(vxrdUnitDropIns+"/lab.conf", []byte("[Service]\nNetworkNamespacePath="+netns+"\n"), 0o644))
	must(systemd(t, "systemd-sysusers", "/usr/local/lib/sysusers.d/vxrd.conf"))(t)
	systemctl(t, "daemon-reload")

	member := netip.MustParseAddr(vxrdUnitMember)
	programmed := func() bool {
		return slices.ContainsFunc(must(v.FDB(vxrdUnitDevice))(t), func(e netlab.FDBEntry) bool {
			return e.VTEP == member && bytes.Equal(e.MAC, make([]byte, 6))
		})
	}
	registered := func() bool {
		return slices.ContainsFunc(n.entries(unitVNI), func(e control.FDBEntry) bool { return e.Address == v.addr })
	}
	withdrawals := func() int {
		return len(regexp.MustCompile(`msg="registration taken in" count=1 holdtime=0s? `).FindAllString(n.proc.Output(), -1))
	}
	await := func(what string, cond func() bool) {
		t.Helper()
		check(t, netlab.Wait(within(t), what, cond))
	}
	pid := func() int {
		return must(strconv.Atoi(vxrdUnit(t, "MainPID")))(t)
	}

	t.Run("start", func(t *testing.T) {
		systemctl(t, "start", "vxrd")
		await("a flood entry", programmed)
		wantVxrdCapabilities(t, pid(), 1<<unix.CAP_NET_ADMIN)
		for name, mode := range map[string]os.FileMode{
			"/run/vxrd":            os.ModeDir | 0o750,
			"/run/vxrd/vxrd.pid":   0o600,
			"/run/vxrd/vxrd.sock":  os.ModeSocket | 0o660,
			"/run/vxrd/vxrd.state": 0o600,
			"/var/log/vxrd":        os.ModeDir | 0o750,
		} {
			info := must(os.Stat(name))(t)
			owner := must(exec.Command("stat", "-c", "%U:%G", name).Output())(t)
			if got := strings.TrimSpace(string(owner)); info.Mode() != mode || got != "vxrd:vxrd" {
				t.Errorf("%s: got %v of %s, want %v of vxrd:vxrd", name, info.Mode(), got, mode)
			}
		}
		if out := must(systemd(t, "/usr/local/sbin/vxrdctl", "peers"))(t); !strings.Contains(out, vxrdUnitMember) {
			t.Errorf("vxrdctl peers: got no %s in\n%s", vxrdUnitMember, out)
		}
	})
	t.Run("reload", func(t *testing.T) {
		before := pid()
		configure("holdtime = nonsense")
		if out, err := systemd(t, "systemctl", "reload", "vxrd"); err == nil {
			t.Errorf("reload with a wrong configuration: got success, want a failure: %s", out)
		}
		configure("loglevel = debug")
		systemctl(t, "reload", "vxrd")
		if got := pid(); got != before || vxrdUnit(t, "ActiveState") != "active" {
			t.Errorf("got process %d, %s, want %d still, and active", got, vxrdUnit(t, "ActiveState"), before)
		}
	})
	t.Run("restart keeps everything", func(t *testing.T) {
		before := pid()
		count := withdrawals()
		systemctl(t, "restart", "vxrd")
		if pid() == before {
			t.Error("got the same process, want another one")
		}
		if !programmed() || !registered() {
			t.Errorf("got a flood entry %t and a member %t, want both", programmed(), registered())
		}
		if got := withdrawals(); got != count {
			t.Errorf("got %d withdrawals, want %d as before", got, count)
		}
		out := must(systemd(t, "journalctl", "-t", "vxrd", "-o", "cat", "-q", "--no-pager"))(t)
		if strings.Contains(out, "level=warning") || strings.Contains(out, "level=error") {
			t.Errorf("got warnings, want none:\n%s", out)
		}
	})
	t.Run("after killed", func(t *testing.T) {
		before := pid()
		check(t, unix.Kill(before, unix.SIGKILL))
		await("another process", func() bool { p := pid(); return p != 0 && p != before && vxrdUnit(t, "ActiveState") == "active" })
		if !programmed() {
			t.Error("got no flood entry, want that of before")
		}
	})
	t.Run("stop", func(t *testing.T) {
		systemctl(t, "stop", "vxrd")
		if programmed() {
			t.Error("got a flood entry, want none")
		}
		await("no member", func() bool { return !registered() })
		await("a withdrawal", func() bool { return withdrawals() > 0 })
		if got := vxrdUnit(t, "Result"); got != "success" {
			t.Errorf("got result %s, want success", got)
		}
		if _, err := os.Stat("/run/vxrd/vxrd.state"); err != nil {
			t.Error(err)
		}
	})
	t.Run("unprivileged", func(t *testing.T) {
		configure("head_rep = no")
		must(systemd(t, "cp", "/usr/local/share/doc/vxsnd/examples/vxrd.service.d/unprivileged.conf", vxrdUnitDropIns))(t)
		systemctl(t, "daemon-reload")
		systemctl(t, "start", "vxrd")
		await("a member", registered)
		wantVxrdCapabilities(t, pid(), 0)
		systemctl(t, "stop", "vxrd")
	})
}

// vxrdUnit returns a property of the unit.
func vxrdUnit(t *testing.T, property string) string {
	t.Helper()
	return strings.TrimSpace(must(systemd(t, "systemctl", "show", "-P", property, "vxrd"))(t))
}

// wantVxrdCapabilities fails the test unless each thread has the capabilities of
// the set alone, and a user that is not root.
func wantVxrdCapabilities(t *testing.T, pid int, set uint64) {
	t.Helper()
	files := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)))(t)
	if len(files) < 2 {
		t.Errorf("got %d threads, want more", len(files))
	}
	caps := fmt.Sprintf("%016x", set)
	for _, f := range files {
		text := string(must(os.ReadFile(f))(t))
		for _, want := range []string{"CapEff:\t" + caps, "CapPrm:\t" + caps, "CapBnd:\t" + caps, "NoNewPrivs:\t1", "Seccomp:\t2"} {
			if !strings.Contains(text, want+"\n") {
				t.Errorf("%s: got no %q in\n%s", f, want, text)
			}
		}
		if strings.Contains(text, "\nUid:\t0") || strings.Contains(text, "\nGid:\t0") {
			t.Errorf("%s: got root, want another user", f)
		}
	}
}
