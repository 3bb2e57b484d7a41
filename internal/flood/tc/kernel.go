// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// The layout of maps.bpf.h.
const (
	segmentMembers = 1 << 16
	maxSegments    = 64
	maxDests       = 1 << 16
	maxDevices     = 256
	maxSlots       = 1 << 16
	maxCount       = 1<<12 - 1 // members of a VNI that the program can have
	boundedCount   = 512       // of that with bounded loops: BOUNDED of gen.go
	maxArrivals    = 256       // devices that get the program at once
)

// Flags of a member, above the index of its destination.
const (
	memberKnown   = 1 << 24
	memberLearned = 2 << 24
)

// Why a destination has no way, in programDest.Why.
const (
	whyUnreachable = 1
	whyUnresolved  = 2
	whyRefused     = 3
)

// A word is what must change at once of a VNI: how many members it has here,
// the smallest MTU on the way to them, and where they are.
type word uint64

func makeWord(count, mtu int, at position) word {
	return word(count) | word(min(mtu, 0xffff))<<12 | word(at)<<28
}

// A position is the place of a member: segment and index.
type position uint32

func makePosition(segment, index int) position { return position(segment<<16 | index) }

func (p position) segment() int { return int(p >> 16) }
func (p position) index() int   { return int(p & 0xffff) }

// A hop is where copies for a VTEP go: a device's index and the MAC address of
// the next hop.
type hop uint64

func makeHop(device int, mac [6]byte) hop {
	h := hop(device) << 48
	for i, b := range mac {
		h |= hop(b) << (8 * i)
	}
	return h
}

// device returns the index of the device, 0 where there is no way.
func (h hop) device() int { return int(h >> 48) }

// A kernel is the program with its maps, which live as long as it is open or
// something is attached. Its maps belong to the mirror; attach and arrive may be
// called beside it.
type kernel struct {
	objects  programObjects
	limit    int // VNIs
	most     int // members of a VNI
	maps     []mapped
	segments []*ebpf.Map
	segment  *ebpf.MapSpec // types included, which Linux 6.1 compares

	members  [][]programMember // of segments
	slots    []programSlot
	dests    []programDest
	devices  []programDevice
	settings *programSetting
	flows    []programFlow
	arriving []int // devices
}

// A mapped is memory that the program works in.
type mapped []byte

// load loads the program, for at most so many VNIs. Without the capabilities
// that it takes, CAP_BPF and CAP_NET_ADMIN, the error says which and matches
// unix.EPERM; where the kernel lacks something it matches ebpf.ErrNotSupported.
// With CAP_PERFMON too the verifier leaves barriers against speculation out,
// which saves some 200 ns per packet and 20 ns per copy.
//
// Without bpf_loop (before Linux 5.17), or a compiler for programs that use it
// (net.core.bpf_jit_enable), VNIs may have boundedCount members.
//
// The maps for 65,536 VNIs take 13 MiB, and each segment 2 MiB: 45 MiB for
// 1,000,000 members without gaps, 61 MiB with all that blocks of up to 256 members
// may leave unused, and 75 MiB with larger ones. It counts for the control group;
// no limit of the process applies (since Linux 5.11).
func load(vnis int) (k *kernel, err error) {
	k = &kernel{limit: vnis, most: maxCount}
	err = k.assign(loadProgram)
	if err != nil && !errors.Is(err, unix.EPERM) {
		k.most = boundedCount
		err = k.assign(loadBounded)
	}
	if err != nil {
		return nil, fmt.Errorf("load the kernel program: %w", explain(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if k.slots, err = share[programSlot](k, k.objects.Slots); err != nil {
		return nil, err
	}
	if k.dests, err = share[programDest](k, k.objects.Dests); err != nil {
		return nil, err
	}
	if k.devices, err = share[programDevice](k, k.objects.Devices); err != nil {
		return nil, err
	}
	settings, err := share[programSetting](k, k.objects.Settings)
	if err != nil {
		return nil, err
	}
	k.settings = &settings[0]
	if k.flows, err = share[programFlow](k, k.objects.Flows); err != nil {
		return nil, err
	}
	return k, nil
}

// assign loads one of the programs.
func (k *kernel) assign(load func() (*ebpf.CollectionSpec, error)) error {
	spec, err := load()
	if err != nil {
		return err
	}
	spec.Maps[programMapVnis].MaxEntries = uint32(k.limit)
	spec.Maps[programMapSlots].MaxEntries = uint32(k.limit)
	k.segment = spec.Maps[programMapSegments].InnerMap
	return spec.LoadAndAssign(&k.objects, nil)
}

// explain says more about why the program was not loaded.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		if lacks := missing(); len(lacks) > 0 {
			return fmt.Errorf("without %s: %w", strings.Join(lacks, " and "), unix.EPERM)
		}
		return err
	}
	// Another reason than its age would be one of the program.
	if e := features.HaveProgramHelper(ebpf.SchedCLS, asm.FnLoop); errors.Is(e, ebpf.ErrNotSupported) {
		return fmt.Errorf("a kernel before Linux 5.17: %w: %w", e, err)
	}
	return err
}

// missing returns which of the capabilities that it takes to load and attach
// the program this thread does not have. CAP_SYS_ADMIN has what CAP_BPF has.
func missing() (names []string) {
	var have [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &have[0]); err != nil {
		return nil
	}
	has := func(c int) bool { return have[c/32].Effective&(1<<(c%32)) != 0 }
	if !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		names = append(names, "CAP_BPF")
	}
	if !has(unix.CAP_NET_ADMIN) {
		names = append(names, "CAP_NET_ADMIN")
	}
	return names
}

// share maps the values of an array into memory.
func share[T any](k *kernel, m *ebpf.Map) ([]T, error) {
	var v T
	size := int(unsafe.Sizeof(v))
	if size != int(m.ValueSize()) || size%8 != 0 { // elements are 8 bytes apart at least
		panic(fmt.Sprintf("tc: a value of %s has %d bytes, not %d", m, m.ValueSize(), size))
	}
	page := unix.Getpagesize()
	length := (size*int(m.MaxEntries()) + page - 1) / page * page
	b, err := unix.Mmap(m.FD(), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m, err)
	}
	k.maps = append(k.maps, b)
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), m.MaxEntries()), nil
}

// grow adds a segment, of 2 MiB, and returns its number.
func (k *kernel) grow() (int, error) {
	n := len(k.members)
	if n == maxSegments {
		return 0, fmt.Errorf("more than %d members: %w", maxSegments*segmentMembers, unix.ENOSPC)
	}
	m, err := ebpf.NewMap(k.segment)
	if err != nil {
		return 0, fmt.Errorf("make a segment: %w", err)
	}
	members, err := share[programMember](k, m)
	if err == nil {
		err = k.objects.Segments.Put(uint32(n), m)
	}
	if err != nil {
		return 0, errors.Join(err, m.Close())
	}
	k.segments, k.members = append(k.segments, m), append(k.members, members)
	return n, nil
}

// setVNI has the program find a VNI at a slot.
func (k *kernel) setVNI(vni, slot uint32) error { return k.objects.Vnis.Put(vni, slot) }

// deleteVNI has the program hand up the packets of a VNI as unknown. It is no
// error if they were.
func (k *kernel) deleteVNI(vni uint32) error { return absent(k.objects.Vnis.Delete(vni)) }

// setService has the program take packets to an address, IPv4.
func (k *kernel) setService(a netip.Addr) error { return k.objects.Services.Put(a.As4(), uint8(1)) }

// deleteService is the reverse of setService.
func (k *kernel) deleteService(a netip.Addr) error { return absent(k.objects.Services.Delete(a.As4())) }

// arrive has the program hand up all that comes in by devices, maxArrivals at most,
// instead of the devices of before.
func (k *kernel) arrive(ifindexes []int) error {
	atomic.StoreUint32(&k.settings.Arriving, 0)
	for _, i := range k.arriving {
		if err := absent(k.objects.Arrivals.Delete(uint32(i))); err != nil {
			return err
		}
	}
	k.arriving = nil
	for _, i := range ifindexes {
		if err := k.objects.Arrivals.Put(uint32(i), uint8(1)); err != nil {
			return err
		}
		k.arriving = append(k.arriving, i)
	}
	atomic.StoreUint32(&k.settings.Arriving, uint32(len(ifindexes)))
	return nil
}

func absent(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// handedUp returns how many packets the program has handed up, by reason.
func (k *kernel) handedUp() (up [numUps]uint64, err error) {
	for i := range up {
		var each []uint64
		if err := k.objects.Ups.Lookup(uint32(i), &each); err != nil {
			return up, fmt.Errorf("read counters: %w", err)
		}
		for _, n := range each {
			up[i] += n
		}
	}
	return up, nil
}

// samples returns a reader of the packets that the program picked for a look.
func (k *kernel) samples() (*ringbuf.Reader, error) {
	r, err := ringbuf.NewReader(k.objects.Samples)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	return r, nil
}

// grace returns when no run of the program goes on that began before the call.
// MEMBARRIER_CMD_GLOBAL waits for a grace period of RCU (membarrier(2), since
// Linux 4.3), and programs of the ingress hook run under RCU.
func grace() error {
	const membarrierGlobal = 1
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}

// Close lets go of the program and the maps. What is attached goes on with them.
func (k *kernel) Close() error {
	errs := []error{k.objects.Close()}
	for _, m := range k.segments {
		errs = append(errs, m.Close())
	}
	for _, b := range k.maps {
		errs = append(errs, unix.Munmap(b))
	}
	k.segments, k.maps = nil, nil
	k.members, k.slots, k.dests, k.devices, k.settings = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}
