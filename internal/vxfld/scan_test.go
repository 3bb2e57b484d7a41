// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// checkScan holds for any bytes: scanning a message finds what parsing it finds,
// and refuses what that refuses, in the same words.
func checkScan(t *testing.T, b []byte) {
	t.Helper()
	m, want := vxfld.Parse(b)
	s, err := vxfld.ScanSync(b)
	if want == nil && m.Body.Type() != vxfld.TypeSync {
		if !errors.Is(err, vxfld.ErrType) {
			t.Fatalf("got error %v for %s, want ErrType", err, m.Body.Type())
		}
		return
	}
	if (err == nil) != (want == nil) {
		t.Fatalf("got error %v, want %v", err, want)
	}
	if err != nil {
		if s != nil {
			t.Fatalf("got %+v with error %v", s, err)
		}
		if len(b) >= 2 && vxfld.Type(b[1]) == vxfld.TypeSync && err.Error() != want.Error() {
			t.Fatalf("got error %v, want %v", err, want)
		}
		return
	}
	type pair struct {
		VNI   vxlan.VNI
		Entry vxfld.SyncEntry
	}
	var got, pairs []pair
	body := *m.Body.(*vxfld.Sync)
	for _, r := range body.VNIs {
		for _, e := range r.Entries {
			pairs = append(pairs, pair{r.VNI, e})
		}
	}
	for vni, e := range s.All() {
		got = append(got, pair{vni, e})
	}
	body.VNIs = nil
	if diff := cmp.Diff(body, s.Sync, equateAddrs); diff != "" {
		t.Fatalf("scanned (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pairs, got, equateAddrs); diff != "" {
		t.Fatalf("entries (-want +got):\n%s", diff)
	}
	if s.Entries != len(pairs) {
		t.Fatalf("got %d entries counted, want %d", s.Entries, len(pairs))
	}
	for range s.All() {
		break // must not go on after that
	}
}

func TestScanVectors(t *testing.T) {
	for _, tt := range vectors(t) {
		b := unhex(t, tt.Hex)
		t.Run(tt.Name, func(t *testing.T) {
			for n := range len(b) + 1 {
				checkScan(t, b[:n:n])
			}
		})
	}
}

// The VNI of a record may stand behind its entries, and the last one counts.
func TestScanFindsTheVNIBehindTheEntries(t *testing.T) {
	s, err := vxfld.ScanSync(unhex(t, "0303"+bf(2, vf(1, 1), bf(2, ip("01020304")), vf(1, 9))))
	if err != nil {
		t.Fatal(err)
	}
	for vni, e := range s.All() {
		if vni != 9 || e.Addr != addr("1.2.3.4") || e.Holdtime != vxfld.HoldtimeDefault {
			t.Errorf("got %s in vni %s for %d s, want 1.2.3.4 in 9 for the default", e.Addr, vni, e.Holdtime)
		}
	}
}

// The fields of docs/protocol.md section 7: what nodes of this implementation
// say to each other.
func TestSyncExtension(t *testing.T) {
	tests := []struct {
		name string
		hex  string
		want vxfld.Sync
	}{
		{"request", "0303" + "c00701" + "1802", vxfld.Sync{Node: vxfld.SyncNode, Response: vxfld.ResponseAll}},
		{"answer", "0303" + "c00701" + "c80701" + "1800" + "d00701", vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}},
		{"digest", "0303" + "c00701" + "da0702abcd" + "1800", vxfld.Sync{Node: vxfld.SyncNode, Digest: []byte{0xab, 0xcd}}},
		{"digest of nothing", "0303" + "da0700" + "1800", vxfld.Sync{Digest: []byte{}}},
		{"round", "0303" + "c00701" + "e80705" + "1800" + "d00701", vxfld.Sync{Node: vxfld.SyncNode, Round: 5, Complete: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := unhex(t, tt.hex)
			s, err := vxfld.ScanSync(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, s.Sync); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			got, err := vxfld.Message{Version: vxfld.V3, Body: &tt.want}.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, got); diff != "" {
				t.Errorf("encoded (-want +got):\n%s", diff)
			}
			for n := range len(b) + 1 {
				checkScan(t, b[:n:n])
			}
		})
	}
}

// The owner of a member: the sender, another node, nobody.
func TestSyncOwner(t *testing.T) {
	b := unhex(t, "0303"+"1244"+"085b"+
		"1217"+"0a060a040a010101"+"10ffff03"+"1800"+"e20706"+"0a0400000000"+
		"1217"+"0a060a040a010101"+"10ffff03"+"1800"+"e20706"+"0a040a000007"+
		"120e"+"0a060a040a010101"+"10ffff03"+"1800"+
		"1800")
	static := func(owner netip.Addr) vxfld.SyncEntry {
		return vxfld.SyncEntry{Addr: addr("10.1.1.1"), Holdtime: vxfld.HoldtimeStatic, Owner: owner}
	}
	want := &vxfld.Sync{VNIs: []vxfld.VNIEntries{{VNI: 91, Entries: []vxfld.SyncEntry{
		static(netip.IPv4Unspecified()), static(addr("10.0.0.7")), static(netip.Addr{}),
	}}}}
	m, err := vxfld.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vxfld.Body(want), m.Body, equateAddrs); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	got, err := vxfld.Message{Version: vxfld.V3, Body: want}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got); diff != "" {
		t.Errorf("encoded (-want +got):\n%s", diff)
	}
	for n := range len(b) + 1 {
		checkScan(t, b[:n:n])
	}
}

// A table is written in pieces and read as one message.
func TestSyncStreamEnds(t *testing.T) {
	b, err := vxfld.Message{Version: vxfld.V3, Body: &vxfld.Sync{Node: vxfld.SyncNode}}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := vxfld.VNIEntries{VNI: 7, Entries: []vxfld.SyncEntry{{Addr: addr("10.0.0.1"), Holdtime: 5, Identifier: 9}}}
	if b, err = vxfld.AppendSyncRecord(b, want); err != nil {
		t.Fatal(err)
	}
	cut, err := vxfld.ScanSync(b)
	if err != nil || cut.Complete {
		t.Fatalf("got error %v, complete %v for what is not ended, want neither", err, cut.Complete)
	}
	s, err := vxfld.ScanSync(vxfld.AppendSyncComplete(b))
	if err != nil || !s.Complete || s.Entries != 1 {
		t.Fatalf("got error %v, %+v, want one entry, complete", err, s)
	}
}

// Neither checking a table nor walking over it takes memory in proportion to
// it.
func TestScanAllocations(t *testing.T) {
	sync := &vxfld.Sync{VNIs: []vxfld.VNIEntries{{VNI: 1}}}
	for i := range 10000 {
		a := addr("10.0.0.0").As4()
		a[2], a[3] = byte(i>>8), byte(i)
		sync.VNIs[0].Entries = append(sync.VNIs[0].Entries, vxfld.SyncEntry{Addr: netip.AddrFrom4(a), Holdtime: 90, Identifier: 1 << 40})
	}
	b, err := vxfld.Message{Version: vxfld.V3, Body: sync}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(10, func() {
		s, err := vxfld.ScanSync(b)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range s.All() {
			n++
		}
		if n != 10000 {
			t.Fatalf("got %d entries, want 10000", n)
		}
	})
	if got > 4 {
		t.Errorf("got %v allocations, want at most 4", got)
	}
}

func FuzzScan(f *testing.F) {
	for _, v := range vectors(f) {
		if b := unhex(f, v.Hex); len(b) >= 2 && vxfld.Type(b[1]) == vxfld.TypeSync {
			f.Add(b[2:])
		}
	}
	f.Add(unhex(f, "c00701c80701da0702abcd1800d00701"))
	f.Fuzz(func(t *testing.T, body []byte) { checkScan(t, append([]byte{3, 3}, body...)) })
}
