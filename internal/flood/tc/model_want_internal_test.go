// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// want returns what packets of a VNI should find, nil where they should go up. Where
// late is set they may find what the members with known ways are, for a moment.
func (x *modelRun) want(v vxlan.VNI, late bool) (members []netip.Addr, mtu int) {
	members = x.tab.Members(x.clock(), v, nil)
	mtu = 0xffff
	if len(members) == 0 || len(members) > min(x.settings.most, maxCount) || x.held[v] || x.settings.raw {
		return nil, 0
	}
	if late {
		members = slices.DeleteFunc(members, func(a netip.Addr) bool { return a.Is4() && x.ways[a].State == underlay.PathPending })
	}
	for _, a := range members {
		p := x.ways[a]
		switch {
		case !a.Is4() || p.State == underlay.PathUnfit || p.State == underlay.PathPending:
			return nil, 0
		case p.State != underlay.PathUnreachable && p.State != underlay.PathRefused:
			mtu = min(mtu, p.MTU)
		}
	}
	return members, mtu
}

// errUnswept is an error that may be due to an entry whose time is over, but of
// which the feed has not told: it may keep a VNI with raw, or its sender known.
var errUnswept = errors.New("not swept, perhaps")

// compare returns the first difference between what packets find and what they
// should. Where late is set, members with unknown ways may be missing.
func (x *modelRun) compare(late bool) error {
	for v := range vxlan.VNI(modelVNIs) {
		got := x.mirrorRig.r.list(x.clock(), v)
		members, mtu := x.want(v, false)
		if late && members == nil && got.copies != nil {
			members, mtu = x.want(v, true)
		}
		if members != nil && got.copies == nil {
			return fmt.Errorf("vni %v: %w: up (%v), want %v", v, errUnswept, got.up, members)
		}
		if !slices.Equal(sorted(got.addrs()), sorted(members)) {
			return fmt.Errorf("vni %v: got %v (up: %v; %+v), want %v of %d", v, got.addrs(), got.up, x.m.vnis[v], members, x.settings.most)
		}
		if members == nil {
			continue
		}
		if got.mtu != mtu {
			return fmt.Errorf("vni %v: got an MTU of %d, want %d", v, got.mtu, mtu)
		}
		for i := range got.copies {
			if err := x.compareCopy(v, &got.copies[i]); err != nil {
				return fmt.Errorf("vni %v: %v: %w", v, got.copies[i].addr, err)
			}
		}
	}
	return nil
}

// whys are the reasons of ways that are none.
var whys = map[underlay.PathState]uint64{
	underlay.PathUnresolved: whyUnresolved, underlay.PathUnreachable: whyUnreachable, underlay.PathRefused: whyRefused,
}

func (x *modelRun) compareCopy(v vxlan.VNI, c *copyTo) error {
	p := x.ways[c.addr]
	if good := p.State == underlay.PathGood; good != (c.device.Ifindex != 0) {
		return fmt.Errorf("got %+v, want %+v", c, p)
	} else if good && (int(c.device.Ifindex) != p.Index || c.device.Mac != p.Source || c.mac != p.NextHop) {
		return fmt.Errorf("got %+v, want %+v", c, p)
	} else if why := whys[p.State]; !good && c.why != why {
		return fmt.Errorf("got %+v, want why %d", c, why)
	}
	expires := fdb.Time(0)
	learned := false
	for _, e := range x.tab.Entries(x.clock(), v, nil) {
		if e.Addr == c.addr {
			expires = max(expires, e.Expires)
			learned = learned || e.Source == fdb.Data
		}
	}
	// Of a packet that raw took it need not know until shortly before.
	if c.expires > expires || c.expires < expires && (!learned || c.expires < x.clock()) {
		return fmt.Errorf("expires at %d, want %d", c.expires, expires)
	}
	l := fdb.Lookup{VNI: v, Source: c.addr}
	why, refused := x.tab.Peek(x.clock(), &l)
	if known := !l.Learn && !refused; known != c.known {
		return fmt.Errorf("%w: known %v, want %v (%v)", errUnswept, c.known, known, why)
	}
	return nil
}
