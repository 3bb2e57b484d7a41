// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// A fakeKernel is the maps in memory of our own, with a program in Go that reads
// them as the one in the kernel does. Runs of the program may be concurrent.
type fakeKernel struct {
	segments [maxSegments]atomic.Pointer[[]programMember]
	grown    int
	most     int // segments
	vnis     sync.Map
	slots    []programSlot
	dests    []programDest
	devices  []programDevice
	settings programSetting

	mu      sync.Mutex
	readers []*reader
	refuse  atomic.Bool // changes of vnis
	noGrace atomic.Bool // grace does not wait
}

// A reader runs the program, one packet after the other.
type reader struct {
	k *fakeKernel
	// phase is odd while the program runs.
	phase atomic.Uint64
	delay func()
}

func newFakeKernel(vnis, dests int) *fakeKernel {
	return &fakeKernel{
		most: maxSegments, slots: make([]programSlot, vnis), dests: make([]programDest, dests),
		devices: make([]programDevice, maxDevices),
	}
}

func (k *fakeKernel) mirrored() mirrorMaps {
	return mirrorMaps{
		controls: k, members: func(i int) []programMember { return *k.segments[i].Load() },
		slots: k.slots, dests: k.dests, devices: k.devices, settings: &k.settings, grace: k.grace,
	}
}

func (k *fakeKernel) grow() (int, error) {
	if k.grown == k.most {
		return 0, unix.ENOSPC
	}
	records := make([]programMember, segmentMembers)
	k.segments[k.grown].Store(&records)
	k.grown++
	return k.grown - 1, nil
}

func (k *fakeKernel) setVNI(vni, slot uint32) error {
	if k.refuse.Load() {
		return unix.ENOMEM
	}
	k.vnis.Store(vni, slot)
	return nil
}

func (k *fakeKernel) deleteVNI(vni uint32) error {
	if k.refuse.Load() {
		return unix.ENOMEM
	}
	k.vnis.Delete(vni)
	return nil
}

// grace waits for the runs of the program that are under way.
func (k *fakeKernel) grace() error {
	k.mu.Lock()
	readers := k.readers
	k.mu.Unlock()
	for _, r := range readers {
		for p := r.phase.Load(); p%2 == 1 && r.phase.Load() == p && !k.noGrace.Load(); {
			runtime.Gosched()
		}
	}
	return nil
}

func (k *fakeKernel) reader() *reader {
	r := &reader{k: k, delay: func() {}}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readers = append(k.readers[:len(k.readers):len(k.readers)], r)
	return r
}

// A copyTo is one copy that the program would make.
type copyTo struct {
	addr    netip.Addr
	device  programDevice // 0: none, for the reason why
	mac     [6]byte
	why     uint64
	expires fdb.Time
	known   bool
	learned bool
}

// A verdict is what the program does with a packet.
type verdict struct {
	up     up // where copies is nil
	copies []copyTo
	mtu    int
}

// list returns the live members that a packet finds at now, or why it goes up.
func (r *reader) list(now fdb.Time, id vxlan.VNI) (v verdict) {
	r.run(id, func(s *programSlot, records []programMember, mtu int) {
		v = verdict{mtu: mtu, copies: []copyTo{}}
		for i := range records {
			if c := r.copyTo(&records[i]); c.expires > now {
				v.copies = append(v.copies, c)
			}
		}
		// Nobody may use what a run looks at for something else.
		r.delay()
		at := 0
		for i := range records {
			c := r.copyTo(&records[i])
			if at < len(v.copies) && c.addr == v.copies[at].addr {
				at++
			}
		}
		if at != len(v.copies) {
			panic(fmt.Sprintf("the list of vni %v changed under a packet: %v", id, v.copies))
		}
	}, &v.up, now)
	return v
}

// run calls f with what a packet of a VNI finds.
func (r *reader) run(id vxlan.VNI, f func(*programSlot, []programMember, int), why *up, now fdb.Time) {
	r.phase.Add(1)
	defer r.phase.Add(1)
	k := r.k
	if fdb.Time(atomic.LoadUint64(&k.settings.Lease)) <= now {
		*why = upStale
		return
	}
	*why = upVNI
	slot, ok := k.vnis.Load(uint32(id))
	if !ok {
		return
	}
	s := &k.slots[slot.(uint32)]
	if atomic.LoadUint32(&s.Vni) != uint32(id) {
		return
	}
	w := atomic.LoadUint64(&s.Word)
	if w&0xfff == 0 {
		return
	}
	r.delay()
	segment := *k.segments[w>>44&0xffff].Load()
	f(s, segment[w>>28&0xffff:][:w&0xfff], int(w>>12&0xffff))
}

func (r *reader) copyTo(m *programMember) copyTo {
	dest := atomic.LoadUint32(&m.Dest)
	d := &r.k.dests[dest&destMask]
	c := copyTo{
		addr: address(m.Addr), expires: fdb.Time(atomic.LoadUint64(&m.Expires)),
		known: dest&memberKnown != 0, learned: dest&memberLearned != 0,
	}
	h := hop(atomic.LoadUint64(&d.Hop))
	for i := range c.mac {
		c.mac[i] = byte(h >> (8 * i))
	}
	if n := h.device(); n != 0 {
		c.device = r.k.devices[n]
	} else {
		c.why = atomic.LoadUint64(&d.Why)
	}
	return c
}

// send has the program see a packet of a member; it tells whether it went up.
func (r *reader) send(now fdb.Time, id vxlan.VNI, from netip.Addr) (wentUp bool) {
	var why up
	wentUp = true
	r.run(id, func(s *programSlot, records []programMember, _ int) {
		copies := 0
		var sender *programMember
		for i := range records {
			m := &records[i]
			switch live := atomic.LoadUint64(&m.Expires) > uint64(now); {
			case live && m.Addr == network(from):
				sender = m
			case live:
				copies++
			}
		}
		if sender == nil || atomic.LoadUint32(&sender.Dest)&memberKnown == 0 {
			return
		}
		wentUp = false
		r.delay()
		atomic.StoreUint64(&sender.Seen, uint64(now))
		expires := uint64(now) + atomic.LoadUint64(&r.k.settings.LearnHold)
		if atomic.LoadUint32(&sender.Dest)&memberLearned != 0 && atomic.LoadUint64(&sender.Expires) < expires {
			atomic.StoreUint64(&sender.Expires, expires)
		}
		atomic.AddUint32(&sender.Packets, 1)
		atomic.AddUint32(&sender.Copies, uint32(copies))
		atomic.AddUint64(&s.Packets, 1)
		atomic.AddUint64(&s.Copies, uint64(copies))
	}, &why, now)
	return wentUp
}

// fakePaths keep what the mirror asks for, and check that it asks well.
type fakePaths struct {
	t      testing.TB
	wanted map[netip.Addr]bool
	news   []netip.Addr
}

func newFakePaths(t testing.TB) *fakePaths {
	return &fakePaths{t: t, wanted: make(map[netip.Addr]bool)}
}

func (p *fakePaths) Want(add, drop []netip.Addr) {
	for _, a := range drop {
		if !p.wanted[a] {
			p.t.Errorf("%v is dropped and was not wanted", a)
		}
		delete(p.wanted, a)
	}
	for _, a := range add {
		if p.wanted[a] {
			p.t.Errorf("%v is wanted twice", a)
		}
		p.wanted[a] = true
		p.news = append(p.news, a)
	}
}

// goodPath is a way by which packets can go, another one for each n.
func goodPath(n, mtu int) underlay.Path {
	return underlay.Path{
		State: underlay.PathGood, Index: 2 + n%3, Source: [6]byte{2, 0, 0, 0, 0, byte(n % 3)},
		NextHop: [6]byte{2, 1, 0, 0, byte(n >> 8), byte(n)}, MTU: mtu,
	}
}
