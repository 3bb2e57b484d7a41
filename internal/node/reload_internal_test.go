// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/vxlan"
)

// A change that has no room leaves the table and its caps as they were.
func TestPrepareTakesAllOrNothing(t *testing.T) {
	addr := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }
	membership := func(addrs ...netip.Addr) (ms []config.Membership) {
		for _, a := range addrs {
			ms = append(ms, config.Membership{Addr: a, VNIs: []vxlan.VNI{7}})
		}
		return ms
	}
	cfg := config.Default()
	cfg.NoFlood = true
	cfg.Limits.MaxMembers = 3
	cfg.VTEPMembership = membership(addr(1), addr(2))
	n, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	members := func() []netip.Addr { return n.table.Members(clock(), 7, nil) }

	other := cfg
	other.VTEPMembership = membership(addr(2), addr(3), addr(4), addr(5))
	if _, err := n.Prepare(other); err == nil || !strings.Contains(err.Error(), "max_members") {
		t.Fatalf("got %v, want an error that names max_members", err)
	}
	if got, want := members(), []netip.Addr{addr(1), addr(2)}; !slices.Equal(got, want) {
		t.Errorf("got members %v after a refused change, want %v", got, want)
	}

	other.Limits.MaxMembers = 8
	c, err := n.Prepare(other)
	if err != nil {
		t.Fatal(err)
	}
	c.Discard()
	if got, want := members(), []netip.Addr{addr(1), addr(2)}; !slices.Equal(got, want) {
		t.Errorf("got members %v after a discarded change, want %v", got, want)
	}
	if _, err := n.Prepare(config.Config{Static: cfg.Static, Dynamic: func() config.Dynamic {
		d := cfg.Dynamic
		d.VTEPMembership = other.VTEPMembership
		return d
	}()}); err == nil {
		t.Errorf("got room for more than max_members, want the cap of before the discarded change")
	}
}
