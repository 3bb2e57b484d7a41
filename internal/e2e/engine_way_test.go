// SPDX-License-Identifier: Apache-2.0

package e2e

// The ways to members: copies take the one that the routes say, by whatever
// device, and follow when it changes.
//
//	node 192.0.2.254 ── eth1 ──── eth0 far 10.9.0.1
//	      │     └────── eth2 ──── eth1
//	── switch ──────────────
//	  │       │       │
//	  1       2       3            192.0.2.N

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const wayVNI vxlan.VNI = 500

// twoWays adds the machine far with a link to each of eth1 and eth2 of the node,
// and returns it as it is seen by either.
func (l *lab) twoWays(n *node) (first, second *machine) {
	l.t.Helper()
	first = l.cable("far", "198.51.100.1/24", n.machine, "eth1", "198.51.100.254/24", 0)
	first.addr = netip.MustParseAddr("10.9.0.1")
	check(l.t, first.AddAddr("lo", netip.PrefixFrom(first.addr, 32)))
	first.listen(dataPort)
	check(l.t, netlab.Veth(first.Namespace, "eth1", n.Namespace, "eth2", 0))
	check(l.t, first.AddAddr("eth1", netip.MustParsePrefix("203.0.113.1/24")))
	check(l.t, n.AddAddr("eth2", netip.MustParsePrefix("203.0.113.254/24")))
	second = &machine{Namespace: first.Namespace, lab: l, addr: first.addr}
	second.mac = must(second.Link("eth1"))(l.t).MAC
	second.cap = must(second.Capture("eth1"))(l.t)
	return first, second
}

// by is a route to far, by the node's eth1 or eth2.
func by(dev string) netlab.Route {
	via := map[string]string{"eth1": "198.51.100.1", "eth2": "203.0.113.1"}[dev]
	return netlab.Route{To: netip.MustParsePrefix("10.9.0.1/32"), Via: netip.MustParseAddr(via), Device: dev}
}

// stream floods numbered packets, one a millisecond, until it is stopped: then it
// returns how many.
func (m *machine) stream(n *node, vni vxlan.VNI) (stop func() int) {
	t := m.lab.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	sent := 0
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			d := m.packet(n, vni, frame(netlab.Broadcast, sent, 64))
			if err := m.Send("eth0", d.Frame(n.mac, m.mac)); err != nil {
				t.Error(err)
				return
			}
			sent++
			<-tick.C
		}
	}()
	end := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(end)
	return func() int {
		end()
		return sent
	}
}

// wantEach fails the test unless the machines together have received each of the
// first count packets of a stream exactly once.
func wantEach(t *testing.T, count int, ms ...*machine) {
	t.Helper()
	times := make([]int, count)
	collect := func() (all int) {
		clear(times)
		for _, m := range ms {
			for _, g := range m.got() {
				all++
				times[number(g.inner)]++
			}
		}
		return all
	}
	err := netlab.Wait(within(t), "all copies", func() bool { return collect() >= count })
	for i, k := range times {
		if k != 1 {
			t.Fatalf("%s: got packet %d of %d %d times, want once (%v)", ms[0].Name, i, count, k, err)
		}
	}
}

// Copies leave by another device than the packet came in by, in each direction.
func TestMembersOnSeveralDevices(t *testing.T) { overEngines(t, testMembersOnSeveralDevices) }

func testMembersOnSeveralDevices(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	far := l.cable("far", "198.51.100.1/24", n.machine, "eth1", "198.51.100.254/24", 0)
	check(t, far.AddRoute(netlab.Route{To: netip.MustParsePrefix("192.0.2.0/24"), Via: netip.MustParseAddr("198.51.100.254")}))
	all := append(vs, far)
	n.start("workers = 1", "learning = off", markerConfig(all...), memberConfig([]vxlan.VNI{wayVNI}, all...))
	other := *n // as far sees it
	m := *n.machine
	m.mac = must(n.Link("eth1"))(t).MAC
	other.machine = &m
	for i := range 20 {
		for _, from := range []struct {
			*machine
			to *node
		}{{vs[0], n}, {far, &other}} {
			for _, to := range without(all, from.machine) {
				wantMember(t, from.to, from.machine, to, wayVNI, true)
			}
		}
		if t.Failed() {
			t.Fatalf("in round %d", i)
		}
	}
	n.wantKernel(40)
}

// A route that moves takes the copies with it, and none is lost or doubled.
func TestRouteMoves(t *testing.T) { overEngines(t, testRouteMoves) }

func testRouteMoves(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	first, second := l.twoWays(n)
	check(t, n.AddRoute(by("eth1")))
	n.start("workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs[0], vs[1], first))
	stop := vs[0].stream(n, wayVNI)
	for range 5 {
		for _, w := range []struct {
			dev string
			by  *machine
		}{{"eth2", second}, {"eth1", first}} {
			check(t, n.AddRoute(by(w.dev)))
			before := len(w.by.got())
			w.by.await(before + 20)
		}
	}
	count := stop()
	vs[0].flush(n, vs...)
	wantEach(t, count, first, second)
	wantEach(t, count, vs[1])
	n.wantKernel(count / 2)
}

// With routes of equal cost each copy takes one of them.
func TestSeveralRoutes(t *testing.T) { overEngines(t, testSeveralRoutes) }

func testSeveralRoutes(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	first, second := l.twoWays(n)
	check(t, n.Do(func() error {
		r := &netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 9, 0, 1).To4(), Mask: net.CIDRMask(32, 32)}}
		for _, w := range []netlab.Route{by("eth1"), by("eth2")} {
			dev, err := netlink.LinkByName(w.Device)
			if err != nil {
				return err
			}
			r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: dev.Attrs().Index, Gw: w.Via.AsSlice()})
		}
		return netlink.RouteAdd(r)
	}))
	n.start("workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs[0], vs[1], first))
	stop := vs[0].stream(n, wayVNI)
	vs[1].await(200)
	// The one that is in use goes away: the other one has the copies.
	gone, left := "eth1", second
	if len(second.got()) > len(first.got()) {
		gone, left = "eth2", first
	}
	before := len(left.got())
	check(t, n.SetDown(gone))
	left.await(before + 100)
	count := stop()
	vs[0].flush(n, vs...)
	wantEach(t, count, vs[1])
	// What was on its way by the one that is gone may be lost.
	seen := make(map[int]bool)
	for _, g := range append(first.got(), second.got()...) {
		if i := number(g.inner); seen[i] {
			t.Errorf("%s: got packet %d twice, want it once at most", first.Name, i)
		}
		seen[number(g.inner)] = true
	}
	n.wantKernel(100)
}

// The MTU of a device, or of a route, changes: what does not fit any more is
// fragmented, and what fits again is not.
func TestMTUChanges(t *testing.T) { overEngines(t, testMTUChanges) }

func testMTUChanges(t *testing.T, e engine) {
	for _, of := range []string{"device", "route"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(2)
			n := l.idle()
			far, _ := l.twoWays(n)
			check(t, n.AddRoute(by("eth1")))
			n.start("workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs[0], far))
			set := func(mtu int) {
				if of == "device" {
					check(t, n.SetMTU("eth1", mtu))
					return
				}
				r := by("eth1")
				r.MTU = mtu
				check(t, n.AddRoute(r))
			}
			i := 0
			for _, mtu := range []int{1500, 1000, 1200, 1500} {
				set(mtu)
				for _, size := range []int{mtu - overhead4, min(mtu-overhead4+1, 1450), 60} {
					in := frame(netlab.Broadcast, i, size)
					i++
					want := 1
					if size > mtu-overhead4 {
						want = 2
					}
					// The change is in force soon.
					check(t, netlab.Wait(within(t), fmt.Sprintf("%d pieces of %d bytes with MTU %d", want, size, mtu), func() bool {
						far.forget()
						vs[0].flood(n, wayVNI, in)
						got := far.await(1)
						if len(got) != 1 || string(got[0].inner) != string(in) {
							t.Fatalf("got %d copies, want one, as it was", len(got))
						}
						return max(1, len(far.fragments())) == want
					}))
				}
			}
			n.wantKernel(4)
		})
	}
}

// setNeighbour has the node forget or learn who an address is on a device.
func (n *node) setNeighbour(dev string, a netip.Addr, mac net.HardwareAddr, state int) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		e := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: state}
		if mac == nil {
			return netlink.NeighDel(e)
		}
		return netlink.NeighSet(e)
	})
}

// A neighbour that is not known yet, is forgotten, or has another address: the
// first packet already gets to it.
func TestNeighbourIsResolved(t *testing.T) { overEngines(t, testNeighbourIsResolved) }

func testNeighbourIsResolved(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs[0], vs[1]))
	a := vs[0].agent(n)
	stop := vs[0].stream(n, wayVNI)
	vs[1].await(10)
	for range 5 {
		if err := n.setNeighbour("eth0", vs[1].addr, nil, 0); !errors.Is(err, unix.ENOENT) {
			check(t, err)
		}
		before := len(vs[1].got())
		vs[1].await(before + 20)
	}
	// A member that nobody has spoken to.
	a.register(wayVNI, 90, 7, vs[2].addr)
	vs[2].await(20)
	count := stop()
	vs[0].flush(n, vs...)
	wantEach(t, count, vs[1])
	got := vs[2].got()
	for i, g := range got {
		if want := number(got[0].inner) + i; number(g.inner) != want {
			t.Fatalf("%s: got packet %d at position %d, want %d", vs[2].Name, number(g.inner), i, want)
		}
	}
	n.wantKernel(30)
}

// A neighbour gets another MAC address and says so (gratuitous ARP), or somebody
// else tells the kernel: copies go there at once.
func TestNeighbourChangesItsMAC(t *testing.T) { overEngines(t, testNeighbourChangesItsMAC) }

func testNeighbourChangesItsMAC(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{wayVNI}, vs[0], vs[1]))
	wantMember(t, n, vs[0], vs[1], wayVNI, true)
	check(t, n.SetSysctl("net.ipv4.conf.all.arp_accept", "1"))
	for i := range 4 {
		// VTEP 3 takes over the address of VTEP 2, and gives it back.
		from, to := vs[1+i%2], vs[2-i%2]
		if i < 2 {
			check(t, n.setNeighbour("eth0", vs[1].addr, to.mac, netlink.NUD_REACHABLE))
		} else {
			four := vs[1].addr.AsSlice()
			arp := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 2}, to.mac, four, to.mac, four)
			check(t, n.setNeighbour("eth0", vs[1].addr, from.mac, netlink.NUD_STALE))
			check(t, to.Send("eth0", netlab.Ethernet(netlab.Broadcast, to.mac, 0x0806, arp)))
		}
		to.forget()
		check(t, netlab.Wait(within(t), "a copy at the other MAC address", func() bool {
			vs[0].flood(n, wayVNI, frame(netlab.Broadcast, i, 64))
			return len(to.got()) > 0
		}))
		// From then on all go there, and none to where it was.
		n.settled()
		from.forget()
		to.forget()
		vs[0].flood(n, wayVNI, frame(netlab.Broadcast, i, 64))
		to.await(1)
		wantNone(t, from)
	}
	n.wantKernel(4)
}

// A neighbour that dies is counted as soon as the kernel knows; the others see
// nothing of it. When it lives again it gets copies.
func TestNeighbourDies(t *testing.T) { overEngines(t, testNeighbourDies) }

func testNeighbourDies(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	// So that the kernel looks again soon; some 13 seconds with the defaults.
	for k, v := range map[string]string{"base_reachable_time_ms": "1000", "delay_first_probe_time": "1", "retrans_time_ms": "100"} {
		check(t, n.SetSysctl("net.ipv4.neigh.eth0."+k, v))
	}
	n.start("workers = 1", "learning = off", markerConfig(vs[0], vs[2]), memberConfig([]vxlan.VNI{wayVNI}, vs...))
	stop := vs[0].stream(n, wayVNI)
	vs[1].await(10)
	check(t, l.SetDown(vs[1].port))
	check(t, netlab.Wait(within(t), "a neighbour that does not answer", func() bool {
		return slices.ContainsFunc(must(n.Neighbours("eth0"))(t), func(e netlab.Neighbour) bool { return e.Addr == vs[1].addr && e.Failed })
	}))
	if e == engineTC {
		check(t, netlab.Wait(within(t), "copies that are counted as lost", func() bool { return n.status().Drops["unresolved"] > 20 }))
	}
	vs[1].forget()
	check(t, l.SetUp(vs[1].port))
	vs[1].await(20)
	count := stop()
	vs[0].flush(n, vs[2])
	wantEach(t, count, vs[2])
	n.wantKernel(100)
}
