// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
)

// flowLost is how long after the last packet of a flow went up those that raw has
// not seen are taken for lost, where nothing is queued: the kernel drops some.
const flowLost = 2 * time.Second

// Flows tell the program how many of the packets that went up raw is done with,
// so that a flow comes back to the kernel in order.
type flows struct {
	mu     sync.RWMutex // guards what follows against close
	memory []programFlow
}

// flowIndex is that of flood.bpf.c.
func flowIndex(f *flood.Flow) uint32 {
	a := f.Source.Addr().As4()
	h := binary.NativeEndian.Uint32(a[:]) ^ uint32(bigEndian(f.Source.Port()))<<8 ^ uint32(f.VNI)*0x85ebca6b
	return h * 0x9e3779b1 >> 16
}

// done takes in packets that raw is done with. It is called by several workers.
func (s *flows) done(fs []flood.Flow) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.memory == nil {
		return
	}
	for i := range fs {
		if !fs[i].Source.Addr().Is4() {
			continue
		}
		// What came in by another device did not go up.
		if f := &s.memory[flowIndex(&fs[i])&uint32(len(s.memory)-1)]; pending(f) > 0 {
			atomic.AddUint32(&f.Done, 1)
		}
	}
}

// pending returns how many packets went up that raw is not done with.
func pending(f *programFlow) int32 {
	return int32(atomic.LoadUint32(&f.Up) - atomic.LoadUint32(&f.Done))
}

// forget takes packets that went up long ago for lost. Nothing is queued now.
func (s *flows) forget(now fdb.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range s.memory {
		f := &s.memory[i]
		up := atomic.LoadUint32(&f.Up)
		if pending(f) > 0 && now.Sub(fdb.Time(atomic.LoadUint64(&f.Own))) > flowLost {
			atomic.StoreUint32(&f.Done, up)
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
