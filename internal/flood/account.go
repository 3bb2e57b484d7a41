// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"net/netip"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// sampleEvery is the shortest time between two packets of a worker whose latency
// is measured.
const sampleEvery = time.Millisecond

// take does with a packet that the table was asked about what is to be done.
// timed asks for its latency. Copies may stay queued until end.
func (l *lane) take(now fdb.Time, p *Packet, q *fdb.Lookup, timed bool) {
	tap := l.wanted(q.VNI)
	if tap != nil {
		l.learn(now) // what is learned below is this packet's doing
	}
	a := l.open(q.VNI, p)
	if why := dropOfSource(q.Refused); why != metrics.DropNone {
		l.drop(a, why)
	} else {
		if q.Learn {
			l.learned = append(l.learned, fdb.Learned{VNI: q.VNI, Addr: q.Source})
		}
		a.Sender, a.Known = true, q.Learn || len(q.Destinations) > 0
		last := l.replicate(now, p, &q.Snapshot, a)
		if timed && p.received != 0 {
			l.timed, l.since = last, p.received
		}
	}
	if tap != nil {
		l.end()
		l.show(tap, p, a, l.learn(now) > 0)
	}
}

// refuse ends a packet that is not worth asking the table about.
func (l *lane) refuse(vni vxlan.VNI, p *Packet, why metrics.Drop) {
	a := l.open(vni, p)
	l.drop(a, why)
	if tap := l.wanted(vni); tap != nil {
		l.show(tap, p, a, false)
	}
}

// learn hands the table what was learned, and returns how much was new to it.
func (l *lane) learn(now fdb.Time) int {
	if len(l.learned) == 0 {
		return 0
	}
	n := l.table.Learn(now, l.learned).Added
	l.count.Learned += uint64(n)
	l.learned = l.learned[:0]
	return n
}

// open begins the account of a packet. It is good until the batch is settled.
func (l *lane) open(vni vxlan.VNI, p *Packet) *metrics.Delta {
	l.accounts = append(l.accounts, metrics.Delta{
		VNI: vni, Source: p.Source.Addr().As16(), Packets: 1, Bytes: uint64(len(p.Payload)),
	})
	return &l.accounts[len(l.accounts)-1]
}

// drop counts a packet, or a copy that was not queued, as dropped.
func (l *lane) drop(a *metrics.Delta, why metrics.Drop) {
	l.count.Drops[why]++
	a.Drop(why)
}

// dropCopy counts copy i of a queue, which its packet counts as sent so far, as
// dropped.
func (l *lane) dropCopy(q *queue, i int, why metrics.Drop) {
	l.count.Drops[why]++
	a := &l.accounts[q.owners[i]]
	a.Drop(why)
	a.Copies--
	a.CopyBytes -= uint64(q.out.PayloadLen(i))
}

// settle has what the batch did counted, after end.
func (l *lane) settle(now fdb.Time) {
	l.tally.Add(int64(now), l.accounts)
	l.accounts = l.accounts[:0]
}

// wanted returns the tap if it wants a packet of a VNI, else nil.
func (l *lane) wanted(vni vxlan.VNI) *Tap {
	if l.tap == nil || !l.tap.Wants(vni) {
		return nil
	}
	return l.tap
}

// show shows a packet whose copies have all gone their way.
func (l *lane) show(tap *Tap, p *Packet, a *metrics.Delta, learned bool) {
	r := &l.record
	*r = Record{
		Time: time.Now(), VNI: a.VNI, Source: p.Source, Destination: l.destination(p), TTL: p.TTL, TOS: p.TOS,
		Payload: p.Payload, Copies: int(a.Copies), Learned: learned,
	}
	if p.received != 0 {
		r.Time = time.Unix(0, p.received)
	}
	for why := range metrics.NumDrops {
		switch n := a.Drops[why]; {
		case n == 0:
		case why.PerCopy():
			r.CopyDrops[why] = n
		default:
			r.Drop = why
		}
	}
	tap.Take(r)
}

// destination returns where a packet was sent to: the address that its socket is
// bound to, unless that is the wildcard.
func (l *lane) destination(p *Packet) netip.AddrPort {
	switch {
	case !l.local.IsValid() || !l.local.Addr().IsUnspecified():
		return l.local
	case p.to.IsValid():
		return netip.AddrPortFrom(p.to, l.local.Port())
	}
	return netip.AddrPort{}
}
