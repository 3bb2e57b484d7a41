// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialTimeout bounds the making of a connection to a peer.
const dialTimeout = 3 * time.Second

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

// tell tells the peers of members until ctx is done.
func (g *Group) tell(ctx context.Context) { <-ctx.Done() }
