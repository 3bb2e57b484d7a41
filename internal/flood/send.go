// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
)

const (
	// sendBatch is the number of copies per system call: past some dozens
	// another doubling gains nothing, and the arrays stay in the cache.
	sendBatch = 256

	// patience is how long one received batch may wait for room in the send
	// buffer. A device that drains needs far less. What does not drain is a
	// neighbour that does not resolve, and it must not hold up the others.
	patience = 20 * time.Millisecond

	// probeBytes is how much is sent before the send buffer is looked at
	// again, with copyOverhead for what the kernel keeps besides a copy's
	// payload. It has to be small beside the buffer that the kernel grants
	// without CAP_NET_ADMIN (net.core.wmem_max, 212,992 by default, doubled).
	probeBytes   = 64 << 10
	copyOverhead = 768

	// crowded is the share of the send buffer past which neighbours are
	// looked at: packets that wait for one stay in the buffer.
	crowded = 0.25

	// recheckWait is the longest time that a worker waits for that look, and
	// recheckEvery the shortest time between two.
	recheckWait  = 5 * time.Millisecond
	recheckEvery = 50 * time.Millisecond
)

// sender writes batches; sock.Conn is the real one.
type sender interface {
	WriteBatch(ms []sock.Message) (int, error)
	WaitWritable(d time.Duration) bool
	Backlog() float64
}

// fragmenter sends single packets that the kernel fragments where needed;
// sock.Fragmenter is the real one.
type fragmenter interface {
	Send(src, dst netip.Addr, ttl, tos uint8, udp, payload []byte) error
	WaitWritable(d time.Duration) bool
}

// A lane turns packets into copies and hands them to the kernel. It holds the
// buffers and sockets of one worker and is not safe for concurrent use.
type lane struct {
	v4    bool
	port  uint16 // destination port, where the member names none
	main  queue
	slow  queue // to neighbours that do not resolve, with send buffers of its own
	count metrics.FloodCount

	table   Table
	learned []fdb.Learned // of the batch, not handed to the table yet
	// accounts has what each packet of the batch does, for tally and taps.
	accounts []metrics.Delta
	tally    *metrics.Tally
	latency  *metrics.Latency
	timed    *queue // has the last copy of the packet whose latency is measured
	since    int64  // when that one was received, ns since 1970
	taps     *atomic.Pointer[Tap]
	tap      *Tap           // of the batch
	local    netip.AddrPort // what the receiving socket is bound to, if there is one
	record   Record

	hdr        header
	settings   Settings
	neighbours Neighbours
	// unresolved is the set of neighbours that do not resolve, nil if there are none.
	unresolved map[netip.Addr]struct{}
	hurried    bool          // never wait: the engine stops
	left       time.Duration // what remains of the batch's patience
	unprobed   int           // bytes sent since the send buffer was looked at
	rechecked  time.Time     // when neighbours were last looked at
}

// A queue is a socket with the copies that wait for it.
type queue struct {
	conn sender
	frag fragmenter // for what does not fit
	out  *sock.Outbox
	// owners has the place in lane.accounts of each copy's packet, parallel to out.
	owners [sendBatch]uint16
	full   metrics.Drop // why a copy ends when the send buffer has no room
	// wait tells whether to wait for room at all.
	wait bool
}

// begin sets what holds for all packets of a batch.
func (l *lane) begin(s Settings) {
	l.settings, l.unresolved, l.left, l.tap = s, l.neighbours.Unresolved(), patience, l.taps.Load()
	if l.hurried {
		l.left = 0
	}
}

// replicate queues the copies of p for all live destinations but its sender, and
// returns the queue that has the last of them, nil without any. The payload must
// stay until end. a is the packet's account, the last that was opened.
func (l *lane) replicate(now fdb.Time, p *Packet, snap *fdb.Snapshot, a *metrics.Delta) (last *queue) {
	if p.TTL <= 1 {
		l.drop(a, metrics.DropTTL)
		return nil
	}
	if l.v4 {
		l.hdr.make4(p.Source, p.TTL-1, p.TOS, l.port, p.Payload, l.settings.Checksum)
	} else {
		l.hdr.make6(p.Source, p.TTL-1, p.TOS, l.port, p.Payload)
	}
	src := p.Source.Addr().As16()
	all := snap.AllLive(now)
	others, copies := false, uint32(0)
	owner := uint16(len(l.accounts) - 1)
	for i := range snap.Destinations {
		d := &snap.Destinations[i]
		if d.As16() == src || !all && !snap.Live(i, now) {
			continue
		}
		others = true
		if d.Is4() != l.v4 {
			l.drop(a, metrics.DropFamily)
			continue
		}
		q := &l.main
		if l.unresolved != nil && l.isUnresolved(d.Addr()) {
			q = &l.slow
		}
		if q.out.Full() {
			l.flush(q)
		}
		q.owners[q.out.Len()] = owner
		l.add(q, d, p.Payload)
		last = q
		copies++
	}
	// Those of them that have failed already are taken off before they are put on,
	// which unsigned numbers bear.
	a.Copies += copies
	a.CopyBytes += uint64(copies) * uint64(len(p.Payload))
	if !others {
		l.drop(a, metrics.DropNoMember)
	}
	return last
}

// add queues the copy for one destination.
func (l *lane) add(q *queue, d *fdb.Destination, payload []byte) {
	if l.v4 {
		dst := d.As4()
		l.hdr.put4(q.out.Add4(dst, l.hdr.len, payload), dst)
	} else {
		dst := d.As16()
		l.hdr.put6(q.out.Add6(dst, l.hdr.len, payload), dst)
	}
}

func (l *lane) isUnresolved(a netip.Addr) bool {
	_, ok := l.unresolved[a]
	return ok
}

// probe looks at the send buffer now and then. Where packets pile up in it,
// some neighbour may not resolve: copies to it go another way from now on,
// before they take the room of all others.
func (l *lane) probe() {
	if l.unprobed < probeBytes {
		return
	}
	l.unprobed = 0
	if l.main.conn.Backlog() > crowded {
		l.recheck()
	}
}

func (l *lane) recheck() {
	if now := time.Now(); now.Sub(l.rechecked) >= recheckEvery {
		l.rechecked = now
		l.neighbours.Recheck(recheckWait)
		l.unresolved = l.neighbours.Unresolved()
	}
}

// end hands everything that is queued to the kernel.
func (l *lane) end() {
	l.flush(&l.main)
	l.flush(&l.slow)
}

// flush writes a queue. The kernel stops at each copy that it refuses: that
// one is dealt with, and the rest goes on behind it.
func (l *lane) flush(q *queue) {
	ms := q.out.Messages()
	for off := 0; off < len(ms); {
		n, err := q.conn.WriteBatch(ms[off:])
		if n > 0 {
			for i := off; i < off+n; i++ {
				l.sent(q, i)
			}
			off += n
			continue
		}
		switch {
		case errors.Is(err, sock.ErrFull):
			if l.waitFor(q, off, q.conn) {
				continue
			}
		case errors.Is(err, unix.EMSGSIZE):
			l.oversize(q, off)
		default:
			l.dropCopy(q, off, dropOf(err))
		}
		off++
	}
	q.out.Reset()
	if l.timed == q {
		l.timed = nil
		l.latency.Observe(time.Duration(time.Now().UnixNano() - l.since))
	}
	if q.wait {
		l.probe()
	}
}

func (l *lane) sent(q *queue, i int) {
	n := q.out.PayloadLen(i)
	l.count.Copies++
	l.count.CopyBytes += uint64(n)
	l.unprobed += n + copyOverhead
}

// waitFor waits for room in a socket's send buffer for copy i of a queue,
// within the batch's patience. If there is none, or if the copy's destination
// turns out not to resolve, it counts the copy as dropped and returns false.
func (l *lane) waitFor(q *queue, i int, w interface{ WaitWritable(time.Duration) bool }) bool {
	if !q.wait {
		l.dropCopy(q, i, q.full)
		return false
	}
	l.recheck()
	if l.isUnresolved(q.out.Destination(i)) {
		l.dropCopy(q, i, metrics.DropUnresolved)
		return false
	}
	if l.left > 0 {
		start := time.Now()
		ok := w.WaitWritable(l.left)
		l.left -= time.Since(start)
		if ok {
			return true
		}
	}
	l.dropCopy(q, i, q.full)
	return false
}

// oversize deals with copy i of a queue, which is larger than the outgoing
// device's MTU. It is sent at once, so that the flow stays in order.
func (l *lane) oversize(q *queue, i int) {
	if l.settings.Oversize == Discard {
		l.dropCopy(q, i, metrics.DropOversize)
		return
	}
	h := q.out.Header(i)
	var src, dst netip.Addr
	var ttl, tos uint8
	if l.v4 {
		src, dst = netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
		ttl, tos = h[8], h[1]
		h = h[ipv4Len:]
	} else {
		src, dst = netip.AddrFrom16([16]byte(h[8:])), netip.AddrFrom16([16]byte(h[24:]))
		ttl, tos = h[7], h[0]<<4|h[1]>>4
		h = h[ipv6Len:]
	}
	for {
		err := q.frag.Send(src, dst, ttl, tos, h, q.out.Payload(i))
		switch {
		case err == nil:
			l.count.Fragmented++
			l.sent(q, i)
		case errors.Is(err, sock.ErrFull):
			if l.waitFor(q, i, q.frag) {
				continue
			}
		default:
			l.dropCopy(q, i, dropOf(err))
		}
		return
	}
}

// dropOf sorts what the kernel says of a copy. The answers of routes without a
// way out are those of fib_props in net/ipv4/fib_semantics.c: EINVAL for a
// blackhole, EHOSTUNREACH for unreachable, EACCES for prohibit.
func dropOf(err error) metrics.Drop {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return metrics.DropSend
	}
	switch e {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.EINVAL, unix.ENODEV, unix.ENXIO:
		return metrics.DropUnreachable
	case unix.EPERM, unix.EACCES:
		return metrics.DropRefused
	case unix.EMSGSIZE: // from the fragmenter: larger than any packet
		return metrics.DropOversize
	case unix.ENOBUFS, unix.ENOMEM:
		return metrics.DropBlocked
	}
	return metrics.DropSend
}
