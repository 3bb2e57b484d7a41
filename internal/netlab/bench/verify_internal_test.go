// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/vxlan"
)

// sampleOf is what the sink writes of a copy of a packet of VNI 0.
func sampleOf(number uint64, dst netip.Addr, now int64) []byte {
	b := make([]byte, sampleSize)
	binary.BigEndian.PutUint64(b[sampleNumber:], number)
	binary.NativeEndian.PutUint64(b[sampleNow:], uint64(now))
	binary.BigEndian.PutUint64(b[sampleSent:], uint64(now-5000))
	copy(b[sampleDst:], dst.AsSlice())
	copy(b[sampleVXLAN:], vxlan.AppendHeader(nil, firstVNI))
	binary.BigEndian.PutUint16(b[sampleLength+2:], smallFrame+outerLen-14)
	b[sampleTTL+2] = sentTTL - 1
	binary.NativeEndian.PutUint32(b[sampleKind:], kindExact|kindTimed)
	return b
}

func TestVerifier(t *testing.T) {
	tab := table{members: 3, vnis: 1}
	all := [][]byte{sampleOf(0, tab.member(0), 10), sampleOf(0, tab.member(1), 11), sampleOf(0, tab.member(2), 12)}
	other := func(change func(b []byte)) [][]byte {
		b := sampleOf(0, tab.member(0), 10)
		change(b)
		return [][]byte{b}
	}
	tests := []struct {
		name    string
		samples [][]byte
		missing float64
		packets int
		want    string // in the error
	}{
		{name: "each member has one", samples: all, packets: 1},
		{name: "one is missing", samples: all[:2], missing: 1.0 / 3, packets: 1},
		{name: "one that comes and goes has one too", samples: append(all, sampleOf(0, tab.member(firstRestless), 13)), packets: 1},
		{name: "two packets", samples: append(all, sampleOf(128, tab.member(1), 40)), missing: 2.0 / 6, packets: 2},
		{name: "before the measurement", samples: [][]byte{sampleOf(0, tab.member(0), 2)}},
		{name: "after it", samples: [][]byte{sampleOf(0, tab.member(0), 200)}},
		{name: "two copies", samples: append(all, sampleOf(0, tab.member(1), 14)), want: "two copies to 10.99.0.1"},
		{name: "two copies to one that comes and goes",
			samples: [][]byte{sampleOf(0, tab.member(firstRestless), 13), sampleOf(0, tab.member(firstRestless), 14)}, want: "two copies"},
		{name: "no member", samples: [][]byte{sampleOf(0, tab.member(3), 10)}, want: "no member"},
		{name: "address of another network", samples: [][]byte{sampleOf(0, netip.MustParseAddr("10.98.0.1"), 10)}, want: "no member"},
		{name: "VNI of another packet", samples: other(func(b []byte) { b[sampleVXLAN+6]++ }), want: "VNI 10001, want 10000"},
		{name: "no VNI", samples: other(func(b []byte) { b[sampleVXLAN] = 0 }), want: "without a valid VNI"},
		{name: "length", samples: other(func(b []byte) { b[sampleLength+3]++ }), want: "101 bytes, want 100"},
		{name: "TTL", samples: other(func(b []byte) { b[sampleTTL+2]++ }), want: "TTL 64, want 63"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := &verifier{table: tab, inner: smallFrame, ttl: sentTTL - 1, from: 5, until: 100, packets: map[uint64]*seen{}}
			var err error
			for _, b := range tt.samples {
				if err = v.take(b); err != nil {
					break
				}
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got error %v, want one with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			if share, packets := v.missing(); share != tt.missing || packets != tt.packets {
				t.Errorf("got %v missing of %d packets, want %v of %d", share, packets, tt.missing, tt.packets)
			}
			if len(v.delays) > 0 && v.delays[0] != 5*time.Microsecond {
				t.Errorf("got a delay of %s, want 5µs", v.delays[0])
			}
		})
	}
}

// What a verifier takes for members are those that contenders flood to.
func TestTableKnowsItsMembers(t *testing.T) {
	for _, tab := range []table{{members: 1, vnis: 1}, {members: 64, vnis: 1000}, {members: 250, vnis: 1000, onLink: true}, {members: members4k, vnis: 2}} {
		for k := range tab.vnis {
			in := map[netip.Addr]bool{}
			for _, a := range tab.list(k) {
				in[a] = true
			}
			if len(in) != tab.members {
				t.Fatalf("%s: got %d members of VNI %d, want %d", tab, len(in), k, tab.members)
			}
			for i := range members4k {
				if _, ok := tab.has(k, i); ok != in[tab.member(i)] {
					t.Fatalf("%s: has(%d, %d) is %t, want %t", tab, k, i, ok, !ok)
				}
			}
		}
	}
}

// What changes add they remove again, so that they can be made over and over.
func TestChangesEndWhereTheyBegan(t *testing.T) {
	for _, tab := range []table{{members: 1, vnis: 1}, {members: 64, vnis: 1}, {members: 8, vnis: 1000}, {members: 250, vnis: 1000}} {
		there := map[change]bool{}
		for _, c := range tab.changes() {
			id := change{c.vni, c.addr, true}
			if there[id] == c.add {
				t.Fatalf("%s: change %+v changes nothing", tab, c)
			}
			if there[id] = c.add; !c.add {
				delete(there, id)
			}
		}
		if len(there) != 0 {
			t.Errorf("%s: got %d members more in the end, want none", tab, len(there))
		}
	}
}
