// SPDX-License-Identifier: Apache-2.0

package e2e

// Whose answers vxrd believes, and which. The test plays the service node.
//
//	service node .150, answers from .151      stranger .66
//	                 │                           │
//	────────────── switch ─────────────────────────────── 192.0.2.0/24
//	                 │ .1
//	               vtep1 with vxrd and vxlan100

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// A standIn is a service node that the test plays, as those of the deployed
// suite: it answers from another address than the one that it is asked on.
type standIn struct {
	*machine
	asked, answers *net.UDPConn
}

// standIn adds the machine of the service node, which answers from the second of
// its addresses.
func (l *lab) standIn() *standIn {
	l.t.Helper()
	s := &standIn{machine: l.machine("standin", "192.0.2.150/24", "192.0.2.151/24")}
	s.asked = s.listen(ctlPort)
	s.answers = must(s.ListenUDP(netip.MustParseAddrPort("192.0.2.151:10001")))(l.t)
	l.t.Cleanup(func() { s.answers.Close() })
	return s
}

// registration waits for the next registration of a VNI, and returns it and
// whose it is.
func (s *standIn) registration(vni vxlan.VNI) (*vxfld.Refresh, netip.AddrPort) {
	t := s.lab.t
	t.Helper()
	b := make([]byte, vxfld.MaxDatagram)
	check(t, s.asked.SetReadDeadline(time.Now().Add(patience)))
	for {
		k, from, err := s.asked.ReadFromUDPAddrPort(b)
		check(t, err)
		m := must(vxfld.Parse(b[:k]))(t)
		r, ok := m.Body.(*vxfld.Refresh)
		if !ok || m.Version != vxfld.V3 || !r.Originator || r.Identifier == 0 {
			t.Fatalf("got %+v, want a registration of version 3 of its own", m)
		}
		if _, ok := members(r)[vni]; ok {
			return r, from
		}
	}
}

// answer returns an answer that names members of a VNI.
func answer(t *testing.T, vni vxlan.VNI, as ...string) []byte {
	t.Helper()
	var list []netip.Addr
	for _, a := range as {
		list = append(list, netip.MustParseAddr(a))
	}
	return must(vxfld.Message{Version: vxfld.V3, Body: &vxfld.Refresh{
		Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: list}},
	}}.Append(nil))(t)
}

// waitCount waits until vxrd has counted so many datagrams under a verdict.
func (v *vxrd) waitCount(verdict string, want uint64) {
	v.lab.t.Helper()
	var got map[string]uint64
	if err := netlab.Wait(within(v.lab.t), "count of "+verdict, func() bool {
		got = v.status().Answers
		return got[verdict] == want
	}); err != nil {
		v.lab.t.Fatalf("got %v, want %d of %s", got, want, verdict)
	}
}

// Answers of deployed service nodes come from their src_ip. By default that is
// nobody's mistake; where answers are taken from the service nodes alone, it has to be
// known. Each setting takes effect on reload.
func TestVxrdBelievesWhomItIsTold(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	s, stranger := l.standIn(), l.machine("stranger", "192.0.2.66/24")
	strange := stranger.listen(ctlPort)
	m := l.kernelVTEP(1)
	m.vxlan(vxrdVNI, nowhere)
	v := m.vxrd("svcnode_ip = 192.0.2.150")
	tests := []struct {
		name, config             string
		service, other, stranger bool // believed: from svcnode_ip, from src_ip
	}{
		{"any", "answer_from = any", true, true, true},
		{"service", "answer_from = service", true, false, false},
		{"service with its src_ip", "answer_from = service\nsvcnode_peers = 192.0.2.151", true, true, false},
		{"prefix", "answer_from = 192.0.2.144/28", true, true, false},
		{"service and prefix", "answer_from = service 192.0.2.66/32", true, false, true},
		{"other prefix", "answer_from = 192.0.2.64/29", false, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v.reload("svcnode_ip = 192.0.2.150", tt.config)
			for _, from := range []struct {
				name     string
				conn     *net.UDPConn
				believed bool
			}{{"svcnode_ip", s.asked, tt.service}, {"src_ip", s.answers, tt.other}, {"stranger", strange, tt.stranger}} {
				r, to := s.registration(vxrdVNI)
				if to != netip.AddrPortFrom(m.addr, ctlPort) || r.Response != vxfld.ResponseRequested {
					t.Errorf("got %+v from %s, want a question from %s:%d", r, to, m.addr, ctlPort)
				}
				send := func(b []byte) {
					t.Helper()
					must(from.conn.WriteToUDPAddrPort(b, to))(t)
				}
				if !from.believed {
					before, w := v.status().Answers["stranger"], m.watchFloods()
					send(answer(t, vxrdVNI, "192.0.2.1", "192.0.2.99"))
					v.waitCount("stranger", before+1)
					w.wantChanges()
					continue
				}
				send(answer(t, vxrdVNI, "192.0.2.1", "192.0.2.7", "192.0.2.8"))
				m.waitFloods("vxlan100", netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8"))
				send(answer(t, vxrdVNI, "192.0.2.1"))
				m.waitFloods("vxlan100")
			}
		})
	}
	// The last configuration believes the stranger, and the service node no more.
	shown := v.status().Warnings
	about := func(a string) bool {
		return slices.ContainsFunc(shown, func(w string) bool { return strings.HasPrefix(w, a+" sent ") })
	}
	if !about("192.0.2.150") || about("192.0.2.66") {
		t.Errorf("got warnings %q, want one about who is not believed now", shown)
	}
}

// What is no answer changes nothing and counts for none: whoever sends it is as
// silent as before.
func TestVxrdRefusesJunk(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	s := l.standIn()
	m := l.kernelVTEP(1)
	m.vxlan(vxrdVNI, nowhere)
	v := m.vxrd("svcnode_ip = 192.0.2.150", impatient)
	_, to := s.registration(vxrdVNI)
	send := func(b []byte) {
		t.Helper()
		must(s.answers.WriteToUDPAddrPort(b, to))(t)
	}
	message := func(body vxfld.Body) []byte {
		t.Helper()
		return must(vxfld.Message{Version: vxfld.V3, Body: body}.Append(nil))(t)
	}
	vnis := []vxfld.VNIMembers{{VNI: vxrdVNI, Addrs: []netip.Addr{m.addr, netip.MustParseAddr("192.0.2.99")}}}
	junk := []struct {
		name, verdict string
		b             []byte
	}{
		{"nothing", "malformed", nil},
		{"cut short", "malformed", answer(t, vxrdVNI, "192.0.2.1", "192.0.2.99")[:12]},
		{"a table", "not_refresh", message(&vxfld.Sync{})},
		{"a registration", "registration", message(&vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: vnis})},
		{"a question", "registration", message(&vxfld.Refresh{Holdtime: 90, Response: vxfld.ResponseAll, VNIs: vnis})},
		{"without who asked", "no_own", answer(t, vxrdVNI, "192.0.2.99")},
		{"of another VNI", "unknown_vni", answer(t, vxrdVNI+1, "192.0.2.1", "192.0.2.99")},
	}
	counts := make(map[string]uint64)
	for _, j := range junk {
		send(j.b)
		counts[j.verdict]++
		v.waitCount(j.verdict, counts[j.verdict])
	}
	for _, x := range vectors(t) {
		if x.Want == "refuse" {
			send(must(hex.DecodeString(x.Hex))(t))
			counts["malformed"]++
		}
	}
	v.waitCount("malformed", counts["malformed"])
	m.wantFloods("vxlan100")
	v.waitStale(true)
	if got := v.status(); got.LastAnswer != nil {
		t.Errorf("got an answer %d s ago, want none", *got.LastAnswer)
	}
	// What is of no use as a member is left out, and the rest counts.
	send(answer(t, vxrdVNI, "192.0.2.1", "0.0.0.0", "127.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.2.7"))
	m.waitFloods("vxlan100", netip.MustParseAddr("192.0.2.7"))
	v.waitStale(false)
}
