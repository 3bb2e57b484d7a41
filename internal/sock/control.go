// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlBuffer is the receive buffer of a control socket in bytes: room for
// what some thousand registration daemons send at once.
const controlBuffer = 4 << 20

// Control is the socket for control messages. It tells to which local address
// each datagram was sent, so that the answer can come from there. Its methods
// may be called concurrently.
type Control struct {
	conn  *net.UDPConn
	local netip.AddrPort
	// onRefusal is told of datagrams that came back; see OnRefusal.
	onRefusal func(to netip.AddrPort, err error)
}

// ListenControl binds the control socket. It sets neither SO_REUSEPORT nor
// SO_REUSEADDR, so that a second node on the address fails. The address may
// not be of this machine yet. vrf names a VRF device, or none.
func ListenControl(ctx context.Context, addr netip.AddrPort, vrf string) (*Control, error) {
	opts := append(vrfOption(vrf), bufferOptions(unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, controlBuffer)...)
	network := "udp4"
	if addr.Addr().Is4() {
		opts = append(opts,
			Option{Name: "IP_PKTINFO", Level: unix.IPPROTO_IP, Opt: unix.IP_PKTINFO, Value: 1, Mandatory: true},
			Option{Name: "IP_FREEBIND", Level: unix.IPPROTO_IP, Opt: unix.IP_FREEBIND, Value: 1, Mandatory: true},
		)
		if vrf != "" {
			// To answer from a service address that was withdrawn: the kernel looks for
			// it in the default table alone otherwise (__ip_dev_find). Needs CAP_NET_RAW.
			opts = append(opts, Option{Name: "IP_TRANSPARENT", Level: unix.IPPROTO_IP, Opt: unix.IP_TRANSPARENT, Value: 1})
		}
	} else {
		network = "udp6" // net sets IPV6_V6ONLY
		opts = append(opts,
			Option{Name: "IPV6_RECVPKTINFO", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_RECVPKTINFO, Value: 1, Mandatory: true},
			Option{Name: "IPV6_FREEBIND", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_FREEBIND, Value: 1, Mandatory: true},
		)
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) { err = setAll(int(fd), opts) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := lc.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen udp %s: %w", addr, unwrapNet(err))
	}
	return &Control{conn: pc.(*net.UDPConn), local: addr}, nil
}

// unwrapNet takes the address off an error of package net: ours name it.
func unwrapNet(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// LocalAddr returns the address that the socket is bound to.
func (c *Control) LocalAddr() netip.AddrPort {
	if a, ok := c.conn.LocalAddr().(*net.UDPAddr); ok {
		return netip.AddrPortFrom(c.local.Addr(), uint16(a.Port))
	}
	return c.local
}

// ReadFrom reads one datagram into b and returns its length, its sender and
// the local address that it was sent to. A 4-in-6 sender, which can only be
// made up on an IPv6 socket, stays one. After Close it returns net.ErrClosed.
func (c *Control) ReadFrom(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error) {
	var oob [controlSpace]byte
	n, oobn, _, from, err := c.conn.ReadMsgUDPAddrPort(b, oob[:])
	for err != nil && c.refused(err) {
		n, oobn, _, from, err = c.conn.ReadMsgUDPAddrPort(b, oob[:])
	}
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, fmt.Errorf("read %s: %w", c.local, err)
	}
	from = netip.AddrPortFrom(from.Addr().WithZone(""), from.Port())
	return n, from, asked(oob[:oobn]), nil
}

// asked returns the address that a datagram was sent to, or for a broadcast
// the local address that stands for it (ip(7), IP_PKTINFO).
func asked(oob []byte) netip.Addr {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return netip.Addr{}
		}
		oob = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data[:16]))
		}
	}
	return netip.Addr{}
}

// WriteTo sends b to an address, from the local address from; the zero Addr
// leaves that choice to the kernel.
func (c *Control) WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error {
	ctl := control{b: make([]byte, 0, controlSpace)}
	switch {
	case !from.IsValid():
	case from.Is4():
		a := from.As4()
		copy(ctl.add(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)[4:8], a[:])
	default:
		a := from.As16()
		copy(ctl.add(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)[:16], a[:])
	}
	var err error
	for range writeTries {
		if _, _, err = c.conn.WriteMsgUDPAddrPort(b, ctl.b, to); err == nil {
			return nil
		}
		if !c.refused(err) {
			break
		}
	}
	return fmt.Errorf("send to %s: %w", to, err)
}

// Close releases the socket and ends a ReadFrom that waits.
func (c *Control) Close() error {
	if err := c.conn.Close(); err != nil {
		return fmt.Errorf("close control socket: %w", err)
	}
	return nil
}
