// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"net/netip"
)

// Broadcasts returns the broadcast addresses of the networks that this machine has
// an address in, as Addresses or Run knew them last: what goes there reaches everybody. It must
// not be modified.
func (u *Underlay) Broadcasts() map[netip.Addr]struct{} {
	if m := u.broadcasts.Load(); m != nil {
		return *m
	}
	return nil
}

// broadcastsOf returns those of addresses. A network of one or two addresses has
// none (RFC 3021).
func broadcastsOf(addrs map[ownAddr]struct{}) map[netip.Addr]struct{} {
	out := make(map[netip.Addr]struct{})
	for a := range addrs {
		if !a.addr.Is4() || a.bits > 30 {
			continue
		}
		b := a.addr.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|^uint32(0)>>a.bits)
		out[netip.AddrFrom4(b)] = struct{}{}
	}
	return out
}
