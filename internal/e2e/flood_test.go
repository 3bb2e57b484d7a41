// SPDX-License-Identifier: Apache-2.0

package e2e

// The first promise: each other member gets one copy that carries the sender.
//
//	node 192.0.2.254        members of VNI 100
//	      │
//	── switch ──────────────────────────────
//	  │         │         │         │
//	  1         2         3         4         192.0.2.N

import (
	"net"
	"net/netip"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

func TestEachOtherMemberGetsOneCopy(t *testing.T) { overEngines(t, testEachOtherMemberGetsOneCopy) }

func testEachOtherMemberGetsOneCopy(t *testing.T, e engine) {
	const vni vxlan.VNI = 100
	l := e.lab(t, 0)
	vs := l.vteps(4)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	tests := []struct {
		name string
		dst  net.HardwareAddr
		size int
		tos  uint8
		ttl  uint8
		port uint16
		df   bool
		sum  bool
		vni  vxlan.VNI
	}{
		{name: "broadcast", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50000},
		{name: "unknown unicast", dst: unknownMAC, size: 64, ttl: 64, port: 50001},
		{name: "multicast", dst: multicastMAC, size: 64, ttl: 64, port: 50002},
		{name: "odd size", dst: netlab.Broadcast, size: 1001, ttl: 64, port: 50003},
		{name: "DSCP EF and ECT(1)", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50004, tos: 0xb9},
		{name: "CE mark", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50005, tos: 0x03},
		{name: "all of TOS", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50006, tos: 0xff},
		{name: "smallest TTL", dst: netlab.Broadcast, size: 64, ttl: 2, port: 50007},
		{name: "largest TTL", dst: netlab.Broadcast, size: 64, ttl: 255, port: 50008},
		{name: "DF set", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50009, df: true},
		{name: "with checksum", dst: netlab.Broadcast, size: 64, ttl: 64, port: 50010, sum: true},
		{name: "source port 0", dst: netlab.Broadcast, size: 64, ttl: 64},
		{name: "low source port", dst: netlab.Broadcast, size: 64, ttl: 64, port: 1},
		{name: "source port of VXLAN", dst: netlab.Broadcast, size: 64, ttl: 64, port: dataPort},
		{name: "highest source port", dst: netlab.Broadcast, size: 64, ttl: 64, port: 65535},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range vs {
				v.forget()
			}
			from := vs[1]
			p := from.packet(n, vni, frame(tt.dst, 1, tt.size))
			p.Src = netip.AddrPortFrom(from.addr, tt.port)
			p.TTL, p.TOS, p.DontFragment, p.NoChecksum = tt.ttl, tt.tos, tt.df, !tt.sum
			from.send(n, p)
			from.flush(n, vs...)
			want := sent{src: p.Src, ttl: tt.ttl, tos: tt.tos, vni: vni, inner: frame(tt.dst, 1, tt.size)}
			for _, to := range without(vs, from) {
				wantCopies(t, to, want)
				for _, g := range to.got() {
					if g.Checksum != 0 {
						t.Errorf("%s: got UDP checksum %#x, want 0", to.Name, g.Checksum)
					}
				}
			}
			wantNone(t, from)
		})
	}
	n.wantKernel(len(tests) - 1) // not the one with a checksum
}

// The bits of the VXLAN header that mean nothing to us pass untouched (RFC 7348
// reserves them; others use them), and so does whatever the inner frame is.
func TestHeaderAndFramePassUntouched(t *testing.T) { overEngines(t, testHeaderAndFramePassUntouched) }

func testHeaderAndFramePassUntouched(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.node(markerConfig(vs...), memberConfig([]vxlan.VNI{0x123456}, vs...))
	tests := []struct {
		name    string
		payload []byte
	}{
		{name: "reserved bits set", payload: []byte("\x8f\xff\xff\xff\x12\x34\x56\xffframe")},
		{name: "no inner frame", payload: []byte("\x08\x00\x00\x00\x12\x34\x56\x00")},
		{name: "one byte", payload: []byte("\x08\x00\x00\x00\x12\x34\x56\x00\x01")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			vs[1].forget()
			p := vs[0].packet(n, 0, nil)
			p.Payload = tt.payload
			vs[0].send(n, p)
			vs[0].flush(n, vs...)
			got := vs[1].got()
			if len(got) != 1 || string(got[0].Payload) != string(tt.payload) {
				t.Errorf("got %d packets (%+v), want one with % x", len(got), got, tt.payload)
			}
		})
	}
	n.wantKernel(len(tests))
}

// With udp_checksum = compute each copy has a right checksum of its own, of any
// length, whatever the packet had.
func TestComputedChecksum(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 100
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("udp_checksum = compute", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	var want []sent
	for i, size := range []int{22, 23, 60, 61, 511, 1400, 1450, 3000, 3001, 20001} {
		in := frame(netlab.Broadcast, i, size)
		if size > 1450 {
			vs[0].floodLarge(n, vni, in)
		} else {
			vs[0].flood(n, vni, in)
		}
		want = append(want, sent{src: vs[0].packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
	}
	vs[0].flush(n, vs...)
	for _, to := range vs[1:] {
		wantCopies(t, to, want...)
		for i, g := range to.got() {
			if !g.ChecksumValid() {
				t.Errorf("%s: packet %d of %d bytes: got checksum %#x, want the right one", to.Name, i, len(g.Payload), g.Checksum)
			}
		}
	}
}

// What nobody else is a member of costs nothing but its count.
func TestPacketsWithoutOtherMembers(t *testing.T) { overEngines(t, testPacketsWithoutOtherMembers) }

func testPacketsWithoutOtherMembers(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{7}, vs[0]))
	vs[0].flood(n, 7, frame(netlab.Broadcast, 1, 64)) // the sender is the only member
	vs[0].flood(n, 8, frame(netlab.Broadcast, 2, 64)) // a VNI that nobody knows
	vs[0].flush(n, vs...)
	wantNone(t, vs...)
	c := n.stop()
	c.wantDrops("no_member", 2)
	if got := c.get("packets"); got != 3 {
		t.Errorf("got %d packets counted, want 3", got)
	}
	if got := c.get("copies"); got != 1 {
		t.Errorf("got %d copies counted, want the marker's 1", got)
	}
}
