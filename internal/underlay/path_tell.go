// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"maps"
	"net/netip"
	"slices"
)

// tell hands out the ways that have changed, and the devices.
func (f *pathFollower) tell() {
	if len(f.stale) == 0 && !f.moved {
		return
	}
	f.moved = false
	out := make(map[netip.Addr]Path)
	f.p.mu.Lock()
	for t := range f.stale {
		if t.hop != nil {
			t.hop.fresh = false
		}
		way, told := f.path(t), f.p.told[t.addr]
		if way != told {
			f.p.told[t.addr], out[t.addr] = way, way
		}
	}
	list := f.devices()
	news := f.gone || !slices.Equal(list, f.p.devices)
	f.gone, f.p.devices = false, list
	f.p.mu.Unlock()
	clear(f.stale)
	if len(out) > 0 {
		f.changed(out)
	}
	if news {
		f.tellDevices(slices.Clone(list))
	}
}

// devices returns what Devices does.
func (f *pathFollower) devices() []PathDevice {
	var out []PathDevice
	for _, i := range slices.Sorted(maps.Keys(f.leaving)) {
		if l, ok := f.links[i]; ok && l.up() && l.fit() {
			out = append(out, l.PathDevice)
		}
	}
	return out
}

// path returns the way to an address as far as it is known.
func (f *pathFollower) path(t *wanted) Path {
	if t.route.state != PathGood {
		return Path{State: t.route.state}
	}
	l, known := f.links[t.hop.link]
	switch {
	case !known:
		return Path{}
	case !l.fit(), f.isProtected(t.addr):
		return Path{State: PathUnfit}
	case !l.up():
		return Path{State: PathUnreachable}
	}
	mtu := l.MTU
	if t.route.mtu != 0 {
		mtu = min(mtu, t.route.mtu)
	}
	switch {
	case t.hop.good():
		return Path{State: PathGood, Index: l.Index, Source: l.mac, NextHop: t.hop.mac, MTU: mtu}
	case t.hop.failed:
		return Path{State: PathUnresolved, MTU: mtu}
	}
	return Path{}
}
