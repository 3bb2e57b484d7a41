// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"maps"
	"net/netip"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/vxlan"
)

// enforce brings a plan into force and returns the one before: the entries are
// those of the plan then, and the flood lists those of the entries, and of the
// VNIs that wait.
func (r *Registrar) enforce(p *plan, own map[netip.Addr]struct{}, cfg *config.Config) *plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.plan
	r.tellPlanLocked(before, p)
	r.plan, r.own = p, own
	maps.DeleteFunc(r.refused, func(at route, _ error) bool {
		_, ok := p.Nodes[at.Node]
		return !ok
	})
	maps.DeleteFunc(r.nodes, func(a netip.Addr, _ *nodeState) bool {
		_, ok := p.Nodes[a]
		return !ok
	})
	r.service = maps.Clone(p.Nodes)
	for _, a := range append(serviceNodes(cfg), cfg.Svcnode) {
		r.service[a] = struct{}{}
	}
	now := time.Now()
	first := r.awaitAdoptedLocked(now)
	var dropped []headend.Key
	set := make(map[headend.Key][]netip.Addr)
	former := r.entries
	r.entries = make(map[vxlan.VNI]*entry, len(p.Register))
	for i := range p.Register {
		reg := &p.Register[i]
		e, changed := former[reg.VNI], false
		switch waiting := r.waiting[reg.VNI]; {
		case e != nil:
			delete(former, reg.VNI)
		case waiting != nil:
			delete(r.waiting, reg.VNI)
			e, changed = waiting, true // it may be one of before the start
			e.list.wake(now)
		default:
			e = &entry{registration: reg, list: newMemberList(reg.Nodes, nil, now)}
		}
		r.entries[reg.VNI] = e
		tell := r.tellListLocked(e)
		if e.Device != reg.Device {
			dropped = append(dropped, e.Device)
			changed = true
		}
		e.registration = reg
		e.list.setNodes(reg.Nodes, now)
		if e.list.without(own) || changed {
			set[reg.Device] = e.list.members()
		}
		tell()
	}
	dropped = append(dropped, r.putAsideLocked(former, p)...)
	if r.lists == nil {
		return before
	}
	if len(set) > 0 {
		r.lists.Set(set)
	}
	if len(dropped) > 0 {
		r.lists.Drop(dropped...)
	}
	if first {
		r.lists.Keep(r.devicesLocked())
	}
	return before
}

// awaitAdoptedLocked has the lists of before the start wait for their VNIs, and
// tells whether this is the start.
func (r *Registrar) awaitAdoptedLocked(now time.Time) bool {
	if r.adopted == nil {
		return false
	}
	for k, members := range r.adopted {
		e := &entry{registration: &registration{VNI: k.VNI, Device: k}, list: newMemberList(nil, members, now)}
		if other := r.waiting[k.VNI]; other != nil {
			// A VNI was about to go from one device to another.
			e.list.base = merge(members, other.list.base)
		}
		r.waiting[k.VNI] = e
	}
	r.adopted = nil
	return true
}

// putAsideLocked deals with the entries that a plan has no place for. The list of
// a device that is there, but cannot be registered for a while, stays as it is and
// waits: no answer has said otherwise. The others are returned, to be dropped.
func (r *Registrar) putAsideLocked(former map[vxlan.VNI]*entry, p *plan) (dropped []headend.Key) {
	type place struct {
		index int
		vni   vxlan.VNI
	}
	passing := make(map[place]struct{})
	for i := range p.Skipped {
		if s := &p.Skipped[i]; s.Reason.passes() {
			passing[place{s.Index, s.VNI}] = struct{}{}
		}
	}
	maps.Copy(r.waiting, former)
	for vni, e := range r.waiting {
		if _, ok := passing[place{e.Device.Index, vni}]; !ok || r.lists == nil {
			dropped = append(dropped, e.Device)
			delete(r.waiting, vni)
			r.tellMembers(e.Device, e.list.members(), nil, "the VNI is not registered any more")
		}
	}
	return dropped
}

// devicesLocked returns the flood lists of all entries, and of those that wait.
func (r *Registrar) devicesLocked() map[headend.Key]struct{} {
	keys := make(map[headend.Key]struct{}, len(r.entries)+len(r.waiting))
	for _, es := range []map[vxlan.VNI]*entry{r.entries, r.waiting} {
		for _, e := range es {
			keys[e.Device] = struct{}{}
		}
	}
	return keys
}
