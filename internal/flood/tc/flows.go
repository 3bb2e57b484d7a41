// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
)

const (
	// forgetEvery is the time between two looks for packets that raw never sees.
	forgetEvery = 100 * time.Millisecond

	// onItsWay bounds how long a packet takes from the program to the queue of its
	// socket, and by how much its time stamp is older than what the program takes for
	// the time. Both happen in one go of a softirq, some microseconds; the rest is for
	// machines whose CPUs stand still now and then.
	onItsWay = 50 * time.Millisecond
)

// Flows tell the program how many of the packets that went up raw is done with,
// so that a flow comes back to the kernel in order.
type flows struct {
	mu     sync.RWMutex // guards what follows against close
	memory []programFlow
}

// flowHash is that of flood.bpf.c.
func flowHash(f *flood.Flow) uint32 {
	a := f.Source.Addr().As4()
	h := binary.NativeEndian.Uint32(a[:]) ^ uint32(bigEndian(f.Source.Port()))<<8 ^ uint32(f.VNI)*0x85ebca6b
	return h * 0x9e3779b1
}

// flow returns the place of a flow.
func (s *flows) flow(hash uint32) *programFlow { return &s.memory[hash>>16&uint32(len(s.memory)-1)] }

// done takes in packets that raw is done with. It is called by several workers.
func (s *flows) done(fs []flood.Flow) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.memory == nil {
		return
	}
	for i := range fs {
		if fs[i].Source.Addr().Is4() {
			h := flowHash(&fs[i])
			s.flow(h).doneWith(h, uint64(fs[i].Received))
		}
	}
}

// doneWith takes in a packet of a flow that raw is done with.
func (f *programFlow) doneWith(hash uint32, stamp uint64) {
	for {
		done, up := atomic.LoadUint32(&f.Done), atomic.LoadUint32(&f.Up)
		if int32(up-done) <= 0 {
			return // it came in by another device, so did not go up
		}
		next := done + 1
		// Behind the last one that went up there is nothing: those before it that raw has
		// not seen were lost. Up is read first, since the program counts a packet last.
		if atomic.LoadUint64(&f.Stamp) == stamp && atomic.LoadUint32(&f.Of) == hash {
			next = up
		}
		if atomic.CompareAndSwapUint32(&f.Done, done, next) {
			return
		}
	}
}

// run forgets now and then what raw never sees, as far as it has come, until ctx is
// done.
func (s *flows) run(ctx context.Context, until func() fdb.Time) error {
	t := time.NewTicker(forgetEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.forget(until())
		}
	}
}

// forget takes for lost what went up and has not come to raw, which is done with all
// that came before a time.
func (s *flows) forget(until fdb.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	before := until.Add(-onItsWay)
	for i := range s.memory {
		f := &s.memory[i]
		done, up := atomic.LoadUint32(&f.Done), atomic.LoadUint32(&f.Up)
		if int32(up-done) > 0 && fdb.Time(atomic.LoadUint64(&f.Last)) < before {
			// Where it fails raw has done one just now: next time.
			atomic.CompareAndSwapUint32(&f.Done, done, up)
		}
	}
}

// set has the memory of the program used, nil for none.
func (s *flows) set(memory []programFlow) {
	if n := len(memory); bits.OnesCount(uint(n)) > 1 {
		panic("tc: the number of flows is no power of 2")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory = memory
}
