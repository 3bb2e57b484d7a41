// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"net/netip"

	"vxsnd/internal/vxfld"
)

// Greet makes this node known to a peer.
func (g *Group) Greet(ctx context.Context, a netip.AddrPort) error {
	_, err := g.ask(ctx, g.at(a), vxfld.Sync{})
	return err
}
