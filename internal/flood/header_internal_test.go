// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// slowSum is the checksum of RFC 1071 in its most obvious form.
func slowSum(parts ...[]byte) uint16 {
	b := bytes.Join(parts, nil)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSumAgainstObviousOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if n > 100 { // carries everywhere
			for i := range b {
				b[i] = 0xff
			}
		}
		if got, want := fold(sum(0, b)), slowSum(b); got != want {
			t.Fatalf("%d bytes: got %#04x, want %#04x", n, got, want)
		}
	}
}

func TestHeader4(t *testing.T) {
	src := netip.MustParseAddrPort("10.1.2.3:49152")
	dst := [4]byte{10, 9, 8, 7}
	payload := []byte("\x08\x00\x00\x00\x00\x00\x4d\x00an inner frame of odd length")
	tests := []struct {
		name    string
		withSum bool
	}{{"zero", false}, {"compute", true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h header
			h.make4(src, 63, 0xb9, 4790, payload, tt.withSum)
			b := make([]byte, h.len)
			h.put4(b, dst)

			want := []byte{
				0x45, 0xb9, 0, 0, 0, 0, 0, 0, 63, 17, 0, 0, 10, 1, 2, 3, 10, 9, 8, 7,
				0xc0, 0x00, 0x12, 0xb6, 0, byte(8 + len(payload)), b[26], b[27],
			}
			if !bytes.Equal(b, want) {
				t.Errorf("got  %x,\nwant %x", b, want)
			}
			sum := binary.BigEndian.Uint16(b[26:])
			if !tt.withSum {
				if sum != 0 {
					t.Errorf("checksum: got %#x, want 0", sum)
				}
				return
			}
			pseudo := []byte{0, 17, 0, byte(8 + len(payload))}
			if got := slowSum(b[12:20], pseudo, b[20:], payload); got != 0xffff {
				t.Errorf("sum over the datagram: got %#04x, want 0xffff", got)
			}
		})
	}
}

func TestHeader6(t *testing.T) {
	src := netip.MustParseAddrPort("[2001:db8::1]:49152")
	dst := netip.MustParseAddr("2001:db8::2").As16()
	payload := []byte("\x08\x00\x00\x00\x00\x00\x4d\x00inner")
	var h header
	h.make6(src, 63, 0xb9, 4789, payload)
	b := make([]byte, h.len)
	h.put6(b, dst)
	if b[0] != 0x6b || b[1] != 0x90 {
		t.Errorf("version and traffic class: got %x, want 6b90", b[:2])
	}
	if got, want := int(binary.BigEndian.Uint16(b[4:])), 8+len(payload); got != want {
		t.Errorf("payload length: got %d, want %d", got, want)
	}
	if b[6] != 17 || b[7] != 63 {
		t.Errorf("next header and hop limit: got %d, %d, want 17, 63", b[6], b[7])
	}
	pseudo := []byte{0, 0, 0, byte(8 + len(payload)), 0, 0, 0, 17}
	if got := slowSum(b[8:40], pseudo, b[40:], payload); got != 0xffff {
		t.Errorf("sum over the datagram: got %#04x, want 0xffff", got)
	}
}

// A computed checksum of 0 would read as 'none' (RFC 768).
func TestChecksumIsNeverZero(t *testing.T) {
	src := netip.MustParseAddrPort("10.0.0.1:1")
	dst := [4]byte{10, 0, 0, 2}
	payload := make([]byte, 8)
	var h header
	h.make4(src, 1, 0, 4789, payload, true)
	b := make([]byte, h.len)
	h.put4(b, dst)
	// Choose two bytes so that the sum of everything becomes 0xffff.
	c := binary.BigEndian.Uint16(b[26:])
	binary.BigEndian.PutUint16(payload[6:], c)
	h.make4(src, 1, 0, 4789, payload, true)
	h.put4(b, dst)
	if got := binary.BigEndian.Uint16(b[26:]); got != 0xffff {
		t.Errorf("got %#04x, want 0xffff", got)
	}
}
