// SPDX-License-Identifier: Apache-2.0

package tc

import "testing"

func TestLoadAndClose(t *testing.T) {
	r := newRig(t)
	if n, err := r.grow(); n != 1 || err != nil {
		t.Errorf("got segment %d, %v, want 1", n, err)
	}
	for i := range r.members {
		if got := len(r.members[i]); got != segmentMembers {
			t.Errorf("got %d records in segment %d, want %d", got, i, segmentMembers)
		}
	}
	if got, want := [3]int{len(r.kernel.slots), len(r.kernel.dests), len(r.kernel.devices)}, [3]int{16, maxDests, maxDevices}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	check(t, grace())
}
