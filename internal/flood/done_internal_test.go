// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"net/netip"
	"slices"
	"testing"
)

// Who waits for packets to be flooded is told of each, dropped ones too, and when
// all copies of the batch have been sent.
func TestDoneTellsOfAllPackets(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.1", "10.0.0.2")
	var got []Flow
	tell := func(fs []Flow) {
		if len(r.to()) != 1 {
			t.Errorf("got %v sent when told, want the one copy", r.to())
		}
		got = append(got, fs...)
	}
	r.w.done.Store(&tell)
	r.packet("10.0.0.1:1", 77, 1) // dropped: its TTL
	r.packet("10.0.0.1:2", 77, 64)
	r.packet("10.0.0.1:3", 78, 64) // dropped: nobody else is there
	r.run()
	want := []Flow{
		{netip.MustParseAddrPort("10.0.0.1:1"), 77}, {netip.MustParseAddrPort("10.0.0.1:2"), 77}, {netip.MustParseAddrPort("10.0.0.1:3"), 78},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
