// SPDX-License-Identifier: Apache-2.0

package e2e

// Nothing goes round in a group, however its nodes are made to know each other.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// addrs returns the addresses of machines.
func addrs(ms ...*machine) (as []netip.Addr) {
	for _, m := range ms {
		as = append(as, m.addr)
	}
	return as
}

// exchangeVNI is below all VNIs of exchange. Each has one marker, so nobody is a
// member before that.
const exchangeVNI vxlan.VNI = 1 << 23

// exchange has markers go from each node to the other by registrations, some
// times: what they had to say to each other before has been said by then. It
// returns how many messages that took in each direction.
func exchange(a, b *agent, na, nb *node) (messages int) {
	const rounds = 5
	for range rounds {
		id := markers.Add(2)
		vni := exchangeVNI + vxlan.VNI(id)
		a.register(vni, 90, id)
		nb.waitMembers(vni, a.addr)
		b.register(vni+1, 90, id+1)
		na.waitMembers(vni+1, b.addr)
	}
	return rounds
}

// Two nodes are each other's peers, and each other's VTEPs by configuration:
// each packet and each message goes one way, once.
func TestTwoNodesThatArePeersAndVTEPsOfEachOther(t *testing.T) {
	overEngines(t, testTwoNodesThatArePeersAndVTEPsOfEachOther)
}

func testTwoNodesThatArePeersAndVTEPsOfEachOther(t *testing.T, e engine) {
	const packets = 20
	l := e.lab(t, 0)
	vs := l.vteps(2)
	ns := []*node{l.snode(1), l.snode(2)}
	ms := []*machine{ns[0].machine, ns[1].machine}
	for _, n := range ns {
		n.join(ms, markerConfig(vs[0], vs[1], ms[0], ms[1]), memberConfig([]vxlan.VNI{groupVNI}, vs[0], vs[1], ms[0], ms[1]))
	}
	agents := []*agent{vs[0].agent(ns[0]), vs[1].agent(ns[1])}
	exchange(agents[0], agents[1], ns[0], ns[1])
	for _, m := range ms {
		m.forget()
	}

	for i, n := range ns {
		from, to := vs[i], vs[1-i]
		to.forget()
		var want []sent
		for k := range packets {
			in := frame(netlab.Broadcast, k, 64)
			from.flood(n, groupVNI, in)
			want = append(want, sent{src: from.packet(n, groupVNI, in).Src, ttl: 64, vni: groupVNI, inner: in})
		}
		from.flush(n, to)
		wantCopies(t, to, want...)
	}
	// Registrations of all kinds, each by either node.
	own := 0
	for _, version := range []vxfld.Version{vxfld.V1, vxfld.V2, vxfld.V3} {
		for _, a := range agents {
			a.send(version, &vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: []vxfld.VNIMembers{
				{VNI: groupVNI, Addrs: addrs(vs[0], vs[1], ms[0], ms[1])}}})
			if version == vxfld.V1 {
				a.receive()
			}
			a.ask()
		}
		own++
	}
	own += exchange(agents[0], agents[1], ns[0], ns[1])
	for i, n := range ns {
		other := ns[1-i]
		if got := len(n.datagrams(other.machine)); got != own {
			t.Errorf("%s: got %d messages from its peer, want %d, one of each registration there", n.Name, got, own)
		}
		if got := n.decode(must(n.cap.Packets(func(p *netlab.Packet) bool { return n.toMe(p) && p.Src != vs[i].addr }))(t)); len(got) > 0 {
			t.Errorf("%s: got %d VXLAN packets that its VTEP did not send it, want none", n.Name, len(got))
		}
		for _, e := range n.entries(groupVNI) {
			if slices.Contains(addrs(ms...), e.Address) && e.Source != "configuration" {
				t.Errorf("%s: got %+v, want a node to be a member by configuration alone", n.Name, e)
			}
		}
	}

	// What is learned is told once, and not told back. The first round takes with
	// it what was still to be told.
	const rounds = 6
	var before [2]uint64
	for i := range rounds {
		for k, n := range ns {
			vni := groupVNI + 2000 + vxlan.VNI(2*i+k)
			vs[k].flood(n, vni, frame(netlab.Broadcast, i, 64))
			ns[1-k].waitMembers(vni, vs[k].addr)
		}
		if i == 0 {
			for k, n := range ns {
				n.waitFor("the end of updates", func() bool { p := n.peers()[0]; return p.Waiting == 0 && p.Updates > 0 })
				before[k] = n.peers()[0].Updates
			}
		}
	}
	for k, n := range ns {
		n.waitFor("the last update", func() bool { return n.peers()[0].Updates >= before[k]+rounds-1 })
		// It counts when the peer answers, so what the first round told may be new here.
		if got := n.peers()[0].Updates - before[k]; got > rounds {
			t.Errorf("%s: got %d members told, want each of %d once", n.Name, got, rounds)
		}
		if got := n.connections(ns[1-k].machine); got > 4*rounds {
			t.Errorf("%s: got %d connections, want a few for each of %d rounds at most", n.Name, got, rounds)
		}
	}
	for _, n := range ns {
		if got := n.stop().drops("ttl"); got > 0 {
			t.Errorf("%s: got %d packets with their TTL used up, want none", n.Name, got)
		}
	}
}

// A node lists itself as its only peer, by address and by name, and as a VTEP:
// it talks to nobody.
func TestNodeThatListsItself(t *testing.T) { overEngines(t, testNodeThatListsItself) }

func testNodeThatListsItself(t *testing.T, e engine) {
	const packets = 20
	for _, service := range []string{"0.0.0.0", groupService} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(2)
			n := l.snode(1)
			lo := must(n.Capture("lo"))(t)
			n.start("workers = 1", "src_ip = "+n.addr.String(), "svcnode_ip = "+service, "install_svcnode_ip = yes", "drain_time = 0",
				"svcnode_peers = "+strings.Join([]string{n.addr.String(), groupService, "127.0.0.1", "localhost"}, ", "),
				markerConfig(vs[0], vs[1], n.machine), memberConfig([]vxlan.VNI{groupVNI}, vs[0], vs[1], n.machine))
			if service == groupService {
				n.waitFor("the service address", func() bool { return n.onLoopback(groupService) })
			}
			a := vs[1].agent(n)
			var want []sent
			for i := range packets {
				in := frame(netlab.Broadcast, i, 64)
				vs[0].flood(n, groupVNI, in)
				want = append(want, sent{src: vs[0].packet(n, groupVNI, in).Src, ttl: 64, vni: groupVNI, inner: in})
				a.register(groupVNI+1, 90, uint64(i+1))
			}
			vs[0].flush(n, vs[1])
			wantCopies(t, vs[1], want...)
			if got := must(lo.Packets(func(p *netlab.Packet) bool {
				return p.UDPTo(ctlPort) || p.UDPTo(dataPort) || p.Protocol == unix.IPPROTO_TCP
			}))(t); len(got) > 0 {
				t.Errorf("got %d packets from the node to itself, want none; first: from %s to %s, protocol %d", len(got), got[0].Src, got[0].Dst, got[0].Protocol)
			}
			for _, p := range n.peers() {
				// Where the node does not have it, the service address is another's.
				if p.Address.Addr().String() != groupService || service == groupService {
					t.Errorf("got peer %+v, want none", p)
				}
			}
			if got := n.status().Registrations["own"]; got > 0 {
				t.Errorf("got %d messages of its own, want none", got)
			}
		})
	}
}

// Messages of version 1 in a group with a deployed node, which answers each that
// it gets with its table, end where they come.
func TestVersion1InGroupWithDeployedPeer(t *testing.T) {
	t.Parallel()
	const times = 10
	l := newLab(t, 0)
	vs := l.vteps(2)
	d := l.deployed(1)
	n, other := l.snode(1), l.snode(2)
	all := []*machine{d.machine, n.machine, other.machine}
	n.join(all, "learning = off", markerConfig(vs...))
	other.join(all, "learning = off", markerConfig(vs...))
	record := []vxfld.VNIMembers{{VNI: groupVNI, Addrs: addrs(vs...)}}
	old := &agent{d.machine, d.udp, netip.AddrPortFrom(n.addr, ctlPort), n}
	fromVTEP, fromOther := vs[0].agent(n), vs[1].agent(other)
	for range times {
		// What a VTEP registers, the deployed node gets as version 3: no reason
		// for it to answer.
		fromVTEP.send(vxfld.V1, &vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: record})
		fromVTEP.receive()
		// What it relays and answers in version 1 itself, and what it would
		// send as a VTEP.
		old.send(vxfld.V1, &vxfld.Refresh{Holdtime: 90, VNIs: record})
		old.send(vxfld.V1, &vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: record})
	}
	fromVTEP.ask()
	marked := exchange(fromVTEP, fromOther, n, other)
	old.send(vxfld.V3, &vxfld.Refresh{Holdtime: 90, Identifier: 99, VNIs: []vxfld.VNIMembers{{VNI: groupVNI + 1, Addrs: addrs(vs[0])}}})
	n.waitMembers(groupVNI+1, vs[0].addr)

	n.waitFor("all markers at the deployed node", func() bool {
		left := marked
		for _, r := range d.relayed(n) {
			if r.VNIs[0].VNI >= exchangeVNI {
				left--
			}
		}
		return left == 0
	})
	for _, p := range d.datagrams(n.machine) {
		if p.Payload[0] != byte(vxfld.V3) {
			t.Errorf("got a message of version %d from %s, want 3, which is not answered", p.Payload[0], p.Source())
		}
	}
	for _, r := range d.relayed(n) { // they are registrations, and no answers
		if len(r.VNIs) != 1 {
			t.Errorf("got %+v, want one record", r)
		}
	}
	// Each registration is relayed once: the VTEP's, and those that the deployed
	// node claimed to be one's.
	if got, want := len(d.relayed(n)), 2*times+marked; got != want {
		t.Errorf("got %d messages at the deployed node, want %d", got, want)
	}
	if got, want := len(other.datagrams(n.machine)), 2*times+marked; got != want {
		t.Errorf("got %d messages at the other node, want %d", got, want)
	}
	if got := n.status().Registrations; got["answer"] != times || got["relayed"] != uint64(marked)+1 {
		t.Errorf("got counters %v, want %d answers and %d relayed", got, times, marked+1)
	}
}
