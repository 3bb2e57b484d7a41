// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"encoding/binary"
	"net/netip"

	"vxsnd/internal/vxlan"
)

// A Flow names the packets of one source, port and VNI.
type Flow struct {
	Source netip.AddrPort
	VNI    vxlan.VNI
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

// tellDone tells of the n datagrams of the inbox.
func (w *worker) tellDone(n int) {
	f := w.done.Load()
	if f == nil {
		return
	}
	w.flows = w.flows[:0]
	for i := range n {
		w.in.Datagram(i, &w.datagram)
		// Whatever the header says otherwise, as who looks before raw has it.
		if b := w.datagram.Payload; len(b) >= vxlan.HeaderLen {
			w.flows = append(w.flows, Flow{w.datagram.Source, vxlan.VNI(binary.BigEndian.Uint32(b[4:]) >> 8)})
		}
	}
	(*f)(w.flows)
}
