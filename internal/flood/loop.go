// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

const (
	// loopWindow is how long after a packet its return counts as a loop. A
	// packet that two nodes throw at each other is back within milliseconds;
	// a VTEP that repeats itself does so with the TTL that it always sends.
	loopWindow = time.Second

	// loopSample is the share of packets that are looked at: one in so many,
	// chosen by their bytes, so that a packet that returns is chosen again.
	// Each loopWindow has another choice, so that a loop of the same few
	// packets is found after a while too.
	loopSample = 16

	// loopMemory is how many packets are remembered.
	loopMemory = 1024

	// loopHead is how many bytes of a packet decide whether it is looked at:
	// the VXLAN header, the inner Ethernet header and what follows.
	loopHead = 64
)

// A loop is what is known of a packet that came back.
type loop struct {
	vni         vxlan.VNI
	src         netip.AddrPort
	first, then uint8 // TTL
}

// A loopDetector notices packets that come back with a lower TTL: two nodes
// that flood to each other without knowing it. It is safe for concurrent use.
type loopDetector struct {
	seed maphash.Seed

	mu   sync.Mutex // guards all below; taken for sampled packets alone
	seen [loopMemory]struct {
		hash uint64
		at   fdb.Time
		ttl  uint8
	}
	count uint64
	last  loop
}

func newLoopDetector() *loopDetector {
	return &loopDetector{seed: maphash.MakeSeed()}
}

// check takes in a packet and tells whether it has been here before with a
// higher TTL.
func (d *loopDetector) check(now fdb.Time, vni vxlan.VNI, p *Packet) bool {
	head := maphash.Bytes(d.seed, p.Payload[:min(len(p.Payload), loopHead)])
	if (head+uint64(now)/uint64(loopWindow))%loopSample != 0 {
		return false
	}
	return d.remember(now, vni, p, maphash.Bytes(d.seed, p.Payload))
}

// remember does the same for a packet that was picked, by a hash of its bytes.
func (d *loopDetector) remember(now fdb.Time, vni vxlan.VNI, p *Packet, h uint64) bool {
	h ^= maphash.Comparable(d.seed, p.Source)

	d.mu.Lock()
	defer d.mu.Unlock()
	e := &d.seen[h%loopMemory]
	if e.hash == h && now.Sub(e.at) < loopWindow && p.TTL < e.ttl {
		d.count++
		d.last = loop{vni: vni, src: p.Source, first: e.ttl, then: p.TTL}
		return true
	}
	e.hash, e.at, e.ttl = h, now, p.TTL
	return false
}

// report returns how many packets came back so far, and the last of them.
func (d *loopDetector) report() (uint64, loop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count, d.last
}
