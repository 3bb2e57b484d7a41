// SPDX-License-Identifier: Apache-2.0

package anycast_test

// A node with the service address, and a VTEP that sends to it:
//
//	vtep eth0 .1 ──── .2 eth0 node, service address on lo
//
// over 192.0.2.0/24 and 2001:db8::/64.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vxsnd/internal/anycast"
	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

const (
	// patience is how long a condition may take to come true.
	patience = 30 * time.Second

	// umlPatience is that for a kernel to start and run a test.
	umlPatience = 8 * time.Minute

	// roleVar makes the test binary play a part in a process of its own.
	roleVar = "ANYCAST_TEST_ROLE"

	lifetime = 3 * time.Second
)

var services = []netip.Addr{netip.MustParseAddr("10.10.10.10"), netip.MustParseAddr("2001:db8:10::10")}

func TestMain(m *testing.M) {
	switch {
	case uml.Inside():
		status := 1
		if err := uml.Init(); err != nil {
			fmt.Println(err)
		} else {
			status = m.Run()
		}
		uml.Exit(status)
	case os.Getenv(roleVar) != "":
		if err := play(os.Getenv(roleVar), os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		// The tests mostly wait for the kernel, and CPUs do not matter for that.
		flag.Parse()
		if err := flag.Set("test.parallel", "10"); err != nil {
			panic(err)
		}
		goleak.VerifyTestMain(m)
	}
}

// play is the main function of a child.
func play(role, addr string) error {
	a := anycast.New(anycast.Options{Addr: netip.MustParseAddr(addr), Lifetime: lifetime})
	if role == "check" {
		err := a.Check()
		if !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("check: got %v, want %w", err, unix.EPERM)
		}
		fmt.Println(err)
		return nil
	}
	return a.Run(context.Background(), func() error { return nil })
}

func child(role string, addr netip.Addr) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", addr.String())
	cmd.Env = append(os.Environ(), roleVar+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

type rig struct {
	*testing.T
	node, vtep *netlab.Namespace
	nl         *netlink.Handle // of the node
	addr       netip.Addr
	vrf        string
	logs       *logtest.Hook
	a          *anycast.Address

	mu     sync.Mutex
	sick   error         // what the health check says
	hangs  chan struct{} // what it waits for, if set
	checks int
}

// each runs a test for IPv4 and IPv6.
func each(t *testing.T, test func(*rig)) {
	t.Parallel()
	for _, addr := range services {
		name := "IPv4"
		if addr.Is6() {
			name = "IPv6"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newRig(t, addr, ""))
		})
	}
}

const vrfTable = 10

func newRig(t *testing.T, addr netip.Addr, vrf string) *rig {
	t.Helper()
	lab := netlab.Test(t)
	r := &rig{T: t, addr: addr, vrf: vrf}
	var err error
	r.node, err = lab.Namespace("node")
	r.check(err)
	r.vtep, err = lab.Namespace("vtep")
	r.check(err)
	r.check(netlab.Veth(r.vtep, "eth0", r.node, "eth0", 0))
	own, far := netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("192.0.2.1/24")
	if addr.Is6() {
		own, far = netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("2001:db8::1/64")
	}
	r.check(r.vtep.AddAddr("eth0", far))
	r.check(r.vtep.AddRoute(netlab.Route{To: r.prefix(), Via: own.Addr()}))
	r.check(r.node.AddAddr("eth0", own))
	r.check(r.node.Do(func() (err error) {
		r.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}))
	t.Cleanup(r.nl.Close)
	if vrf != "" {
		r.check(r.node.AddVRF(vrf, vrfTable))
		r.check(r.node.SetSysctl("net/ipv6/conf/"+vrf+"/disable_ipv6", "0"))
		// It would lose its IPv6 addresses.
		r.check(r.node.SetSysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1"))
		r.check(r.node.SetMaster("eth0", vrf))
	}
	r.fresh()
	return r
}

// fresh gives the rig an Address of its own, as a process that starts has.
func (r *rig) fresh() {
	var log *logrus.Logger
	log, r.logs = logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	r.a = anycast.New(anycast.Options{Addr: r.addr, Lifetime: lifetime, VRF: r.vrf, Log: log})
}

func (r *rig) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// in does something in the node's namespace.
func (r *rig) in(do func() error) {
	r.Helper()
	r.check(r.node.Do(do))
}

func (r *rig) iface() string {
	if r.vrf != "" {
		return r.vrf
	}
	return "lo"
}

func (r *rig) prefix() netip.Prefix { return netip.PrefixFrom(r.addr, r.addr.BitLen()) }

// run lets Run keep the address until the returned function is called, or the
// test has ended.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- r.node.Do(func() error { return r.a.Run(ctx, r.health) })
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.Errorf("run: got %v, want nil", err)
		}
	})
	r.Cleanup(stop)
	return stop
}

func (r *rig) health() error {
	r.mu.Lock()
	err, hangs := r.sick, r.hangs
	r.checks++
	r.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	return err
}

// setHealth lets the health check say err from now on.
func (r *rig) setHealth(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sick, r.checks = err, 0
}

// setHang lets the health check wait for the channel, if it is not nil.
func (r *rig) setHang(c chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangs, r.checks = c, 0
}

// checked counts the checks since the last change of the health.
func (r *rig) checked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checks
}

func (r *rig) wait(what string, cond func() bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if err := netlab.Wait(ctx, what, cond); err != nil {
		r.Fatalf("%v; state %+v, log %v", err, r.a.State(), r.messages())
	}
}

// whole repeats a listing that changed while the kernel wrote it.
func whole[T any](r *rig, list func() ([]T, error)) []T {
	r.Helper()
	for {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			r.check(err)
			return all
		}
	}
}

// lookup returns the address as it is on the interface.
func (r *rig) lookup() (netlink.Addr, bool) {
	l, err := r.nl.LinkByName(r.iface())
	if err != nil {
		return netlink.Addr{}, false
	}
	list := whole(r, func() ([]netlink.Addr, error) { return r.nl.AddrList(l, unix.AF_UNSPEC) })
	for _, a := range list {
		if ip, _ := netip.AddrFromSlice(a.IP); ip.Unmap() == r.addr {
			return a, true
		}
	}
	return netlink.Addr{}, false
}

func (r *rig) there() bool {
	_, ok := r.lookup()
	return ok
}

// waitThere waits until packets to the address arrive: for IPv6 that is a
// little later than it is there (addrconf_dad_start).
func (r *rig) waitThere() {
	r.Helper()
	r.wait("the address", func() bool {
		return r.there() && slices.ContainsFunc(r.routes(), func(route netlink.Route) bool {
			return route.Type == unix.RTN_LOCAL && route.Protocol == unix.RTPROT_KERNEL
		})
	})
}

func (r *rig) waitGone() {
	r.Helper()
	r.wait("no address", func() bool { return !r.there() })
}

func (r *rig) waitState(what string, cond func(anycast.State) bool) {
	r.Helper()
	r.wait(what, func() bool { return cond(r.a.State()) })
}

// routes returns the routes to the address, of all tables.
func (r *rig) routes() []netlink.Route {
	r.Helper()
	family := unix.AF_INET
	if r.addr.Is6() {
		family = unix.AF_INET6
	}
	all := whole(r, func() ([]netlink.Route, error) {
		return r.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	return slices.DeleteFunc(all, func(route netlink.Route) bool {
		return route.Dst == nil || !route.Dst.IP.Equal(r.addr.AsSlice())
	})
}

// operate puts the address there as an operator does, or changes it to that.
func (r *rig) operate(bits int) {
	r.Helper()
	l, err := r.nl.LinkByName(r.iface())
	r.check(err)
	r.check(r.nl.AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{
		IP: r.addr.AsSlice(), Mask: net.CIDRMask(bits, r.addr.BitLen()),
	}}))
}

// removeAddr removes the address, whosever it is.
func (r *rig) removeAddr() {
	r.Helper()
	a, ok := r.lookup()
	if !ok {
		r.Fatal("got no address, want one to remove")
	}
	r.check(r.nl.AddrDel(nil, &a))
}

func (r *rig) messages() []string {
	var out []string
	for _, e := range r.logs.AllEntries() {
		out = append(out, e.Message)
	}
	return out
}

// logged tells how often a message was logged.
func (r *rig) logged(level logrus.Level, message string) int {
	n := 0
	for _, e := range r.logs.AllEntries() {
		if e.Level == level && e.Message == message {
			n++
		}
	}
	return n
}

func (r *rig) wantLogged(level logrus.Level, message string) {
	r.Helper()
	r.wait("log line "+message, func() bool { return r.logged(level, message) > 0 })
}

// wantQuiet fails if there was anything to warn of.
func (r *rig) wantQuiet() {
	r.Helper()
	for _, e := range r.logs.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			r.Errorf("got %s %q (%v), want nothing to warn of", e.Level, e.Message, e.Data)
		}
	}
}

// goTest builds this package's tests as a static executable.
func goTest(path string) *exec.Cmd {
	cmd := exec.Command("go", "test", "-c", "-buildvcs=false", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}
