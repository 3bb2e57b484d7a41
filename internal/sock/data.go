// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DataConfig describes the socket that receives VXLAN packets.
type DataConfig struct {
	Addr    netip.AddrPort // the address may be a wildcard, or not yet of this machine
	VRF     string         // VRF device, or none
	Receive int            // receive buffer, bytes
	Timeout time.Duration  // after which a read gives up with ErrTimeout
	Shared  bool           // SO_REUSEPORT: one of a group of sockets on the address
	Stamp   bool           // tell when datagrams were received, since Linux 5.1
}

// ListenData opens a socket that receives UDP datagrams with their TTL, TOS
// and drop counter. Those that the machine sends to itself are marked
// (Datagram.Looped), but not in a VRF, where the kernel shows all datagrams as
// the VRF device's. It needs no capability for a port above 1023.
func ListenData(c DataConfig) (*Conn, error) {
	tv := unix.NsecToTimeval(c.Timeout.Nanoseconds())
	v6 := !c.Addr.Addr().Is4()
	opts := append(vrfOption(c.VRF), bufferOptions(unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, c.Receive)...)
	if c.Shared {
		opts = append(opts, Option{Name: "SO_REUSEPORT", Level: unix.SOL_SOCKET, Opt: unix.SO_REUSEPORT, Value: 1, Mandatory: true})
	}
	opts = append(opts, Option{Name: "SO_RXQ_OVFL", Level: unix.SOL_SOCKET, Opt: unix.SO_RXQ_OVFL, Value: 1})
	if c.Stamp {
		opts = append(opts, Option{Name: "SO_TIMESTAMPNS", Level: unix.SOL_SOCKET, Opt: unix.SO_TIMESTAMPNS_NEW, Value: 1})
	}
	if v6 {
		opts = append(opts,
			Option{Name: "IPV6_V6ONLY", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_V6ONLY, Value: 1, Mandatory: true},
			Option{Name: "IPV6_RECVHOPLIMIT", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_RECVHOPLIMIT, Value: 1, Mandatory: true},
			Option{Name: "IPV6_RECVTCLASS", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_RECVTCLASS, Value: 1, Mandatory: true},
			// The address may come later (anycast): bind all the same.
			Option{Name: "IPV6_FREEBIND", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_FREEBIND, Value: 1, Mandatory: true},
			// VTEPs may send with a zero checksum over IPv6 (RFC 6935).
			Option{Name: "UDP_NO_CHECK6_RX", Level: unix.IPPROTO_UDP, Opt: unix.UDP_NO_CHECK6_RX, Value: 1},
		)
	} else {
		opts = append(opts,
			Option{Name: "IP_RECVTTL", Level: unix.IPPROTO_IP, Opt: unix.IP_RECVTTL, Value: 1, Mandatory: true},
			Option{Name: "IP_RECVTOS", Level: unix.IPPROTO_IP, Opt: unix.IP_RECVTOS, Value: 1, Mandatory: true},
			Option{Name: "IP_FREEBIND", Level: unix.IPPROTO_IP, Opt: unix.IP_FREEBIND, Value: 1, Mandatory: true},
		)
	}
	s, err := open(family(c.Addr.Addr()), unix.SOCK_DGRAM, 0, opts)
	if err != nil {
		return nil, fmt.Errorf("listen udp %s: %w", c.Addr, err)
	}
	if err := s.filter(markLooped); err != nil {
		s.Close()
		return nil, fmt.Errorf("listen udp %s: %w", c.Addr, err)
	}
	if err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err == nil {
		err = unix.Bind(s.fd, sockaddr(c.Addr))
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("listen udp %s: %w", c.Addr, err)
	}
	return s, nil
}

// ShowDestination has the datagrams of a socket of ListenData tell, or no longer
// tell, to which address they were sent. like names the socket's family.
// Datagrams that are queued already tell it too.
func (c *Conn) ShowDestination(like netip.Addr, on bool) error {
	o := Option{Name: "IP_PKTINFO", Level: unix.IPPROTO_IP, Opt: unix.IP_PKTINFO, Mandatory: true}
	if !like.Is4() {
		o.Name, o.Level, o.Opt = "IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	if on {
		o.Value = 1
	}
	return o.set(c.fd)
}

// OpenRaw opens a raw socket that sends packets whose IP header the caller
// wrote (IP_HDRINCL, IPV6_HDRINCL since Linux 4.15; raw(7)), with any source
// address. like names the family. A packet larger than the outgoing device's
// MTU is refused with EMSGSIZE. It needs CAP_NET_RAW. An IPPROTO_RAW socket
// never receives.
func OpenRaw(like netip.Addr, vrf string, send int) (*Conn, error) {
	opts := append(vrfOption(vrf), bufferOptions(unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, send)...)
	s, err := open(family(like), unix.SOCK_RAW, unix.IPPROTO_RAW, opts)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	return s, nil
}

// A Fragmenter sends UDP packets with any source address through the kernel's
// own IP header and fragmentation, for copies that do not fit the outgoing
// device's MTU. It is not safe for concurrent use.
type Fragmenter struct {
	conn    *Conn
	m       [1]Message
	iovs    [2]unix.Iovec
	name    unix.RawSockaddrInet6
	control [96]byte
}

// Addresses to which no packet is ever addressed. A raw UDP socket takes a
// clone of each datagram of the machine that its bound address matches, and
// this one is never read. A bound multicast address does not become the
// source of what is sent.
var (
	noTraffic4 = netip.AddrFrom4([4]byte{224, 0, 0, 0})        // base address, reserved (RFC 5771)
	noTraffic6 = netip.AddrFrom16([16]byte{0xff, 0x00, 15: 0}) // ff00::, reserved (RFC 4291, section 2.7.1)
)

// OpenFragmenter opens a Fragmenter for the family of like. It needs CAP_NET_RAW.
func OpenFragmenter(like netip.Addr, vrf string, send int) (*Fragmenter, error) {
	opts := append(vrfOption(vrf), bufferOptions(unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, send)...)
	opts = append(opts, Option{Name: "SO_RCVBUF", Level: unix.SOL_SOCKET, Opt: unix.SO_RCVBUF, Value: 1})
	unused := noTraffic4
	if like.Is4() {
		opts = append(opts,
			Option{Name: "IP_TRANSPARENT", Level: unix.IPPROTO_IP, Opt: unix.IP_TRANSPARENT, Value: 1, Mandatory: true},
			// Never DF: the ICMP answer would go to the VTEP whose address the packet carries.
			Option{Name: "IP_MTU_DISCOVER", Level: unix.IPPROTO_IP, Opt: unix.IP_MTU_DISCOVER, Value: unix.IP_PMTUDISC_DONT, Mandatory: true},
		)
	} else {
		unused = noTraffic6
		opts = append(opts,
			Option{Name: "IPV6_TRANSPARENT", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_TRANSPARENT, Value: 1, Mandatory: true},
			Option{Name: "IPV6_MTU_DISCOVER", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_MTU_DISCOVER, Value: unix.IPV6_PMTUDISC_DONT, Mandatory: true},
		)
	}
	s, err := open(family(like), unix.SOCK_RAW, unix.IPPROTO_UDP, opts)
	if err != nil {
		return nil, fmt.Errorf("open raw udp socket: %w", err)
	}
	if err := unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(unused, 0))); err != nil {
		s.Close()
		return nil, fmt.Errorf("bind raw udp socket to %s: %w", unused, err)
	}
	f := &Fragmenter{conn: s}
	h := &f.m[0].hdr
	h.Name = (*byte)(unsafe.Pointer(&f.name))
	h.Iov = &f.iovs[0]
	h.SetIovlen(len(f.iovs))
	h.Control = &f.control[0]
	return f, nil
}

// Send sends one packet: the UDP header and the payload, with the given
// addresses, TTL and TOS. Its errors are those of WriteBatch.
func (f *Fragmenter) Send(src, dst netip.Addr, ttl, tos uint8, udp, payload []byte) error {
	f.iovs[0].Base, f.iovs[1].Base = &udp[0], &payload[0]
	f.iovs[0].SetLen(len(udp))
	f.iovs[1].SetLen(len(payload))
	c := control{b: f.control[:0]}
	h := &f.m[0].hdr
	if dst.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&f.name))
		v4.Family, v4.Addr = unix.AF_INET, dst.As4()
		h.Namelen = unix.SizeofSockaddrInet4
		a := src.As4()
		info := c.add(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		copy(info[4:8], a[:]) // ipi_spec_dst, the source to use (ip(7))
		c.addInt(unix.IPPROTO_IP, unix.IP_TTL, int(ttl))
		c.addInt(unix.IPPROTO_IP, unix.IP_TOS, int(tos))
	} else {
		f.name.Family, f.name.Addr = unix.AF_INET6, dst.As16()
		h.Namelen = unix.SizeofSockaddrInet6
		a := src.As16()
		info := c.add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		copy(info[:16], a[:])
		c.addInt(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int(ttl))
		c.addInt(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(tos))
	}
	h.SetControllen(len(c.b))
	_, err := f.conn.WriteBatch(f.m[:])
	return err
}

// WaitWritable is Conn.WaitWritable.
func (f *Fragmenter) WaitWritable(d time.Duration) bool { return f.conn.WaitWritable(d) }

// Queued is Conn.Queued.
func (f *Fragmenter) Queued() (receive, send int) { return f.conn.Queued() }

// Close releases the socket.
func (f *Fragmenter) Close() error { return f.conn.Close() }

// control builds control messages (cmsg(3)) in a buffer of sufficient capacity.
type control struct{ b []byte }

// add appends a control message with n zero bytes of data, and returns those.
func (c *control) add(level, typ, n int) []byte {
	off := len(c.b)
	c.b = c.b[:off+unix.CmsgSpace(n)]
	clear(c.b[off:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c.b[off]))
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(n))
	data := off + unix.CmsgLen(0)
	return c.b[data : data+n]
}

func (c *control) addInt(level, typ, v int) {
	binary.NativeEndian.PutUint32(c.add(level, typ, 4), uint32(v))
}
