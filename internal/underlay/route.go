// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Source returns the address that packets to an address would come from: that
// of the route to it in a VRF, or in none where vrf is empty.
func (d *Devices) Source(to netip.Addr, vrf string) (netip.Addr, error) {
	rs, err := d.routes.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{VrfName: vrf})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("route to %s: %w", to, err)
	}
	for _, r := range rs {
		if a, ok := fromIP(r.Src); ok {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("route to %s: %w", to, errors.New("it has no source address"))
}
