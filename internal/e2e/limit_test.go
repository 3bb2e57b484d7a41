// SPDX-License-Identifier: Apache-2.0

package e2e

// Bounds: one who sends too much costs himself, not the others, and what is
// lost is counted.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 3 sends too much, also as 10.1.x.y

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const limitVNI vxlan.VNI = 90

// claim sends packets to the node from n addresses that nobody has.
func (m *machine) claim(n *node, vni vxlan.VNI, count int) {
	m.lab.t.Helper()
	addr := netip.MustParseAddr("10.1.0.1")
	var ds []netlab.Datagram
	for i := range count {
		d := m.packet(n, vni, frame(netlab.Broadcast, i, 64))
		d.Src = netip.AddrPortFrom(addr, 50000)
		ds = append(ds, d)
		addr = addr.Next()
	}
	m.send(n, ds...)
}

// Learned members have a cap of their own: when it is reached, members still
// register, and those that are known get their copies.
func TestLearnedMembersAreBounded(t *testing.T) { overEngines(t, testLearnedMembersAreBounded) }

func testLearnedMembersAreBounded(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("max_learned = 10", markerConfig(vs...))
	vs[2].claim(n, limitVNI, 100)
	vs[2].flush(n, vs...)
	a := vs[1].agent(n)
	if got := len(a.ask(limitVNI)[limitVNI]); got != 10 {
		t.Errorf("got %d members learned, want the cap, 10", got)
	}
	a.register(limitVNI, 90, 5)
	wantMember(t, n, vs[0], vs[1], limitVNI, true)
}

// The caps on members of a VNI and on the whole table hold for registrations;
// there they may take the place of learned members.
func TestMembersAreBounded(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"max_members", "max_entries"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			const limit = 20
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := l.node(option+fmt.Sprintf(" = %d", limit), "max_learned = 5")
			vs[0].claim(n, limitVNI, 10)
			a := vs[1].agent(n)
			var many []netip.Addr
			addr := netip.MustParseAddr("10.2.0.1")
			for range 100 {
				many = append(many, addr)
				addr = addr.Next()
			}
			a.send(vxfld.V2, &vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseRequested,
				VNIs: []vxfld.VNIMembers{{VNI: limitVNI, Addrs: many}}})
			_, r := a.receive()
			registered := 0
			for _, m := range members(r)[limitVNI] {
				if netip.MustParsePrefix("10.2.0.0/16").Contains(m) {
					registered++
				}
			}
			if got := len(members(r)[limitVNI]); got > limit || registered < limit-5 {
				t.Errorf("got %d members, %d of them registered, want %d at most and %d at least", got, registered, limit, limit-5)
			}
		})
	}
}

// Somebody who registers without pause keeps nobody else from it.
func TestFloodOfRegistrations(t *testing.T) { overEngines(t, testFloodOfRegistrations) }

func testFloodOfRegistrations(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...))
	r := &vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 3, Response: vxfld.ResponseAll}
	for i := range vxlan.VNI(50) {
		r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: 1000 + i, Addrs: []netip.Addr{vs[2].addr}})
	}
	d := vs[2].packet(n, 0, nil)
	d.Dst = netip.AddrPortFrom(n.addr, ctlPort)
	d.Payload = must(vxfld.Message{Version: vxfld.V3, Body: r}.Append(nil))(t)
	for range 50 {
		ds := make([]netlab.Datagram, 400)
		for i := range ds {
			ds[i] = d
		}
		vs[2].send(n, ds...)
	}
	wantServes(t, n, vs[0], vs[1])
}

// What the kernel drops because the node does not keep up is among what is
// counted: nothing is lost unseen.
func TestKernelDropsAreCounted(t *testing.T) {
	t.Parallel()
	const packets = 2000
	l := engineRaw.lab(t, 0) // the kernel floods for longer, and drops nothing
	vs := l.vteps(2)
	n := l.node("learning = off", "receive_queue = 65536", markerConfig(vs...), memberConfig([]vxlan.VNI{limitVNI}, vs...))
	check(t, n.proc.Signal(syscall.SIGSTOP))
	for i := 0; i < packets; i += 100 {
		var fs [][]byte
		for j := range 100 {
			fs = append(fs, frame(netlab.Broadcast, i+j, 1000))
		}
		vs[0].flood(n, limitVNI, fs...)
	}
	check(t, n.proc.Signal(syscall.SIGCONT))
	// Markers may be among what is dropped while the queue is full.
	check(t, netlab.Wait(within(t), "room in the queue", func() bool {
		vs[0].flood(n, limitVNI+1, frame(netlab.Broadcast, 0, 64))
		return len(vs[1].got()) > 0
	}))
	vs[0].flush(n, vs...)
	got := len(vs[1].got())
	c := n.stop()
	lost := c.drops("kernel")
	if lost == 0 || got == packets {
		t.Fatalf("got %d drops of the kernel and %d copies, want drops", lost, got)
	}
	// All but the marker and what was sent to a VNI without members.
	if sum := got + lost; sum < packets || sum > packets+c.drops("no_member") {
		t.Errorf("got %d copies and %d drops of the kernel, want them to add up to %d", got, lost, packets)
	}
}
