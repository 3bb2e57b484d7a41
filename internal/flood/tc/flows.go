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
	"vxsnd/internal/metrics"
)

const (
	// forgetEvery is the time between two looks for packets that raw never sees.
	forgetEvery = 100 * time.Millisecond

	// onItsWay bounds how long a packet takes from the program to the queue of its
	// socket. Both happen in one go of a softirq, some microseconds; the rest is for
	// machines whose CPUs stand still now and then.
	onItsWay = 50 * time.Millisecond

	// overrunBy is how old what raw does next is where it does not keep pace, twice the
	// time after which a worker without packets says where it is. overrunFor is for how
	// long it counts as overrun after its sockets dropped something.
	overrunBy  = 500 * time.Millisecond
	overrunFor = time.Second

	// mixed is MIXED of maps.bpf.h, and waiting stands in its place while raw has
	// packets of before.
	mixed   = 1
	waiting = 2
)

// Flows tell the program which of the packets that went up raw is done with, so
// that a flow comes back to the kernel in order.
type flows struct {
	mu      sync.RWMutex // guards what follows against close
	memory  []programFlow
	setting *programSetting

	// Of run alone:
	since   []fdb.Time // by flow: when waiting began
	dropped uint64     // by raw's sockets
	lately  fdb.Time   // when that grew last
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
	if atomic.LoadUint32(&f.Of) == hash { // else it came in by another device, or it is mixed
		f.reach(stamp)
	}
}

// reach notes that raw is done with what has a stamp up to this one.
func (f *programFlow) reach(stamp uint64) {
	for {
		reached := atomic.LoadUint64(&f.Reached)
		if int64(stamp-reached) <= 0 || atomic.CompareAndSwapUint64(&f.Reached, reached, stamp) {
			return
		}
	}
}

// A progress says how raw gets on.
type progress interface {
	// DoneUntil and Counters are those of flood.Raw.
	DoneUntil() fdb.Time
	Counters() metrics.FloodCount
}

// run forgets now and then what raw never sees, as far as it has come, and says
// whether it is overrun, until ctx is done.
func (s *flows) run(ctx context.Context, raw progress, clock func() fdb.Time) error {
	t := time.NewTicker(forgetEvery)
	defer t.Stop()
	s.dropped = raw.Counters().Drops[metrics.DropKernel]
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		until := raw.DoneUntil()
		s.forget(clock, until)
		s.judge(clock(), until, raw.Counters().Drops[metrics.DropKernel])
	}
}

// judge says whether raw is overrun, which is done with what came until a time,
// and whose sockets have dropped so many packets.
func (s *flows) judge(now, until fdb.Time, dropped uint64) {
	if dropped != s.dropped {
		s.dropped, s.lately = dropped, now
	}
	var overrun uint32
	if now.Sub(until) > overrunBy || s.lately != 0 && now.Sub(s.lately) < overrunFor {
		overrun = 1
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.setting != nil {
		atomic.StoreUint32(&s.setting.Overrun, overrun)
	}
}

// forget takes for lost what went up and has not come to raw, which is done with all
// that came before a time.
func (s *flows) forget(clock func() fdb.Time, until fdb.Time) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.since) != len(s.memory) {
		s.since = make([]fdb.Time, len(s.memory))
	}
	before := until.Add(-onItsWay)
	for i := range s.memory {
		f := &s.memory[i]
		switch atomic.LoadUint32(&f.Mixed) {
		case mixed:
			// The program says so again where packets of two flows are with raw from now on.
			atomic.StoreUint32(&f.Mixed, waiting)
			s.since[i] = clock()
		case waiting:
			if s.since[i] < before {
				atomic.CompareAndSwapUint32(&f.Mixed, waiting, 0)
			}
		}
		stamp := atomic.LoadUint64(&f.Stamp)
		if fdb.Time(atomic.LoadUint64(&f.Last)) < before {
			f.reach(stamp)
		}
	}
}

// set has the memory of the program used, nil for none.
func (s *flows) set(memory []programFlow, setting *programSetting) {
	if n := len(memory); bits.OnesCount(uint(n)) > 1 {
		panic("tc: the number of flows is no power of 2")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory, s.setting = memory, setting
}
