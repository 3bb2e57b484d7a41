// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
)

const (
	// captureBytes bounds what waits for the client of one capture, payload and
	// what is noted of it.
	captureBytes = 16 << 20

	// recordBytes is what is noted of a packet besides its payload, estimated.
	recordBytes = 256

	// partBytes and partPackets end a part of a capture. In JSON payload takes a
	// third more, and what is noted some 500 bytes.
	partBytes   = 256 << 10
	partPackets = 256

	// lossEvery is how often a client is told of lost packets while none come.
	lossEvery = time.Second
)

// A capture gathers packets for one client.
type capture struct {
	snap   int           // bytes of payload to take, 0 for all
	signal chan struct{} // holds a value when there are packets
	lost   atomic.Uint64

	mu      sync.Mutex // guards what follows
	left    int        // how many to take still, negative for no end
	packets []control.Captured
	bytes   int
}

// What put did.
const (
	unwanted = iota // there were enough
	tooMuch         // the client is too slow
	taken
)

// put takes a packet.
func (p *capture) put(r *flood.Record) int {
	payload := r.Payload
	if p.snap > 0 {
		payload = payload[:min(p.snap, len(payload))]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	size := recordBytes + len(payload)
	switch {
	case p.left == 0:
		return unwanted
	case p.bytes+size > captureBytes:
		p.lost.Add(1)
		return tooMuch
	}
	p.left--
	p.bytes += size
	s := control.Captured{
		Time: r.Time, VNI: uint32(r.VNI), Source: r.Source, Destination: r.Destination, TTL: r.TTL, TOS: r.TOS,
		Length: len(r.Payload), Payload: slices.Clone(payload), Copies: r.Copies, Learned: r.Learned,
	}
	if r.Drop != metrics.DropNone {
		s.Drop = r.Drop.String()
	}
	for d, count := range r.CopyDrops {
		if count > 0 {
			if s.CopyDrops == nil {
				s.CopyDrops = make(map[string]uint32)
			}
			s.CopyDrops[metrics.Drop(d).String()] = count
		}
	}
	p.packets = append(p.packets, s)
	select {
	case p.signal <- struct{}{}:
	default:
	}
	return taken
}

// get returns what has gathered, and whether that was all. It keeps its room until
// done is called.
func (p *capture) get() (packets []control.Captured, end bool, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	packets, p.packets = p.packets, nil
	bytes := p.bytes
	return packets, p.left == 0, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bytes -= bytes
	}
}

// captureArgs are control.CaptureArgs as a client wrote them: a VNI that is left out
// is not VNI 0.
type captureArgs struct {
	VNI *uint32 `json:"vni"`
	control.CaptureArgs
}

// capture sends the packets of a VNI as they come, until ctx is done or there were
// enough.
func (n *Node) capture(ctx context.Context, args *captureArgs, call *control.Call) error {
	vni, err := namedVNI(args.VNI)
	switch {
	case err != nil:
		return err
	case args.Count < 0 || args.Snap < 0:
		return badArgument("count and snap are not negative")
	case n.flooding.current() == nil:
		return &control.Error{
			Code: control.CodeFailed, Text: "this node floods nothing, so there are no packets",
			Hint: "see enable_vxlan_listen and no_flood",
		}
	}
	p := &capture{snap: args.Snap, signal: make(chan struct{}, 1), left: args.Count}
	if p.left == 0 {
		p.left = -1
	}
	n.captures.add(vni, p)
	defer n.captures.remove(vni, p)
	rate := int(n.captures.rate.Load())
	if err := call.Send(&control.CaptureEvent{Start: &control.CaptureStart{Rate: rate}}); err != nil {
		return err
	}
	t := time.NewTicker(lossEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.signal:
		case <-t.C:
		}
		packets, end, done := p.get()
		if err := sendPackets(call, packets); err != nil {
			return err
		}
		done()
		if lost := p.lost.Swap(0); lost > 0 {
			if err := call.Send(&control.CaptureEvent{Lost: &lost}); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// sendPackets sends packets in parts that are not too long.
func sendPackets(call *control.Call, packets []control.Captured) error {
	for len(packets) > 0 {
		n, bytes := 0, 0
		for n < len(packets) && n < partPackets && bytes < partBytes {
			bytes += len(packets[n].Payload)
			n++
		}
		if err := call.Send(&control.CaptureEvent{Packets: packets[:n]}); err != nil {
			return err
		}
		packets = packets[n:]
	}
	return nil
}
