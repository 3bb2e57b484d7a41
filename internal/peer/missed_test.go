// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
)

// A peer that missed the withdrawal of what never ages lets go of it after a
// comparison. What ages ends by itself, and what has no identifier is left alone.
func TestRepairTellsOfWithdrawalsThatThePeerMissed(t *testing.T) {
	a, b := pair(t)
	type registration struct {
		id   uint64
		hold time.Duration
	}
	all := map[int]registration{1: {1, fdb.Static}, 2: {2, 90 * time.Second}, 3: {0, fdb.Static}, 4: {4, fdb.Static}}
	for i, r := range all {
		a.put(fdb.Registration, 7, vtep(i), r.id, r.hold)
		b.put(fdb.Peer, 7, vtep(i), r.id, r.hold)
	}
	b.put(fdb.Registration, 8, vtep(5), 5, fdb.Static) // a VTEP registers with both nodes
	a.put(fdb.Peer, 8, vtep(5), 5, 0)
	b.put(fdb.Registration, 8, vtep(6), 6, fdb.Static) // lacking here
	for i, r := range all {
		if i != 4 {
			a.put(fdb.Registration, 7, vtep(i), r.id, 0)
		}
	}
	a.RepairFrom(t.Context(), b.Local())
	got := make(map[netip.Addr]bool)
	for _, e := range b.entries() {
		got[e.Addr] = true
	}
	want := map[netip.Addr]bool{vtep(2): true, vtep(3): true, vtep(4): true, vtep(6): true}
	if diff := cmp.Diff(want, got, equateAddrs); diff != "" {
		t.Errorf("members of the peer (-want +got):\n%s", diff)
	}
	if st := state(a.Group); st.Differ != 1 || st.Updates != 2 || st.UpdateErrors != 0 {
		t.Errorf("got %d lacking, %d told, %d errors, want 1, 2, 0", st.Differ, st.Updates, st.UpdateErrors)
	}
	// There is nothing to tell any more, and the peer brings nothing back.
	a.RepairFrom(t.Context(), b.Local())
	b.meet(a.Local())
	if st, lacking := state(a.Group), b.compare(t); st.Updates != 2 || lacking != 0 {
		t.Errorf("got %d told and %d lacking at the peer, want 2 as before and none", st.Updates, lacking)
	}
}

// A comparison tells of no more withdrawals than one message holds.
func TestMissedWithdrawalsAreBounded(t *testing.T) {
	const most, more = 10_000, 10_050
	n := serving(t, 10)
	var es []vxfld.SyncEntry
	for i := range more {
		n.put(fdb.Registration, 7, vtep(i), uint64(i+1), 0)
		es = append(es, vxfld.SyncEntry{Addr: vtep(i), Holdtime: vxfld.HoldtimeStatic, Identifier: uint64(i + 1)})
	}
	p := answering(t, 20, sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true, VNIs: []vxfld.VNIEntries{record(7, es...)}}))
	n.meet(p.addr)
	n.RepairFrom(t.Context(), p.addr)
	if q := p.next(t); q.Digest == nil {
		t.Fatalf("got %+v, want a digest", q)
	}
	q := p.next(t)
	if len(q.VNIs) != 1 || q.VNIs[0].VNI != 7 || len(q.VNIs[0].Entries) != most {
		t.Fatalf("got %d records, want one with %d entries", len(q.VNIs), most)
	}
	for _, e := range q.VNIs[0].Entries {
		if e.Holdtime != vxfld.HoldtimeWithdraw || e.Identifier == 0 {
			t.Fatalf("got %+v, want a withdrawal under an identifier", e)
		}
	}
}
