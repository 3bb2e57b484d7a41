// SPDX-License-Identifier: Apache-2.0

package e2e

// The service address on the node's loopback interface: it is there while the
// node is fit to serve, and only then.
//
//	   lo 198.51.100.53
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N, with a route to the service address

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	anycastVNI vxlan.VNI = 90

	// localTable is the routing table of what is delivered here.
	localTable = unix.RT_TABLE_LOCAL

	netRawAdmin = netRaw | 1<<unix.CAP_NET_ADMIN

	// steadyLifetime is one that no renewal misses on a busy machine, where a
	// change of addresses may wait for those in all other namespaces (rtnl_mutex).
	steadyLifetime = 10 * time.Second
)

// steady is the configuration for that.
var steady = fmt.Sprintf("anycast_lifetime = %.0f", steadyLifetime.Seconds())

// What the log says of the service address.
const (
	msgInstalled  = "service address installed"
	msgPutBack    = "service address was removed by somebody else: put back"
	msgOperator   = "service address is an operator's: used and left in place"
	msgOwnInPlace = "service address of the operator was removed: our own put in its place"
	msgUnhealthy  = "not healthy: service address taken away"
	msgHealthy    = "healthy again"
	msgExpired    = "service address expired: it was not renewed in time"
	msgWithdrawn  = "service address withdrawn"
)

// anycast adds VTEPs and the machine of the node, which a service address leads
// to. Nothing runs there yet.
func (l *lab) anycast(count int) (n *node, vs []*machine) {
	l.t.Helper()
	vs = l.vteps(count)
	n = l.idle()
	own := n.addr
	n.addr = netip.MustParseAddr(serviceAddr)
	for _, v := range vs {
		check(l.t, v.AddRoute(netlab.Route{To: host(n.addr), Via: own}))
	}
	return n, vs
}

// installed is anycast with a node that runs and has put its address on lo.
func (l *lab) installed(count int, more ...string) (n *node, vs []*machine) {
	l.t.Helper()
	n, vs = l.anycast(count)
	n.start(installing(vs, more...)...)
	n.waitService(true)
	return n, vs
}

// host returns the prefix of an address alone.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// installing is the configuration of a node that puts its address on lo, of which
// the VTEPs are members. Unless more says how long it lives it is steady.
func installing(vs []*machine, more ...string) []string {
	config := []string{
		"svcnode_ip = " + serviceAddr, "src_ip = " + nodeAddr, "install_svcnode_ip = yes", "workers = 1",
		markerConfig(vs...), memberConfig([]vxlan.VNI{anycastVNI}, vs...),
	}
	if !slices.ContainsFunc(more, func(line string) bool { return strings.HasPrefix(line, "anycast_lifetime") }) {
		config = append(config, steady)
	}
	return append(config, more...)
}

// service returns the service address as lo has it.
func (n *node) service() (a netlab.Addr, ok bool) {
	n.lab.t.Helper()
	for _, a := range must(n.Addrs("lo"))(n.lab.t) {
		if a.Prefix.Addr() == n.addr {
			return a, true
		}
	}
	return a, false
}

// waitService waits until the service address is on lo and what is sent there is
// delivered, which in IPv6 is a little later, or until it is gone.
func (n *node) waitService(there bool) {
	n.lab.t.Helper()
	err := netlab.Wait(within(n.lab.t), fmt.Sprintf("the service address to be there: %t", there), func() bool {
		_, ok := n.service()
		return ok == there && (!there || len(must(n.Gateways(host(n.addr), localTable))(n.lab.t)) > 0)
	})
	if err != nil {
		n.lab.t.Fatalf("%v; output:\n%s", err, tail(n.proc.Output()))
	}
}

// waitLines waits until the node has logged a message so many times.
func (n *node) waitLines(msg string, count int) {
	n.lab.t.Helper()
	err := netlab.Wait(within(n.lab.t), fmt.Sprintf("%d lines %q", count, msg), func() bool {
		return len(with(lines(n.proc.Output()), msg)) >= count
	})
	if err != nil {
		n.lab.t.Fatalf("%v; output:\n%s", err, tail(n.proc.Output()))
	}
}

// draining tells whether the node keeps the address local without having it.
func (n *node) draining() bool {
	n.lab.t.Helper()
	_, there := n.service()
	return !there && len(must(n.Gateways(host(n.addr), localTable))(n.lab.t)) > 0
}

// wantOwner fails the test unless the node says whose the address is.
func (n *node) wantOwner(owner string) control.Anycast {
	n.lab.t.Helper()
	var got *control.Anycast
	err := netlab.Wait(within(n.lab.t), "owner "+owner, func() bool {
		got = n.status().Anycast
		return got != nil && got.Owner == owner
	})
	if err != nil {
		n.lab.t.Fatalf("got %+v, want owner %s: %v", got, owner, err)
	}
	return *got
}

// Whoever starts it, a node that may change addresses installs its own with a
// lifetime, renews that, serves by it, and leaves nothing behind.
func TestServiceAddressIsInstalled(t *testing.T) {
	t.Parallel()
	both := []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}
	becoming := func(*testing.T) privileges {
		return confined(otherUser, otherGroup, fmt.Sprint(otherGroup), netRawAdmin)
	}
	tests := []struct {
		name   string
		cmd    func(t *testing.T) *exec.Cmd
		config []string
		want   func(t *testing.T) privileges
	}{
		{name: "user with capabilities", cmd: func(t *testing.T) *exec.Cmd { return asNobody(t, both...) }, config: installing(nil),
			want: func(t *testing.T) privileges { return unbounded(t, confined(nobody, nobody, "", netRawAdmin)) }},
		{name: "root becomes a user", cmd: func(t *testing.T) *exec.Cmd { return exec.Command(program(t)) },
			config: installing(nil, becomes), want: becoming},
		{name: "address on the command line", cmd: func(t *testing.T) *exec.Cmd {
			return exec.Command(program(t), "--svcnode-ip", serviceAddr)
		}, config: []string{"src_ip = " + nodeAddr, "workers = 1", steady, becomes}, want: becoming},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, vs := engineRaw.lab(t, 0).anycast(3)
			n.startAs(tt.cmd(t), append(tt.config, "drain_time = 0", markerConfig(vs...), memberConfig([]vxlan.VNI{anycastVNI}, vs...))...)
			n.waitService(true)
			a, _ := n.service()
			if want := host(n.addr); a.Prefix != want || a.Forever || a.Left > steadyLifetime {
				t.Errorf("got %+v, want %s with a lifetime of %v at most", a, want, steadyLifetime)
			}
			n.wantPrivileges(tt.want(t))
			if got := n.wantOwner("vxsnd"); !got.Healthy || got.Draining || got.Problem != "" ||
				got.Interface != "lo" || got.Address != n.addr {
				t.Errorf("got %+v, want a healthy address on lo", got)
			}
			wantMember(t, n, vs[0], vs[1], anycastVNI, true)
			vs[2].agent(n).register(anycastVNI+1, 90, 5)
			n.waitMembers(anycastVNI+1, vs[2].addr)

			// It is renewed again and again without a break.
			down := false
			for range 3 {
				check(t, netlab.Wait(within(t), "the lifetime to shrink", func() bool {
					a, ok := n.service()
					down = down || !ok
					return a.Left < steadyLifetime
				}))
				check(t, netlab.Wait(within(t), "the lifetime to be renewed", func() bool {
					a, ok := n.service()
					down = down || !ok
					return a.Left == steadyLifetime
				}))
			}
			if down {
				t.Error("got the service address away between renewals")
			}
			n.stop()
			if a, ok := n.service(); ok || n.draining() {
				t.Errorf("got %+v, a local route: %t after the stop, want neither", a, n.draining())
			}
		})
	}
}

// The same over IPv6.
func TestServiceAddressOfIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps6(2)
	n := l.node6()
	own := n.addr
	n.addr = netip.MustParseAddr("2001:db8:1::53")
	for _, v := range vs {
		check(t, v.AddRoute(netlab.Route{To: host(n.addr), Via: own}))
	}
	n.start("svcnode_ip = "+n.addr.String(), "src_ip = "+own.String(), "install_svcnode_ip = yes", "drain_time = 5", "workers = 1", steady,
		markerConfig(vs...), memberConfig([]vxlan.VNI{anycastVNI}, vs...))
	n.waitService(true)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	n.signal(syscall.SIGTERM)
	n.waitService(false)
	if !n.draining() {
		t.Error("got no local route while draining")
	}
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	n.ended = append(n.ended, n.proc)
	if status := must(n.proc.Wait(within(t)))(t); status != 0 || n.draining() {
		t.Errorf("got status %d, a local route: %t, want 0 and none", status, n.draining())
	}
}

// A node that may not change addresses does not start, and says what it takes;
// with an operator's address there it takes nothing.
func TestServiceAddressNeedsCapability(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).anycast(2)
	wantRefusal(t, n.launch(asNobody(t, unix.CAP_NET_RAW), installing(vs)...),
		"install_svcnode_ip", serviceAddr, "CAP_NET_ADMIN", "anycast.conf")
	if _, ok := n.service(); ok {
		t.Error("got the service address installed")
	}
	check(t, n.AddAddr("lo", host(n.addr)))
	n.startAs(asNobody(t, unix.CAP_NET_RAW), installing(vs)...)
	n.wantOwner("operator")
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
}

// What something else removes is put back at once.
func TestServiceAddressIsPutBack(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).installed(2, "drain_time = 0")
	check(t, n.DeleteAddr("lo", host(n.addr)))
	n.waitService(true)
	n.waitLines(msgPutBack, 1)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)

	// A restart of networking takes the interface down and up.
	check(t, n.SetDown("lo"))
	check(t, n.SetUp("lo"))
	n.waitService(true)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
}

// An address that is there already is an operator's and stays, also when the
// node is not fit and when it stops. If it goes, the node's own takes its place.
func TestServiceAddressOfAnOperator(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).anycast(2)
	check(t, n.AddAddr("lo", host(n.addr)))
	operators := func() bool {
		a, ok := n.service()
		return ok && a.Forever
	}
	n.start(installing(vs, "drain_time = 5")...)
	n.waitLines(msgOperator, 1)
	n.wantOwner("operator")
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	n.stop()
	if !operators() || n.draining() {
		t.Errorf("got the operator's address in place: %t after the stop, want it", operators())
	}
	if got := with(lines(n.proc.Output()), msgWithdrawn, msgInstalled); len(got) > 0 {
		t.Errorf("got %q, want the address left alone", got)
	}

	n.start(installing(vs, "drain_time = 0")...)
	n.wantOwner("operator")
	check(t, n.DeleteAddr("lo", host(n.addr)))
	n.waitService(true)
	n.waitLines(msgOwnInPlace, 1)
	n.wantOwner("vxsnd")
	if operators() {
		t.Error("got an address without a lifetime, want the node's own")
	}
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)

	// What is killed leaves its own behind, and cleaning up leaves an operator's.
	n.end(syscall.SIGKILL)
	check(t, ignore(n.DeleteAddr("lo", host(n.addr)), unix.EADDRNOTAVAIL))
	check(t, n.AddAddr("lo", host(n.addr)))
	n.cleanup(0, "nothing to clean up\n")
	if !operators() {
		t.Error("got the operator's address cleaned up")
	}
}
