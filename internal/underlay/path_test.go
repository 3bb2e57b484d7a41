// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// A machine whose ways to others are followed:
//
//	machine eth0 10.0.0.1/24 ──── eth0 10.0.0.2/24 one
//	        eth1 10.1.0.1/24 ──── eth0 10.1.0.2/24 two
type pathRig struct {
	*netlab.Namespace
	one, two *netlab.Namespace
	p        *underlay.Paths

	mu      sync.Mutex
	ways    map[netip.Addr]underlay.Path // as they were told last
	states  map[netip.Addr][]underlay.PathState
	devices []underlay.PathDevice
	told    int
	looked  int        // how often the devices were told
	block   sync.Mutex // held to keep what is told from being taken in
}

// never keeps the comparison from hiding what events miss.
const never = time.Hour

func newPathRig(t *testing.T) *pathRig {
	t.Helper()
	r := idlePathRig(t)
	r.follow(t, "", receiveBuffer, never)
	return r
}

// idlePathRig follows nothing yet.
func idlePathRig(t *testing.T) *pathRig {
	t.Helper()
	l := netlab.Test(t)
	r := &pathRig{ways: make(map[netip.Addr]underlay.Path), states: make(map[netip.Addr][]underlay.PathState)}
	r.Namespace = must(l.Namespace("machine"))(t)
	r.one, r.two = must(l.Namespace("one"))(t), must(l.Namespace("two"))(t)
	for i, n := range []*netlab.Namespace{r.one, r.two} {
		dev, net := []string{"eth0", "eth1"}[i], []string{"10.0.0.", "10.1.0."}[i]
		check(t, netlab.Veth(r.Namespace, dev, n, "eth0", 0))
		check(t, r.AddAddr(dev, netip.MustParsePrefix(net+"1/24")))
		check(t, n.AddAddr("eth0", netip.MustParsePrefix(net+"2/24")))
		// What does not resolve is known soon, and so is what answers no more.
		for key, v := range map[string]string{
			"retrans_time_ms": "100", "delay_first_probe_time": "1", "locktime": "0",
		} {
			check(t, r.SetSysctl("net/ipv4/neigh/"+dev+"/"+key, v))
		}
	}
	return r
}

func (r *pathRig) follow(t *testing.T, vrf string, buffer int, compare time.Duration) {
	t.Helper()
	check(t, r.Do(func() (err error) {
		r.p, err = underlay.OpenPathsWith(vrf, buffer, compare)
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.p.Run(ctx, r.take, r.takeDevices) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		r.p.Close()
	})
}

func (r *pathRig) take(ways map[netip.Addr]underlay.Path) {
	r.block.Lock()
	defer r.block.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told++
	for a, w := range ways {
		r.ways[a] = w
		r.states[a] = append(r.states[a], w.State)
	}
}

func (r *pathRig) takeDevices(ds []underlay.PathDevice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices, r.looked = ds, r.looked+1
}

// until waits until cond is true of what was told.
func (r *pathRig) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := netlab.Wait(ctx, what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return cond()
	}); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		t.Fatalf("%v: got %+v by %+v", err, r.ways, r.devices)
	}
}

// want waits until the way to an address is told as this.
func (r *pathRig) want(t *testing.T, to string, want underlay.Path) {
	t.Helper()
	r.until(t, to+" "+want.State.String(), func() bool { return r.ways[addr(to)] == want })
	if got := r.p.Path(addr(to)); got != want {
		t.Errorf("got way %+v, want %+v", got, want)
	}
}

// wantState waits until the way to an address is told to be in a state.
func (r *pathRig) wantState(t *testing.T, to string, want underlay.PathState) {
	t.Helper()
	r.until(t, to+" "+want.String(), func() bool { return r.ways[addr(to)].State == want })
}

// wantDevices waits until these are told, as names.
func (r *pathRig) wantDevices(t *testing.T, want ...string) {
	t.Helper()
	r.until(t, "devices "+strings.Join(want, " "), func() bool {
		return slices.EqualFunc(r.devices, want, func(d underlay.PathDevice, name string) bool { return d.Name == name })
	})
	if got := r.p.Devices(); len(got) != len(want) {
		t.Errorf("got devices %+v, want %v", got, want)
	}
}

// wantNever checks that the way to an address was never told to be in a state.
func (r *pathRig) wantNever(t *testing.T, to string, state underlay.PathState) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.states[addr(to)]; slices.Contains(got, state) {
		t.Errorf("%s: got states %v, want no %v", to, got, state)
	}
}

// by is a good way by a device to the device eth0 of another machine.
func (r *pathRig) by(t *testing.T, dev string, to *netlab.Namespace, mtu int) underlay.Path {
	t.Helper()
	l := must(r.Link(dev))(t)
	return underlay.Path{
		State: underlay.PathGood, Index: l.Index, Source: [6]byte(l.MAC),
		NextHop: [6]byte(must(to.Link("eth0"))(t).MAC), MTU: mtu,
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, addr(s))
	}
	return out
}

func TestPathStates(t *testing.T) {
	r := idlePathRig(t)
	prefix := netip.MustParsePrefix
	for _, route := range []netlab.Route{
		{To: prefix("198.51.100.0/24"), Via: addr("10.0.0.2"), MTU: 1000},
		{To: prefix("198.51.101.0/24"), Kind: netlab.Blackhole},
		{To: prefix("198.51.102.0/24"), Kind: netlab.Unreachable},
		{To: prefix("198.51.103.0/24"), Kind: netlab.Prohibit},
		{To: prefix("198.51.104.0/24"), Kind: netlab.Local, Device: "lo", Table: unix.RT_TABLE_LOCAL},
	} {
		check(t, r.AddRoute(route))
	}
	check(t, r.Do(func() error {
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN})
	}))
	check(t, r.SetUp("tun0"))
	check(t, r.AddRoute(netlab.Route{To: prefix("198.51.105.0/24"), Device: "tun0"}))
	r.follow(t, "", receiveBuffer, never)

	direct := r.by(t, "eth0", r.one, 1500)
	routed := direct
	routed.MTU = 1000
	tests := []struct {
		name, to string
		want     underlay.Path
	}{
		{"neighbour", "10.0.0.2", direct},
		{"neighbour on another device", "10.1.0.2", r.by(t, "eth1", r.two, 1500)},
		{"gateway, with an MTU of the route", "198.51.100.1", routed},
		{"nobody answers", "10.0.0.99", underlay.Path{State: underlay.PathUnresolved, MTU: 1500}},
		{"no route", "192.0.2.1", underlay.Path{State: underlay.PathUnreachable}},
		{"blackhole", "198.51.101.1", underlay.Path{State: underlay.PathUnreachable}},
		{"unreachable", "198.51.102.1", underlay.Path{State: underlay.PathUnreachable}},
		{"prohibit", "198.51.103.1", underlay.Path{State: underlay.PathRefused}},
		{"broadcast", "10.0.0.255", underlay.Path{State: underlay.PathRefused}},
		{"own address", "10.0.0.1", underlay.Path{State: underlay.PathUnfit}},
		{"local route", "198.51.104.1", underlay.Path{State: underlay.PathUnfit}},
		{"loopback", "127.0.0.1", underlay.Path{State: underlay.PathUnfit}},
		{"no Ethernet", "198.51.105.1", underlay.Path{State: underlay.PathUnfit}},
		{"IPv6", "2001:db8::1", underlay.Path{State: underlay.PathUnfit}},
	}
	for _, tt := range tests {
		r.p.Want(addrs(tt.to), nil)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { r.want(t, tt.to, tt.want) })
	}
	r.wantDevices(t, "eth0", "eth1")
	for _, tt := range tests {
		r.wantNever(t, tt.to, underlay.PathPending)
	}

	// Somebody answers at last; what is dropped is told no more.
	r.p.Want(nil, addrs("10.1.0.2"))
	r.wantDevices(t, "eth0")
	check(t, r.one.AddAddr("eth0", prefix("10.0.0.99/24")))
	r.want(t, "10.0.0.99", direct)
	if got := r.p.Path(addr("10.1.0.2")); got != (underlay.Path{}) {
		t.Errorf("dropped: got %+v, want nothing known", got)
	}

	// What is wanted again is told again.
	r.mu.Lock()
	delete(r.ways, addr("10.0.0.2"))
	delete(r.ways, addr("10.1.0.2"))
	r.mu.Unlock()
	r.p.Want(addrs("10.0.0.2", "10.1.0.2"), nil)
	r.want(t, "10.0.0.2", direct)
	r.want(t, "10.1.0.2", r.by(t, "eth1", r.two, 1500))
}

// neighbour returns the entry of a neighbour of eth0.
func (r *pathRig) neighbour(t *testing.T, to string) (e netlink.Neigh) {
	t.Helper()
	check(t, r.Do(func() error {
		es, err := netlink.NeighList(must(r.Link("eth0"))(t).Index, netlink.FAMILY_V4)
		for _, n := range es {
			if n.IP.Equal(net.IP(addr(to).AsSlice())) {
				e = n
			}
		}
		return err
	}))
	return e
}

func TestPathNeighbourChanges(t *testing.T) {
	r := newPathRig(t)
	r.p.Want(addrs("10.0.0.2"), nil)
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))

	// It says that it has another MAC address.
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_notify", "1"))
	setMAC(t, r.one, "eth0", "02:00:00:00:00:42")
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))

	// It has another one and does not say so: the old one is found not to answer.
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_notify", "0"))
	check(t, r.SetSysctl("net/ipv4/neigh/eth0/base_reachable_time_ms", "200"))
	setMAC(t, r.one, "eth0", "02:00:00:00:00:43")
	r.want(t, "10.0.0.2", r.by(t, "eth0", r.one, 1500))
	check(t, r.SetSysctl("net/ipv4/neigh/eth0/base_reachable_time_ms", "30000"))

	// Entries of an operator's hold, and stay what they are.
	mac := must(net.ParseMAC("02:00:00:00:00:99"))(t)
	check(t, r.AddNeighbour("eth0", addr("10.0.0.2"), mac))
	way := r.by(t, "eth0", r.one, 1500)
	way.NextHop = [6]byte(mac)
	r.want(t, "10.0.0.2", way)
	r.p.Want(nil, addrs("10.0.0.2"))
	r.wantDevices(t)
	r.p.Want(addrs("10.0.0.2"), nil)
	r.until(t, "the way told twice", func() bool { s := r.states[addr("10.0.0.2")]; return len(s) > 1 && r.ways[addr("10.0.0.2")] == way })
	if e := r.neighbour(t, "10.0.0.2"); e.State != netlink.NUD_PERMANENT {
		t.Errorf("got state %#x, want it permanent", e.State)
	}
}

func setMAC(t *testing.T, n *netlab.Namespace, dev, mac string) {
	t.Helper()
	check(t, n.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, must(net.ParseMAC(mac))(t))
	}))
}

// A neighbour to which the kernel itself sends nothing is probed, and what it
// does not know of is asked for again and again.
func TestPathNeighbourDies(t *testing.T) {
	r := newPathRig(t)
	r.p.Want(addrs("10.0.0.2"), nil)
	good := r.by(t, "eth0", r.one, 1500)
	r.want(t, "10.0.0.2", good)
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_ignore", "8"))
	// By itself a stale one stays so for ever.
	stale := r.neighbour(t, "10.0.0.2")
	stale.State = netlink.NUD_STALE
	check(t, r.Do(func() error { return netlink.NeighSet(&stale) }))
	r.want(t, "10.0.0.2", underlay.Path{State: underlay.PathUnresolved, MTU: 1500})
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_ignore", "0"))
	r.want(t, "10.0.0.2", good)
	r.wantNever(t, "10.0.0.2", underlay.PathPending)
}

func TestPathNeighbourForgotten(t *testing.T) {
	r := newPathRig(t)
	check(t, r.SetSysctl("net/ipv4/neigh/eth0/retrans_time_ms", "1000"))
	r.p.Want(addrs("10.0.0.2"), nil)
	good := r.by(t, "eth0", r.one, 1500)
	r.want(t, "10.0.0.2", good)
	forget := func() {
		t.Helper()
		e := r.neighbour(t, "10.0.0.2")
		check(t, r.Do(func() error { return netlink.NeighDel(&e) }))
	}
	// It is resolved at once, and nobody need know.
	forget()
	r.until(t, "the neighbour again", func() bool { return r.neighbour(t, "10.0.0.2").HardwareAddr != nil })

	// While that takes its time, the old MAC address is not relied on.
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_ignore", "8"))
	forget()
	r.wantState(t, "10.0.0.2", underlay.PathPending)
	r.want(t, "10.0.0.2", underlay.Path{State: underlay.PathUnresolved, MTU: 1500})
	check(t, r.one.SetSysctl("net/ipv4/conf/eth0/arp_ignore", "0"))
	r.want(t, "10.0.0.2", good)
}

func TestPathsNeedPrivilege(t *testing.T) {
	r := idlePathRig(t)
	check(t, r.Do(func() error {
		return unprivileged(func() error {
			p, err := underlay.OpenPaths("", nil)
			if err != nil {
				return err
			}
			defer p.Close()
			p.Want(addrs("10.0.0.2"), nil)
			if err := p.RunHere(t.Context(), r.take, r.takeDevices); !errors.Is(err, unix.EPERM) {
				t.Errorf("got %v, want %v", err, unix.EPERM)
			}
			return nil
		})
	}))
	for _, vrf := range []string{"absent", "eth0"} {
		check(t, r.Do(func() error {
			if p, err := underlay.OpenPaths(vrf, nil); err == nil {
				p.Close()
				t.Errorf("vrf %s: got no error", vrf)
			}
			return nil
		}))
	}
}
