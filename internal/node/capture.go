// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
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

// Captures show packets to those who asked for those of a VNI. Where nobody
// does, the engine has no tap. It is safe for concurrent use.
type captures struct {
	start time.Time
	rate  atomic.Int64 // packets per second that are taken of each VNI
	vnis  atomic.Pointer[map[vxlan.VNI]*watch]

	packets, lost atomic.Uint64 // of all captures so far

	mu     sync.Mutex   // guards what follows, and held where vnis is replaced
	engine flood.Engine // nil where nothing is flooded
}

// A watch is a VNI with its captures, which all take the same packets.
type watch struct {
	bucket   *bucket
	captures []*capture // never modified
}

func newCaptures(rate int) *captures {
	c := &captures{start: time.Now()}
	c.vnis.Store(&map[vxlan.VNI]*watch{})
	c.setRate(rate)
	return c
}

// setRate sets how many packets per second are taken of each VNI.
func (c *captures) setRate(rate int) { c.rate.Store(int64(max(1, rate))) }

// attach makes e the engine whose packets are shown, nil for none.
func (c *captures) attach(e flood.Engine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.engine = e
	vnis := *c.vnis.Load()
	if e == nil || len(vnis) == 0 {
		return
	}
	for vni := range vnis {
		e.Divert(vni, true)
	}
	e.SetTap(c.tap())
}

func (c *captures) tap() *flood.Tap { return &flood.Tap{Wants: c.wants, Take: c.take} }

// running returns the number of captures.
func (c *captures) running() (n int) {
	for _, w := range *c.vnis.Load() {
		n += len(w.captures)
	}
	return n
}

// add shows the packets of a VNI to p from now on.
func (c *captures) add(vni vxlan.VNI, p *capture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	vnis := maps.Clone(*c.vnis.Load())
	w := watch{bucket: &bucket{}}
	if was := vnis[vni]; was != nil {
		w = *was
	}
	first := len(w.captures) == 0
	w.captures = append(slices.Clip(w.captures), p)
	vnis[vni] = &w
	c.vnis.Store(&vnis)
	if c.engine == nil {
		return
	}
	if first {
		c.engine.Divert(vni, true)
	}
	if len(vnis) == 1 && first {
		c.engine.SetTap(c.tap())
	}
}

// remove ends what add began.
func (c *captures) remove(vni vxlan.VNI, p *capture) {
	c.mu.Lock()
	defer c.mu.Unlock()
	vnis := maps.Clone(*c.vnis.Load())
	w := *vnis[vni]
	w.captures = slices.DeleteFunc(slices.Clone(w.captures), func(o *capture) bool { return o == p })
	vnis[vni] = &w
	last := len(w.captures) == 0
	if last {
		delete(vnis, vni)
	}
	c.vnis.Store(&vnis)
	if c.engine == nil {
		return
	}
	if last {
		c.engine.Divert(vni, false)
	}
	if len(vnis) == 0 {
		c.engine.SetTap(nil)
	}
}

// wants tells whether to show a packet of a VNI, for it is captured and there were
// not too many of late.
func (c *captures) wants(vni vxlan.VNI) bool {
	w := (*c.vnis.Load())[vni]
	if w == nil {
		return false
	}
	if w.bucket.take(time.Since(c.start), time.Second/time.Duration(c.rate.Load())) {
		return true
	}
	for _, p := range w.captures {
		p.lost.Add(1)
	}
	c.lost.Add(uint64(len(w.captures)))
	return false
}

// take hands a packet to those who capture its VNI.
func (c *captures) take(r *flood.Record) {
	w := (*c.vnis.Load())[r.VNI]
	if w == nil {
		return
	}
	for _, p := range w.captures {
		switch p.put(r) {
		case tooMuch:
			c.lost.Add(1)
		case taken:
			c.packets.Add(1)
		}
	}
}

// A bucket bounds packets to some per second, of which those of one second may
// come at once. It takes no lock. The zero value is usable.
type bucket struct {
	// spent is the time whose packets were taken already.
	spent atomic.Int64
}

// take tells whether there is one to take at a time, at this distance of each
// other.
func (b *bucket) take(now, interval time.Duration) bool {
	for {
		spent := b.spent.Load()
		next := max(spent, int64(now-time.Second)) + int64(interval)
		if next > int64(now) {
			return false
		}
		if b.spent.CompareAndSwap(spent, next) {
			return true
		}
	}
}

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

// capture sends the packets of a VNI as they come, until ctx is done or there were
// enough.
func (n *Node) capture(ctx context.Context, args *control.CaptureArgs, call *control.Call) error {
	vni, err := checkVNI(args.VNI)
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
