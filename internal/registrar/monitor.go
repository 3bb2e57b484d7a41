// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/headend"
	"vxsnd/internal/vxlan"
)

// maxEvents bounds the events that wait for one client: more than there are
// members in the largest answer are not for people any more.
const maxEvents = 8192

// monitors hand what happens to those who listen, and wait for nobody. They are
// safe for concurrent use.
type monitors struct {
	mu  sync.Mutex
	all map[*monitor]struct{}
}

// A monitor is one who listens, and what it has not taken yet.
type monitor struct {
	wanted func(vxlan.VNI) bool
	woken  chan struct{} // holds a value when something waits

	// The mutex of the monitors guards what follows.
	events []control.RegistrarEvent // in order of time
	lost   uint64                   // that came after them
}

// listen adds one who listens for events of some VNIs, until stop is called.
func (m *monitors) listen(wanted func(vxlan.VNI) bool) (l *monitor, stop func()) {
	l = &monitor{wanted: wanted, woken: make(chan struct{}, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = make(map[*monitor]struct{})
	}
	m.all[l] = struct{}{}
	return l, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.all, l)
	}
}

// any tells whether somebody listens, so that what happens is to be found out.
func (m *monitors) any() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.all) > 0
}

// tell hands an event to all who want it.
func (m *monitors) tell(e control.RegistrarEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.all {
		switch {
		case !l.wanted(vxlan.VNI(e.VNI)):
			continue
		case len(l.events) >= maxEvents || l.lost > 0:
			l.lost++ // what is told stays in order
		default:
			l.events = append(l.events, e)
		}
		select {
		case l.woken <- struct{}{}:
		default:
		}
	}
}

// take returns what waits for one who listens, and how many were lost after it.
func (m *monitors) take(l *monitor) (events []control.RegistrarEvent, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events, lost = l.events, l.lost
	l.events, l.lost = nil, 0
	return events, lost
}

// monitor answers a client with what happens, until it leaves.
func (r *Registrar) monitor(ctx context.Context, call *control.Call) error {
	wanted, err := wantedVNIs(call)
	if err != nil {
		return err
	}
	l, stop := r.monitors.listen(wanted)
	defer stop()
	if err := call.Send([]control.RegistrarEvent{}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.woken:
		}
		events, lost := r.monitors.take(l)
		for part := range slices.Chunk(events, control.MaxPart) {
			if err := call.Send(part); err != nil {
				return err
			}
		}
		if lost > 0 {
			if err := call.Send([]control.Lost{{Time: time.Now(), Event: control.EventLost, Count: lost}}); err != nil {
				return err
			}
		}
	}
}

// tellVNI tells what happened to a registration.
func (r *Registrar) tellVNI(event string, reg *registration, reason string) {
	r.monitors.tell(control.RegistrarEvent{
		Time: time.Now(), Event: event, Reason: reason, VNI: uint32(reg.VNI), Device: reg.Device.Device, Address: reg.Local,
	})
}

// tellMembers tells how a flood list, sorted, became another one.
func (r *Registrar) tellMembers(key headend.Key, before, after []netip.Addr, reason string) {
	if !r.monitors.any() {
		return
	}
	e := control.RegistrarEvent{Time: time.Now(), Reason: reason, VNI: uint32(key.VNI), Device: key.Device}
	tell := func(event string, a netip.Addr) {
		e.Event, e.Address = event, a
		r.monitors.tell(e)
	}
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Less(after[0]):
			tell(control.EventMemberRemoved, before[0])
			before = before[1:]
		case len(before) == 0 || after[0].Less(before[0]):
			tell(control.EventMemberAdded, after[0])
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
}

// tellListLocked takes note of the flood list of an entry that a plan keeps, and
// returns what tells how it became another one: this machine got an address, or
// another device the VNI.
func (r *Registrar) tellListLocked(e *entry) func() {
	if !r.monitors.any() {
		return func() {}
	}
	key, held := e.Device, e.list.members()
	return func() {
		if key == e.Device {
			r.tellMembers(key, held, e.list.members(), "the address is one of this machine")
			return
		}
		r.tellMembers(key, held, nil, "another device has the VNI: "+e.Device.Device)
		r.tellMembers(e.Device, nil, e.list.members(), "the device has the VNI now")
	}
}

// tellGoneLocked tells that an entry is not registered any more, if it was told
// that it is.
func (r *Registrar) tellGoneLocked(e *entry, reason string) {
	if e.told == toldRegistered {
		r.tellVNI(control.EventUnregistered, e.registration, reason)
	}
	e.told = toldNothing
}

// tellSentLocked tells that an entry is registered, or why it cannot be, unless
// that was told.
func (r *Registrar) tellSentLocked(e *entry, err error) {
	switch {
	case err == nil && e.told != toldRegistered:
		e.told = toldRegistered
		r.tellVNI(control.EventRegistered, e.registration, "")
	case err != nil && e.told == toldNothing:
		e.told = toldUnsent
		r.tellVNI(control.EventSkipped, e.registration, "unsent: "+err.Error())
	}
}

// What was told of an entry last.
type told uint8

const (
	toldNothing told = iota
	toldUnsent
	toldRegistered
)

// tellPlanLocked tells which of the entries that there are another plan ends, and
// what it skips that was not skipped before, or for another reason. What is said
// to be unregistered is not said to be skipped, too.
func (r *Registrar) tellPlanLocked(before, now *plan) {
	type place struct {
		index int
		vni   vxlan.VNI
	}
	why := make(map[place]string, len(now.Skipped))
	for i := range now.Skipped {
		if s := &now.Skipped[i]; s.HasVNI {
			why[place{s.Index, s.VNI}] = s.String()
		}
	}
	planned := make(map[vxlan.VNI]*registration, len(now.Register))
	for i := range now.Register {
		planned[now.Register[i].VNI] = &now.Register[i]
	}
	gone := make(map[place]bool)
	for vni, e := range r.entries {
		at, reg := place{e.Device.Index, vni}, planned[vni]
		if reg != nil && reg.Device == e.Device && reg.Local == e.Local {
			continue
		}
		reason := why[at]
		switch {
		case reason != "":
			gone[at] = e.told == toldRegistered
		case reg == nil:
			reason = "the device has gone, or its VNI"
		case reg.Device != e.Device:
			reason = "another device has the VNI: " + reg.Device.Device
		default:
			reason = "the local address is another one: " + reg.Local.String()
		}
		stays := reg != nil && reg.Local == e.Local && e.told == toldRegistered // nothing is sent for it
		r.tellGoneLocked(e, reason)
		if stays {
			e.told = toldRegistered
			r.tellVNI(control.EventRegistered, reg, "")
		}
	}
	for _, s := range newSkips(before, now) {
		if !gone[place{s.Index, s.VNI}] {
			r.monitors.tell(control.RegistrarEvent{
				Time: time.Now(), Event: control.EventSkipped, Reason: s.String(), VNI: uint32(s.VNI), Device: s.Name, Address: s.Local,
			})
		}
	}
}
