// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"maps"
	"net/netip"
	"testing"
)

func TestAddressIsUnresolvedOnlyIfItIsSoOnEachLink(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	tests := []struct {
		name string
		ns   neighbours
		want map[netip.Addr]struct{}
	}{
		{"none", nil, nil},
		{"all well", neighbours{{1, a}: false, {1, b}: false}, nil},
		{"one failed", neighbours{{1, a}: true, {1, b}: false}, map[netip.Addr]struct{}{a: {}}},
		{"moved to another link", neighbours{{1, a}: true, {2, a}: false, {1, c}: true}, map[netip.Addr]struct{}{c: {}}},
		{"failed on both", neighbours{{1, a}: true, {2, a}: true}, map[netip.Addr]struct{}{a: {}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.ns.unresolved(); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
