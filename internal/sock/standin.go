// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Parts returns what a message sends and where to, for those who stand in for
// a socket: the buffers in their order, and the destination.
func (m *Message) Parts() ([][]byte, netip.Addr) {
	var parts [][]byte
	for _, v := range unsafe.Slice(m.hdr.Iov, int(m.hdr.Iovlen)) {
		parts = append(parts, unsafe.Slice(v.Base, int(v.Len)))
	}
	return parts, source((*unix.RawSockaddrInet6)(unsafe.Pointer(m.hdr.Name))).Addr()
}

// Deliver fills a message of an Inbox as the kernel does when a datagram
// arrives, for those who stand in for a socket. It does not allocate.
func (m *Message) Deliver(d *Datagram) {
	buf := unsafe.Slice(m.hdr.Iov.Base, int(m.hdr.Iov.Len))
	m.n = uint32(copy(buf, d.Payload))
	c := control{b: unsafe.Slice(m.hdr.Control, controlSpace)[:0]}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(m.hdr.Name))
	if a := d.Source.Addr(); a.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, networkOrder(d.Source.Port()), a.As4()
		m.hdr.Namelen = unix.SizeofSockaddrInet4
		c.addInt(unix.IPPROTO_IP, unix.IP_TTL, int(d.TTL))
		c.add(unix.IPPROTO_IP, unix.IP_TOS, 1)[0] = d.TOS
	} else {
		sa.Family, sa.Port, sa.Addr = unix.AF_INET6, networkOrder(d.Source.Port()), a.As16()
		m.hdr.Namelen = unix.SizeofSockaddrInet6
		c.addInt(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int(d.TTL))
		c.addInt(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(d.TOS))
	}
	if d.Received != 0 {
		b := c.add(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 16)
		binary.NativeEndian.PutUint64(b, uint64(d.Received/1e9))
		binary.NativeEndian.PutUint64(b[8:], uint64(d.Received%1e9))
	}
	if a := d.Destination; a.Is4() {
		*(*[4]byte)(c.add(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[8:]) = a.As4()
	} else if a.Is6() {
		*(*[16]byte)(c.add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)) = a.As16()
	}
	m.hdr.SetControllen(len(c.b))
}
