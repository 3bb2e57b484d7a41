// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"context"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/vxfld"
)

const (
	// maxQueued and maxQueuedBytes bound what waits to be sent to one peer: some
	// milliseconds of work, which is enough to ride out a burst.
	maxQueued      = 4096
	maxQueuedBytes = 4 << 20

	// recordLen and memberLen are the most bytes that a record of a version 3
	// REFRESH takes besides its members, and that one member takes
	// (docs/protocol.md section 3): tags, lengths of up to three bytes, and octets
	// of two bytes.
	recordLen = 9
	memberLen = 14
)

// A queue holds the UDP messages that wait to be sent to one peer.
type queue struct {
	messages chan []byte
	bytes    atomic.Int64
}

func newQueue() queue { return queue{messages: make(chan []byte, maxQueued)} }

// put adds a message, unless the queue is full. The message may be in several
// queues and is never modified.
func (q *queue) put(msg []byte) bool {
	if q.bytes.Add(int64(len(msg))) <= maxQueuedBytes {
		select {
		case q.messages <- msg:
			return true
		default:
		}
	}
	q.bytes.Add(-int64(len(msg)))
	return false
}

// Relay passes a registration on to every peer, as the protocol's version 3
// with originator cleared: see register.Relayer. Withdrawals are registrations
// with holdtime 0. A message that names no member is not passed on, and what
// finds no room in a peer's queue is counted and dropped.
func (g *Group) Relay(r *vxfld.Refresh) {
	peers := *g.peers.Load()
	if len(peers) == 0 {
		return
	}
	g.encode(r, func(msg []byte) {
		for _, p := range peers {
			g.enqueue(p, msg)
		}
	})
}

// encode writes r's members as relayed messages of at most MaxPacketSize. They
// are no answers, so a VNI may be spread over several. The messages belong to
// emit. IPv6 members are left out: version 3 has no place for them.
func (g *Group) encode(r *vxfld.Refresh, emit func(msg []byte)) {
	limit := g.settings.Load().MaxPacketSize - vxfld.Overhead
	head := vxfld.Refresh{Holdtime: r.Holdtime, Identifier: r.Identifier}
	p, err := vxfld.NewPacker(vxfld.V3, head, limit)
	if err != nil {
		panic("peer: " + err.Error()) // version 3 holds any value of these fields
	}
	out := func(msg []byte) error {
		emit(bytes.Clone(msg))
		return nil
	}
	most := max(1, (limit-len(p.Head())-recordLen)/memberLen)
	for _, rec := range r.VNIs {
		for addrs := rec.Addrs; len(addrs) > 0; {
			n := min(most, len(addrs))
			// The only error left is that of an address that is not IPv4.
			_ = p.Add(vxfld.VNIMembers{VNI: rec.VNI, Addrs: addrs[:n]}, out)
			addrs = addrs[n:]
		}
	}
	_ = p.Flush(out)
}

// enqueue has a message sent to one peer, or counts that there is no room.
func (g *Group) enqueue(p *peer, msg []byte) {
	if p.queue.put(msg) {
		return
	}
	p.dropped.Add(1)
	g.repeats.Do("queue "+p.name, func(count int) {
		g.log.WithFields(logrus.Fields{"peer": p.addr, "count": count}).Warn("messages to peer dropped, queue full")
	})
}

// relay sends what is in a peer's queue, until ctx is done.
func (g *Group) relay(ctx context.Context, p *peer) {
	for {
		var msg []byte
		select {
		case <-ctx.Done():
			return
		case msg = <-p.queue.messages:
		}
		p.queue.bytes.Add(-int64(len(msg)))
		if err := g.send(msg, p.addr); err != nil {
			g.lost(p, err)
			continue
		}
		p.relayed.Add(1)
	}
}
