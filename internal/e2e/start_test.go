// SPDX-License-Identifier: Apache-2.0

package e2e

// Starting and stopping: what is in the way is said in a line, with a status.
//
//	node 192.0.2.254
//	      │
//	── switch ────
//	  │       │
//	  1       2      192.0.2.N

import (
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	// exitConfig is the status of a program whose configuration is wrong.
	exitConfig = 3

	// exitBind is that of one that could not bind or lacks privilege.
	exitBind = 4
)

// nobody is a user without any capability.
const nobody = 65534

// asNobody returns vxsnd as a user without privileges but those given.
func asNobody(t *testing.T, caps ...uintptr) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: caps,
	}
	return cmd
}

// wantRefusal fails the test unless the program ends with status 4 and says why
// with each of the words, in lines of its own.
func wantRefusal(t *testing.T, p *netlab.Process, words ...string) {
	t.Helper()
	if status := must(p.Wait(within(t)))(t); status != exitBind {
		t.Errorf("got status %d, want %d", status, exitBind)
	}
	var said []string
	for line := range strings.Lines(p.Output()) {
		if strings.HasPrefix(line, "vxsnd: ") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	if len(said) == 0 || len(said) > 2 {
		t.Errorf("got %d lines for the operator, want one and a hint: %q", len(said), p.Output())
	}
	for _, w := range words {
		if !strings.Contains(strings.Join(said, "\n"), w) {
			t.Errorf("got %q, want it to say %q", said, w)
		}
	}
}

func TestWithoutCapability(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.idle()
	wantRefusal(t, n.launch(asNobody(t)), "CAP_NET_RAW")
}

// Without flooding no privilege is needed: registrations are served.
func TestControlPlaneAloneNeedsNoPrivilege(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"no_flood = true", "enable_vxlan_listen = false"} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := l.idle()
			n.proc = n.launch(asNobody(t), config, markerConfig(vs...))
			n.ready()
			a := vs[0].agent(n)
			a.register(7, 90, 5)
			if got := a.ask(7)[7]; len(got) != 1 || got[0] != a.addr {
				t.Errorf("got members %v, want %s", got, a.addr)
			}
			// Nobody listens for data: another program may have the port.
			must(n.ListenUDP(netip.AddrPortFrom(n.addr, dataPort)))(t).Close()
			n.stop()
		})
	}
}

// CAP_NET_RAW is enough to flood, fragments included.
func TestRawCapabilityIsEnough(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 50
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	n.proc = n.launch(asNobody(t, unix.CAP_NET_RAW), "workers = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	n.ready()
	in, large := frame(netlab.Broadcast, 1, 64), frame(netlab.Broadcast, 2, 5000)
	vs[0].flood(n, vni, in)
	vs[0].floodLarge(n, vni, large)
	vs[0].flush(n, vs...)
	src := vs[0].packet(n, vni, in).Src
	wantCopies(t, vs[1], sent{src: src, ttl: 64, vni: vni, inner: in}, sent{src: src, ttl: 64, vni: vni, inner: large})
	n.stop()
}

func TestBusyPorts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		occupy func(t *testing.T, n *node)
		config []string
		words  []string
	}{
		{
			name: "kernel VXLAN device",
			occupy: func(t *testing.T, n *node) {
				check(t, n.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 1, Local: n.addr}))
			},
			words: []string{"4789", "VXLAN device"},
		},
		{
			name: "kernel VXLAN device, single address",
			occupy: func(t *testing.T, n *node) {
				check(t, n.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 1, Local: n.addr}))
			},
			config: []string{"svcnode_ip = " + nodeAddr},
			words:  []string{"4789"},
		},
		{
			name: "program that shares the port",
			occupy: func(t *testing.T, n *node) {
				check(t, n.Do(func() error {
					s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
					if err != nil {
						return err
					}
					t.Cleanup(func() { unix.Close(s) })
					if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
						return err
					}
					return unix.Bind(s, &unix.SockaddrInet4{Port: dataPort})
				}))
			},
			words: []string{"4789"},
		},
		{
			name:   "registration port",
			occupy: func(_ *testing.T, n *node) { n.listen(ctlPort) },
			words:  []string{"10001"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.idle()
			tt.occupy(t, n)
			wantRefusal(t, n.launch(exec.Command(program(t)), tt.config...), tt.words...)
		})
	}
}

// SIGTERM and SIGINT end a node in the middle of its work with status 0, and
// it says what it did.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 51
	l := newLab(t, 0)
	vs := l.vteps(3)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		var n *node
		if signal == syscall.SIGTERM {
			n = l.idle()
		} else {
			n = &node{machine: l.machine("second", "192.0.2.253/24")}
		}
		n.start("workers = 2", memberConfig([]vxlan.VNI{vni}, vs...))
		for _, m := range append(vs, n.machine) {
			check(t, m.cap.Close()) // more than anybody would look at
		}
		stop := vs[0].load(n, vni)
		before := must(vs[1].Link("eth0"))(t).ReceivedPackets
		check(t, netlab.Wait(within(t), "copies", func() bool {
			return must(vs[1].Link("eth0"))(t).ReceivedPackets > before+1000
		}))
		status := n.end(signal)
		stop()
		if status != 0 {
			t.Errorf("%v: got status %d, want 0; output:\n%s", signal, status, tail(n.proc.Output()))
		}
		stopped := must(n.proc.WaitLine(within(t), says("stopped")))(t)
		if f := fields(stopped); f["packets"] == "" || f["packets"] == "0" {
			t.Errorf("%v: got %q, want what was counted", signal, stopped)
		}
	}
}

// A node that was killed leaves nothing in the way of the next one.
func TestRestartAfterKill(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 52
	l := newLab(t, 0)
	vs := l.vteps(2)
	config := []string{"workers = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...)}
	n := l.idle()
	for range 3 {
		n.start(config...)
		wantMember(t, n, vs[0], vs[1], vni, true)
		n.end(syscall.SIGKILL)
	}
}

// The service address may come after the node: what is sent to it is served
// from then on.
func TestServiceAddressComesLater(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 53
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	service := netip.PrefixFrom(netip.MustParseAddr(serviceAddr), 32)
	for _, v := range vs {
		check(t, v.AddRoute(netlab.Route{To: service, Via: n.addr}))
	}
	n.start("workers = 1", "svcnode_ip = "+serviceAddr, markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs...))
	s := &node{machine: &machine{Namespace: n.Namespace, lab: l, addr: service.Addr(), mac: n.mac}, dir: n.dir}
	for range 2 {
		check(t, n.AddAddr("lo", service))
		wantMember(t, s, vs[0], vs[1], vni, true)
		check(t, n.DeleteAddr("lo", service))
		vs[0].flood(s, vni, frame(netlab.Broadcast, 0, 64))
	}
}
