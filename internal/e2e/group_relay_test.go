// SPDX-License-Identifier: Apache-2.0

package e2e

// Registrations go to every peer.

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

var equalAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// Whatever the version, each peer gets every registration and withdrawal once,
// as version 3 with originator cleared, and nothing else: no question, nothing
// that cannot be a VTEP, and not what another node has relayed.
func TestRelay(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d1, d2 := l.deployed(1), l.deployed(2)
	n := l.snode(1)
	n.join([]*machine{d1.machine, d2.machine}, "learning = off", markerConfig(vs...))
	a := vs[0].agent(n)

	v1, v2 := vs[0].addr, vs[1].addr
	record := func(vni vxlan.VNI, addrs ...netip.Addr) vxfld.VNIMembers {
		return vxfld.VNIMembers{VNI: vni, Addrs: addrs}
	}
	const vni = groupVNI
	tests := []struct {
		name    string
		version vxfld.Version
		message vxfld.Refresh
		answers bool
		want    []vxfld.VNIMembers // nil for nothing relayed
	}{
		{name: "version 1", version: vxfld.V1, answers: true,
			message: vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{record(vni, v1, v2)}},
			want:    []vxfld.VNIMembers{record(vni, v1, v2)}},
		{name: "version 2, two VNIs", version: vxfld.V2, answers: true,
			message: vxfld.Refresh{Holdtime: 91, Response: vxfld.ResponseRequested, VNIs: []vxfld.VNIMembers{record(vni, v1), record(vni+1, v2)}},
			want:    []vxfld.VNIMembers{record(vni, v1), record(vni+1, v2)}},
		{name: "version 3", version: vxfld.V3,
			message: vxfld.Refresh{Holdtime: 300, Identifier: 1 << 47, VNIs: []vxfld.VNIMembers{record(vni+2, v1)}},
			want:    []vxfld.VNIMembers{record(vni+2, v1)}},
		{name: "version 3, for ever", version: vxfld.V3,
			message: vxfld.Refresh{Holdtime: vxfld.HoldtimeStatic, Identifier: 8, VNIs: []vxfld.VNIMembers{record(vni+2, v2)}},
			want:    []vxfld.VNIMembers{record(vni+2, v2)}},
		{name: "version 3, some that cannot be VTEPs", version: vxfld.V3,
			message: vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{
				record(vni+3, netip.MustParseAddr("127.0.0.1"), v1, netip.MustParseAddr("224.0.0.1"), n.addr, d1.addr, netip.IPv4Unspecified())}},
			want: []vxfld.VNIMembers{record(vni+3, v1)}},
		{name: "version 3, only such", version: vxfld.V3,
			message: vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{record(vni+3, n.addr)}}},
		{name: "version 3, a question", version: vxfld.V3, answers: true,
			message: vxfld.Refresh{Holdtime: 90, Response: vxfld.ResponseRequested, VNIs: []vxfld.VNIMembers{record(vni)}}},
		{name: "version 1, withdrawal", version: vxfld.V1, answers: true,
			message: vxfld.Refresh{VNIs: []vxfld.VNIMembers{record(vni, v1, v2)}},
			want:    []vxfld.VNIMembers{record(vni, v1, v2)}},
		{name: "version 2, withdrawal", version: vxfld.V2,
			message: vxfld.Refresh{VNIs: []vxfld.VNIMembers{record(vni+1, v2)}},
			want:    []vxfld.VNIMembers{record(vni+1, v2)}},
		{name: "version 3, withdrawal", version: vxfld.V3,
			message: vxfld.Refresh{Identifier: 8, VNIs: []vxfld.VNIMembers{record(vni+2, v2)}},
			want:    []vxfld.VNIMembers{record(vni+2, v2)}},
	}
	var want []*vxfld.Refresh
	for _, tt := range tests {
		tt.message.Originator = true
		a.send(tt.version, &tt.message)
		if tt.answers {
			a.receive()
		}
		a.ask()
		if tt.want != nil {
			want = append(want, &vxfld.Refresh{Holdtime: tt.message.Holdtime, Identifier: tt.message.Identifier, VNIs: tt.want})
		}
	}

	// What a peer relays is taken in and stays here.
	old := &agent{d1.machine, d1.udp, netip.AddrPortFrom(n.addr, ctlPort), n}
	for i, version := range []vxfld.Version{vxfld.V2, vxfld.V3} {
		old.send(version, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{record(vni+10+vxlan.VNI(i), v2)}})
		n.waitMembers(vni+10+vxlan.VNI(i), v2)
	}
	a.register(vni+20, 90, 9)
	want = append(want, &vxfld.Refresh{Holdtime: 90, Identifier: 9, VNIs: []vxfld.VNIMembers{record(vni+20, v1)}})
	for _, d := range []*deployed{d1, d2} {
		var got []*vxfld.Refresh
		// A peer's messages come in order, so the last one comes last.
		n.waitFor("the last registration at "+d.Name, func() bool {
			got = d.relayed(n)
			return slices.ContainsFunc(got, func(r *vxfld.Refresh) bool { return r.VNIs[0].VNI == vni+20 })
		})
		if diff := cmp.Diff(want, got, equalAddrs); diff != "" {
			t.Errorf("%s: relayed (-want +got):\n%s", d.Name, diff)
		}
		for _, u := range d.told() {
			if slices.ContainsFunc(u.VNIs, func(rec vxfld.VNIEntries) bool { return rec.VNI != markerVNI }) {
				t.Errorf("%s: got update %+v, want none for registrations", d.Name, u)
			}
		}
	}
	for _, p := range n.peers() {
		if p.Relayed != uint64(len(want)) || p.Dropped+p.RelayErrors > 0 || p.Kind != "other" || !p.Reachable || p.Queue > 0 {
			t.Errorf("got peer %+v, want %d messages relayed to a reachable one of another kind", p, len(want))
		}
	}
}

// A registration larger than max_packet_size is relayed in several messages
// that are not, none of its members twice.
func TestRelayInPieces(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	v, d := l.vtep(1), l.deployed(1)
	n := l.snode(1)
	n.join([]*machine{d.machine}, "learning = off", markerConfig(v))
	var addrs []netip.Addr
	for i := range 500 {
		addrs = append(addrs, bigAddr(i))
	}
	v.agent(n).register(groupVNI, 90, 0, addrs...)
	var got []netip.Addr
	n.waitFor("all members at the peer", func() bool {
		got = nil
		for _, r := range d.relayed(n) {
			got = append(got, members(r)[groupVNI]...)
		}
		return len(got) >= len(addrs)
	})
	wantMembers(t, map[vxlan.VNI][]netip.Addr{groupVNI: got}, map[vxlan.VNI][]netip.Addr{groupVNI: addrs})
}

// A VTEP registers with one node of three, and gets what is sent to any of
// them; it withdraws from one, and gets nothing any more.
func TestEachNodeKnowsWhoRegisteredWithAnother(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	ns := l.group(3, "learning = off", markerConfig(vs...))
	a := vs[1].agent(ns[0])
	a.register(groupVNI, 90, 7)
	b := vs[2].agent(ns[1])
	b.register(groupVNI, 90, 8)
	for _, n := range ns {
		n.waitMembers(groupVNI, vs[1].addr, vs[2].addr)
		wantMember(t, n, vs[0], vs[1], groupVNI, true)
		wantMember(t, n, vs[0], vs[2], groupVNI, true)
	}
	if got := ns[1].entries(groupVNI); len(got) != 2 || got[0].Source != "peer" || got[0].Identifier != 7 || got[0].Seconds == nil || *got[0].Seconds > 90 {
		t.Errorf("got %+v, want an entry with identifier 7 that a peer vouches for", got)
	}
	a.register(groupVNI, 0, 7)
	for _, n := range ns {
		n.waitMembers(groupVNI, vs[2].addr)
		wantMember(t, n, vs[0], vs[1], groupVNI, false)
		wantMember(t, n, vs[0], vs[2], groupVNI, true)
	}
	for _, n := range ns {
		n.waitFor("peers that show what they are", func() bool {
			ps := n.peers()
			return len(ps) == 2 && ps[0].Kind == "vxsnd" && ps[1].Kind == "vxsnd"
		})
	}
}

// One peer that cannot be reached delays nobody.
func TestDeadPeerDelaysNoOther(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	dead, d := l.deployed(1), l.deployed(2)
	n := l.snode(1)
	restore := dead.lose(n.addr, unix.IPPROTO_TCP)
	n.join([]*machine{dead.machine, d.machine}, "sync_timeout = 1", markerConfig(vs...))
	a := vs[0].agent(n)
	a.register(groupVNI, 90, 7)
	vs[1].flood(n, groupVNI, frame(netlab.Broadcast, 1, 64))
	n.waitFor("both members at the other peer", func() bool {
		_, ok := d.last(groupVNI, vs[1].addr)
		return ok && len(d.relayed(n)) > 0
	})
	if got := len(dead.told()); got != 0 {
		t.Errorf("got %d updates at the dead peer, want none", got)
	}
	restore()
	n.waitFor("what the dead peer has missed", func() bool {
		_, ok := dead.last(groupVNI, vs[1].addr)
		return ok
	})
}
