// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pingInterval is the time between echo requests.
const pingInterval = 100 * time.Millisecond

// pingID tells the pings of this process apart, across namespaces too.
var pingID atomic.Uint32

// Ping sends ICMP echo requests of size bytes of data from a socket of the
// namespace to dst until one is answered, and returns how many it sent. The
// first may go missing where a neighbour or a route has to be found; more may
// not, as a rule. It fails when ctx ends.
func (n *Namespace) Ping(ctx context.Context, dst netip.Addr, size int) (sent int, err error) {
	network, local, proto := "ip4:icmp", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if dst.Is6() {
		network, local, proto = "ip6:ipv6-icmp", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var c *icmp.PacketConn
	err = n.Do(func() (err error) {
		c, err = icmp.ListenPacket(network, local)
		return err
	})
	if err != nil {
		return 0, n.fail(err, "ping %s", dst)
	}
	defer c.Close()

	echo := &icmp.Echo{ID: os.Getpid()&0xff<<8 | int(pingID.Add(1)&0xff), Data: make([]byte, size)}
	buf := make([]byte, 1<<16)
	for ctx.Err() == nil {
		echo.Seq++
		b, err := (&icmp.Message{Type: request, Body: echo}).Marshal(nil)
		if err != nil {
			return sent, n.fail(err, "ping %s", dst)
		}
		if _, err := c.WriteTo(b, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
			return sent, n.fail(err, "ping %s", dst)
		}
		sent++
		if err := c.SetReadDeadline(time.Now().Add(pingInterval)); err != nil {
			return sent, n.fail(err, "ping %s", dst)
		}
		for {
			k, from, err := c.ReadFrom(buf)
			if os.IsTimeout(err) {
				break
			}
			if err != nil {
				return sent, n.fail(err, "ping %s", dst)
			}
			m, err := icmp.ParseMessage(proto, buf[:k])
			if err != nil || m.Type != reply || from.String() != dst.String() {
				continue
			}
			if e, ok := m.Body.(*icmp.Echo); ok && e.ID == echo.ID && len(e.Data) == size {
				return sent, nil
			}
		}
	}
	return sent, fmt.Errorf("%s: ping %s: %d requests without an answer: %w", n.Name, dst, sent, context.Cause(ctx))
}
