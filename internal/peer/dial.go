// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

const (
	// dialTimeout bounds the making of a connection to a peer.
	dialTimeout = 3 * time.Second

	// writePiece is the number of bytes that are written at once, which the
	// receiver has to take while it may be idle.
	writePiece = 64 << 10
)

// dial connects to a peer, from this node's own address.
func (g *Group) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTimeout, Control: g.control}
	if g.source.IsValid() && !g.source.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(g.source, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to peer: %w", err)
	}
	return c.(*net.TCPConn), nil
}

// control puts a socket into the VRF, before it is bound or connected.
func (g *Group) control(_, _ string, rc syscall.RawConn) error {
	if g.vrf == "" {
		return nil
	}
	var err error
	if cerr := rc.Control(func(fd uintptr) {
		err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, g.vrf)
	}); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("bind to %s: %w", g.vrf, err)
	}
	return nil
}

// deliver sends msg to a peer over a connection of its own, and does not wait
// for what the peer makes of it: a deployed node answers an update with nothing
// and may leave the connection open for long (docs/protocol.md section 1).
func (g *Group) deliver(ctx context.Context, to netip.AddrPort, msg []byte) error {
	c, err := g.dial(ctx, to)
	if isReset(err) {
		return away(err)
	} else if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	pc := g.limits.pace(c, g.limits.answer)
	for piece := range slices.Chunk(msg, writePiece) {
		if _, err := pc.Write(piece); err != nil {
			return untold(err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		return untold(err)
	}
	return nil
}

func untold(err error) error {
	if isReset(err) {
		err = away(err)
	}
	return fmt.Errorf("tell peer: %w", err)
}
