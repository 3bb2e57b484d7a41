// SPDX-License-Identifier: Apache-2.0

package e2e

// Flood lists that others have a part in: operators, routing daemons, and the
// default destination of a device. See vxrd_test.go for the lab.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/netlab"
)

// waitPeers waits until vxrdctl says something of the flood lists, or does not.
func (v *vxrd) waitPeers(text string, want bool) {
	v.lab.t.Helper()
	var got string
	if err := netlab.Wait(within(v.lab.t), text, func() bool {
		got = v.ctl("peers")
		return strings.Contains(got, text) == want
	}); err != nil {
		v.lab.t.Fatalf("got %q, want %q in it: %t", got, text, want)
	}
}

// A device whose flood entries a routing daemon makes is left alone, also from
// the moment on that it does so, unless it is named.
func TestVxrdLeavesManagedDevicesAlone(t *testing.T) {
	t.Parallel()
	const often, alone = "config_check_rate = 1", "left alone, since another daemon manages its entries"
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(2, []*node{n})
	b := vs[1]
	a := l.kernelVTEP(3)
	a.vxlan(vxrdVNI, nowhere)
	theirs := netip.MustParseAddr("198.51.100.1")
	check(t, a.AddManagedFDB("vxlan100", everyMAC, theirs))
	// Any MAC tells that the daemon is there. The kernel forgets it of the entries
	// for all MACs when somebody else adds to them.
	check(t, a.AddManagedFDB("vxlan100", hostMAC, theirs))
	config := bothNodes([]*node{n})
	v := a.vxrd(config, often)
	v.waitPeers(alone, true)
	a.wantFloods("vxlan100", theirs)
	if got := v.warnings(); !slices.ContainsFunc(got, func(w string) bool { return strings.Contains(w, "left alone") }) {
		t.Errorf("got warnings %q, want one that says so", got)
	}
	// It is a member all the same.
	b.waitFloods("vxlan100", vs[0].addr, a.addr)

	v.reload(config, often, "hrep_devices = vxlan100")
	a.waitFloods("vxlan100", theirs, vs[0].addr, b.addr)
	v.waitPeers(alone, false)
	v.reload(config, often)
	a.waitFloods("vxlan100", theirs)
	v.waitPeers(alone, true)

	// It goes, and comes back.
	check(t, a.DeleteFDB("vxlan100", hostMAC, theirs))
	check(t, a.DeleteFDB("vxlan100", everyMAC, theirs))
	a.waitFloods("vxlan100", vs[0].addr, b.addr)
	w := a.watchFloods()
	check(t, a.AddManagedFDB("vxlan100", hostMAC, theirs))
	a.waitFloods("vxlan100")
	w.wantChanges("-192.0.2.1", "-192.0.2.2")
}

// What somebody removes of a flood list is back soon, and what somebody adds
// stays, as does what was there before.
func TestVxrdRepairsFloodLists(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(3, []*node{n}, "config_check_rate = 1")
	a, b, c := vs[0], vs[1], vs[2]
	theirs := netip.MustParseAddr("198.51.100.1")
	w := a.watchFloods()
	check(t, a.AddFDB("vxlan100", everyMAC, theirs))
	check(t, a.DeleteFDB("vxlan100", everyMAC, c.addr))
	w.wantChanges("+198.51.100.1", "-192.0.2.3")
	a.waitFloods("vxlan100", theirs, b.addr, c.addr)
	w.wantChanges("+192.0.2.3")
	check(t, netlab.Wait(within(t), "the foreign entry to be told", func() bool {
		ls := a.lists()
		return len(ls) == 1 && ls[0].Own == 2 && ls[0].Foreign == 1
	}))
}

// A device whose default destination is a service node, and which has a flood
// list too, sends everything twice: whoever made the list.
func TestVxrdWarnsOfDevicesThatFloodTwice(t *testing.T) {
	t.Parallel()
	const twice = "flooded packets go out twice: the default destination of the device is a service node, and it has a head-end list"
	for _, tt := range []struct {
		name, config string
		list         bool // that an operator makes
	}{
		{name: "head-end", config: "head_rep = yes"},
		{name: "service node and an operator", config: "head_rep = no", list: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.serve(1)[0]
			m := l.kernelVTEP(1)
			dev := m.vxlan(vxrdVNI, n)
			well := n // where the device floods to that is as it should be
			if !tt.list {
				well = nowhere
				other := l.kernelVTEP(2)
				other.vxlan(vxrdVNI, nowhere)
				other.vxlan(vxrdVNI+1, nowhere)
				other.vxrd("svcnode = " + n.addr.String())
			}
			m.vxlan(vxrdVNI+1, well)
			v := m.vxrd("svcnode = "+n.addr.String(), tt.config)
			if tt.list {
				if got := v.status().Warnings; len(got) > 0 {
					t.Errorf("got warnings %q, want none", got)
				}
				check(t, m.AddFDB(dev, everyMAC, netip.MustParseAddr("192.0.2.9")))
			}
			check(t, netlab.Wait(within(t), "a warning", func() bool { return slices.Contains(v.warnings(), twice) }))
			if got := v.ctl("show"); !strings.Contains(got, "vxlan100 (VNI 100): "+twice) || strings.Contains(got, "for 1 more") {
				t.Errorf("got %q, want it to warn of vxlan100 alone", got)
			}
		})
	}
}
