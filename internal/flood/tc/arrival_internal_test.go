// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// What comes in by a device that has just got the program goes up, and takes its flow
// along. Other devices are not touched.
func TestArrivingDevices(t *testing.T) {
	r := newParserRig(t)
	const lo = 1 // where the frames of a test come in
	for _, tt := range []struct {
		name string
		by   []int
		want up
	}{
		{"none", nil, upForeign},
		{"another", []int{r.eth0.Index}, upForeign},
		{"this", []int{lo}, upOrder},
		{"among others", []int{r.eth0.Index, lo}, upOrder},
		{"not any more", []int{r.eth0.Index}, upForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			clear(r.flows)
			check(t, r.arrive(tt.by))
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("got %v, want %v", why, tt.want)
			}
			check(t, r.arrive(nil))
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("afterwards: got %v, want %v: raw is not done", why, tt.want)
			}
		})
	}
	most := make([]int, maxArrivals)
	for i := range most {
		most[i] = i + 1
	}
	check(t, r.arrive(most))
	check(t, r.arrive(most[1:]))
}

// A device that comes keeps nothing of the others from the kernel.
func TestDeviceComesBesideOthers(t *testing.T) {
	p := newPlant(t)
	check(t, netlab.Veth(p.node, "eth1", p.far, "eth1", 0))
	p.start()
	dead := p.frame()
	dead[22] = 1 // TTL, so that raw has had a packet
	check(t, p.far.Send("eth0", summed(dead)))
	until(t, "a packet handed up", func() bool { return p.Counters().Drops[metrics.DropTTL] == 1 })
	st := p.stream()
	s := p.config.Settings
	for range 3 {
		for _, names := range [][]string{{"eth0", "eth1"}, {"eth0"}} {
			s.Interfaces = names
			p.Adjust(s)
			until(t, "the devices", func() bool {
				s := p.Status()
				return slices.Equal(s.Devices, names) && s.Pending == 0
			})
		}
	}
	st.end()
	p.wantBy(uint64(st.sent.Load()), 1)
}

// A device that comes is raw's until that is done with what came by it before.
func TestDeviceThatComesIsRawsFirst(t *testing.T) {
	p := newPlant(t)
	p.start()
	st := p.stream()
	s := p.config.Settings
	s.Interfaces = []string{"lo"}
	p.Adjust(s)
	until(t, "packets by raw", func() bool { return p.config.Raw.Counters().Packets > 0 })
	s.Interfaces = nil
	p.Adjust(s)
	p.floods()
	n := p.inKernel()
	until(t, "packets in the kernel", func() bool { return p.inKernel() > n })
	st.end()
	if up := p.Status().HandedUp; up["order"] == 0 || up["stale"] > 0 {
		t.Errorf("got %v left to raw, want some for their order", up)
	}
}

// A device by which members are not reached any more keeps the program for some time,
// unless it is one that the settings name.
func TestDevicesStayForAMoment(t *testing.T) {
	lab := netlab.Test(t)
	ns, err := lab.Namespace("node")
	check(t, err)
	check(t, netlab.Veth(ns, "eth0", ns, "eth1", 0))
	var now atomic.Int64
	now.Store(int64(time.Hour))
	e := New(Config{Clock: func() fdb.Time { return fdb.Time(now.Load()) }})
	s := &side{engine: e, lately: make(map[int]fdb.Time), refused: make(map[int]fdb.Time)}
	eth0, err := ns.Link("eth0")
	check(t, err)
	eth1, err := ns.Link("eth1")
	check(t, err)
	both := []underlay.PathDevice{{Index: eth0.Index, Name: "eth0"}, {Index: eth1.Index, Name: "eth1"}}
	want := func(after time.Duration, names ...string) {
		t.Helper()
		now.Add(int64(after))
		check(t, ns.Do(func() error {
			got, _ := s.wanted()
			if got := slices.Sorted(maps.Values(got)); !slices.Equal(got, names) {
				t.Errorf("got devices %q, want %q", got, names)
			}
			return nil
		}))
	}
	s.used = both
	want(0, "eth0", "eth1")
	want(2*keepFor, "eth0", "eth1")
	s.used = both[:1]
	want(keepFor-1, "eth0", "eth1")
	want(1, "eth0")
	want(0, "eth0")
	s.used = both
	want(0, "eth0", "eth1")
	s.used = nil
	want(keepFor/2, "eth0", "eth1")
	s.names = []string{"eth1"}
	want(0, "eth1")
	s.names = nil
	want(0)
	s.used = both
	want(0, "eth0", "eth1")
	s.used = nil
	check(t, ns.DeleteLink("eth1"))
	want(0)
}

// A route that comes and goes leaves the program where it is.
func TestProgramStaysWhereItWas(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.table.Apply(monotonic(), []fdb.Update{
		{VNI: plantVNI, Addr: p.addrs[1], Source: fdb.Operator}, {VNI: plantVNI, Addr: p.addrs[2], Source: fdb.Operator},
		{VNI: plantVNI, Addr: p.addrs[3], Source: fdb.Operator},
	})
	check(t, p.node.DeleteAddr("eth0", netip.PrefixFrom(p.addrs[0], 24)))
	until(t, "no device in use", func() bool {
		s := p.current()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.used) == 0 && s.asked == s.placed
	})
	check(t, p.Sync(context.Background()))
	if n := p.hooks("eth0"); n != 1 {
		t.Errorf("got %d programs, want the one", n)
	}
}
