// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/flood"
	"vxsnd/internal/vxlan"
)

// A captures shows packets to those who asked for those of a VNI. Where nobody
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
	// Long enough ago that a new bucket has all it can have.
	c := &captures{start: time.Now().Add(-time.Second)}
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
