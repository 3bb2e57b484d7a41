// SPDX-License-Identifier: Apache-2.0

package e2e

// The log file of a node is rotated while packets are flooded.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 3 registers

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// No line and no packet is lost, also where the file is opened anew meanwhile,
// and no more files are kept than are asked for.
func TestLogRotation(t *testing.T) {
	t.Parallel()
	// What is logged in the rounds fits the queue of lines.
	const rounds, burst, each, kept = 16, 20, 50, 3
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	name := filepath.Join(logDir(t), "vxsnd.log")
	config := []string{
		"workers = 1", "learning = off", "logfilesize = 4000",
		markerConfig(vs...), memberConfig([]vxlan.VNI{logVNI}, vs[:2]...),
	}
	n.log = func() string { return generations(t, name) }
	n.logFlags = []string{"-l", name, "-L", "debug"}
	n.start(append(config, "logbackupcount = 3")...)
	a := vs[2].agent(n)
	next, packets := firstHoldtime, 0
	work := func() {
		t.Helper()
		a.registerAll(logVNI, next, next+each)
		next += each
		var fs [][]byte
		for range burst {
			fs = append(fs, frame(netlab.Broadcast, packets, 64))
			packets++
		}
		vs[0].flood(n, logVNI, fs...)
		vs[0].flush(n, vs...)
	}
	older := func() []string { return must(filepath.Glob(name + ".*"))(t) }
	caughtUp := func() {
		t.Helper()
		n.waitFor("the last line", func() bool { return slices.Contains(holdtimes(t, n.log(), next-1), next-1) })
	}
	n.waitFor("older files to be removed", func() bool {
		work()
		return len(older()) == kept && !slices.Contains(holdtimes(t, n.log(), 0), firstHoldtime)
	})
	n.configure(append(config, "logbackupcount = 1000")...)
	n.signal(syscall.SIGHUP)
	n.waitFor("more files to be kept", func() bool {
		work()
		return len(older()) > kept+1 // one may be in the midst of being compressed
	})

	caughtUp()
	first := next
	for round := range rounds {
		work()
		if round%4 == 0 {
			n.signal(syscall.SIGHUP)
		}
	}
	caughtUp()
	if got := n.status().LogLinesLost; got != 0 {
		t.Errorf("got %d lines lost, want none", got)
	}
	n.stop()

	log := n.log()
	want := first
	for _, h := range holdtimes(t, log, first) {
		if h != want {
			t.Fatalf("got registration %d at the place of %d, want all in order; files: %v", h, want, older())
		}
		want++
	}
	if want != next {
		t.Errorf("got registrations up to %d, want %d", want, next)
	}
	for _, f := range lines(log) {
		if f["level"] == "" || f["msg"] == "" {
			t.Errorf("got line %q, want whole ones", f)
		}
	}
	for _, f := range append(older(), name) {
		if info := must(os.Stat(f))(t); info.Mode().Perm()&^0o640 != 0 {
			t.Errorf("%s: got mode %v, want no more than 0640", f, info.Mode().Perm())
		}
	}
	for _, v := range vs[1:] {
		copies := v.got()
		if len(copies) != packets {
			t.Errorf("%s: got %d packets, want %d", v.Name, len(copies), packets)
		}
		for i, g := range copies {
			if number(g.inner) != i {
				t.Fatalf("%s: got packet %d at position %d", v.Name, number(g.inner), i)
			}
		}
	}
}
