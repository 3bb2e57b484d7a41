// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Message is the kernel's struct mmsghdr (recvmmsg(2)): where a datagram's
// bytes, address and control data are. Inbox and Outbox wire them up.
type Message struct {
	hdr unix.Msghdr
	n   uint32
}

const (
	// maxDatagram holds the largest UDP payload, 65,507 bytes over IPv4 and
	// 65,527 over IPv6, so that a read never truncates.
	maxDatagram = 65536

	// slabStride sets the buffers of a batch apart. A stride of just 64 KiB
	// would put the headers of all packets into the same cache sets.
	slabStride = maxDatagram + 3*64

	// controlSpace holds the control messages of one datagram: TTL or hop
	// limit, TOS or traffic class and the drop counter, 24 bytes each, the time,
	// 32, and the address, up to 40.
	controlSpace = 192

	// loopedLen is the length that the socket's filter cuts looped datagrams
	// to: shorter than anything that is of use.
	loopedLen = 3
)

// A Datagram is one received datagram. Payload belongs to the Inbox and is
// valid until its next read.
type Datagram struct {
	Payload   []byte
	Source    netip.AddrPort // without zone; a 4-in-6 address stays one
	TTL       uint8          // received TTL or hop limit
	TOS       uint8          // received TOS or traffic class: DSCP and ECN
	Truncated bool
	// Received is when the machine received it, ns since 1970 (CLOCK_REALTIME),
	// or 0 where the socket does not tell.
	Received int64
	// Destination is the address that it was sent to, or the zero value where
	// the socket does not tell.
	Destination netip.Addr
	// Looped says that this machine sent it to itself. All but three bytes of
	// the payload are cut off then; any other datagram of three bytes loses one.
	Looped bool
}

// An Inbox is the memory of a batched reader: buffers, made once, into which
// the kernel writes. It is not safe for concurrent use.
type Inbox struct {
	ms      []Message
	iovs    []unix.Iovec
	names   []unix.RawSockaddrInet6
	control []byte
	slab    []byte
	filled  int // messages that the kernel wrote to in the last read
	drops   uint32
	dropped bool // whether drops was reported since the last call of Drops
}

// NewInbox returns an Inbox for up to n datagrams of any size per read. Only
// pages that a datagram touches take memory.
func NewInbox(n int) *Inbox {
	in := &Inbox{
		ms:      make([]Message, n),
		iovs:    make([]unix.Iovec, n),
		names:   make([]unix.RawSockaddrInet6, n),
		control: make([]byte, n*controlSpace),
		slab:    make([]byte, n*slabStride),
	}
	for i := range in.ms {
		in.iovs[i].Base = &in.slab[i*slabStride]
		in.iovs[i].SetLen(maxDatagram)
		h := &in.ms[i].hdr
		h.Iov = &in.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Control = &in.control[i*controlSpace]
	}
	in.reset(n)
	return in
}

// reset restores the lengths that the kernel overwrote in n messages.
func (in *Inbox) reset(n int) {
	for i := range in.ms[:n] {
		h := &in.ms[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSpace)
		h.Flags = 0
	}
}

// Read fills the Inbox by one call of read, which is the method ReadBatch or
// ReadQueued of a Conn, and returns the number of datagrams. What the last
// read brought is gone.
func (in *Inbox) Read(read func([]Message) (int, error)) (int, error) {
	in.reset(in.filled)
	n, err := read(in.ms)
	in.filled = n
	// A socket that was shut down yields empty messages without a sender.
	for n > 0 && in.ms[n-1].hdr.Namelen == 0 {
		n--
	}
	return n, err
}

// Datagram returns datagram i of the last read. It does not allocate.
func (in *Inbox) Datagram(i int, d *Datagram) {
	m := &in.ms[i]
	off := i * slabStride
	d.Payload = in.slab[off : off+int(min(m.n, maxDatagram))]
	d.Truncated = m.hdr.Flags&unix.MSG_TRUNC != 0
	d.Looped = len(d.Payload) == loopedLen
	d.TTL, d.TOS, d.Received, d.Destination = 0, 0, 0, netip.Addr{}
	d.Source = source(&in.names[i])
	in.parseControl(in.control[i*controlSpace:i*controlSpace+int(min(m.hdr.Controllen, controlSpace))], d)
}

// Drops returns the socket's drop counter, if the last datagrams carried one.
func (in *Inbox) Drops() (uint32, bool) {
	ok := in.dropped
	in.dropped = false
	return in.drops, ok
}

func source(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), networkOrder(v4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), networkOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// networkOrder turns a big-endian field that was read as a native integer
// into its value, and back.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

// parseControl reads the control messages (cmsg(3)) without allocating.
func (in *Inbox) parseControl(b []byte, d *Datagram) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT:
			if len(data) >= 4 {
				d.TTL = uint8(binary.NativeEndian.Uint32(data))
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS: // one byte (ip_cmsg_recv_tos)
			if len(data) >= 1 {
				d.TOS = data[0]
			}
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS:
			if len(data) >= 4 {
				d.TOS = uint8(binary.NativeEndian.Uint32(data))
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL:
			if len(data) >= 4 {
				in.drops, in.dropped = binary.NativeEndian.Uint32(data), true
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS_NEW: // struct __kernel_timespec
			if len(data) >= 16 {
				d.Received = int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
			if len(data) >= unix.SizeofInet4Pktinfo {
				d.Destination = netip.AddrFrom4([4]byte(data[8:])) // ipi_addr (ip(7))
			}
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
			if len(data) >= unix.SizeofInet6Pktinfo {
				d.Destination = netip.AddrFrom16([16]byte(data))
			}
		}
		next := unix.CmsgSpace(size - unix.CmsgLen(0))
		if next > len(b) {
			return
		}
		b = b[next:]
	}
}
