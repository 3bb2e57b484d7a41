// SPDX-License-Identifier: Apache-2.0

package e2e

// Nobody is told that a node is ready, and its service address is not there,
// before it has a peer's table or has waited long enough.

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// onLoopback tells whether the machine has an address on lo.
func (m *machine) onLoopback(a string) bool {
	m.lab.t.Helper()
	return slices.ContainsFunc(must(m.Addrs("lo"))(m.lab.t), func(have netlab.Addr) bool {
		return have.Prefix.Addr() == netip.MustParseAddr(a)
	})
}

const groupService = "198.51.100.1"

// slow adds a deployed peer with one member in its table that lets who asks for
// it wait, until open is called.
func (l *lab) slow(member netip.Addr) (d *deployed, open func()) {
	d = l.deployed(1)
	d.holds(vxfld.Sync{VNIs: []vxfld.VNIEntries{entriesOf(groupVNI, vxfld.SyncEntry{Addr: member, Holdtime: 90})}})
	return d, d.hold()
}

// The service manager and the service address wait for the table, which is
// there at that moment. A reload takes effect before, and nobody takes it for
// the end of the wait.
func TestReadyWaitsForTheTable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	n := l.snode(1)
	m := newManager(t)
	config := n.grouped([]*machine{d.machine}, "sync_timeout = 3600", "svcnode_ip = "+groupService, "install_svcnode_ip = yes",
		"drain_time = 0", markerConfig(vs...), memberConfig([]vxlan.VNI{groupVNI + 1}, vs...))
	n.proc = n.launch(m.command(0), config...)
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	if s := n.status(); s.Ready || s.Waiting == "" {
		t.Errorf("got status %+v, want one that waits", s)
	}
	// What comes to its own address is served all the same.
	wantMember(t, n, vs[0], vs[1], groupVNI+1, true)
	n.reload(append(config, memberConfig([]vxlan.VNI{groupVNI + 2}, vs...))...)
	wantMember(t, n, vs[0], vs[1], groupVNI+2, true)
	if s := n.status(); s.Ready || n.onLoopback(groupService) {
		t.Errorf("got status %+v, address there: %v, want neither yet", s, n.onLoopback(groupService))
	}
	for _, msg := range m.rest() {
		if msg["READY"] != "" || msg["RELOADING"] != "" {
			t.Errorf("got %v while it waits for a peer", msg)
		}
	}

	open()
	m.ready()
	if got := n.held(); !got[holding{groupVNI, vs[1].addr, 0}] {
		t.Errorf("got %v when ready, want the member that the peer knows", got)
	}
	n.reload(config...)
	if got := m.next(); got["RELOADING"] != "1" {
		t.Errorf("got %v, want the reload of a node that is ready", got)
	}
	m.ready()
	n.waitFor("the service address", func() bool { return n.onLoopback(groupService) })
	if s := n.status(); !s.Ready || s.Waiting != "" {
		t.Errorf("got status %+v, want one that is ready", s)
	}
	n.stop()
	if n.onLoopback(groupService) {
		t.Error("got the service address after the end, want it gone")
	}
}

// What a reload says about peers counts for a node that waits for them.
func TestReloadEndsTheWaitForPeers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(1)
	d, _ := l.slow(netip.MustParseAddr("192.0.2.9"))
	n := l.snode(1)
	m := newManager(t)
	n.proc = n.launch(m.command(0), n.grouped([]*machine{d.machine}, "sync_timeout = 3600", markerConfig(vs...))...)
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	n.signal(unix.SIGUSR1)
	check(t, netlab.Wait(within(t), "a summary", func() bool { return len(with(lines(n.proc.Output()), "table")) > 0 }))
	n.configure("workers = 1", "src_ip = "+n.addr.String(), markerConfig(vs...))
	n.signal(unix.SIGHUP)
	m.ready()
	if got := with(lines(n.proc.Output()), msgReloaded); len(got) != 1 {
		t.Errorf("got %q, want a reload before it was ready", got)
	}
	n.stop()
}

// A node that waits for a peer is stopped like any other.
func TestStopWhileItWaitsForTheTable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	d, _ := l.slow(netip.MustParseAddr("192.0.2.1"))
	n := l.snode(1)
	n.proc = n.launch(exec.Command(program(t)), n.grouped([]*machine{d.machine}, "sync_timeout = 3600",
		"svcnode_ip = "+groupService, "install_svcnode_ip = yes")...)
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	n.stop()
	if out := n.proc.Output(); len(with(lines(out), "ready")) > 0 || n.onLoopback(groupService) {
		t.Errorf("got output %s, address there: %v, want a node that was never ready", out, n.onLoopback(groupService))
	}
}

// So does the command that starts a daemon.
func TestBackgroundWaitsForTheTable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	d, open := l.slow(netip.MustParseAddr("192.0.2.1"))
	n, vs := l.backgroundNode("[vxsnd]", "sync_timeout = 3600", "svcnode_peers = "+d.addr.String())
	p := n.begin(exec.Command(program(t)))
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	if s := n.status(); s.Ready {
		t.Errorf("got status %+v, want one that waits", s)
	}
	wantMember(t, n, vs[0], vs[1], backgroundVNI, true)
	select {
	case <-p.Done():
		t.Errorf("got an end of the command (%q) while the daemon waits for a peer", p.Output())
	default:
	}
	open()
	if status := must(p.Wait(within(t)))(t); status != 0 || p.Output() != "" {
		t.Errorf("got status %d and %q, want 0 and silence", status, p.Output())
	}
	if got := n.held(); !got[holding{groupVNI, vs[0].addr, 0}] {
		t.Errorf("got %v when the command has ended, want the member that the peer knows", got)
	}
	n.daemon("vxsnd.pid").end(unix.SIGTERM)
}

// A peer that is silent makes a node wait for sync_timeout and no longer; its
// table is taken in when it comes.
func TestReadyAfterSyncTimeout(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	n := l.snode(1)
	begin := time.Now()
	n.join([]*machine{d.machine}, "sync_timeout = 1", markerConfig(vs...))
	if took := time.Since(begin); took < time.Second {
		t.Errorf("got ready after %v, want a wait for the silent peer", took)
	}
	if got := n.held(); got[holding{groupVNI, vs[1].addr, 0}] || d.requests() != 1 {
		t.Errorf("got %v after %d requests, want no answer yet", got, d.requests())
	}
	open()
	n.waitMembers(groupVNI, vs[1].addr)
}

// Peers that cannot be reached are tried once, and asked again in the
// background.
func TestReadyWithoutAnyPeer(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	open()
	d.shutdown()
	n := l.snode(1)
	n.join([]*machine{d.machine, l.machine("silent", "192.0.2.103/24")}, "sync_timeout = 3600", markerConfig(vs...))
	for _, p := range n.peers() {
		if p.Reachable || p.Problem == "" || p.LastDump == nil || p.LastDump.Problem == "" {
			t.Errorf("got peer %+v, want one that was asked in vain", p)
		}
	}
	d.listen()
	t.Cleanup(d.shutdown)
	n.waitMembers(groupVNI, vs[1].addr)
	n.waitFor("a peer that is back", func() bool { return n.peers()[0].Reachable })
}

// Three nodes that start at once do not wait for each other for ever, and end
// with the same table.
func TestNodesThatStartAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	var ns []*node
	var ms []*machine
	for i := range 3 {
		ns = append(ns, l.snode(i+1))
		ms = append(ms, ns[i].machine)
	}
	for i, n := range ns {
		n.proc = n.launch(exec.Command(program(t)), n.grouped(ms, "sync_timeout = 3600", "learning = off",
			memberConfig([]vxlan.VNI{groupVNI}, vs[i]), markerConfig(vs...))...)
	}
	for _, n := range ns {
		n.ready()
	}
	for _, n := range ns {
		n.waitMembers(groupVNI, vs[0].addr, vs[1].addr, vs[2].addr)
		wantMember(t, n, vs[0], vs[1], groupVNI, true)
		wantMember(t, n, vs[1], vs[0], groupVNI, true)
	}
	for _, n := range ns {
		n.stop()
	}
}
