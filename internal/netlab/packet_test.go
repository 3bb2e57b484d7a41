// SPDX-License-Identifier: Apache-2.0

package netlab_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"vxsnd/internal/netlab"
)

// pieces returns a UDP datagram of 40 bytes of payload as its fragments, cut at
// the given offsets of the IP payload.
func pieces(cuts ...int) []netlab.Packet {
	udp := make([]byte, 48)
	copy(udp, []byte{0x12, 0x34, 0x12, 0xb5, 0, 48, 0, 0}) // 4660 to 4789
	for i := range 40 {
		udp[8+i] = byte(i)
	}
	cuts = append(cuts, len(udp))
	var out []netlab.Packet
	from := 0
	for i, to := range cuts {
		out = append(out, netlab.Packet{
			Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), Protocol: 17, ID: 7,
			FragmentOffset: from, MoreFragments: i < len(cuts)-1, Body: udp[from:to],
		})
		from = to
	}
	return out
}

func TestReassemble(t *testing.T) {
	whole := pieces(16, 32)
	reversed := slices.Clone(whole)
	slices.Reverse(reversed)
	other := slices.Clone(whole[2:])
	other[0].ID = 8
	overlap := slices.Clone(whole)
	overlap[1].FragmentOffset = 8
	tests := []struct {
		name string
		in   []netlab.Packet
		want int // datagrams
		ok   bool
	}{
		{name: "nothing", ok: true},
		{name: "in order", in: whole, want: 1, ok: true},
		{name: "reversed", in: reversed, want: 1, ok: true},
		{name: "two datagrams", in: append(slices.Clone(whole), reversed...), want: 2, ok: true},
		{name: "last missing", in: whole[:2]},
		{name: "first missing", in: whole[1:]},
		{name: "middle missing", in: []netlab.Packet{whole[0], whole[2]}},
		{name: "last of another datagram", in: append(slices.Clone(whole[:2]), other...)},
		{name: "overlap", in: overlap},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := netlab.Reassemble(tt.in)
			if (err == nil) != tt.ok || len(got) != tt.want {
				t.Fatalf("got %d datagrams, error %v, want %d, success %t", len(got), err, tt.want, tt.ok)
			}
			for _, p := range got {
				if !p.UDPTo(4789) || p.SrcPort != 4660 || len(p.Payload) != 40 || p.Payload[39] != 39 || p.Fragment() {
					t.Errorf("got %+v, want the datagram in one piece", p)
				}
			}
		})
	}
}

// Frames that lie about their lengths are refused at every length, and whole
// ones are read.
func TestDecode(t *testing.T) {
	mac := bytes.Repeat([]byte{2}, 6)
	for _, addrs := range [][2]string{{"192.0.2.1:1", "192.0.2.2:2"}, {"[2001:db8::1]:1", "[2001:db8::2]:2"}} {
		d := netlab.Datagram{
			Src: netip.MustParseAddrPort(addrs[0]), Dst: netip.MustParseAddrPort(addrs[1]),
			TTL: 5, TOS: 0xa7, ID: 9, DontFragment: true, Payload: []byte("payload"),
		}
		f := d.Frame(mac, mac)
		p := must(netlab.Decode(append(f, 0, 0, 0)))(t) // padding of a short frame
		if p.Source() != d.Src || p.Dst != d.Dst.Addr() || p.DstPort != 2 || p.TTL != 5 || p.TOS != 0xa7 ||
			string(p.Payload) != "payload" || !p.ChecksumValid() {
			t.Errorf("got %+v, want what was built from %+v", p, d)
		}
		if d.Src.Addr().Is4() && (p.ID != 9 || !p.DontFragment) {
			t.Errorf("got ID %d, DF %t, want 9, true", p.ID, p.DontFragment)
		}
		p.Payload[0] ^= 1
		if p.ChecksumValid() {
			t.Error("got a valid checksum of a changed payload")
		}
		for i := range f {
			if _, err := netlab.Decode(f[:i]); err == nil {
				t.Errorf("got no error for %d bytes of %d", i, len(f))
			}
		}
	}
}
