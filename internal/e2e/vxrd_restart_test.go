// SPDX-License-Identifier: Apache-2.0

package e2e

// Whoever restarts, what is flooded goes on to arrive: flood lists change by
// what is new alone. See vxrd_test.go for the lab.

import (
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
)

// headEnds starts vxrd on VTEPs 1 to n, with a device each whose flood list it
// programs, and waits until all know each other.
func (l *lab) headEnds(n int, nodes []*node, config ...string) (vs []*vxrd) {
	l.t.Helper()
	var ms []*machine
	for i := 1; i <= n; i++ {
		m := l.kernelVTEP(i)
		m.vxlan(vxrdVNI, nowhere)
		ms = append(ms, m)
		vs = append(vs, m.vxrd(append([]string{bothNodes(nodes)}, config...)...))
	}
	for _, v := range vs {
		v.waitFloods("vxlan100", addrs(without(ms, v.machine)...)...)
	}
	return vs
}

// A service node that comes back knows nobody but who has registered since. Until
// all have, nobody leaves a flood list.
func TestVxrdKeepsListsWhileServiceNodeRestarts(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			// So long after its start it says that it may not know all: longer than
			// anybody takes to register.
			config := []string{"learning = off", "holdtime = 10"}
			n := l.group(1, config...)[0]
			vs := l.headEnds(3, []*node{n})
			var ws []*floodWatch
			for _, v := range vs {
				ws = append(ws, v.watchFloods())
			}
			n.end(signal)
			n.join(nil, config...)
			n.waitMembers(vxrdVNI, vs[0].addr, vs[1].addr, vs[2].addr)
			for i, v := range vs {
				v.answered(3)
				ws[i].wantChanges()
			}
			// Once it knows all, who leaves is removed.
			vs[2].end(syscall.SIGTERM)
			vs[0].waitFloods("vxlan100", vs[1].addr)
			ws[0].wantChanges("-192.0.2.3")
		})
	}
}

// A restart of vxrd changes no flood entry but for members that have come or
// gone meanwhile, and the service node does not notice it. Entries that an
// operator has made stay through all of it.
func TestVxrdRestarts(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.serve(1)[0]
			config := bothNodes([]*node{n})
			a := l.kernelVTEP(9)
			dev := a.vxlan(vxrdVNI, nowhere)
			// One that is no member, and one that is.
			own := netip.MustParseAddr("198.51.100.1")
			check(t, a.AddFDB(dev, everyMAC, own))
			check(t, a.AddFDB(dev, everyMAC, netip.MustParseAddr("192.0.2.1")))
			vs := l.headEnds(3, []*node{n})
			v := a.vxrd(config)
			a.waitFloods(dev, own, vs[0].addr, vs[1].addr, vs[2].addr)
			vs[0].waitFloods("vxlan100", vs[1].addr, vs[2].addr, a.addr)

			here, there := a.watchFloods(), vs[0].watchFloods()
			restart := func(meanwhile func()) {
				t.Helper()
				status := v.end(signal)
				if want := map[syscall.Signal]int{syscall.SIGUSR2: 0, syscall.SIGKILL: -1}[signal]; status != want {
					t.Errorf("got status %d, want %d; output:\n%s", status, want, tail(v.proc.Output()))
				}
				meanwhile()
				v.start(config)
				v.answered(3)
			}
			restart(func() {})
			here.wantChanges()
			there.wantChanges()
			if got := v.status(); got.Programmed != 2 {
				t.Errorf("got %d entries that are vxrd's own, want 2", got.Programmed)
			}

			// One goes and one comes while it is away.
			restart(func() {
				if status := vs[2].end(syscall.SIGTERM); status != 0 {
					t.Errorf("got status %d, want 0", status)
				}
				m := l.kernelVTEP(4)
				m.vxlan(vxrdVNI, nowhere)
				vs = append(vs, m.vxrd(config))
				n.waitMembers(vxrdVNI, vs[0].addr, vs[1].addr, m.addr, a.addr)
			})
			a.waitFloods(dev, own, vs[0].addr, vs[1].addr, vs[3].addr)
			here.wantChanges("-192.0.2.3", "+192.0.2.4")
			vs[0].waitFloods("vxlan100", vs[1].addr, vs[3].addr, a.addr)
			there.wantChanges("-192.0.2.3", "+192.0.2.4")
			for _, line := range with(lines(n.proc.Output()), "registration taken in") {
				if line["holdtime"] == "0" && line["src"] == netip.AddrPortFrom(a.addr, ctlPort).String() {
					t.Errorf("got a withdrawal over a restart: %q", line)
				}
			}

			// A stop for good takes what is its own along.
			if status := v.end(syscall.SIGTERM); status != 0 {
				t.Errorf("got status %d, want 0", status)
			}
			a.wantFloods(dev, own, vs[0].addr)
			here.wantChanges("-192.0.2.2", "-192.0.2.4")
			n.waitMembers(vxrdVNI, vs[0].addr, vs[1].addr, vs[3].addr)
			vs[0].waitFloods("vxlan100", vs[1].addr, vs[3].addr)
		})
	}
}

// With withdraw_on_exit = false a stop leaves everything as it is, and what a
// crash leaves can be cleaned up.
func TestVxrdLeavesAndCleansUp(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(3, []*node{n}, "withdraw_on_exit = false")
	a, others := vs[0], addrs(vs[1].machine, vs[2].machine)
	own := netip.MustParseAddr("198.51.100.1")
	check(t, a.AddFDB("vxlan100", everyMAC, own))
	if status := a.end(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
	a.wantFloods("vxlan100", append(others, own)...)
	n.waitMembers(vxrdVNI, addrs(vs[0].machine, vs[1].machine, vs[2].machine)...)
	cleanUp := func(want string) {
		t.Helper()
		got := must(a.Run(exec.Command(vxrdName(t, "vxrd"), "-c", a.file("vxsnd.conf"), "--cleanup")))(t)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cleanUp("removed 2 flood entries that " + a.stateFile + " tells of\n")
	a.wantFloods("vxlan100", own)
	cleanUp("nothing to clean up in " + a.stateFile + "\n")
}
