// SPDX-License-Identifier: Apache-2.0

package e2e

// What a node knows of whether its peers are there.

import (
	"strings"
	"syscall"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// waitPeer waits until the only peer is up, or is not.
func (n *node) waitPeer(up bool) (p control.Peer) {
	n.lab.t.Helper()
	check(n.lab.t, netlab.Wait(within(n.lab.t), "the state of the peer", func() bool {
		p = n.peers()[0]
		return p.Reachable == up && (p.Problem == "") == up
	}))
	return p
}

// A peer whose process has died refuses what is relayed to it. That is counted,
// and the peer is known to be gone although nothing is told to it over TCP.
func TestPeerThatDiedIsUnreachable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(1)
	ns := l.group(2, "learning = off", "resync_interval = 0")
	a, b := ns[0], ns[1]
	a.waitPeer(true)
	b.waitPeer(true)
	v := vs[0].agent(a)
	v.register(groupVNI, 90, 5)
	b.waitMembers(groupVNI, v.addr)
	if p := a.waitPeer(true); p.RelayErrors != 0 || p.RelayProblem != "" {
		t.Errorf("got %d messages lost, %q, want none", p.RelayErrors, p.RelayProblem)
	}

	b.end(syscall.SIGKILL)
	v.register(groupVNI+1, 90, 5)
	p := a.waitPeer(false)
	if p.RelayErrors != 1 || !strings.Contains(p.RelayProblem, "connection refused") {
		t.Errorf("got %d messages lost, %q, want one that was refused", p.RelayErrors, p.RelayProblem)
	}
	// The socket that heard of it is that of registrations, which go on.
	v.register(groupVNI+2, 90, 5)
	a.waitMembers(groupVNI+2, v.addr)

	b.join([]*machine{a.machine, b.machine}, "learning = off", "resync_interval = 0")
	a.waitPeer(true)
	b.waitMembers(groupVNI+1, v.addr) // what it missed, from the table that it took at its start
}

// A name that does not resolve is shown with the reason.
func TestPeerNamesAreShown(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.snode(1)
	n.join([]*machine{n.machine}, "  no-such-host.invalid", "  localhost:10009", "sync_timeout = 1")
	var p control.Peer
	check(t, netlab.Wait(within(t), "the names to be looked up", func() bool {
		ps := n.peers()
		p = ps[0]
		return len(ps) == 1 && strings.Contains(p.Problem, p.Name)
	}))
	if p.Name != "no-such-host.invalid" || p.Address.IsValid() || p.Reachable || !strings.Contains(p.Problem, p.Name) {
		t.Errorf("got %+v, want a name that does not resolve", p)
	}
	if text := n.ctl("peers").printed(); !strings.Contains(text, "no-such-host.invalid  -     unresolved") {
		t.Errorf("got %q, want a line of the name", text)
	}
	if got := n.status().Peers; len(got) != 1 || got[0] != "no-such-host.invalid:10001" {
		t.Errorf("got peers %v, want none that is this node itself", got)
	}
}
