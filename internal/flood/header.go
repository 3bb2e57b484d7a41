// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Lengths of the headers in front of a copy's payload, in bytes.
const (
	ipv4Len = 20
	ipv6Len = 40
	udpLen  = 8
)

// header is the outer header of all copies of one packet. Copies differ in
// their destination and in what a checksum makes of it.
//
// IPv4 (RFC 791); the kernel fills in total length, identification and header
// checksum (raw(7)):
//
//	 0       1       2       3       4     6     8   9   10      12       16    20
//	+-------+-------+---------------+-----+-----+---+---+--------+--------+-----+
//	| 0x45  | TOS   | total length  | id  | 0   |TTL|17 |checksum| source | dst |
//	+-------+-------+---------------+-----+-----+---+---+--------+--------+-----+
//
// Flags are 0: DF is never set, since the ICMP answer would go to the VTEP.
type header struct {
	b   [ipv6Len + udpLen]byte
	len int // of the whole header
	// sum is the ones' complement sum of all that the UDP checksum covers but
	// the destination address. withSum asks for it.
	sum     uint64
	withSum bool
}

// make4 prepares the header of copies over IPv4.
func (h *header) make4(src netip.AddrPort, ttl, tos uint8, port uint16, payload []byte, withSum bool) {
	b := h.b[:ipv4Len+udpLen]
	h.len = len(b)
	clear(b)
	b[0] = 0x45
	b[1] = tos
	b[8] = ttl
	b[9] = unix.IPPROTO_UDP
	a := src.Addr().As4()
	copy(b[12:16], a[:])
	h.udp(b[ipv4Len:], src.Port(), port, len(payload))
	h.withSum = withSum
	if withSum {
		h.sum = h.pseudo(a[:], b[ipv4Len:], payload)
	}
}

// make6 prepares the header of copies over IPv6 (RFC 8200, section 3). The
// flow label is 0; the checksum is always there (RFC 8200, section 8.1).
func (h *header) make6(src netip.AddrPort, ttl, tos uint8, port uint16, payload []byte) {
	b := h.b[:]
	h.len = len(b)
	clear(b)
	b[0] = 0x60 | tos>>4
	b[1] = tos << 4
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+len(payload)))
	b[6] = unix.IPPROTO_UDP
	b[7] = ttl
	a := src.Addr().As16()
	copy(b[8:24], a[:])
	h.udp(b[ipv6Len:], src.Port(), port, len(payload))
	h.withSum = true
	h.sum = h.pseudo(a[:], b[ipv6Len:], payload)
}

func (h *header) udp(b []byte, src, dst uint16, payload int) {
	binary.BigEndian.PutUint16(b[0:], src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+payload))
}

// pseudo sums up all that the checksum covers (RFC 768; RFC 8200, section
// 8.1) except the destination address.
func (h *header) pseudo(src, udp, payload []byte) uint64 {
	s := sum(uint64(unix.IPPROTO_UDP)+uint64(udpLen+len(payload)), src)
	s = sum(s, udp)
	return sum(s, payload)
}

// put4 writes the header of the copy to dst.
func (h *header) put4(b []byte, dst [4]byte) {
	_ = b[ipv4Len+udpLen-1]
	*(*[ipv4Len + udpLen]byte)(b) = *(*[ipv4Len + udpLen]byte)(h.b[:])
	*(*[4]byte)(b[16:]) = dst
	if h.withSum {
		h.checksum(b[ipv4Len:], dst[:])
	}
}

// put6 writes the header of the copy to dst.
func (h *header) put6(b []byte, dst [16]byte) {
	*(*[ipv6Len + udpLen]byte)(b) = h.b
	*(*[16]byte)(b[24:]) = dst
	h.checksum(b[ipv6Len:], dst[:])
}

// checksum writes the UDP checksum of the copy to dst. 0 would mean 'none', so
// it is sent as its other form (RFC 768).
func (h *header) checksum(udp, dst []byte) {
	c := ^fold(sum(h.sum, dst))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], c)
}

// sum adds the 16-bit words of b to s, which fold turns into a ones'
// complement sum (RFC 1071). An odd byte at the end counts as if a zero
// followed, so only the last part of what is summed may have one.
func sum(s uint64, b []byte) uint64 {
	for len(b) >= 8 {
		v := binary.BigEndian.Uint64(b)
		s += v>>32 + v&0xffffffff
		b = b[8:]
	}
	for len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

func fold(s uint64) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
