// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// What a peer relays without an identifier takes no static member away that a
// peer has told of in another way, and makes none age.
func TestRelayedMessageLeavesStaticMembersAlone(t *testing.T) {
	static, relayed := vtep1.Addr(), vtep2.Addr()
	told := func(vni vxlan.VNI, a netip.Addr) bool { return vni == 7 && a == static }
	for _, tt := range []struct {
		name       string
		version    vxfld.Version
		holdtime   uint32
		originator bool
		identifier uint64
		static     func(vxlan.VNI, netip.Addr) bool
		kept       bool // static, for ever
		left       time.Duration
	}{
		{"withdrawal", vxfld.V2, 0, false, 0, told, true, 0},
		{"version 3 withdrawal", vxfld.V3, 0, false, 0, told, true, 0},
		{"short time", vxfld.V2, 3, false, 0, told, true, 3 * time.Second},
		{"under an identifier", vxfld.V3, 0, false, 5, told, true, fdb.Static},
		{"of a VTEP itself", vxfld.V2, 0, true, 0, told, true, fdb.Static},
		{"nobody knows", vxfld.V2, 0, false, 0, nil, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := fdb.New(fdb.Options{})
			onBench(t, func(o *register.Options) { o.Table, o.Static = table, tt.static }, func(b *bench) {
				for _, a := range []netip.Addr{static, relayed} {
					table.Apply(0, []fdb.Update{{VNI: 7, Addr: a, Source: fdb.Peer, Holdtime: fdb.Static}})
				}
				from := peer
				if tt.originator {
					from = vtep2
				}
				b.send(from, refresh(t, tt.version, vxfld.Refresh{
					Originator: tt.originator, Holdtime: tt.holdtime, Identifier: tt.identifier, VNIs: names(7, static, relayed),
				}))
				got := make(map[netip.Addr]time.Duration)
				for _, e := range table.Entries(0, 7, nil) {
					if e.Identifier == 0 && e.Source == fdb.Peer {
						got[e.Addr] = fdb.Static
						if e.Expires != fdb.Never {
							got[e.Addr] = e.Expires.Sub(0)
						}
					}
				}
				if kept := got[static] == fdb.Static; kept != tt.kept {
					t.Errorf("got static member kept: %v, want %v", kept, tt.kept)
				}
				if got[relayed] != tt.left {
					t.Errorf("got %s left of one that was relayed, want %s", got[relayed], tt.left)
				}
			})
		})
	}
}
