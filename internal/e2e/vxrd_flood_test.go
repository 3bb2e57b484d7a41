// SPDX-License-Identifier: Apache-2.0

package e2e

// What VTEPs flood arrives at all others, in both replication modes, once, and
// before any of them has sent a packet of its own. See vxrd_test.go for the lab.

import (
	"bytes"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
)

// serve starts n service nodes, which know who has registered and nobody else.
// They think that they know everybody soon.
func (l *lab) serve(n int) []*node { return l.group(n, "learning = off", "holdtime = 2") }

func TestVxrdModes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		nodes   int
		headEnd bool
		config  func(ns []*node) string // of vxrd
		guest   func(l *lab, i int, n *node) guest
	}{
		{name: "service node", nodes: 1, config: unset},
		{name: "service node, hosts behind a bridge", nodes: 1, config: unset, guest: bridgedGuest},
		{name: "two service nodes, each with some of the VTEPs", nodes: 2, config: unset},
		{name: "two service nodes, both with all of the VTEPs", nodes: 2, config: bothNodes},
		{name: "head-end", nodes: 1, headEnd: true, config: bothNodes},
		{name: "head-end, hosts behind a bridge", nodes: 1, headEnd: true, config: bothNodes, guest: bridgedGuest},
		{name: "head-end, two service nodes", nodes: 2, headEnd: true, config: bothNodes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			ns := l.serve(tt.nodes)
			if tt.guest == nil {
				tt.guest = addressedGuest
			}
			var gs []guest
			var vs []*vxrd
			for i := 1; i <= 3; i++ {
				to := nowhere
				if !tt.headEnd {
					to = ns[i%len(ns)]
				}
				g := tt.guest(l, i, to)
				gs = append(gs, g)
				v := g.vtep.idleVxrd()
				vs = append(vs, v)
				if tt.headEnd {
					v.start(tt.config(ns))
					continue
				}
				// Without any privilege.
				cmd := exec.Command(vxrdName(t, "vxrd"))
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherGroup}}
				v.startAs(cmd, v.config(tt.config(ns), "head_rep = no")...)
				v.wantPrivileges(unbounded(t, confined(otherUser, otherGroup, "", none)))
			}
			ms := []*machine{vs[0].machine, vs[1].machine, vs[2].machine}
			for _, n := range ns {
				n.waitMembers(vxrdVNI, addrs(ms...)...)
			}
			for _, v := range vs {
				if tt.headEnd {
					v.waitFloods("vxlan100", addrs(without(ms, v.machine)...)...)
				}
			}
			for _, m := range ms {
				wantNone(t, m) // nothing was sent so far
			}
			wantPings(t, gs...)
			wantMulticast(t, gs, ms)
			for _, n := range ns {
				if got := n.status().Packets; tt.headEnd && got != 0 {
					t.Errorf("%s: got %d packets at a service node, want none", n.Name, got)
				}
			}
		})
	}
}

func unset([]*node) string { return "" }

func bothNodes(ns []*node) string {
	out := "svcnode_ip ="
	for _, n := range ns {
		out += " " + n.addr.String()
	}
	return out
}

func addressedGuest(l *lab, i int, n *node) guest { return l.addressed(i, n, vxrdVNI, netlab.VXLAN{}) }

func bridgedGuest(l *lab, i int, n *node) guest {
	return l.bridged(i, n, vxrdVNI, netlab.VXLAN{Device: "eth0"})
}

// wantPings fails the test unless everybody reaches everybody, which takes ARP.
func wantPings(t *testing.T, gs ...guest) {
	t.Helper()
	for _, a := range gs {
		for _, b := range gs {
			if a.addr != b.addr {
				must(a.Ping(within(t), b.addr, 56))(t)
			}
		}
	}
}

// wantMulticast fails the test unless what each guest sends to a group arrives
// at each other guest, and at each other VTEP, exactly once and in order, and
// nowhere else.
func wantMulticast(t *testing.T, gs []guest, ms []*machine) {
	t.Helper()
	const each = 20
	var caps []*netlab.Capture
	for i, g := range gs {
		caps = append(caps, must(g.Capture(g.dev))(t))
		ms[i].forget()
	}
	var all [][]byte
	for i, g := range gs {
		var fs [][]byte
		for j := range each {
			fs = append(fs, frame(multicastMAC, i*each+j, 200))
		}
		check(t, g.Send(g.dev, fs...))
		all = append(all, fs...)
	}
	for i := range gs {
		want := slices.Delete(slices.Clone(all), i*each, (i+1)*each)
		wantFrames := func(what string, got [][]byte) {
			t.Helper()
			slices.SortStableFunc(got, func(a, b []byte) int { return number(a)/each - number(b)/each })
			if !slices.EqualFunc(got, want, bytes.Equal) {
				var ns []int
				for _, f := range got {
					ns = append(ns, number(f))
				}
				t.Errorf("%s %d: got frames %v, want those of the others, %d each", what, i+1, ns, each)
			}
		}
		mine := func(p *netlab.Packet) bool { return p.EtherType == experimental }
		var got, arrived [][]byte
		for _, p := range must(caps[i].Wait(within(t), len(want), mine))(t) {
			got = append(got, p.Frame)
		}
		wantFrames("guest", got)
		for _, r := range ms[i].got() {
			if bytes.Equal(r.inner[:6], multicastMAC) {
				arrived = append(arrived, r.inner)
				if sender := addrs(ms...)[number(r.inner)/each]; r.Src != sender || r.vni != vxrdVNI {
					t.Errorf("vtep %d: got a copy from %s in VNI %s, want %s in %s", i+1, r.Src, r.vni, sender, vxrdVNI)
				}
			}
		}
		wantFrames("underlay of vtep", arrived)
	}
}
