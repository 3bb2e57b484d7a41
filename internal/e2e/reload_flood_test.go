// SPDX-License-Identifier: Apache-2.0

package e2e

// Reloads of the data plane and of what it shares with the control plane.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────────
//	  │     │     │     │
//	  1     2     3     4       192.0.2.N

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// While nothing is flooded the data port is free for others, and registrations
// are served. Where the port is not to be had again, nothing of the reload
// takes effect.
func TestReloadNoFlood(t *testing.T) { overEngines(t, testReloadNoFlood) }

func testReloadNoFlood(t *testing.T, e engine) {
	n, vs, base := e.lab(t, 0).reloading(3, []int{2})
	n.start(base...)
	a := vs[2].agent(n)
	occupants := []struct {
		name   string
		occupy func()
		leave  func()
	}{
		{"kernel VXLAN device",
			func() { check(t, n.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 1, Local: n.addr})) },
			func() { check(t, n.DeleteLink("vxlan1")) }},
		{"another program", nil, nil},
	}
	other := &occupants[1]
	other.occupy = func() {
		c := must(n.ListenUDP(netip.MustParseAddrPort("0.0.0.0:4789")))(t)
		other.leave = func() { check(t, c.Close()) }
	}
	packets := uint64(0)
	for i, o := range occupants {
		wantMember(t, n, vs[0], vs[1], reloadVNI, true)
		wantChanges(t, n.reload(append(base, "no_flood = true")...), "no_flood")
		s := n.status()
		if s.Engine != "none" || s.Packets <= packets {
			t.Errorf("%s: got engine %q and %d packets, want none and more than %d", o.name, s.Engine, s.Packets, packets)
		}
		packets = s.Packets
		occupants[i].occupy()

		a.register(reloadVNI+vxlan.VNI(i), 90, 5)
		n.waitMembers(reloadVNI+1, map[bool][]netip.Addr{true: {a.addr}}[i == 1]...)
		n.configure(append(base, "holdtime = 60", memberConfig([]vxlan.VNI{reloadVNI + 10}, vs[0]))...)
		if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], "0.0.0.0:4789") || !strings.Contains(got[0], "VXLAN device") {
			t.Errorf("%s: got %q, want one error that names the port and who may have it", o.name, got)
		}
		if s := n.status(); s.Engine != "none" || len(n.entries(reloadVNI+10)) > 0 {
			t.Errorf("%s: got engine %q and a member more after the refusal, want neither", o.name, s.Engine)
		}

		occupants[i].leave()
		wantChanges(t, n.reload(base...), "no_flood")
		wantMember(t, n, vs[0], vs[1], reloadVNI, true)
		wantMember(t, n, vs[0], vs[2], reloadVNI, true)
	}
	if s := n.status(); s.Engine != string(e) || s.Packets <= packets {
		t.Errorf("got engine %q and %d packets, want %s and more than before, %d", s.Engine, s.Packets, e, packets)
	}
}

// A node that started without flooding has kept no privilege for it, and says
// so. Registrations go on.
func TestReloadCannotGainPrivilege(t *testing.T) {
	t.Parallel()
	n, vs, base := newLab(t, 0).reloading(2, nil)
	n.start(append(base, "no_flood = true")...)
	n.configure(base...)
	if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], "CAP_NET_RAW") {
		t.Errorf("got %q, want one error that names the capability", got)
	}
	vs[0].agent(n).register(reloadVNI, 90, 5)
	n.waitMembers(reloadVNI, vs[0].addr)
}

func TestReloadChecksum(t *testing.T) { overEngines(t, testReloadChecksum) }

func testReloadChecksum(t *testing.T, e engine) {
	l := e.lab(t, 0)
	if e == engineTC {
		l.engine = "auto" // tc by its name is refused with checksums
	}
	n, vs, base := l.reloading(2, []int{1, 2})
	n.start(base...)
	for i, mode := range []string{"zero", "compute", "zero"} {
		n.reload(append(base, "udp_checksum = "+mode)...)
		vs[1].forget()
		vs[0].flood(n, reloadVNI, frame(netlab.Broadcast, i, 64))
		got := vs[1].await(1)[0]
		if computed := mode == "compute"; got.ChecksumValid() != computed || (got.Checksum != 0) != computed {
			t.Errorf("%s: got checksum %#x", mode, got.Checksum)
		}
	}
}

func TestReloadOversize(t *testing.T) { overEngines(t, testReloadOversize) }

func testReloadOversize(t *testing.T, e engine) {
	n, vs, base := e.lab(t, 0).reloading(2, []int{1, 2})
	n.start(base...)
	for i, mode := range []string{"fragment", "drop", "fragment"} {
		n.reload(append(base, "oversize = "+mode)...)
		vs[1].forget()
		in := frame(netlab.Broadcast, i, 3000)
		vs[0].floodLarge(n, reloadVNI, in)
		vs[0].flush(n, vs...)
		if mode == "drop" {
			wantNone(t, vs[1])
			continue
		}
		wantCopies(t, vs[1], sent{src: vs[0].packet(n, 0, nil).Src, ttl: 64, vni: reloadVNI, inner: in})
	}
	n.stop().wantDrops("oversize", 1)
}

func TestReloadPacketSize(t *testing.T) {
	t.Parallel()
	const vnis = 40
	l := newLab(t, 0)
	v := l.vtep(1)
	var all []vxlan.VNI
	for i := range vxlan.VNI(vnis) {
		all = append(all, reloadVNI+i)
	}
	base := []string{"workers = 1", memberConfig(all, v)}
	n := l.idle()
	n.start(base...)
	a := v.agent(n)
	for _, tt := range []struct {
		size  string
		parts bool
	}{{"1500", false}, {"200", true}, {"1500", false}} {
		n.reload(append(base, "max_packet_size = "+tt.size)...)
		a.send(vxfld.V3, &vxfld.Refresh{Originator: true, Response: vxfld.ResponseAll})
		parts := 0
		for left := vnis; left > 0; parts++ {
			_, r := a.receive()
			left -= len(r.VNIs)
		}
		if (parts > 1) != tt.parts {
			t.Errorf("max_packet_size = %s: got the table in %d messages", tt.size, parts)
		}
	}
}

// A peer gets no copies and floods nothing, and what it relays is taken.
func TestReloadPeers(t *testing.T) { overEngines(t, testReloadPeers) }

func testReloadPeers(t *testing.T, e engine) {
	n, vs, base := e.lab(t, 0).reloading(4, []int{2, 3, 4}, "learning = off")
	far := netip.MustParseAddr("10.9.0.1")
	n.start(base...)
	asker, relay := vs[1].agent(n), vs[2].agent(n)
	for i, isPeer := range []bool{false, true, false, true} {
		if i > 0 {
			config := base
			if isPeer {
				config = append(slices.Clone(base), "svcnode_peers = 192.0.2.3")
			}
			wantChanges(t, n.reload(config...), "svcnode_peers")
		}
		vni := reloadVNI + vxlan.VNI(i) + 1
		relay.send(vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{far}}}})
		want := map[vxlan.VNI][]netip.Addr{}
		if isPeer {
			want[vni] = []netip.Addr{far}
		}
		wantMembers(t, asker.ask(vni), want)

		for _, v := range vs {
			v.forget()
		}
		ins := [][]byte{frame(netlab.Broadcast, 2*i, 64), frame(netlab.Broadcast, 2*i+1, 64)}
		toPeer := sent{src: vs[0].packet(n, 0, nil).Src, ttl: 64, vni: reloadVNI, inner: ins[0]}
		ofPeer := sent{src: vs[2].packet(n, 0, nil).Src, ttl: 64, vni: reloadVNI, inner: ins[1]}
		vs[2].flood(n, reloadVNI, ins[1])
		vs[0].flood(n, reloadVNI, ins[0])
		if isPeer {
			vs[0].flush(n, vs[1], vs[3])
			wantNone(t, vs[2])
			wantCopies(t, vs[1], toPeer)
		} else {
			vs[0].flush(n, vs...)
			wantCopies(t, vs[2], toPeer)
			wantCopies(t, vs[1], ofPeer, toPeer)
		}
		if t.Failed() {
			t.Fatalf("at reload %d", i)
		}
	}
	if got := n.status().Peers; len(got) != 1 {
		t.Errorf("got peers %q, want the one of the last reload", got)
	}
}
