// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"fmt"
	"net/netip"
	"sync"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
)

// An injector has the lanes of packets that came in by another way than the
// engine's sockets, nil for a family without.
type injector struct {
	mu     sync.Mutex // guards the rest
	v4, v6 *lane
	lookup [1]fdb.Lookup
}

// addInjector opens the lane for injected packets of a family, once.
func (r *Raw) addInjector(like netip.Addr) error {
	p := &r.inject.v4
	if !like.Is4() {
		p = &r.inject.v6
	}
	if *p != nil {
		return nil
	}
	l, err := r.newLane(like)
	*p = l
	return err
}

// close ends the counting of injected packets.
func (j *injector) close(now int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range []*lane{j.v4, j.v6} {
		if l != nil {
			l.tally.Close(now)
		}
	}
}

// Inject replicates a packet that came in by another way.
func (r *Raw) Inject(p Packet) error {
	r.inject.mu.Lock()
	defer r.inject.mu.Unlock()
	l := r.inject.v4
	if !p.Source.Addr().Is4() {
		l = r.inject.v6
	}
	if l == nil {
		return fmt.Errorf("flood a packet of %s: %w", p.Source, ErrFamily)
	}
	now := r.cfg.Clock()
	l.begin(*r.settings.Load())
	l.count.Packets++
	l.count.Bytes += uint64(len(p.Payload))
	vni, ok, drop := check(&sock.Datagram{Payload: p.Payload, Source: p.Source})
	switch {
	case drop == metrics.DropNone:
		q := r.inject.lookup[:]
		q[0] = fdb.Lookup{VNI: vni, Source: p.Source.Addr()}
		r.table.LookupBatch(now, q)
		l.take(now, &p, &q[0], false)
		l.end()
		l.learn(now)
	case ok:
		l.refuse(vni, &p, drop)
	default:
		l.count.Drops[drop]++
	}
	l.settle(now)
	l.tally.Flush(int64(now)) // there may be no next one for long
	r.stats[len(r.stats)-1].Add(&l.count)
	l.count = metrics.FloodCount{}
	return nil
}
