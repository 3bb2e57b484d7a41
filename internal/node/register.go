// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

func (n *Node) registerSettings(c *config.Config) register.Settings {
	hold := c.Holdtime
	return register.Settings{
		Holdtime: holdtime(hold), MaxPacketSize: c.MaxPacketSize, Peer: n.guard.isPeer,
		Believed: n.guard.believes, Seen: n.guard.see, Partial: func() bool { return n.partial(hold) },
		Static: func(vni vxlan.VNI, a netip.Addr) bool { _, known := n.group.Via(vni, a); return known },
	}
}

// partial tells whether there may be members that have not registered with this
// node since it started. A peer's table makes no difference: that peer may have
// started a moment ago, too. All have registered after hold, or after the usual
// time where nothing ages.
func (n *Node) partial(hold time.Duration) bool {
	if hold >= config.HoldtimeStatic {
		hold = time.Duration(vxfld.HoldtimeDefault) * time.Second
	}
	return clock().Sub(fdb.Time(n.began.Load())) < hold
}
