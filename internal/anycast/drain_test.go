// SPDX-License-Identifier: Apache-2.0

package anycast_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"vxsnd/internal/anycast"
	"vxsnd/internal/netlab"
	"vxsnd/internal/netlab/uml"
)

// A service answers what it gets, on the service address and another one.
type service struct {
	ports [2]netip.AddrPort // the service address, and one that stays
	vtep  *net.UDPConn      // asks
	sent  int
}

// serve opens the sockets of a service, whether the address is there or not.
func (r *rig) serve() *service {
	r.Helper()
	s := &service{}
	own, wildcard := netip.MustParseAddr("192.0.2.2"), netip.IPv4Unspecified()
	if r.addr.Is6() {
		own, wildcard = netip.MustParseAddr("2001:db8::2"), netip.IPv6Unspecified()
	}
	var wg sync.WaitGroup
	r.Cleanup(wg.Wait)
	for i, a := range []netip.Addr{r.addr, own} {
		c := r.listen(a)
		s.ports[i] = netip.AddrPortFrom(a, uint16(c.LocalAddr().(*net.UDPAddr).Port))
		wg.Go(func() { r.echo(c) })
		r.Cleanup(func() { c.Close() })
	}
	var err error
	s.vtep, err = r.vtep.ListenUDP(netip.AddrPortFrom(wildcard, 0))
	r.check(err)
	r.Cleanup(func() { s.vtep.Close() })
	return s
}

// listen binds as the node's sockets are bound.
func (r *rig) listen(a netip.Addr) *net.UDPConn {
	r.Helper()
	options := [][2]int{{unix.IPPROTO_IP, unix.IP_FREEBIND}}
	if r.vrf != "" {
		options = append(options, [2]int{unix.IPPROTO_IP, unix.IP_TRANSPARENT})
	}
	if a.Is6() {
		options = [][2]int{{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND}}
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], 1))
			}
			if r.vrf != "" {
				err = errors.Join(err, unix.BindToDevice(int(fd), r.vrf))
			}
		})
		return errors.Join(cerr, err)
	}}
	var c net.PacketConn
	r.in(func() (err error) {
		c, err = lc.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(a, 0).String())
		return err
	})
	return c.(*net.UDPConn)
}

// echo answers until the socket is closed.
func (r *rig) echo(c *net.UDPConn) {
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, err = c.WriteToUDPAddrPort(b[:n], from)
		}
		if err != nil {
			r.Errorf("service: %v", err)
		}
	}
}

// ask sends one datagram to each port and returns the first answer.
func (r *rig) ask(s *service, to ...netip.AddrPort) netip.AddrPort {
	r.Helper()
	s.sent++
	question := []byte{byte(s.sent)}
	for _, p := range to {
		_, err := s.vtep.WriteToUDPAddrPort(question, p)
		r.check(err)
	}
	r.check(s.vtep.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 100)
	for {
		n, from, err := s.vtep.ReadFromUDPAddrPort(b)
		if err != nil {
			r.Fatalf("ask %v: %v; state %+v, log %v", to, err, r.a.State(), r.messages())
		}
		if n == 1 && b[0] == question[0] {
			return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		}
	}
}

func (r *rig) wantAnswer(s *service) {
	r.Helper()
	if got := r.ask(s, s.ports[0]); got != s.ports[0] {
		r.Errorf("got an answer from %s, want %s", got, s.ports[0])
	}
}

// wantNoAnswer asks both, in this order, and wants the second to answer alone.
func (r *rig) wantNoAnswer(s *service) {
	r.Helper()
	if got := r.ask(s, s.ports[0], s.ports[1]); got != s.ports[1] {
		r.Errorf("got an answer from %s, want one from %s alone", got, s.ports[1])
	}
}

func TestDrain(t *testing.T) { each(t, testDrain) }

func testDrain(r *rig) {
	s := r.serve()
	r.wantNoAnswer(s)
	stop := r.run()
	r.waitThere()
	r.wantAnswer(s)
	stop()

	r.in(r.a.Withdraw)
	if st := r.a.State(); r.there() || st.Installed() || !st.Draining || st.Err != nil {
		r.Errorf("got state %+v, want no address, draining", st)
	}
	if got := r.routes(); len(got) != 1 || got[0].Type != unix.RTN_LOCAL {
		r.Errorf("got routes %v, want a local one alone", got)
	}
	r.wantAnswer(s)
	r.in(r.a.Release)
	if st := r.a.State(); st.Draining || len(r.routes()) != 0 {
		r.Errorf("got state %+v and routes %v, want no longer draining and none", st, r.routes())
	}
	r.wantNoAnswer(s)
	r.in(r.a.Release) // does no harm
	r.wantQuiet()
}

// Between the other order's two steps packets would be lost.
func TestRouteComesBeforeAddressGoes(t *testing.T) {
	each(t, func(r *rig) {
		stop := r.run()
		r.waitThere()
		stop()
		groups := []uint{unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE}
		if r.addr.Is6() {
			groups = []uint{unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE}
		}
		var sub *nl.NetlinkSocket
		r.in(func() (err error) {
			sub, err = nl.Subscribe(unix.NETLINK_ROUTE, groups...)
			return err
		})
		defer sub.Close()
		r.check(sub.SetReceiveTimeout(&unix.Timeval{Sec: int64(patience.Seconds())}))
		r.in(r.a.Withdraw)
		for routed := false; ; {
			ms, _, err := sub.Receive()
			r.check(err)
			for _, m := range ms {
				switch {
				case m.Header.Type == unix.RTM_NEWROUTE && nl.DeserializeRtMsg(m.Data).Protocol == anycast.RouteProtocol:
					routed = true
				case m.Header.Type == unix.RTM_DELADDR && !routed:
					r.Fatal("got the address removed before the route was there")
				case m.Header.Type == unix.RTM_DELADDR:
					return
				}
			}
		}
	})
}

func TestWithdrawWithoutAddress(t *testing.T) {
	each(t, func(r *rig) {
		r.in(r.a.Withdraw)
		r.in(r.a.Release)
		if r.there() || len(r.routes()) != 0 {
			r.Errorf("got routes %v, want nothing", r.routes())
		}
	})
}

// crash leaves what a process does that is killed during its stop.
func (r *rig) crash() {
	r.Helper()
	stop := r.run()
	r.waitThere()
	stop()
	r.in(r.a.Withdraw)
	r.fresh()
}

// cleanUp returns what Cleanup says that it has removed.
func (r *rig) cleanUp() (removed []string) {
	r.Helper()
	r.in(func() (err error) {
		removed, err = anycast.Cleanup(r.addr, r.vrf)
		return err
	})
	return removed
}

func TestCleanup(t *testing.T) { each(t, testCleanup) }

func testCleanup(r *rig) {
	clean := func(want ...string) {
		r.Helper()
		if got := r.cleanUp(); !slices.Equal(got, want) {
			r.Errorf("got %q removed, want %q", got, want)
		}
		if got := r.routes(); r.there() || len(got) != 0 {
			r.Errorf("got address %v, routes %v, want nothing", r.there(), got)
		}
	}
	clean()
	r.crash()
	clean("local route to " + r.addr.String())
	// However busy the machine is, the kernel is not to be faster.
	r.a = anycast.New(anycast.Options{Addr: r.addr, Lifetime: time.Hour, VRF: r.vrf})
	stop := r.run()
	r.waitThere()
	stop()
	clean(fmt.Sprintf("address %s on %s", r.addr, r.iface()))
	r.vrf = "nosuchvrf"
	if got := r.cleanUp(); len(got) > 0 {
		r.Errorf("got %q removed, want nothing", got)
	}
}

func TestStartAfterCrash(t *testing.T) {
	each(t, func(r *rig) {
		r.crash()
		s := r.serve()
		r.wantAnswer(s)
		r.run()
		r.waitThere()
		r.wait("no route of ours", func() bool {
			for _, route := range r.routes() {
				if route.Protocol != unix.RTPROT_KERNEL {
					return false
				}
			}
			return true
		})
		r.wantAnswer(s)
	})
}

func TestVRF(t *testing.T) {
	t.Parallel()
	netlab.Need(t)
	if err := netlab.HasVRF(); err != nil && !uml.Inside() {
		inUML(t, err)
		return
	}
	for _, addr := range services {
		t.Run(addr.String(), func(t *testing.T) {
			r := newRig(t, addr, "blue")
			t.Run("drain", func(t *testing.T) { r.T = t; testDrain(r) })
			t.Run("cleanup", func(t *testing.T) { r.T = t; r.fresh(); testCleanup(r) })
			r.T = t
		})
	}
}

// inUML runs the calling test in user-mode Linux, since this machine lacks VRF
// devices. The race detector does not work there.
func inUML(t *testing.T, lack error) {
	t.Helper()
	binary := t.TempDir() + "/anycast.test"
	r := &rig{T: t}
	build := goTest(binary)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir, err := os.Getwd()
	r.check(err)
	ctx, cancel := context.WithTimeout(t.Context(), umlPatience)
	defer cancel()
	out, status, err := uml.Run(ctx, uml.Program{
		Path: binary, Args: []string{"-test.run=^" + t.Name() + "$", "-test.v"}, Dir: dir,
		Env: []string{"VXSND_NO_SKIP=1"}, Modules: []string{"vrf", "vxlan", "veth"},
	})
	switch {
	case errors.Is(err, uml.ErrAbsent):
		netlab.Lacks(t, "vrf", errors.Join(lack, err))
	case err != nil || status != 0 || !strings.Contains(out, "--- PASS: "+t.Name()+" "):
		t.Fatalf("got %v, status %d, want success; output:\n%s", err, status, out)
	}
}
