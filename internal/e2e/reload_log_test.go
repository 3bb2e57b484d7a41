// SPDX-License-Identifier: Apache-2.0

package e2e

// Reloads of the log: level, format, destination, and a file that was moved.
//
//	node 192.0.2.254
//	      │
//	── switch ──
//	      │
//	      1      192.0.2.1, which registers

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const msgRegistered = "registration taken in" // at level debug

// logNode adds a node whose configuration file says how it logs, and a VTEP
// that may register with it.
func (l *lab) logNode(config ...string) (n *node, a *agent) {
	l.t.Helper()
	v := l.vtep(1)
	n = l.idle()
	n.logFlags = []string{}
	n.start(append([]string{"workers = 1", markerConfig(v)}, config...)...)
	return n, v.agent(n)
}

// relog puts another configuration of the log in force and waits until the
// log, which log returns, has a line of it that says msg.
func (n *node) relog(a *agent, log func() string, msg string, config ...string) {
	n.lab.t.Helper()
	n.configure(append([]string{"workers = 1", markerConfig(a.machine)}, config...)...)
	before := len(with(lines(log()), msg))
	n.signal(syscall.SIGHUP)
	if err := netlab.Wait(within(n.lab.t), "a line "+msg, func() bool { return len(with(lines(log()), msg)) > before }); err != nil {
		n.lab.t.Fatalf("%v; log:\n%s\noutput:\n%s", err, tail(log()), tail(n.proc.Output()))
	}
}

// text returns a function that returns what a file holds, nothing where there is
// none.
func (n *node) text(name string) func() string {
	return func() string {
		b, err := os.ReadFile(n.file(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.lab.t.Error(err)
		}
		return string(b)
	}
}

// registered returns how many lines a log has of registrations with a holdtime.
func registered(log string, holdtime uint32) int {
	return len(slices.DeleteFunc(with(lines(log), msgRegistered), func(l map[string]string) bool {
		return l["holdtime"] != strconv.Itoa(int(holdtime))
	}))
}

func TestReloadLogLevel(t *testing.T) {
	t.Parallel()
	n, a := newLab(t, 0).logNode("logdest = stdout")
	wantLogged := func(holdtime uint32, want bool, config ...string) {
		t.Helper()
		config = append([]string{"logdest = stdout"}, config...)
		n.relog(a, n.proc.Output, msgReloaded, config...)
		a.register(reloadVNI, holdtime, 5)
		// What was logged before is out when the next reload is.
		n.relog(a, n.proc.Output, msgReloaded, config...)
		if got := registered(n.proc.Output(), holdtime); (got == 1) != want || got > 1 {
			t.Errorf("got %d lines of the registration with holdtime %d, want one: %t", got, holdtime, want)
		}
	}
	wantLogged(101, false)
	wantLogged(102, true, "loglevel = debug")
	wantLogged(103, false)

	// From error on nothing says that a reload is done, but what it does.
	n.mishaps = []string{msgKept}
	const vni = reloadVNI + 1
	ls := n.after(func() {
		n.configure("logdest = stdout", "loglevel = error", memberConfig([]vxlan.VNI{vni}, a.machine))
		n.signal(syscall.SIGHUP)
		n.waitMembers(vni, a.addr)
		n.configure("holdtime = 0")
		n.signal(syscall.SIGHUP)
	}, msgKept)
	for _, l := range ls {
		if l["level"] != "error" {
			t.Errorf("got %q logged at level error", l)
		}
	}
}

func TestReloadLogFormat(t *testing.T) {
	t.Parallel()
	n, a := engineRaw.lab(t, 0).logNode("logdest = stdout", "loglevel = debug")
	for i, format := range []string{"json", "text"} {
		before := len(n.proc.Output())
		config := []string{"logdest = stdout", "loglevel = debug", "log_format = " + format}
		n.relog(a, n.proc.Output, msgReloaded, config...)
		holdtime := 110 + uint32(i)
		a.register(reloadVNI, holdtime, 5)
		n.relog(a, n.proc.Output, msgReloaded, config...)
		log := n.proc.Output()[before:]
		for line := range strings.Lines(log) {
			if strings.HasPrefix(line, "{") != (format == "json") {
				t.Errorf("%s: got %q", format, line)
			}
		}
		for _, l := range lines(log) {
			if l["time"] == "" || l["level"] == "" || l["msg"] == "" {
				t.Errorf("%s: got %q, want a line with time, level and msg", format, l)
			}
		}
		if got := registered(log, holdtime); got != 1 {
			t.Errorf("%s: got %d lines of the registration, want 1; log:\n%s", format, got, log)
		}
	}
}

// The log moves from one destination to another, and what is logged afterwards
// is there alone. A file that cannot be opened keeps all else of the reload from
// taking effect.
func TestReloadLogDestination(t *testing.T) {
	t.Parallel()
	n, a := newLab(t, 0).logNode("logdest = stdout")
	one, two := n.text("one.log"), n.text("two.log")
	to := func(dest string) []string { return []string{"loglevel = debug", "logdest = " + dest} }
	holdtime := uint32(120)
	wantAt := func(log func() string, others ...func() string) {
		t.Helper()
		holdtime++
		a.register(reloadVNI, holdtime, 5)
		check(t, netlab.Wait(within(t), "the registration in the log", func() bool { return registered(log(), holdtime) > 0 }))
		for _, other := range others {
			if got := registered(other(), holdtime); got != 0 {
				t.Errorf("got %d lines in another log", got)
			}
		}
	}
	n.relog(a, one, msgReloaded, to(n.file("one.log"))...)
	wantAt(one, n.proc.Output)
	n.relog(a, two, msgReloaded, to(n.file("two.log"))...)
	wantAt(two, one, n.proc.Output)

	for _, dest := range []string{n.file("none/three.log"), n.dir} {
		n.relog(a, two, msgKept, append(to(dest), memberConfig([]vxlan.VNI{reloadVNI + 1}, a.machine))...)
		kept := with(lines(two()), msgKept)
		if why := kept[len(kept)-1]["error"]; !strings.Contains(why, dest) {
			t.Errorf("got %q, want the name of the file, %s", why, dest)
		}
		wantAt(two, one, n.proc.Output)
	}
	// A file that a reload made, which is refused for another reason, is gone.
	n.relog(a, two, msgKept, append(to(n.file("four.log")), "max_vnis = 1", memberConfig([]vxlan.VNI{reloadVNI + 1}, a.machine))...)
	if _, err := os.Stat(n.file("four.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no file of a reload that is refused", err)
	}
	wantAt(two, one, n.proc.Output)
	if got := len(n.entries(reloadVNI + 1)); got > 0 {
		t.Errorf("got %d members of reloads that were refused, want none", got)
	}
	n.relog(a, n.proc.Output, msgReloaded, to("stdout")...)
	wantAt(n.proc.Output, one, two)
}

// Whoever rotates logs by himself moves the file and sends SIGHUP: each line is
// in one of the two files, and the later ones are in the new file.
func TestReloadAfterLogFileMoved(t *testing.T) {
	t.Parallel()
	const each = 50
	n, a := newLab(t, 0).logNode("logdest = stdout")
	config := []string{"loglevel = debug", "logfilesize = 0", "logdest = " + n.file("log")}
	n.relog(a, n.text("log"), msgReloaded, config...)
	holdtime := uint32(1000)
	some := func() {
		t.Helper()
		for range each {
			holdtime++
			a.register(reloadVNI, holdtime, 5)
		}
	}
	var old []string
	for range 3 {
		some()
		moved := "log." + strconv.Itoa(len(old)+1)
		check(t, os.Rename(n.file("log"), n.file(moved)))
		old = append(old, moved)
		some() // to the file that was moved
		n.relog(a, n.text("log"), msgReloaded, config...)
	}
	some()
	whole := n.text(old[2])()
	log := n.text("log")
	check(t, netlab.Wait(within(t), "the last line", func() bool { return registered(log(), holdtime) > 0 }))
	if now := n.text(old[2])(); now != whole {
		t.Errorf("got lines in the file that was moved after the reload: %q", now[len(whole):])
	}
	all := log()
	for _, name := range old {
		all += n.text(name)()
	}
	for h := uint32(1001); h <= holdtime; h++ {
		if got := registered(all, h); got != 1 {
			t.Fatalf("got %d lines of registration %d in all files, want 1", got, h-1000)
		}
	}
}
