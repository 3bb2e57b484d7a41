// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
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

// reloaded has n, which does not listen, take over its configuration with a
// change.
func reloaded(t *testing.T, n *Node, change func(*config.Config)) {
	t.Helper()
	if n.group == nil {
		n.group = peer.New(peer.Options{Table: n.table, Now: clock, Settings: n.groupSettings(&n.cfg)})
		n.register = register.New(register.Options{Table: n.table, Now: clock, Settings: n.registerSettings(&n.cfg)})
	}
	cfg := n.config()
	change(&cfg)
	c, err := n.Prepare(cfg)
	check(t, err)
	c.Commit()
}

// A capture that runs takes packets at the new rate, and the next one says so.
func TestReloadOfCaptureRate(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.NoFlood, c.CaptureRate = false, 1 })
	e := newTapped()
	n.flooding.set(e)
	begin := func() (*stream[control.CaptureEvent], int) {
		s := watching[control.CaptureEvent](t, n, control.CommandCapture, object{"vni": 5}, false)
		return s, s.next(t).Start.Rate
	}
	runs, rate := begin()
	defer runs.end(t)
	if rate != 1 {
		t.Errorf("got rate %d at first, want 1", rate)
	}
	reloaded(t, n, func(c *config.Config) { c.CaptureRate = 100_000 })
	got := 0
	for range 1000 {
		if e.flood(record(5, 1)) {
			got++
		}
	}
	if got != 1000 {
		t.Errorf("got %d packets of 1000 at once at the higher rate, want all", got)
	}
	next, rate := begin()
	defer next.end(t)
	if rate != 100_000 {
		t.Errorf("got rate %d after the reload, want 100000", rate)
	}
}

// What has no row of its own any more is of the others from now on, and the
// other way round.
func TestReloadOfMetricsMaxVNIs(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.MetricsMaxVNIs = 2 })
	count(n, 5, host(1), clock())
	count(n, 6, host(1), clock())
	count(n, 6, host(1), clock())
	for _, step := range []struct {
		places int
		want   []vxlan.VNI
	}{{1, []vxlan.VNI{6}}, {0, nil}, {2, []vxlan.VNI{5, 7}}} {
		reloaded(t, n, func(c *config.Config) { c.MetricsMaxVNIs = step.places })
		if step.places == 2 {
			count(n, 5, host(1), clock())
			count(n, 7, host(1), clock())
		}
		var got []vxlan.VNI
		for _, row := range n.traffic.VNIs(nil) {
			got = append(got, row.VNI)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("metrics_max_vnis = %d: got figures of VNIs %v, want %v", step.places, got, step.want)
		}
	}
}
