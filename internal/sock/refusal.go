// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// writeTries is how often a datagram is handed to the kernel that it does not
// take, since the error may be that of another datagram.
const writeTries = 3

// refusals are the errors that tell of a datagram sent before (icmp_err_convert
// in net/ipv4/icmp.c, icmpv6_err_convert in net/ipv6/icmp.c). Reading yields
// none of them otherwise.
var refusals = []unix.Errno{
	unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENOPROTOOPT, unix.ECONNREFUSED, unix.EMSGSIZE, unix.EOPNOTSUPP,
	unix.EHOSTDOWN, unix.ENONET, unix.EACCES, unix.EPROTO,
}

// OnRefusal has fn be told of each datagram that was sent and came back: where
// it went, and why the network or the receiver refused it. How many come back
// is limited by who refuses. fn is called by readers and writers, concurrently,
// and must not block. OnRefusal is called before the first of them.
//
// The socket stays unconnected: a connected one beside it would get what the
// peer sends (ip(7), IP_RECVERR).
func (c *Control) OnRefusal(fn func(to netip.AddrPort, err error)) {
	o := Option{Level: unix.IPPROTO_IP, Opt: unix.IP_RECVERR, Value: 1}
	if !c.local.Addr().Is4() {
		o.Level, o.Opt = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	c.withFD(func(fd int) { _ = o.set(fd) }) // without it nothing is told
	c.onRefusal = fn
}

// withFD calls fn with the descriptor, unless the socket is closed.
func (c *Control) withFD(fn func(fd int)) {
	if rc, err := c.conn.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

// refused tells whether err may be due to a datagram sent before. The kernel
// tells of each by an error of whatever comes next, and by its error queue,
// which is read here: it takes room in the receive buffer.
func (c *Control) refused(err error) bool {
	var e unix.Errno
	if c.onRefusal == nil || !errors.As(err, &e) || !slices.Contains(refusals, e) {
		return false
	}
	c.withFD(c.readRefusals)
	return true
}

func (c *Control) readRefusals(fd int) {
	for {
		var oob [controlSpace]byte
		_, n, _, sa, err := unix.Recvmsg(fd, nil, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		if e := refusal(oob[:n]); e != 0 {
			c.onRefusal(destination(sa), e)
		}
	}
}

// refusal returns the error that came by ICMP, 0 if there is none.
func refusal(oob []byte) unix.Errno {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		oob = rest
		isError := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR ||
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if !isError || len(data) < 5 {
			continue
		}
		// struct sock_extended_err (linux/errqueue.h): errno, origin.
		if o := data[4]; o == unix.SO_EE_ORIGIN_ICMP || o == unix.SO_EE_ORIGIN_ICMP6 {
			return unix.Errno(binary.NativeEndian.Uint32(data))
		}
	}
	return 0
}

func destination(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
