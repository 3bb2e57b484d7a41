// SPDX-License-Identifier: Apache-2.0

package e2e

// Who is believed, and what is refused over TCP.

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// msgRefused is logged for a connection that changes nothing.
const msgRefused = "table exchange refused"

// refusals returns the reasons for which connections from a machine were
// refused, as they were logged.
func (n *node) refusals(from *machine) []string {
	return values(slices.DeleteFunc(with(lines(n.proc.Output()), msgRefused),
		func(f map[string]string) bool { return f["src"] != from.addr.String() }), "reason")
}

// A stranger's SYNC changes nothing and is not answered, and what it relays is
// not taken; one that peer_allow names is believed, gets no copies from then
// on, and is told nothing. A reload changes who that is.
func TestWhoIsBelieved(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	stranger, friend := l.machine("stranger", "192.0.2.151/24"), l.machine("friend", "192.0.2.161/24")
	stranger.listen(dataPort)
	friend.listen(dataPort)
	d, n := l.deployed(1), l.snode(1)
	config := []string{"learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{groupVNI}, vs[0], vs[1], stranger, friend)}
	n.join([]*machine{d.machine}, append(config, "peer_allow = 192.0.2.160/28, 203.0.113.0/24")...)
	update := func(vni vxlan.VNI) []byte {
		return encode(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{entriesOf(vni, vxfld.SyncEntry{Addr: vs[2].addr, Holdtime: 90})}})
	}
	request := encode(t, vxfld.Sync{Response: vxfld.ResponseAll})
	vni := groupVNI
	try := func(m *machine, believed bool) {
		t.Helper()
		vni++
		if answer := m.tell(n, update(vni)); len(answer) > 0 {
			t.Errorf("%s: got an answer of %d bytes to an update, want none", m.Name, len(answer))
		}
		if answer := m.tell(n, request); (len(answer) > 0) != believed {
			t.Errorf("%s: got a table of %d bytes, want one: %v", m.Name, len(answer), believed)
		}
		// Connections are served side by side: one that is answered is not the last.
		if believed {
			n.waitMembers(vni, vs[2].addr)
		} else if got := n.entries(vni); len(got) > 0 {
			t.Errorf("%s: got %+v, want no member", m.Name, got)
		}
		vni++
		c := must(m.ListenUDP(netip.AddrPortFrom(m.addr, 0)))(t)
		defer c.Close()
		a := &agent{m, c, netip.AddrPortFrom(n.addr, ctlPort), n}
		a.send(vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{vs[2].addr}}}})
		if got := a.ask(vni); (len(got[vni]) == 1) != believed {
			t.Errorf("%s: got members %v, want those that it relays: %v", m.Name, got, believed)
		}
	}
	copied := func(m *machine, want bool) {
		t.Helper()
		m.forget()
		vs[0].flood(n, groupVNI, frame(netlab.Broadcast, 1, 64))
		vs[0].flush(n, vs[1])
		if got := m.got(); (len(got) == 1) != want {
			t.Errorf("%s: got %d copies, want one: %v", m.Name, len(got), want)
		}
	}
	copied(stranger, true)
	copied(friend, true) // nobody knows it yet
	try(stranger, false)
	try(friend, true)
	copied(stranger, true)
	copied(friend, false)
	n.waitFor("a line that says not_peer", func() bool { return len(n.refusals(stranger)) > 0 })
	if got := n.refusals(stranger); !slices.Equal(got, []string{"not_peer"}) {
		t.Errorf("got refusals %q, want one line for both connections", got)
	}
	if got := n.status().Registrations; got["not_peer"] != 1 || got["relayed"] != 1 {
		t.Errorf("got counters %v, want 1 refused and 1 relayed", got)
	}
	if got := n.peers(); len(got) != 1 || got[0].Address.Addr() != d.addr {
		t.Errorf("got peers %+v, want the configured one alone", got)
	}
	vs[0].agent(n).register(groupVNI+50, 90, 5)
	n.waitFor("a relay to the peer", func() bool {
		return slices.ContainsFunc(d.relayed(n), func(r *vxfld.Refresh) bool { return r.VNIs[0].VNI == groupVNI+50 })
	})
	if got := friend.datagrams(n.machine); len(got) > 0 {
		t.Errorf("got %d messages at who is believed but no peer, want none", len(got))
	}

	n.reload(n.grouped([]*machine{d.machine}, append(config, "peer_allow = 192.0.2.151")...)...)
	try(stranger, true)
	try(friend, false)
	copied(stranger, false)
	copied(friend, true)
}

// Every SYNC of a peer that is malformed anywhere is refused whole, and leaves a
// node that serves; so does every good one that is cut off anywhere.
func TestMalformedTables(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, n := l.deployed(1), l.snode(1)
	n.join([]*machine{d.machine}, "learning = off", markerConfig(vs...))
	before := n.held()
	good := encode(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{
		entriesOf(groupVNI, vxfld.SyncEntry{Addr: vs[0].addr, Holdtime: 90, Identifier: 5}),
		entriesOf(groupVNI+1, vxfld.SyncEntry{Addr: vs[1].addr, Holdtime: 90, Identifier: 6}),
	}})
	bad := map[string][]byte{
		"no SYNC": must(vxfld.Message{Version: vxfld.V3, Body: &vxfld.Refresh{Holdtime: 90,
			VNIs: []vxfld.VNIMembers{{VNI: groupVNI, Addrs: []netip.Addr{vs[0].addr}}}}}.Append(nil))(t),
		"type 128":      {3, 128},
		"version 0":     append([]byte{0}, good[1:]...),
		"trailing byte": append(slices.Clone(good), 0x0a),
		"wrong digest":  encode(t, vxfld.Sync{Node: vxfld.SyncNode, Digest: make([]byte, 100)}),
	}
	for _, v := range vectors(t) {
		if b := must(hex.DecodeString(v.Hex))(t); v.Want == "refuse" && strings.Contains(v.Name, "sync") {
			bad[v.Name] = b
		}
	}
	for i := range good {
		// A cut between two fields leaves a message that is whole.
		if _, err := vxfld.Parse(good[:i]); err != nil {
			bad[fmt.Sprintf("cut at %d", i)] = good[:i]
		}
	}
	for name, b := range bad {
		if answer := d.tell(n, b); len(answer) > 0 {
			t.Errorf("%s: got an answer of %d bytes, want none", name, len(answer))
		}
		if got := n.held(); len(got) != len(before) {
			t.Fatalf("%s: got table %v, want %v", name, got, before)
		}
	}
	for _, reason := range []string{"short", "version", "type", "protobuf", "digest", "empty"} {
		n.waitFor("a line that says "+reason, func() bool { return slices.Contains(n.refusals(d.machine), reason) })
	}
	d.tell(n, good)
	n.waitMembers(groupVNI, vs[0].addr)
	wantServes(t, n, vs[0], vs[1])
}

// One message may tell and ask: what it tells is in the answer.
func TestUpdateAndRequestInOneMessage(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, n := l.deployed(1), l.snode(1)
	n.join([]*machine{d.machine}, "learning = off", memberConfig([]vxlan.VNI{groupVNI + 1}, vs[0]))
	vs[1].agent(n).send(vxfld.V3, &vxfld.Refresh{Originator: true, Holdtime: 300, Identifier: 9,
		VNIs: []vxfld.VNIMembers{{VNI: groupVNI + 1, Addrs: []netip.Addr{vs[1].addr}}}})
	n.waitMembers(groupVNI+1, vs[0].addr, vs[1].addr)
	b := d.tell(n, encode(t, vxfld.Sync{Response: vxfld.ResponseAll, VNIs: []vxfld.VNIEntries{
		entriesOf(groupVNI, vxfld.SyncEntry{Addr: vs[0].addr, Holdtime: 90, Identifier: 5})}}))
	m := must(vxfld.Parse(b))(t)
	s, ok := m.Body.(*vxfld.Sync)
	if !ok || m.Version != vxfld.V3 || s.Response != vxfld.ResponseNone || s.Node != 0 {
		t.Fatalf("got %+v, want an answer as the deployed suite gives it", m)
	}
	got := make(map[holding]uint32)
	for _, rec := range s.VNIs {
		for _, e := range rec.Entries {
			got[holding{rec.VNI, e.Addr, e.Identifier}] = e.Holdtime
		}
	}
	want := map[holding]uint32{
		{groupVNI, vs[0].addr, 5}: 90, {groupVNI + 1, vs[0].addr, 0}: vxfld.HoldtimeStatic, {groupVNI + 1, vs[1].addr, 9}: 300,
	}
	for h, most := range want {
		if left, ok := got[h]; !ok || left > most || most-left > 30 && most != vxfld.HoldtimeStatic {
			t.Errorf("got %d seconds left of %v (there: %v), want about %d", left, h, ok, most)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %d entries", got, len(want))
	}
}
