// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"slices"

	"vxsnd/internal/fdb"
)

// reserved is the former class E (RFC 1112, section 4), which Linux and some
// networks use for hosts.
var reserved = netip.MustParsePrefix("240.0.0.0/4")

// unfit says who cannot be a member of any VNI.
type unfit struct {
	broadcasts map[netip.Addr]struct{} // never changed
	reserved   bool                    // 240.0.0.0/4: this machine has no address of it
}

// refuse takes in what the addresses of this machine say of who cannot be a
// member.
func (r *Registrar) refuse(own map[netip.Addr]struct{}) {
	u := unfit{broadcasts: r.addresses.Broadcasts(), reserved: true}
	for a := range own {
		u.reserved = u.reserved && !reserved.Contains(a)
	}
	r.mu.Lock()
	r.unfit = u
	r.mu.Unlock()
}

// membersLocked returns who of those that an answer names can be a member of a
// VNI, sorted and distinct: whom packets can be sent to, and neither this machine
// nor a service node. It counts whom it leaves out, and uses the memory of named.
func (r *Registrar) membersLocked(e *entry, named []netip.Addr) []netip.Addr {
	named = slices.DeleteFunc(named, func(a netip.Addr) bool {
		if _, own := r.own[a]; own {
			return true
		}
		_, broadcast := r.unfit.broadcasts[a]
		bad := broadcast || !a.Is4() || !fdb.Usable(a) || r.unfit.reserved && reserved.Contains(a) ||
			slices.Contains(e.Nodes, a) || r.peers.has(a)
		if bad {
			r.leftOut.Add(1)
		}
		return bad
	})
	slices.SortFunc(named, netip.Addr.Compare)
	return slices.Compact(named)
}
