// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"testing"

	"vxsnd/internal/vxlan"
)

// What finds no room has no owner, and so nobody's round ends it.
func TestViaIsBounded(t *testing.T) {
	var v via
	from, other := netip.MustParseAddr("10.9.9.1"), netip.MustParseAddr("10.9.9.2")
	a := netip.MustParseAddr("10.0.0.1")
	for i := range maxVia {
		v.told(member{vxlan.VNI(i), a}, from, from, 1)
	}
	late := member{maxVia, a}
	v.told(late, from, from, 1)
	v.told(member{0, a}, from, other, 1)
	if got := v.ownersOf(late, nil); len(got) != 1 || got[0].IsValid() {
		t.Errorf("got owners %v of what found no room, want the group", got)
	}
	if len(v.words) != maxVia || v.owners != maxVia {
		t.Errorf("got %d members and %d owners, want %d", len(v.words), v.owners, maxVia)
	}
	v.told(member{1, a}, from, from, 2)
	if gone := v.lapse(from, 2); len(gone) != maxVia-1 || v.owners != 1 {
		t.Errorf("got %d members gone and %d owners left, want %d and 1", len(gone), v.owners, maxVia-1)
	}
	v.told(late, from, from, 2)
	if got := v.ownersOf(late, nil); len(got) != 1 || got[0] != from {
		t.Errorf("got owners %v after there was room, want %v", got, from)
	}
}
