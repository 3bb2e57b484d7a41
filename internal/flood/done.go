// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"encoding/binary"
	"net/netip"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// A Flow names the packets of one source, port and VNI, by one of them.
type Flow struct {
	Source netip.AddrPort
	VNI    vxlan.VNI
	// Received is when the machine received that packet, ns since 1970
	// (CLOCK_REALTIME), or 0 where the kernel did not tell.
	Received int64
}

// SetDone has f called with the flows of packets that came in by sockets and that a
// worker is done with, dropped ones among them, once per batch and worker; nil ends
// that, but for calls under way. f must be fast, and keep nothing of its argument.
func (r *Raw) SetDone(f func(fs []Flow)) {
	if f == nil {
		r.done.Store(nil)
		return
	}
	r.done.Store(&f)
}

// DoneUntil returns a time such that workers are done with all packets that came to
// their sockets before. Only while SetDone has a function does it go on.
func (r *Raw) DoneUntil() fdb.Time {
	until := fdb.Never
	for _, w := range r.workers {
		until = min(until, fdb.Time(w.until.Load()))
	}
	return until
}

// tellDone tells of the n datagrams of the inbox.
func (w *worker) tellDone(n int) {
	f := w.done.Load()
	if f == nil {
		return
	}
	w.flows = w.flows[:0]
	var received int64
	for i := range n {
		w.in.Datagram(i, &w.datagram)
		received = w.datagram.Received
		// Whatever the header says otherwise, as who looks before raw has it.
		if b := w.datagram.Payload; len(b) >= vxlan.HeaderLen {
			w.flows = append(w.flows, Flow{w.datagram.Source, vxlan.VNI(binary.BigEndian.Uint32(b[4:]) >> 8), received})
		}
	}
	(*f)(w.flows)

	if n < receiveBatch {
		w.reached(w.turned()) // the read left nothing behind
	}
	if age := time.Now().UnixNano() - received; received != 0 && age >= 0 {
		w.reached(w.clock().Add(time.Duration(-age)))
	}
}

// lateAfter is how old packets are with which a worker that is overrun is done at
// once, where somebody else floods what comes as soon as it is done.
const lateAfter = time.Second

// late tells whether the n datagrams of the inbox have waited for so long that they
// are as good as lost in the queue. Where they are few the clock may have been set.
func (w *worker) late(n int) bool {
	if w.done.Load() == nil || n < receiveBatch {
		return false
	}
	w.in.Datagram(n-1, &w.datagram)
	return w.datagram.Received != 0 && time.Now().UnixNano()-w.datagram.Received > int64(lateAfter)
}

// waited notes that a read found nothing.
func (w *worker) waited() {
	if w.done.Load() != nil {
		w.reached(w.turned())
	}
}

// turned returns when the turn of the loop began, so before its read.
func (w *worker) turned() fdb.Time { return fdb.Time(w.alive.Load()) }

// reached notes that all that came to the socket before t is done.
func (w *worker) reached(t fdb.Time) {
	w.until.Store(max(w.until.Load(), int64(t)))
}
