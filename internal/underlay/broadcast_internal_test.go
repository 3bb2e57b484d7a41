// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func TestBroadcasts(t *testing.T) {
	tests := []struct{ name, prefix, want string }{
		{"a common one", "10.9.0.1/16", "10.9.255.255"},
		{"a small one", "192.0.2.5/30", "192.0.2.7"},
		{"of two addresses", "192.0.2.4/31", ""},
		{"of one address", "192.0.2.4/32", ""},
		{"IPv6", "2001:db8::1/64", ""},
		{"all", "10.9.0.1/0", "255.255.255.255"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := netip.MustParsePrefix(tt.prefix)
			got := slices.Collect(maps.Keys(broadcastsOf(map[ownAddr]struct{}{{addr: p.Addr(), bits: uint8(p.Bits())}: {}})))
			var want []netip.Addr
			if tt.want != "" {
				want = append(want, netip.MustParseAddr(tt.want))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
