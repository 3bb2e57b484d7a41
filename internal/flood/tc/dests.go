// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
)

// Paths knows the way to each VTEP; *underlay.Paths does. Its methods are called
// by one goroutine.
type Paths interface {
	// Want says to whom the way is of interest from now on, and to whom no more. The
	// way to each that is added is told once it is known, and whenever it changes.
	// No address is added twice, or dropped that was not added.
	Want(add, drop []netip.Addr)
}

// A limit is what the way to a destination means for lists that it is in: the
// largest IP packet that may be sent, or that raw has to have them.
type limit int32

const (
	limitUnfit   limit = -1
	limitPending limit = 0
	limitNone    limit = 0xffff
)

func limitOf(p underlay.Path) limit {
	switch p.State {
	case underlay.PathPending:
		return limitPending
	case underlay.PathGood, underlay.PathUnresolved:
		if p.MTU > 0 {
			return min(limit(p.MTU), limitNone)
		}
		return limitNone
	case underlay.PathUnreachable, underlay.PathRefused:
		return limitNone
	}
	return limitUnfit
}

// tighter returns the limit under which packets may take either of two ways.
func tighter(old, next limit) limit {
	if old <= 0 && next > 0 {
		return old
	}
	if next <= 0 {
		return next
	}
	return min(old, next)
}

// A destination is a VTEP that some VNI has as a member.
type destination struct {
	addr uint32 // as it lies in a packet
	uses int    // by VNIs
	told bool   // paths is asked for the way
	path underlay.Path
	// since is when the way was not known first, and left when the last VNI let go of
	// it, 0 while one has it.
	since, left fdb.Time
}

// A device is an outgoing device as hops name it.
type device struct {
	index int
	mac   [6]byte
}

// Dests are the ways to VTEPs in the maps. They are not safe for concurrent use.
type dests struct {
	memory  []programDest
	devices []programDevice
	paths   Paths

	all    []destination // parallel to memory; 0 is none
	limits []limit       // parallel to all
	byAddr map[uint32]uint32
	free   []uint32
	drop   []netip.Addr // of which paths is to be told
	tell   []uint32     // whose first use came, or last use went
	// pending is how many that are in use have a limit of limitPending.
	pending int
	// kept is how many are followed that nobody uses, and checked when their time was
	// looked at last.
	kept    int
	checked fdb.Time
	// use is how many destinations name a device, dying how many batches of garbage,
	// parallel to devices; 0 is none.
	use, dying []int
	known      []device
	idle       []int // devices that nobody names any more
}

func newDests(memory []programDest, devices []programDevice, paths Paths) *dests {
	return &dests{
		memory: memory, devices: devices, paths: paths,
		all: make([]destination, 1), limits: make([]limit, 1), byAddr: make(map[uint32]uint32),
		use: make([]int, 1), dying: make([]int, 1), known: make([]device, 1),
	}
}

// hold returns the index of the destination of an address, which somebody uses
// from now on.
func (d *dests) hold(now fdb.Time, addr uint32) (uint32, error) {
	i, ok := d.byAddr[addr]
	if !ok {
		if len(d.free) == 0 && len(d.all) == len(d.memory) && d.kept > 0 {
			d.forgetKept(func(*destination) bool { return true })
		}
		switch n := len(d.free); {
		case n > 0:
			i, d.free = d.free[n-1], d.free[:n-1]
		case len(d.all) == len(d.memory):
			return 0, fmt.Errorf("more than %d VTEPs: %w", len(d.memory)-1, unix.ENOSPC)
		default:
			i = uint32(len(d.all))
			d.all, d.limits = append(d.all, destination{}), append(d.limits, limitPending)
		}
		d.byAddr[addr] = i
		d.all[i] = destination{addr: addr, since: now}
		d.tell = append(d.tell, i)
	}
	e := &d.all[i]
	if e.left != 0 {
		e.left = 0
		d.kept--
	}
	if e.uses++; e.uses == 1 && d.limits[i] == limitPending {
		d.pending++
	}
	return i, nil
}

// release is the reverse of hold. The program must not see the index any more.
func (d *dests) release(i uint32) {
	e := &d.all[i]
	if e.uses--; e.uses == 0 {
		d.tell = append(d.tell, i)
		if d.limits[i] == limitPending {
			d.pending--
		}
	}
}

const (
	// keepWay is for how long the way to a VTEP is followed that no VNI has any more,
	// so that one which comes again finds it, and keptWays is for how many.
	keepWay  = time.Minute
	keptWays = 1024
)

// settle forgets destinations that nobody uses, and tells paths who is of
// interest.
func (d *dests) settle(now fdb.Time) {
	if d.kept > 0 && now.Sub(d.checked) >= keepWay/64 {
		d.checked = now
		d.forgetKept(func(e *destination) bool {
			return now.Sub(e.left) >= keepWay || e.path.State != underlay.PathGood
		})
	}
	var add []netip.Addr
	for _, i := range d.tell {
		switch e := &d.all[i]; {
		case e.uses > 0 && !e.told:
			e.told = true
			add = append(add, address(e.addr))
		case e.uses > 0 || e.addr == 0 || e.left != 0:
		case e.path.State == underlay.PathGood && d.kept < keptWays:
			e.left = now
			d.kept++
		default:
			d.forget(i)
		}
	}
	d.tell = d.tell[:0]
	if len(add)+len(d.drop) > 0 {
		d.paths.Want(add, d.drop)
		d.drop = nil
	}
}

// forgetKept forgets some of the destinations that nobody uses.
func (d *dests) forgetKept(which func(*destination) bool) {
	for i := range d.all {
		if e := &d.all[i]; e.left != 0 && which(e) {
			d.kept--
			d.forget(uint32(i))
		}
	}
}

// forget forgets a destination that nobody uses.
func (d *dests) forget(i uint32) {
	e := &d.all[i]
	if e.told {
		d.drop = append(d.drop, address(e.addr))
	}
	d.leave(i)
	atomic.StoreUint64(&d.memory[i].Hop, 0)
	delete(d.byAddr, e.addr)
	*e, d.limits[i] = destination{}, limitPending
	d.free = append(d.free, i)
}

// leave has destination i name no device any more.
func (d *dests) leave(i uint32) {
	was := hop(atomic.LoadUint64(&d.memory[i].Hop)).device()
	if was == 0 {
		return
	}
	if d.use[was]--; d.use[was] == 0 {
		d.dying[was]++
		d.idle = append(d.idle, was)
	}
}

// A turnoff is a way that changed.
type turnoff struct {
	dest uint32
	path underlay.Path
	hop  hop
}

// plan returns which of paths are news, with a device for each.
func (d *dests) plan(paths map[netip.Addr]underlay.Path) []turnoff {
	var out []turnoff
	for a, p := range paths {
		if !a.Is4() {
			continue
		}
		i, ok := d.byAddr[network(a)]
		if !ok || d.all[i].path == p {
			continue
		}
		t := turnoff{dest: i, path: p}
		if p.State == underlay.PathGood {
			n, ok := d.device(device{p.Index, p.Source})
			if !ok {
				t.path = underlay.Path{State: underlay.PathUnfit}
			} else {
				t.hop = makeHop(n, p.NextHop)
			}
		}
		out = append(out, t)
	}
	return out
}

// tighten lowers limits to what holds for the ways of before and of now. It
// returns which destinations have another limit, nil if none.
func (d *dests) tighten(ts []turnoff) []bool {
	return d.limit(ts, func(t *turnoff) limit { return tighter(d.limits[t.dest], limitOf(t.path)) })
}

// loosen sets the limits of the ways of now.
func (d *dests) loosen(ts []turnoff) []bool {
	return d.limit(ts, func(t *turnoff) limit { return limitOf(t.path) })
}

func (d *dests) limit(ts []turnoff, of func(*turnoff) limit) (changed []bool) {
	for i := range ts {
		t := &ts[i]
		l := of(t)
		if l == d.limits[t.dest] {
			continue
		}
		if changed == nil {
			changed = make([]bool, len(d.all))
		}
		if d.all[t.dest].uses > 0 {
			switch limitPending {
			case l:
				d.pending++
			case d.limits[t.dest]:
				d.pending--
			}
		}
		d.limits[t.dest], changed[t.dest] = l, true
	}
	return changed
}

// store puts the way to a destination into the maps. A way that is pending or
// unfit is not there: raw has the lists, and packets that are under way still
// take the one of before.
func (d *dests) store(now fdb.Time, t *turnoff) {
	e := &d.all[t.dest]
	if e.path = t.path; t.path.State == underlay.PathPending {
		e.since = now
	}
	r := &d.memory[t.dest]
	switch t.path.State {
	case underlay.PathPending, underlay.PathUnfit:
		return
	case underlay.PathUnresolved:
		atomic.StoreUint64(&r.Why, whyUnresolved)
	case underlay.PathRefused:
		atomic.StoreUint64(&r.Why, whyRefused)
	default:
		atomic.StoreUint64(&r.Why, whyUnreachable)
	}
	d.leave(t.dest)
	atomic.StoreUint64(&r.Hop, uint64(t.hop))
}

// device returns the number of a device, which one more destination names.
func (d *dests) device(v device) (int, bool) {
	n := slices.Index(d.known[1:], v) + 1
	if n == 0 {
		// One that nobody has named for a grace period has no number.
		if n = slices.Index(d.known[1:], device{}) + 1; n == 0 {
			if len(d.known) == len(d.devices) {
				return 0, false
			}
			n = len(d.known)
			d.known, d.use, d.dying = append(d.known, device{}), append(d.use, 0), append(d.dying, 0)
		}
		d.known[n] = v
		r := &d.devices[n]
		r.Ifindex, r.Mac = uint32(v.index), v.mac
	}
	d.use[n]++
	return n, true
}

// forgetDevices lets go of devices that were idle before a grace period.
func (d *dests) forgetDevices(idle []int) {
	for _, n := range idle {
		if d.dying[n]--; d.use[n] == 0 && d.dying[n] == 0 {
			d.known[n] = device{}
		}
	}
}
