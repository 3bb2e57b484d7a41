// SPDX-License-Identifier: Apache-2.0

package e2e

// What is set on a running node takes effect, until a reload puts the files in
// force again; a reload over the socket tells what came of it.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// changed returns what a report says of options that changed, as NAME: OLD NEW.
func changed(os []control.OptionChange) (out []string) {
	for _, o := range os {
		out = append(out, fmt.Sprintf("%s: %s %s", o.Name, o.Old, o.New))
	}
	return out
}

// wantReport fails the test unless a report has exactly these changes.
func wantReport(t *testing.T, r control.ReloadReport, want ...string) {
	t.Helper()
	if got := changed(r.Changed); !slices.Equal(got, want) || len(r.Errors)+len(r.Restart) > 0 {
		t.Errorf("got changes %q, restart %q, errors %+v, want changes %q", got, changed(r.Restart), r.Errors, want)
	}
}

func TestSteerSet(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	n.logFlags = []string{"-l", "stdout", "-L", "info"}
	n.start("workers = 1", "holdtime = 300", markerConfig(vs...))
	learns := func(vni vxlan.VNI, v *machine, want bool) {
		t.Helper()
		v.flood(n, vni, frame(netlab.Broadcast, int(vni), 64))
		v.settle(n, without(vs, v)...)
		if got := len(n.entries(vni)) == 1; got != want {
			t.Errorf("vni %s: got %s learned: %t, want %t", vni, v.addr, got, want)
		}
	}

	learns(100, vs[0], true)
	wantReport(t, decoded[control.ReloadReport](n, "set", "config", "learning", "off"), "learning: any off")
	learns(101, vs[0], false)
	wantReport(t, decoded[control.ReloadReport](n, "set", "config", "learning", "any"), "learning: off any")
	learns(102, vs[0], true)
	if got := n.ctl("set", "config", "learning", "any").printed(); got != "nothing changed\n" {
		t.Errorf("got %q for the value that is in force, want that nothing changed", got)
	}

	// Who is learned lives for a second since it was heard last, whenever that was.
	wantReport(t, decoded[control.ReloadReport](n, "set", "config", "holdtime", "1"), "holdtime: 300 1")
	learns(103, vs[1], true)
	n.waitFor("all members to age", func() bool { return len(n.entries(103))+len(n.entries(100)) == 0 })

	debugs := func() int { return strings.Count(n.proc.Output(), "level=debug") }
	a := vs[2].agent(n)
	a.register(104, 300, 1)
	if got := debugs(); got != 0 {
		t.Errorf("got %d lines of debug before it is on", got)
	}
	// The command line says info: what is set wins.
	wantReport(t, decoded[control.ReloadReport](n, "set", "debug", "on"), "loglevel: info debug")
	a.register(104, 300, 2)
	n.waitFor("lines of debug", func() bool { return debugs() > 0 })
	wantReport(t, decoded[control.ReloadReport](n, "set", "debug", "off"), "loglevel: debug info")

	set := decoded[[]control.ConfigValue](n, "get", "config", "holdtime")
	if len(set) != 1 || set[0].Value != "1" || !set[0].Set || !set[0].Reload {
		t.Errorf("got %+v, want 1, set, to be changed by a reload", set)
	}
	for _, tt := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"set", "config", "workers", "2"}, []string{"workers", "restart"}},
		{[]string{"set", "config", "holdtime", "65536"}, []string{"holdtime", "65536", "1..65535"}},
		{[]string{"set", "config", "hold_time", "9"}, []string{"hold_time", "holdtime"}},
	} {
		c := n.ctl(tt.args...)
		if status := must(c.Wait(within(t)))(t); status != 1 {
			t.Errorf("%q: got status %d, want 1", tt.args, status)
		}
		for _, w := range tt.wants {
			if !strings.Contains(c.stderr.String(), w) {
				t.Errorf("%q: got %q, want %q", tt.args, c.stderr, w)
			}
		}
	}
	// Any reload puts the files in force again, and says so.
	ls := n.hangup()
	wantChanges(t, ls, "holdtime")
	if set := decoded[[]control.ConfigValue](n, "get", "config", "holdtime"); set[0].Value != "300" || set[0].Set {
		t.Errorf("got %+v after a reload, want 300, not set", set)
	}
}

// A reload over the socket is that of SIGHUP, and answers with its outcome.
func TestSteerReload(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{steerVNI}, vs[1]))
	if got := n.ctl("reload").printed(); got != "nothing changed\n" {
		t.Errorf("got %q, want that nothing changed", got)
	}

	n.configure("workers = 2", "learning = off", "holdtime = 77", markerConfig(vs...), memberConfig([]vxlan.VNI{steerVNI}, vs[1:]...))
	r := decoded[control.ReloadReport](n, "reload")
	if got := changed(r.Changed); len(got) != 2 || got[0] != "holdtime: 90 77" && got[1] != "holdtime: 90 77" {
		t.Errorf("got %q, want holdtime and the members", got)
	}
	if got := changed(r.Restart); !slices.Equal(got, []string{"workers: 1 2"}) {
		t.Errorf("got %q to be restarted for, want the workers", got)
	}
	wantMember(t, n, vs[0], vs[2], steerVNI, true)

	// A file that is wrong changes nothing, and each fault is told with its line.
	n.mishaps = append(n.mishaps, msgKept)
	n.configure("learning = of", "holdtime = 5", "no_such = 1", "vtep_membership = 192.0.2.3")
	c := n.ctl("reload")
	if status := must(c.Wait(within(t)))(t); status != 1 {
		t.Errorf("got status %d, want 1", status)
	}
	for _, want := range []string{"vxsnd.conf:1: ", "vxsnd.conf:3: ", "vxsnd.conf:4: "} {
		if !strings.Contains(c.stderr.String(), n.file("")+"/"+want) {
			t.Errorf("got %q, want %q", c.stderr, want)
		}
	}
	c = n.ctl("reload", "--json")
	if status := must(c.Wait(within(t)))(t); status != 1 || strings.Count(c.Output(), `"text"`) != 3 {
		t.Errorf("got status %d and %s, want 1 and three errors", status, c.Output())
	}
	if got := decoded[[]control.ConfigValue](n, "get", "config", "holdtime"); got[0].Value != "77" {
		t.Errorf("got holdtime %s, want what it was", got[0].Value)
	}
	wantMember(t, n, vs[0], vs[2], steerVNI, true)
}
