// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/vxlan"
)

// A verifier looks at the samples of a sink.
type verifier struct {
	table
	inner int
	ttl   uint8 // that copies must have; 0 takes any
	from  int64 // CLOCK_MONOTONIC, ns: packets count whose first copy came
	until int64 // within

	packets  map[uint64]*seen
	delays   []time.Duration
	arrivals []int64 // at the gauge
}

// seen are the copies of one packet.
type seen struct {
	first  int64
	vni    int
	by     []uint64 // bits: the members that got one
	others []uint16 // that come and go, and got one
	copies int      // to members that stay
}

// take looks at one sample. Its error says what must never be.
func (v *verifier) take(b []byte) error {
	now := int64(binary.NativeEndian.Uint64(b[sampleNow:]))
	kind := binary.NativeEndian.Uint32(b[sampleKind:])
	if kind&kindTimed != 0 && now >= v.from && now <= v.until {
		v.delays = append(v.delays, time.Duration(now-int64(binary.BigEndian.Uint64(b[sampleSent:]))))
	}
	if kind&kindGauge != 0 {
		v.arrivals = append(v.arrivals, now)
	}
	dst := netip.AddrFrom4([4]byte(b[sampleDst:]))
	vni, err := vxlan.ParseHeader(b[sampleVXLAN : sampleVXLAN+8])
	if err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	if n, want := int(binary.BigEndian.Uint16(b[sampleLength+2:])), v.inner+outerLen-14; n != want {
		return fmt.Errorf("copy to %s: %d bytes, want %d", dst, n, want)
	}
	if ttl := b[sampleTTL+2]; v.ttl != 0 && ttl != v.ttl {
		return fmt.Errorf("copy to %s: TTL %d, want %d", dst, ttl, v.ttl)
	}
	if kind&kindExact == 0 {
		return nil
	}
	return v.count(binary.BigEndian.Uint64(b[sampleNumber:]), int(vni)-firstVNI, dst, now)
}

// count takes in one copy of a packet all of whose copies are sampled.
func (v *verifier) count(number uint64, vni int, dst netip.Addr, now int64) error {
	if want := int(number % uint64(v.vnis)); vni != want {
		return fmt.Errorf("packet %d: VNI %d, want %d", number, vni+firstVNI, want+firstVNI)
	}
	s := v.packets[number]
	if s == nil {
		s = &seen{first: now, vni: vni, by: make([]uint64, (v.members+63)/64)}
		v.packets[number] = s
	}
	s.first = min(s.first, now)
	a := dst.As4()
	index := binary.BigEndian.Uint16(a[2:])
	if index >= firstRestless {
		if slices.Contains(s.others, index) {
			return fmt.Errorf("packet %d: two copies to %s", number, dst)
		}
		s.others = append(s.others, index)
		return nil
	}
	at, ok := v.has(vni, int(index))
	if !ok || dst != v.member(int(index)) {
		return fmt.Errorf("packet %d: copy to %s, no member of VNI %d", number, dst, vni+firstVNI)
	}
	if s.by[at/64]>>(at%64)&1 != 0 {
		return fmt.Errorf("packet %d: two copies to %s", number, dst)
	}
	s.by[at/64] |= 1 << (at % 64)
	s.copies++
	return nil
}

// missing returns the share of copies that are missing of packets that were
// flooded, and how many packets that is known of. A packet without any copy has
// not been flooded: nobody had time for it.
func (v *verifier) missing() (share float64, packets int) {
	lost := 0
	for _, s := range v.packets {
		if s.first < v.from || s.first > v.until {
			continue
		}
		packets++
		lost += v.members - s.copies
	}
	if packets == 0 {
		return 0, 0
	}
	return float64(lost) / float64(packets*v.members), packets
}
