// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"vxsnd/internal/control"
)

// The flood lists of a large machine, and one that is as long as can be, go in
// lines that a client takes, with nothing left out.
func TestPartsStayWithinTheBoundOfALine(t *testing.T) {
	var lists []control.FloodList
	for vni := range 2001 {
		n := 128
		if vni%500 == 499 {
			n = 16384
		}
		lists = append(lists, control.FloodList{
			VNI: uint32(16777215 - vni), Device: "vxlan-123456789", Index: 1 << 30,
			Members: slices.Repeat([]netip.Addr{netip.MustParseAddr("255.255.255.250")}, n),
		})
	}
	var got []uint32
	for part := range control.Parts(lists, func(l *control.FloodList) int { return len(l.Members) }) {
		b, err := json.Marshal(part)
		if err != nil || len(b) > control.MaxAnswer-1000 || len(part) == 0 {
			t.Fatalf("got a part of %d lists and %d bytes, %v, want some, and at most %d bytes", len(part), len(b), err, control.MaxAnswer-1000)
		}
		for _, l := range part {
			got = append(got, l.VNI)
		}
	}
	if len(got) != len(lists) || got[0] != lists[0].VNI || got[2000] != lists[2000].VNI {
		t.Errorf("got %d lists, want all of %d in their order", len(got), len(lists))
	}
	for range control.Parts(lists, func(*control.FloodList) int { return 0 }) {
		break // a client that has left gets no more
	}
	for part := range control.Parts([]control.FloodList{}, func(*control.FloodList) int { return 0 }) {
		t.Errorf("got a part %v of nothing, want none", part)
	}
}

func TestPartsOfSmallThingsAreFull(t *testing.T) {
	values := make([]int, 2*control.MaxPart+1)
	var got []int
	for part := range control.Parts(values, func(*int) int { return 1 }) {
		got = append(got, len(part))
	}
	if want := []int{control.MaxPart, control.MaxPart, 1}; !slices.Equal(got, want) {
		t.Errorf("got parts of %v, want %v", got, want)
	}
}
