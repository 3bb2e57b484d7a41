// SPDX-License-Identifier: Apache-2.0

package e2e

// The registration socket: answers, and what is refused.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 3 is a peer where there is one

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const registerVNI vxlan.VNI = 60

// An answer comes in the version of the question, without asking back, and
// names the asker too.
func TestAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("holdtime = 77", "learning = off", memberConfig([]vxlan.VNI{registerVNI, 61}, vs[:2]...))
	a := vs[2].agent(n)
	self := []vxfld.VNIMembers{{VNI: registerVNI, Addrs: []netip.Addr{a.addr}}}
	all := []netip.Addr{vs[0].addr, vs[1].addr, a.addr}
	tests := []struct {
		name    string
		version vxfld.Version
		message vxfld.Refresh
		want    map[vxlan.VNI][]netip.Addr // nil for no answer
	}{
		{name: "version 1", version: vxfld.V1, message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self},
			want: map[vxlan.VNI][]netip.Addr{registerVNI: all}},
		{name: "version 1, originator cleared", version: vxfld.V1, message: vxfld.Refresh{Holdtime: 90, VNIs: self}},
		{name: "version 2, none", version: vxfld.V2, message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self}},
		{name: "version 2, requested", version: vxfld.V2,
			message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self, Response: vxfld.ResponseRequested},
			want:    map[vxlan.VNI][]netip.Addr{registerVNI: all}},
		{name: "version 2, all", version: vxfld.V2,
			message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self, Response: vxfld.ResponseAll},
			want:    map[vxlan.VNI][]netip.Addr{registerVNI: all, 61: all[:2]}},
		{name: "version 3, none", version: vxfld.V3, message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self}},
		{name: "version 3, requested", version: vxfld.V3,
			message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self, Response: vxfld.ResponseRequested, Identifier: 5},
			want:    map[vxlan.VNI][]netip.Addr{registerVNI: all}},
		{name: "version 3, all", version: vxfld.V3,
			message: vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: self, Response: vxfld.ResponseAll},
			want:    map[vxlan.VNI][]netip.Addr{registerVNI: all, 61: all[:2]}},
		{name: "version 3, of a VNI without members", version: vxfld.V3,
			message: vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseRequested,
				VNIs: []vxfld.VNIMembers{{VNI: 999}, {VNI: 61}}},
			want: map[vxlan.VNI][]netip.Addr{61: all[:2]}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.send(tt.version, &tt.message)
			if tt.want == nil {
				// An answer to what was asked later comes first, if there is one.
				a.send(vxfld.V2, &vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseRequested,
					VNIs: []vxfld.VNIMembers{{VNI: 61}}})
				if v, r := a.receive(); v != vxfld.V2 || len(r.VNIs) != 1 || r.VNIs[0].VNI != 61 {
					t.Errorf("got an answer %+v of version %d, want none", r, v)
				}
				a.silent()
				return
			}
			version, r := a.receive()
			if version != tt.version {
				t.Errorf("got version %d, want %d", version, tt.version)
			}
			if r.Originator || r.Response != vxfld.ResponseNone || r.Identifier != 0 || r.Holdtime != 77 {
				t.Errorf("got %+v, want originator and response 0, identifier 0, holdtime 77", r)
			}
			wantMembers(t, members(r), tt.want)
			a.silent()
		})
	}
}

// wantMembers compares members, in any order but each once.
func wantMembers(t *testing.T, got, want map[vxlan.VNI][]netip.Addr) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d VNIs, want %d", len(got), len(want))
	}
	for vni, w := range want {
		g := slices.SortedFunc(slices.Values(got[vni]), netip.Addr.Compare)
		if !slices.Equal(g, slices.SortedFunc(slices.Values(w), netip.Addr.Compare)) {
			t.Errorf("VNI %s: got members %v, want %v", vni, g, w)
		}
	}
}

// A large table comes in several messages that each fit max_packet_size and
// never share a VNI; a VNI too large for that comes in a larger one.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	v := l.vtep(1)
	want := make(map[vxlan.VNI][]netip.Addr)
	var config []string
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range 600 { // of one large VNI, and of one of 200 smaller ones
		small := vxlan.VNI(1000 + i%200)
		config = append(config, fmt.Sprintf("vtep_membership = %s 5 %s", addr, small))
		want[5] = append(want[5], addr)
		want[small] = append(want[small], addr)
		addr = addr.Next()
	}
	n := l.node(append(config, "learning = off")...)
	a := v.agent(n)
	for _, version := range []vxfld.Version{vxfld.V2, vxfld.V3} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			a.send(version, &vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseAll})
			got := make(map[vxlan.VNI][]netip.Addr)
			messages := 0
			for len(got) < len(want) {
				v, r := a.receive()
				messages++
				size := len(must(vxfld.Message{Version: v, Body: r}.Append(nil))(t))
				if limit := 1500 - vxfld.Overhead; size > limit && (len(r.VNIs) != 1 || r.VNIs[0].VNI != 5) {
					t.Errorf("got a message of %d bytes with %d VNIs, want %d bytes at most", size, len(r.VNIs), limit)
				}
				for vni, m := range members(r) {
					if got[vni] != nil {
						t.Errorf("got VNI %s in two messages", vni)
					}
					got[vni] = m
				}
			}
			if messages < 3 {
				t.Errorf("got %d messages, want several", messages)
			}
			wantMembers(t, got, want)
		})
	}
}

// What a service node relays is taken in from a peer alone, and only in a form
// that is not a version 1 answer; nobody gets an answer for it.
func TestRelayedMessages(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", "svcnode_peers = 192.0.2.3", markerConfig(vs[:2]...))
	stranger, peer := vs[1].agent(n), vs[2].agent(n)
	asker := vs[0].agent(n)
	member := netip.MustParseAddr("192.0.2.99")
	tests := []struct {
		name    string
		from    *agent
		version vxfld.Version
		taken   bool
	}{
		{name: "version 1 from a stranger", from: stranger, version: vxfld.V1},
		{name: "version 2 from a stranger", from: stranger, version: vxfld.V2},
		{name: "version 3 from a stranger", from: stranger, version: vxfld.V3},
		{name: "version 1 from a peer: an answer", from: peer, version: vxfld.V1},
		{name: "version 2 from a peer", from: peer, version: vxfld.V2, taken: true},
		{name: "version 3 from a peer", from: peer, version: vxfld.V3, taken: true},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			vni := registerVNI + vxlan.VNI(i)
			tt.from.send(tt.version, &vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{member}}}})
			want := map[vxlan.VNI][]netip.Addr{}
			if tt.taken {
				want[vni] = []netip.Addr{member}
			}
			wantMembers(t, asker.ask(vni), want)
			tt.from.silent()
		})
	}
}

// vector is a message of the deployed suite; see the README beside the file.
type vector struct {
	Name string `json:"name"`
	Hex  string `json:"hex"`
	Want string `json:"want"`
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var vs []vector
	check(t, json.Unmarshal(must(os.ReadFile("../vxfld/testdata/vxfld.json"))(t), &vs))
	return vs
}

// Every message that is malformed is refused whole: nothing changes, nobody is
// answered, and the node lives. Some of them end a deployed one.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{registerVNI}, vs...))
	a, sender := vs[0].agent(n), vs[1].agent(n)
	before := everything(a)
	refused := 0
	for _, v := range vectors(t) {
		if v.Want != "refuse" {
			continue
		}
		refused++
		sender.write(must(hex.DecodeString(v.Hex))(t))
		wantMembers(t, a.ask(registerVNI), map[vxlan.VNI][]netip.Addr{registerVNI: {vs[0].addr, vs[1].addr}})
		if t.Failed() {
			t.Fatalf("after %s", v.Name)
		}
	}
	if refused < 10 {
		t.Errorf("got %d malformed messages in the vectors, want more", refused)
	}
	wantMembers(t, everything(a), before)
	sender.silent()
}

// everything returns the node's table.
func everything(a *agent) map[vxlan.VNI][]netip.Addr {
	a.lab.t.Helper()
	a.send(vxfld.V3, &vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseAll})
	_, r := a.receive()
	return members(r)
}

// All messages of the deployed suite, the good ones too, leave a node that
// serves; so does every message cut off at every length.
func TestEveryMessageOfTheDeployedSuite(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", markerConfig(vs...))
	sender := vs[1].agent(n)
	for _, v := range vectors(t) {
		b := must(hex.DecodeString(v.Hex))(t)
		if len(b) > vxfld.MaxDatagram {
			continue // went over TCP
		}
		sender.write(b)
		for i := range min(len(b), 100) {
			sender.write(b[:i])
		}
	}
	wantServes(t, n, vs[0], vs[1])
}

// wantServes fails the test unless a registration from one machine makes it get
// copies of what the other sends.
func wantServes(t *testing.T, n *node, from, to *machine) {
	t.Helper()
	a := &agent{to, must(to.ListenUDP(netip.AddrPortFrom(to.addr, 0)))(t), netip.AddrPortFrom(n.addr, ctlPort), n}
	defer a.conn.Close()
	const vni vxlan.VNI = 12345
	// The node may still be busy with what came before, or have dropped the
	// message for want of room: as a daemon does, register again.
	check(t, netlab.Wait(within(t), "the node to take in a registration", func() bool {
		a.send(vxfld.V3, &vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 1,
			VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{to.addr}}}})
		to.forget()
		from.flood(n, vni, frame(netlab.Broadcast, 1, 64))
		from.flush(n, to)
		return len(to.got()) == 1
	}))
}

// Garbage on either socket is counted and changes nothing.
func TestGarbage(t *testing.T) {
	t.Parallel()
	const each = 3000
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs[:2]...), memberConfig([]vxlan.VNI{registerVNI}, vs...))
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range each {
		d := vs[2].packet(n, 0, nil)
		d.Payload = make([]byte, rnd.IntN(64))
		for j := range d.Payload {
			d.Payload[j] = byte(rnd.Uint32())
		}
		if i%2 == 0 {
			if len(d.Payload) > 0 {
				d.Payload[0] &^= 0x08 // no valid VNI
			}
		} else {
			d.Payload = d.Payload[:min(len(d.Payload), 7)]
		}
		vs[2].send(n, d)
		d.Dst = netip.AddrPortFrom(n.addr, ctlPort)
		if len(d.Payload) > 1 {
			d.Payload[0], d.Payload[1] = byte(1+rnd.IntN(3)), byte(1+rnd.IntN(3))
		}
		vs[2].send(n, d)
		if i%100 == 99 {
			vs[0].flush(n, vs[1])
		}
	}
	vs[0].flush(n, vs[1])
	wantNone(t, vs...)
	wantServes(t, n, vs[0], vs[1])
	c := n.stop()
	if got := c.drops("short") + c.drops("no_vni"); got != each {
		t.Errorf("got %d packets counted as short or without a VNI, want %d", got, each)
	}
}
