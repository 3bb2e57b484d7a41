// SPDX-License-Identifier: Apache-2.0

package peer

import "vxsnd/internal/vxfld"

// Relay passes a registration on to every peer.
func (g *Group) Relay(r *vxfld.Refresh) {}
