// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

func TestPathRouteMoves(t *testing.T) {
	r := newPathRig(t)
	const to = "198.51.100.1"
	prefix := netip.MustParsePrefix
	first := netlab.Route{To: prefix("198.51.100.0/24"), Via: addr("10.0.0.2")}
	second := netlab.Route{To: prefix("198.51.100.0/24"), Via: addr("10.1.0.2")}
	one, two := r.by(t, "eth0", r.one, 1500), r.by(t, "eth1", r.two, 1500)
	none := underlay.Path{State: underlay.PathUnreachable}
	step := func(err error, want underlay.Path) {
		t.Helper()
		check(t, err)
		r.want(t, to, want)
	}

	r.p.Want(addrs(to, "203.0.113.1"), nil)
	step(nil, none)
	step(r.AddRoute(first), one)
	r.wantDevices(t, "eth0")
	step(r.AddRoute(second), two)
	r.wantDevices(t, "eth1")
	// A route to the address itself, and the one to all.
	step(r.AddRoute(netlab.Route{To: prefix(to + "/32"), Via: addr("10.0.0.2")}), one)
	step(r.DeleteRoute(netlab.Route{To: prefix(to + "/32"), Via: addr("10.0.0.2")}), two)
	step(r.DeleteRoute(second), none)
	step(r.AddRoute(netlab.Route{To: prefix("0.0.0.0/0"), Via: addr("10.0.0.2")}), one)
	r.want(t, "203.0.113.1", one)
	step(r.DeleteRoute(netlab.Route{To: prefix("0.0.0.0/0"), Via: addr("10.0.0.2")}), none)

	// A rule leads to another table.
	other := second
	other.Table = 100
	check(t, r.AddRoute(first))
	step(r.AddRoute(other), one)
	rule := netlink.NewRule()
	rule.Dst, rule.Table, rule.Priority = must(netlink.ParseIPNet("198.51.100.0/24"))(t), 100, 100
	step(r.Do(func() error { return netlink.RuleAdd(rule) }), two)
	step(r.Do(func() error { return netlink.RuleDel(rule) }), one)

	// The kernel tells nothing of a route that goes with its source address.
	check(t, r.AddAddr("lo", prefix("192.0.2.1/32")))
	from := first
	from.Source = addr("192.0.2.1")
	check(t, r.DeleteRoute(first))
	step(nil, none)
	step(r.AddRoute(from), one)
	step(r.DeleteAddr("lo", prefix("192.0.2.1/32")), none)

	r.wantNever(t, to, underlay.PathUnresolved)
}

// While nobody answers at the new next hop, the old one is not sent to.
func TestPathRouteMovesToNobody(t *testing.T) {
	r := newPathRig(t)
	check(t, r.SetSysctl("net/ipv4/neigh/eth1/retrans_time_ms", "1000"))
	to := netip.MustParsePrefix("198.51.100.0/24")
	check(t, r.AddRoute(netlab.Route{To: to, Via: addr("10.0.0.2")}))
	r.p.Want(addrs("198.51.100.1"), nil)
	one := r.by(t, "eth0", r.one, 1500)
	r.want(t, "198.51.100.1", one)
	check(t, r.AddRoute(netlab.Route{To: to, Via: addr("10.1.0.99")}))
	r.wantState(t, "198.51.100.1", underlay.PathPending)
	r.want(t, "198.51.100.1", underlay.Path{State: underlay.PathUnresolved, MTU: 1500})
	check(t, r.AddRoute(netlab.Route{To: to, Via: addr("10.0.0.2")}))
	r.want(t, "198.51.100.1", one)
}

func TestPathDeviceChanges(t *testing.T) {
	r := newPathRig(t)
	const to = "198.51.100.1"
	route := netlab.Route{To: netip.MustParsePrefix("198.51.100.0/24"), Via: addr("10.0.0.2")}
	check(t, r.AddRoute(route))
	r.p.Want(addrs(to, "10.0.0.2"), nil)
	wantBoth := func(mtu int) {
		t.Helper()
		way := r.by(t, "eth0", r.one, mtu)
		r.want(t, to, way)
		r.want(t, "10.0.0.2", way)
	}
	wantBoth(1500)

	check(t, r.SetMTU("eth0", 1400))
	wantBoth(1400)
	r.until(t, "the MTU of the device", func() bool { return len(r.devices) == 1 && r.devices[0].MTU == 1400 })
	route.MTU = 1450
	check(t, r.AddRoute(route))
	check(t, r.SetMTU("eth0", 1500))
	r.want(t, to, r.by(t, "eth0", r.one, 1450))
	check(t, r.SetMTU("eth0", 1440))
	wantBoth(1440)
	check(t, r.SetMTU("eth0", 1500))
	r.want(t, to, r.by(t, "eth0", r.one, 1450))
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))

	setMAC(t, r.Namespace, "eth0", "02:00:00:00:00:07")
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))

	none := underlay.Path{State: underlay.PathUnreachable}
	check(t, r.SetDown("eth0"))
	r.want(t, to, none)
	r.want(t, "10.0.0.2", none)
	r.wantDevices(t)
	check(t, r.Rename("eth0", "net0"))
	check(t, r.SetUp("net0"))
	r.want(t, "10.0.0.2", r.by(t, "net0", r.one, 1500))
	r.wantDevices(t, "net0")
	check(t, r.AddRoute(route))
	r.want(t, to, r.by(t, "net0", r.one, 1450))
	check(t, r.DeleteLink("net0"))
	r.want(t, to, none)
	r.want(t, "10.0.0.2", none)
	r.wantDevices(t)

	// Another device of the name.
	check(t, netlab.Veth(r.Namespace, "net0", r.one, "eth0", 0))
	check(t, r.one.AddAddr("eth0", netip.MustParsePrefix("10.0.0.2/24")))
	check(t, r.AddAddr("net0", netip.MustParsePrefix("10.0.0.1/24")))
	r.want(t, "10.0.0.2", r.by(t, "net0", r.one, 1500))
}

// A bridge is an outgoing device as any other; its port is none any more.
// That a device goes is told at once, whether or not ways lead by it: what was put
// on it has gone with it, or lives on in another namespace.
func TestDeviceThatGoesIsTold(t *testing.T) {
	r := newPathRig(t)
	check(t, netlab.Veth(r.Namespace, "eth2", r.one, "eth2", 0))
	r.p.Want(addrs("10.0.0.2"), nil)
	r.wantDevices(t, "eth0")
	r.mu.Lock()
	before := r.looked
	r.mu.Unlock()
	check(t, r.DeleteLink("eth2"))
	r.until(t, "the devices again", func() bool { return r.looked > before })
	r.wantDevices(t, "eth0")
}

func TestPathBridge(t *testing.T) {
	r := newPathRig(t)
	r.p.Want(addrs("10.0.0.2"), nil)
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))
	check(t, r.AddBridge("br", 0))
	check(t, r.DeleteAddr("eth0", netip.MustParsePrefix("10.0.0.1/24")))
	check(t, r.SetMaster("eth0", "br"))
	check(t, r.AddAddr("br", netip.MustParsePrefix("10.0.0.1/24")))
	r.want(t, "10.0.0.2", r.by(t, "br", r.one, 1500))
	r.wantDevices(t, "br")
}

// equalRoutes adds a route by both devices.
func (r *pathRig) equalRoutes(t *testing.T, to string) {
	t.Helper()
	check(t, r.Do(func() error {
		var hops []*netlink.NexthopInfo
		for dev, gw := range map[string]string{"eth0": "10.0.0.2", "eth1": "10.1.0.2"} {
			hops = append(hops, &netlink.NexthopInfo{LinkIndex: must(r.Link(dev))(t).Index, Gw: addr(gw).AsSlice()})
		}
		return netlink.RouteAdd(&netlink.Route{Dst: must(netlink.ParseIPNet(to))(t), MultiPath: hops})
	}))
}

// likeKernel tells whether all ways are by the gateway that the kernel would take.
func (r *pathRig) likeKernel(t *testing.T, as []netip.Addr) bool {
	t.Helper()
	var u *underlay.Underlay
	check(t, r.Do(func() (err error) {
		u, err = underlay.OpenAddresses("", nil)
		return err
	}))
	defer u.Close()
	ways := must(u.Ways())(t)
	for _, a := range as {
		way, err := ways.To(a)
		if err != nil || must(r.Link(way.Device))(t).Index != r.p.Path(a).Index {
			return false
		}
	}
	return true
}

func TestPathEqualRoutes(t *testing.T) {
	r := idlePathRig(t)
	// What is not told is found by comparing.
	r.follow(t, "", receiveBuffer, 2*time.Second)
	r.equalRoutes(t, "198.51.100.0/24")
	var as []netip.Addr
	for a := addr("198.51.100.0"); len(as) < 64; a = a.Next() {
		as = append(as, a)
	}
	r.p.Want(as, nil)
	same := func() bool { return r.likeKernel(t, as) }
	r.until(t, "the ways that the kernel takes", same)
	r.wantDevices(t, "eth0", "eth1")

	check(t, r.SetSysctl("net/ipv4/fib_multipath_hash_policy", "1"))
	r.until(t, "the ways of another hash", same)

	check(t, r.SetDown("eth0"))
	two := r.by(t, "eth1", r.two, 1500)
	for _, a := range as {
		r.want(t, a.String(), two)
	}
	check(t, r.SetUp("eth0"))
	r.wantDevices(t, "eth0", "eth1")
	r.until(t, "the ways by both", same)
}

// Thousands of ways move with one route. How often that route changes does not
// matter to how much the kernel is asked.
func TestManyPaths(t *testing.T) {
	r := newPathRig(t)
	const n = 10000
	to := netip.MustParsePrefix("198.18.0.0/15")
	first, second := netlab.Route{To: to, Via: addr("10.0.0.2")}, netlab.Route{To: to, Via: addr("10.1.0.2")}
	check(t, r.AddRoute(first))
	var as []netip.Addr
	for a := to.Addr(); len(as) < n; a = a.Next() {
		as = append(as, a)
	}
	all := func(want underlay.Path) {
		t.Helper()
		r.until(t, "all ways", func() bool {
			for _, a := range as {
				if r.ways[a] != want {
					return false
				}
			}
			return true
		})
	}
	one, two := r.by(t, "eth0", r.one, 1500), r.by(t, "eth1", r.two, 1500)
	start := time.Now()
	r.p.Want(as, nil)
	all(one)
	t.Logf("%d ways known after %v", n, time.Since(start))
	start = time.Now()
	check(t, r.AddRoute(second))
	all(two)
	t.Logf("moved after %v", time.Since(start))

	before := r.p.Asked()
	const flaps = 500
	for range flaps / 2 {
		check(t, r.AddRoute(first))
		check(t, r.AddRoute(second))
	}
	check(t, r.AddRoute(first))
	all(one)
	if got := r.p.Asked() - before; got > flaps*n/2 {
		t.Errorf("got %d questions after %d changes, want far less than %d", got, flaps, flaps*n)
	}
	// A change of one prefix asks for that alone, once all of the above was read.
	part := netlab.Route{To: netip.MustParsePrefix("198.18.1.0/24"), Via: addr("10.1.0.2")}
	for tries := 20; ; tries-- {
		before = r.p.Asked()
		check(t, r.AddRoute(part))
		r.want(t, "198.18.1.255", two)
		r.want(t, "198.18.2.0", one)
		check(t, r.DeleteRoute(part))
		r.want(t, "198.18.1.255", one)
		got := r.p.Asked() - before
		if got < n/2 {
			break
		}
		if tries == 0 {
			t.Fatalf("got %d questions each time, want about 512", got)
		}
	}
	r.p.Want(nil, as)
	r.wantDevices(t)
}

// What is lost while nobody reads is found out afterwards.
func TestPathsAfterOverrun(t *testing.T) {
	r := idlePathRig(t)
	r.follow(t, "", 1, never) // the least that the kernel allows
	to := netip.MustParsePrefix("198.51.100.0/24")
	first, second := netlab.Route{To: to, Via: addr("10.0.0.2")}, netlab.Route{To: to, Via: addr("10.1.0.2")}
	check(t, r.AddRoute(first))
	r.p.Want(addrs("198.51.100.1", "10.0.0.2", "10.1.0.2"), nil)
	r.want(t, "198.51.100.1", r.by(t, "eth0", r.one, 1500))
	r.want(t, "10.1.0.2", r.by(t, "eth1", r.two, 1500))
	r.block.Lock()
	check(t, r.AddRoute(second))
	for range 1000 {
		check(t, r.AddRoute(netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Via: addr("10.1.0.2")}))
		check(t, r.DeleteRoute(netlab.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Via: addr("10.1.0.2")}))
	}
	check(t, r.AddRoute(first))
	check(t, r.SetMTU("eth0", 1300))
	check(t, r.SetDown("eth1"))
	mac := must(net.ParseMAC("02:00:00:00:00:44"))(t)
	check(t, r.AddNeighbour("eth0", addr("10.0.0.2"), mac))
	r.block.Unlock()
	r.want(t, "10.1.0.2", underlay.Path{State: underlay.PathUnreachable})
	way := r.by(t, "eth0", r.one, 1300)
	way.NextHop = [6]byte(mac)
	r.want(t, "198.51.100.1", way)
}
