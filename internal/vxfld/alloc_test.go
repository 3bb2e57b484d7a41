// SPDX-License-Identifier: Apache-2.0

package vxfld_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// registration returns a REFRESH message with one member in each of n VNIs.
func registration(tb testing.TB, v vxfld.Version, n int) []byte {
	tb.Helper()
	r := &vxfld.Refresh{Originator: true, Holdtime: 90}
	for i := range n {
		r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: vxlan.VNI(i), Addrs: []netip.Addr{addr("10.0.0.1")}})
	}
	b, err := vxfld.Message{Version: v, Body: r}.Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// A registration takes three allocations whatever its size: the body, its
// records and their addresses. Writing and packing take none.
func TestAllocations(t *testing.T) {
	for _, v := range []vxfld.Version{vxfld.V1, vxfld.V2, vxfld.V3} {
		b := registration(t, v, 100)
		got := testing.AllocsPerRun(100, func() {
			if _, err := vxfld.Parse(b); err != nil {
				t.Fatal(err)
			}
		})
		if got > 3 {
			t.Errorf("version %d: got %v allocations to parse, want 3", v, got)
		}
		m, err := vxfld.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, 2*len(b))
		if got := testing.AllocsPerRun(100, func() { _, _ = m.Append(buf) }); got != 0 {
			t.Errorf("version %d: got %v allocations to append, want none", v, got)
		}
		p, err := vxfld.NewPacker(v, vxfld.Refresh{Holdtime: 90}, 1458)
		if err != nil {
			t.Fatal(err)
		}
		vni := members(7, 20)
		emit := func([]byte) error { return nil }
		if got := testing.AllocsPerRun(100, func() { _ = p.Add(vni, emit) }); got != 0 {
			t.Errorf("version %d: got %v allocations to pack, want none", v, got)
		}
	}
}

// No datagram makes the decoder allocate out of proportion to its size.
func TestHostileMemory(t *testing.T) {
	fill := func(head, unit string) []byte {
		b := unhex(t, head)
		n := (vxfld.MaxDatagram - len(b)) / (len(unit) / 2)
		return append(b, bytes.Repeat(unhex(t, unit), n)...)
	}
	tests := []struct {
		name string
		b    []byte
	}{
		{"v1 records without addresses", fill("01010001005a", "000000010000")},
		{"v1 counts that lie", fill("01010001005a", "00000001ffff")},
		{"v3 records without addresses", fill("0301", bf(5, vf(1, 1)))},
		{"v3 records without a VNI", fill("0301", bf(5))},
		{"v3 members", fill("0301", bf(5, vf(1, 1), bf(2, ip("01020304"))))},
		{"v3 one record of members without address", append(unhex(t, "03012aa08d06"), bytes.Repeat(unhex(t, "1200"), 50000)...)},
		{"SYNC records without entries", fill("0303", bf(2, vf(1, 1)))},
		{"SYNC entries", fill("0303", bf(2, vf(1, 1), bf(2, ip("01020304"))))},
		{"PROXY ids", fill("0302", bf(6, bf(1, "01020304")))},
		{"groups", fill("0301", "a306")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const runs = 10
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range runs {
				_, _ = vxfld.Parse(tt.b)
			}
			runtime.ReadMemStats(&after)
			got := int(after.TotalAlloc-before.TotalAlloc) / runs
			if limit := 16 * len(tt.b); got > limit {
				t.Errorf("got %d bytes allocated for a message of %d, want at most %d", got, len(tt.b), limit)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, v := range []vxfld.Version{vxfld.V1, vxfld.V3} {
		for _, n := range []int{1, 8, 64, 512} {
			msg := registration(b, v, n)
			b.Run(fmt.Sprintf("v%d/vnis=%d", v, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(msg)))
				for b.Loop() {
					if _, err := vxfld.Parse(msg); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPack(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("vteps=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			p, err := vxfld.NewPacker(vxfld.V3, vxfld.Refresh{Holdtime: 90}, 1458)
			if err != nil {
				b.Fatal(err)
			}
			vni := members(7, n)
			for b.Loop() {
				if err := p.Add(vni, func([]byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
