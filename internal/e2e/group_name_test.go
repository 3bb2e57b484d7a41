// SPDX-License-Identifier: Apache-2.0

package e2e

// Peers that a node knows by name, with a name server that is silent.
//
//	sn1 .201  old1 .101  ns .53
//	   │         │         │
//	── switch ──────────────────── 192.0.2.0/24

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxfld"
)

// etc gives the node a directory /etc of its own, with a name server that takes
// questions and does not answer within seconds. It returns the directory, and
// what a command has to start with to run with it.
func (n *node) etc(seconds int) (dir string, enter []string) {
	t := n.lab.t
	t.Helper()
	ns := n.lab.machine("ns", "192.0.2.53/24")
	ns.listen(53)
	dir = must(os.MkdirTemp(binaryDir, "etc-"))(t)
	check(t, os.Chmod(dir, 0o755))
	conf := fmt.Sprintf("nameserver %s\noptions timeout:%d attempts:1\n", ns.addr, seconds)
	check(t, os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(conf), 0o644))
	enter, _ = n.mountSpace("--bind", dir, "/etc")
	return dir, enter
}

// Names that are looked up in vain hold nothing up where the table of another
// peer can be had.
func TestNamesHoldUpNoOtherPeer(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	open()
	n := l.snode(1)
	_, enter := n.etc(60)
	n.startAs(in(t, enter...), n.grouped([]*machine{d.machine}, "  sn8.test sn9.test", "learning = off", "sync_timeout = 3600", markerConfig(vs...))...)
	if got := n.held(); !got[holding{groupVNI, vs[1].addr, 0}] {
		t.Errorf("got %v when ready, want the member that the peer knows", got)
	}
	n.vtepIsRelayed(vs[0], d)
	if len(d.tell(n, encode(t, vxfld.Sync{Response: vxfld.ResponseAll}))) == 0 {
		t.Error("got no answer to a request for the table")
	}
	ps := n.peers()
	if len(ps) != 3 || ps[1].Name != "sn8.test" || ps[2].Name != "sn9.test" || ps[1].Problem != "is being looked up" || ps[2].Problem != ps[1].Problem {
		t.Errorf("got peers %+v, want names that are being looked up", ps)
	}
}

// vtepIsRelayed has a VTEP register, and waits until a peer was told.
func (n *node) vtepIsRelayed(v *machine, d *deployed) {
	n.lab.t.Helper()
	v.agent(n).register(groupVNI+1, 90, 5)
	n.waitFor("a relayed registration", func() bool { return len(d.relayed(n)) > 0 })
}

// A node that knows its peers by name alone waits for them. A reload takes
// effect meanwhile: it makes the node ready. It goes on to look for the peer, and
// takes its table.
func TestNodeWaitsForNames(t *testing.T) {
	t.Parallel()
	const name = "old1.test"
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	open()
	n := l.snode(1)
	dir, enter := n.etc(1)
	m := newManager(t)
	cmd := in(t, enter...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket)
	config := n.grouped(nil, "  "+name, "svcnode_ip = "+groupService, "install_svcnode_ip = yes", "drain_time = 0", markerConfig(vs...))
	n.proc = n.launch(cmd, append(slices.Clone(config), "sync_timeout = 3600")...)
	must(n.proc.WaitLine(within(t), says("peer name does not resolve, trying again")))(t)
	if ps := n.peers(); len(ps) != 1 || ps[0].Name != name || !strings.Contains(ps[0].Problem, name) {
		t.Errorf("got peers %+v, want a name that does not resolve", ps)
	}
	if s := n.status(); s.Ready || s.Waiting == "" || n.onLoopback(groupService) {
		t.Errorf("got status %+v, address there: %v, want a node that waits", s, n.onLoopback(groupService))
	}

	n.reload(append(slices.Clone(config), "sync_timeout = 1")...)
	m.ready()
	if s := n.status(); !s.Ready || !s.Asking {
		t.Errorf("got status %+v, want one that is ready and asks on", s)
	}
	if got := with(lines(n.proc.Output()), "ready without the table of a peer"); len(got) != 1 || got[0]["count"] != "0" {
		t.Errorf("got %q, want a warning that nobody was asked", got)
	}
	n.waitFor("the service address", func() bool { return n.onLoopback(groupService) })

	check(t, os.WriteFile(filepath.Join(dir, "hosts"), []byte(d.addr.String()+" "+name+"\n"), 0o644))
	n.waitMembers(groupVNI, vs[1].addr)
	n.waitFor("a node with a table", func() bool { return !n.status().Asking })
	if p := n.peers()[0]; p.Name != name || p.Address != netip.AddrPortFrom(d.addr, ctlPort) || !p.Reachable {
		t.Errorf("got peer %+v, want one that was asked", p)
	}
	n.vtepIsRelayed(vs[0], d)
	if status := n.end(unix.SIGTERM); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
}
