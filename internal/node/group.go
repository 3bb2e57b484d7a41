// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"
	"slices"

	"vxsnd/internal/config"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
	"vxsnd/internal/sock"
)

// newGroup returns this node's part in its group of service nodes. Messages to
// peers leave by the control sockets.
func (n *Node) newGroup() *peer.Group {
	source := n.cfg.SrcIP
	if source.IsUnspecified() {
		source = unspecified(n.cfg.SvcnodeIP)
	}
	conns := slices.Clone(n.control)
	g := peer.New(peer.Options{
		Table: n.table, Now: clock, Log: n.log,
		Source: source, Port: n.cfg.VxfldPort, VRF: n.cfg.VRF,
		Send: func(b []byte, to netip.AddrPort) error {
			from := source
			if from.IsUnspecified() {
				from = netip.Addr{}
			}
			return controlConn(conns, source).WriteTo(b, to, from)
		},
		Settings: n.groupSettings(&n.cfg),
	})
	if c, ok := controlConn(conns, source).(*sock.Control); ok {
		c.OnRefusal(g.Refused)
	}
	return g
}

// controlConn returns the socket that is bound to the address, or to the
// wildcard.
func controlConn(conns []register.Conn, local netip.Addr) register.Conn {
	for _, c := range conns {
		if a := c.LocalAddr().Addr(); a == local || a.IsUnspecified() && a.Is4() == local.Is4() {
			return c
		}
	}
	return conns[0]
}

func (n *Node) groupSettings(c *config.Config) peer.Settings {
	addrs, unresolved := n.guard.peerAddrs()
	return peer.Settings{
		Peers:          addrs,
		Unresolved:     unresolved,
		Allowed:        n.guard.believes,
		Seen:           n.guard.see,
		MaxPacketSize:  c.MaxPacketSize,
		Holdtime:       holdtime(c.Holdtime),
		SyncTargets:    c.SyncTargets,
		SyncTimeout:    c.SyncTimeout,
		ResyncInterval: c.ResyncInterval,
	}
}

// configureGroup hands the group what the configuration and the names of peers
// say now.
func (n *Node) configureGroup() {
	n.grouping.Lock() // so that the newest comes last
	defer n.grouping.Unlock()
	c := n.config()
	n.group.Configure(n.groupSettings(&c))
}

// runGroup takes part in the group, and follows what the names of peers resolve
// to.
func (n *Node) runGroup(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- n.group.Run(ctx) }()
	for {
		select {
		case <-n.guard.updated:
			n.configureGroup()
		case err := <-ended:
			return err
		}
	}
}
