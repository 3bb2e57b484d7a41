// SPDX-License-Identifier: Apache-2.0

package e2e

// Service nodes that fall silent, all of them or one: flood lists go on. See
// vxrd_test.go for the lab.

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// impatient has vxrd take a service node for silent after patient. It asks about
// every 100 ms, so the last answer before a service node ends is no older than
// late, also on a busy machine.
const (
	impatient = "holdtime = 5"
	patient   = 5 * time.Second
	late      = 2 * time.Second
)

// pass waits until a time has come.
func pass(t *testing.T, what string, at time.Time) {
	t.Helper()
	check(t, netlab.Wait(within(t), what, func() bool { return time.Now().After(at) }))
}

// waitStale waits until vxrd says that its flood lists are stale, or are not.
func (v *vxrd) waitStale(want bool) {
	v.lab.t.Helper()
	check(v.lab.t, netlab.Wait(within(v.lab.t), "stale lists", func() bool {
		return v.status().Stale == want && !slices.ContainsFunc(v.lists(), func(l control.FloodList) bool { return l.Stale != want })
	}))
}

// silences counts how often vxrd has said that the service nodes are silent.
func (v *vxrd) silences() int {
	return len(with(lines(v.proc.Output()), "service nodes silent, flood lists kept"))
}

// Without a service node for longer than holdtime a list stays as it is, and
// is said to be stale. When there is one again, the list follows it, but for
// those that it may not know yet.
func TestVxrdKeepsListsWithoutServiceNode(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	config := []string{"learning = off", "holdtime = 5"}
	n := l.group(1, config...)[0]
	vs := l.headEnds(3, []*node{n}, impatient)
	a, b, c := vs[0], vs[1], vs[2]
	w := a.watchFloods()
	n.end(syscall.SIGTERM)
	began := time.Now()
	a.waitStale(true)
	if d := time.Since(began); d < patient-late {
		t.Errorf("got stale lists after %v, want them not before %v", d, patient)
	}
	// One leaves, which nobody hears.
	c.end(syscall.SIGTERM)
	pass(t, "twice the holdtime", began.Add(2*patient))
	w.wantChanges()
	a.wantFloods("vxlan100", b.addr, c.addr)
	if got := a.ctl("peers"); !strings.Contains(got, "1 of 1 lists are stale") {
		t.Errorf("got %q, want it to say that the list is stale", got)
	}
	if got := a.ctl("show"); !strings.Contains(got, "the service nodes have been silent for") {
		t.Errorf("got %q, want it to say that the service nodes have been silent", got)
	}
	if got := a.silences(); got != 1 {
		t.Errorf("got %d warnings, want 1", got)
	}

	n.join(nil, config...)
	d := l.kernelVTEP(4)
	d.vxlan(vxrdVNI, nowhere)
	d.vxrd(bothNodes([]*node{n}), impatient)
	a.waitStale(false)
	a.waitFloods("vxlan100", b.addr, d.addr)
	w.wantChanges("-192.0.2.3", "+192.0.2.4")
	if got := a.ctl("peers"); strings.Contains(got, "stale") {
		t.Errorf("got %q, want a list that is not stale", got)
	}
}

// Where stale_time says so, a list is emptied after it, and no earlier.
func TestVxrdEmptiesStaleLists(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	config := []string{"learning = off", "holdtime = 2"}
	n := l.group(1, config...)[0]
	vs := l.headEnds(2, []*node{n}, impatient, "stale_time = 8")
	a, b := vs[0], vs[1]
	w := a.watchFloods()
	n.end(syscall.SIGKILL)
	began := time.Now()
	a.waitStale(true)
	a.waitFloods("vxlan100")
	if d := time.Since(began); d < 8*time.Second-late {
		t.Errorf("got an empty list after %v, want it 8 s after the last answer", d)
	}
	n.join(nil, config...)
	a.waitFloods("vxlan100", b.addr)
	w.wantChanges("-192.0.2.2", "+192.0.2.2")
}

// One service node of two that dies takes nobody with it, and neither does its
// return; what the other says goes on to count.
func TestVxrdWithServiceNodeThatDies(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	ns := l.serve(2)
	vs := l.headEnds(3, ns, impatient)
	a, b, c := vs[0], vs[1], vs[2]
	// Both say so, or the one that dies could be missed by nobody.
	check(t, netlab.Wait(within(t), "both service nodes to have answered", func() bool {
		ls := a.lists()
		return len(ls) == 1 && len(ls[0].From) == 2
	}))
	w := a.watchFloods()
	ns[0].end(syscall.SIGKILL)
	began := time.Now()
	pass(t, "twice the holdtime", began.Add(2*patient))
	w.wantChanges()
	if a.status().Stale {
		t.Error("got stale lists, want those of the other service node")
	}
	c.end(syscall.SIGTERM)
	ns[1].waitMembers(vxrdVNI, a.addr, b.addr)
	a.waitFloods("vxlan100", b.addr)
	w.wantChanges("-192.0.2.3")

	ns[0].join([]*machine{ns[1].machine}, "learning = off", "holdtime = 2")
	ns[0].waitMembers(vxrdVNI, a.addr, b.addr)
	a.answered(6)
	pass(t, "the answers of the one that is back to be complete", time.Now().Add(3*time.Second))
	a.answered(6)
	w.wantChanges()
	if got := a.silences(); got != 0 {
		t.Errorf("got %d warnings that all are silent, want none", got)
	}
}
