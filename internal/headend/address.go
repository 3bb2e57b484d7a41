// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"net/netip"
	"slices"
)

// Members are kept as sorted slices without repetition, which are replaced and
// never changed: a thousand lists of a few members each take little room so, and
// lists that are as they should be share one slice for what is wanted and own.

// normal returns a sorted copy of addrs, unmapped and without what is no address.
func normal(addrs []netip.Addr) []netip.Addr {
	if len(addrs) == 0 {
		return nil
	}
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, a.Unmap().WithZone(""))
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// filter returns those of a that are in b, or those that are not.
func filter(a, b []netip.Addr, in bool) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		for len(b) > 0 && b[0].Less(x) {
			b = b[1:]
		}
		if (len(b) > 0 && b[0] == x) == in {
			out = append(out, x)
		}
	}
	if len(out) == len(a) {
		return a
	}
	return out
}

// both returns those of a that are in b.
func both(a, b []netip.Addr) []netip.Addr { return filter(a, b, true) }

// without returns those of a that are not in b.
func without(a, b []netip.Addr) []netip.Addr { return filter(a, b, false) }

// union returns what is in a or in b.
func union(a, b []netip.Addr) []netip.Addr {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	return normal(slices.Concat(a, b))
}
