// SPDX-License-Identifier: Apache-2.0

package e2e

// How the service address goes: with a stop, a death, a reload, or bad health.
// anycast_test.go has the lab.

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/netlab"
)

// cleanup runs what a unit does after its daemon has ended, and fails the test
// unless it says what is wanted.
func (n *node) cleanup(want int, said string) {
	n.lab.t.Helper()
	p := must(n.Start(exec.Command(program(n.lab.t), "--cleanup", "-c", n.file("vxsnd.conf"),
		"-u", n.file("vxsnd.sock"), "-p", n.file("vxsnd.pid"))))(n.lab.t)
	if status := must(p.Wait(within(n.lab.t)))(n.lab.t); status != want || !strings.Contains(p.Output(), said) {
		n.lab.t.Errorf("clean up: got status %d, want %d and %q; output:\n%s", status, want, said, p.Output())
	}
}

// Between the withdrawal of the address and the end every packet is flooded, and
// questions are answered, since routers move what they send a little later.
func TestDrain(t *testing.T) {
	t.Parallel()
	const packets = 200
	n, vs := newLab(t, 0).installed(3, "drain_time = 8")
	a := vs[2].agent(n)
	a.register(anycastVNI+1, 90, 5)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	vs[1].forget()
	vs[2].forget()

	n.signal(syscall.SIGTERM)
	n.waitService(false)
	if !n.draining() {
		t.Error("got no local route while draining")
	}
	var want []sent
	for i := range packets {
		in := frame(netlab.Broadcast, i, 64)
		vs[0].flood(n, anycastVNI, in)
		want = append(want, sent{src: vs[0].packet(n, anycastVNI, in).Src, ttl: 64, vni: anycastVNI, inner: in})
	}
	vs[0].flush(n, vs[1:]...)
	a.register(anycastVNI+2, 90, 5)
	if got := a.ask(anycastVNI + 2)[anycastVNI+2]; len(got) != 1 || got[0] != a.addr {
		t.Errorf("got members %v while draining, want %s", got, a.addr)
	}
	if text := n.ctl("show", "detail").printed(); !strings.Contains(text, "  Installed:          no,") || !strings.Contains(text, "  Draining:           yes\n") {
		t.Errorf("got %q while draining, want it to say so", text)
	}
	select {
	case <-n.proc.Done():
		t.Error("vxsnd ended before its drain time")
	default:
	}
	wantCopies(t, vs[1], want...)
	wantCopies(t, vs[2], want...)
	if _, ok := n.service(); ok {
		t.Error("got the service address back while draining")
	}
	n.ended = append(n.ended, n.proc)
	if status := must(n.proc.Wait(within(t)))(t); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
	if n.draining() {
		t.Error("got the local route left behind")
	}
}

// A second signal ends the drain.
func TestDrainIsCutShort(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).installed(2, "drain_time = 300")
	n.signal(syscall.SIGTERM)
	n.waitService(false)
	n.end(syscall.SIGINT)
	// What it left has no effect on the next one, and is cleaned up.
	n.start(installing(vs, "drain_time = 300")...)
	n.waitService(true)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	check(t, netlab.Wait(within(t), "one local route", func() bool {
		return len(must(n.Gateways(host(n.addr), localTable))(t)) == 1
	}))
	n.signal(syscall.SIGTERM)
	n.waitService(false)
	n.end(syscall.SIGINT)
	n.cleanup(0, "removed local route to "+serviceAddr+"\n")
	if n.draining() {
		t.Error("got the local route left after cleaning up")
	}
}

// A node that is killed leaves its address for its lifetime at most; cleaning up
// removes it at once. One that is stopped loses it too, and gets it back.
func TestServiceAddressOfADeadNode(t *testing.T) {
	t.Parallel()
	const defaultLifetime = "anycast_lifetime = 3"
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		n, _ := newLab(t, 0).installed(0, defaultLifetime)
		began := time.Now()
		n.end(syscall.SIGKILL)
		n.waitService(false)
		t.Logf("the address went %v after the kill", time.Since(began).Round(time.Millisecond))
	})
	t.Run("cleaned up", func(t *testing.T) {
		t.Parallel()
		n, _ := newLab(t, 0).installed(0, "anycast_lifetime = 3600")
		n.cleanup(1, "vxsnd.sock: a vxsnd is running that listens there\n")
		n.end(syscall.SIGKILL)
		if a, ok := n.service(); !ok || a.Left < 3000*time.Second {
			t.Fatalf("got %+v, there: %t, want an address that lives for long", a, ok)
		}
		// Only who may change addresses can clean up.
		cmd := asNobody(t)
		cmd.Args = append(cmd.Args, "--cleanup", "-c", n.file("vxsnd.conf"), "-u", n.file("none.sock"))
		wantRefusal(t, must(n.Start(cmd))(t), "CAP_NET_ADMIN")
		for _, said := range []string{"removed address " + serviceAddr + " on lo\n", "nothing to clean up\n"} {
			n.cleanup(0, said)
			if _, ok := n.service(); ok {
				t.Error("got the address left after cleaning up")
			}
		}
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		n, vs := newLab(t, 0).installed(2, defaultLifetime, "drain_time = 0")
		began := time.Now()
		n.signal(syscall.SIGSTOP)
		n.waitService(false)
		t.Logf("the address went %v after the stop", time.Since(began).Round(time.Millisecond))
		n.signal(syscall.SIGCONT)
		n.waitLines(msgExpired, 1)
		n.waitService(true)
		wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	})
}

// A reload installs the address, takes it away and changes its lifetime. What it
// takes away is local no more.
func TestReloadServiceAddress(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).anycast(2)
	on := func(more ...string) []string { return installing(vs, append(more, "drain_time = 0", becomes)...) }
	n.start(on()...)
	n.waitService(true)

	wantChanges(t, n.reload(on("anycast_lifetime = 60")...), "anycast_lifetime")
	check(t, netlab.Wait(within(t), "a longer lifetime", func() bool {
		a, ok := n.service()
		return ok && a.Left > 50*time.Second
	}))
	wantChanges(t, n.reload(on("anycast_lifetime = 2")...), "anycast_lifetime")
	check(t, netlab.Wait(within(t), "a shorter lifetime", func() bool {
		a, ok := n.service()
		return ok && a.Left <= 2*time.Second
	}))
	if got := len(with(lines(n.proc.Output()), msgInstalled)); got != 1 {
		t.Errorf("got the address installed %d times, want once", got)
	}

	off := strings.Replace(strings.Join(on(), "\n"), "install_svcnode_ip = yes", "install_svcnode_ip = no", 1)
	wantChanges(t, n.reload(off), "install_svcnode_ip", "anycast_lifetime")
	n.waitService(false)
	check(t, netlab.Wait(within(t), "the local route to go", func() bool { return !n.draining() }))
	check(t, netlab.Wait(within(t), "a node without an address", func() bool { return n.status().Anycast == nil }))

	wantChanges(t, n.reload(on()...), "install_svcnode_ip")
	n.waitService(true)
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
}

// A reload that takes the address away drains as a stop does, whatever is
// reloaded meanwhile. Where the address is to be kept again, it is as if it had
// never gone.
func TestReloadDrains(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).installed(2, "drain_time = 300")
	install := func(yes string, more ...string) []string {
		return append(more, strings.Replace(strings.Join(installing(vs), "\n"), "install_svcnode_ip = yes", "install_svcnode_ip = "+yes, 1))
	}
	for range 2 {
		wantChanges(t, n.reload(install("no", "drain_time = 300")...), "install_svcnode_ip")
		n.waitService(false)
		n.reload(install("no", "drain_time = 299")...)
		if got := n.wantOwner("none"); !got.Draining || !n.draining() {
			t.Errorf("got %+v, a local route: %t, want both to drain", got, n.draining())
		}
		wantMember(t, n, vs[0], vs[1], anycastVNI, true)
		wantChanges(t, n.reload(install("yes", "drain_time = 300")...), "install_svcnode_ip", "drain_time")
		n.waitService(true)
		check(t, netlab.Wait(within(t), "one local route", func() bool {
			return len(must(n.Gateways(host(n.addr), localTable))(t)) == 1
		}))
		if got := n.wantOwner("vxsnd"); got.Draining {
			t.Errorf("got %+v, want no drain", got)
		}
		wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	}
	n.reload(install("no", "drain_time = 1")...)
	n.waitService(false)
	check(t, netlab.Wait(within(t), "the local route to go", func() bool { return !n.draining() }))
	check(t, netlab.Wait(within(t), "a node without an address", func() bool { return n.status().Anycast == nil }))

	// A stop meanwhile drains, too.
	n.reload(install("yes", "drain_time = 300")...)
	n.waitService(true)
	n.reload(install("no", "drain_time = 1")...)
	n.waitService(false)
	n.stop()
	if n.draining() {
		t.Error("got the local route left behind")
	}
}

// A node that has given up the privilege cannot begin to install its address,
// and says so. It goes on as before.
func TestReloadCannotInstallWithoutPrivilege(t *testing.T) {
	t.Parallel()
	n, vs := engineRaw.lab(t, 0).anycast(2)
	on := installing(vs)
	n.start(strings.Replace(strings.Join(on, "\n"), "install_svcnode_ip = yes", "install_svcnode_ip = no", 1))
	n.configure(on...)
	if got := n.refused(); len(got) != 1 || !strings.Contains(got[0], "CAP_NET_ADMIN") {
		t.Errorf("got %q, want one error that names the capability", got)
	}
	if _, ok := n.service(); ok {
		t.Error("got the service address installed")
	}
	check(t, n.AddAddr("lo", host(n.addr)))
	wantMember(t, n, vs[0], vs[1], anycastVNI, true)
	n.reload(on...) // an operator's takes no privilege
	n.wantOwner("operator")
}

// A node whose flood worker is stuck loses the address, says so, and gets it
// back when the worker goes on.
func TestServiceAddressFollowsHealth(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).installed(2, "drain_time = 0", "workers = 2")
	thaw := n.freeze("flood/1")
	n.waitService(false)
	n.waitLines(msgUnhealthy, 1)
	got := n.wantOwner("none")
	if got.Healthy || !strings.HasPrefix(got.Problem, "a flood worker is stuck for ") {
		t.Errorf("got %+v, want it to say what is stuck", got)
	}
	if n.draining() {
		t.Error("got a local route to an address that was taken away for want of health")
	}
	thaw()
	n.waitService(true)
	n.waitLines(msgHealthy, 1)
	if got := n.wantOwner("vxsnd"); !got.Healthy || got.Problem != "" {
		t.Errorf("got %+v, want it healthy", got)
	}
	vs[0].flood(n, anycastVNI, frame(netlab.Broadcast, 1, 64))
	vs[1].await(1)
}
