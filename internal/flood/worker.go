// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"errors"
	"sync/atomic"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/vxlan"
)

const (
	// receiveBatch is the number of packets per system call and per read lock
	// of the table.
	receiveBatch = 64

	// tick is the longest time that a worker waits for packets, so that it can
	// show that it lives.
	tick = 250 * time.Millisecond

	// retry is how long a worker waits after an error of the receiving socket
	// that it does not know.
	retry = 100 * time.Millisecond

	// drainTime bounds how long a stopping worker serves what is queued.
	drainTime = 2 * time.Second
)

// receiver reads batches; sock.Conn is the real one.
type receiver interface {
	ReadBatch(ms []sock.Message) (int, error)
	ReadQueued(ms []sock.Message) (int, error)
	Drops() (uint32, bool)
}

// A worker receives on one socket and replicates. Everything but its counters
// and its pulse belongs to its goroutine.
type worker struct {
	lane
	conn  receiver
	loops *loopDetector
	clock func() fdb.Time

	settings func() Settings // read once per batch

	in       *sock.Inbox
	datagram sock.Datagram
	packets  []Packet     // those of the batch that are to be flooded, parallel to lookups
	lookups  []fdb.Lookup // what the table says of them
	drops    uint32       // the socket's drop counter when it was last read

	done  *atomic.Pointer[func([]Flow)]
	flows []Flow // to tell done

	sampled fdb.Time // when the latency of a packet was last measured
	turns   int      // of that

	stats *metrics.Flood
	alive atomic.Int64 // fdb.Time of the last turn of the loop
	until atomic.Int64 // fdb.Time, see Raw.DoneUntil
}

// run serves until stopping says so, then for a while what is in the queue.
func (w *worker) run(stopping func() bool) {
	for !stopping() {
		w.alive.Store(int64(w.clock()))
		n, err := w.in.Read(w.conn.ReadBatch)
		switch {
		case err == nil && n > 0:
			w.flood(n)
		case errors.Is(err, sock.ErrTimeout):
			w.waited()
			w.idle()
		case err != nil:
			// Such as ENOMEM: the socket is still good.
			w.idle()
			time.Sleep(retry)
		}
	}
	w.hurried = true
	for end := w.clock().Add(drainTime); w.clock() < end; {
		n, err := w.in.Read(w.conn.ReadQueued)
		if err != nil || n == 0 {
			break
		}
		w.flood(n)
	}
	w.idle()
}

// idle publishes what the kernel dropped since the last packet.
func (w *worker) idle() {
	if d, ok := w.conn.Drops(); ok {
		w.kernelDrops(d)
	}
	w.tally.Flush(int64(w.clock()))
	w.publish()
}

// kernelDrops takes in the socket's drop counter, which counts modulo 2^32. A
// packet carries its state when the packet was queued, which may be older than
// what idle has read since.
func (w *worker) kernelDrops(total uint32) {
	if n := int32(total - w.drops); n > 0 {
		w.count.Drops[metrics.DropKernel] += uint64(n)
		w.drops = total
	}
}

func (w *worker) publish() {
	w.stats.Add(&w.count)
	w.count = metrics.FloodCount{}
}

// flood replicates the n datagrams in the inbox.
func (w *worker) flood(n int) {
	if w.late(n) {
		w.count.Drops[metrics.DropKernel] += uint64(n)
		w.tellDone(n)
		w.publish()
		return
	}
	now := w.clock()
	w.begin(w.settings())
	w.packets, w.lookups = w.packets[:0], w.lookups[:0]
	for i := range n {
		w.classify(i)
	}
	if d, ok := w.in.Drops(); ok {
		w.kernelDrops(d)
	}
	w.table.LookupBatch(now, w.lookups)

	sample := w.sample(now)
	for i := range w.packets {
		p, q := &w.packets[i], &w.lookups[i]
		if q.Refused == fdb.NotExcluded && w.loops.check(now, q.VNI, p) {
			w.count.Loops++
		}
		w.take(now, p, q, i == sample)
	}
	w.end()
	w.tellDone(n)
	w.learn(now)
	w.settle(now)
	w.publish()
}

// sample returns which of the batch's packets to measure the latency of: each
// time one at another place, since the first of a batch has waited longest.
func (w *worker) sample(now fdb.Time) int {
	if w.latency == nil || len(w.packets) == 0 || now.Sub(w.sampled) < sampleEvery {
		return -1
	}
	w.sampled = now
	w.turns++
	return w.turns % len(w.packets)
}

// classify takes in datagram i, or counts why not.
func (w *worker) classify(i int) {
	d := &w.datagram
	w.in.Datagram(i, d)
	w.count.Packets++
	w.count.Bytes += uint64(len(d.Payload))

	p := Packet{Source: d.Source, TTL: d.TTL, TOS: d.TOS, Payload: d.Payload, received: d.Received, to: d.Destination}
	vni, ok, drop := check(d)
	switch {
	case drop == metrics.DropNone:
		w.packets = append(w.packets, p)
		w.lookups = append(w.lookups, fdb.Lookup{VNI: vni, Source: d.Source.Addr()})
	case ok:
		w.refuse(vni, &p, drop)
	default:
		w.count.Drops[drop]++
	}
}

// check tells the VNI of a datagram, if it has one, and why it may not be
// flooded, DropNone if it may.
func check(d *sock.Datagram) (vni vxlan.VNI, ok bool, why metrics.Drop) {
	switch {
	case d.Truncated:
		return 0, false, metrics.DropTruncated
	case d.Looped:
		// A copy to an address that is local without being listed: a local
		// route, a subnet's router anycast address. It ends here.
		return 0, false, metrics.DropOwn
	}
	vni, err := vxlan.ParseHeader(d.Payload)
	switch {
	case errors.Is(err, vxlan.ErrShort):
		return 0, false, metrics.DropShort
	case err != nil:
		return 0, false, metrics.DropNoVNI
	}
	switch a := d.Source.Addr(); {
	case a.IsLoopback():
		return vni, true, metrics.DropOwn
	case !fdb.Usable(a):
		return vni, true, metrics.DropSource
	}
	return vni, true, metrics.DropNone
}

func dropOfSource(e fdb.Exclusion) metrics.Drop {
	switch e {
	case fdb.NotExcluded:
		return metrics.DropNone
	case fdb.ExcludedOwn:
		return metrics.DropOwn
	case fdb.ExcludedService:
		return metrics.DropService
	}
	return metrics.DropDenied
}
