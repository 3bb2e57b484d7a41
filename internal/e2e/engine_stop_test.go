// SPDX-License-Identifier: Apache-2.0

package e2e

// What is in the kernel while the process does not run, or not any more.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const stopVNI vxlan.VNI = 510

// programs returns how many programs take packets that come in by a device, in
// either hook.
func (m *machine) programs(dev string) (count int) {
	m.lab.t.Helper()
	check(m.lab.t, m.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		hooked, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			count = len(hooked.Programs)
		}
		filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
		count += len(filters)
		return err
	}))
	return count
}

// A member ends when its holdtime does, even if the process is stopped at that
// moment; the others get their copies, as long as the process may be thought to
// come back.
func TestExpiryWhileTheProcessIsStopped(t *testing.T) {
	t.Parallel()
	l := engineTC.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{stopVNI, stopVNI + 1}, vs[0], vs[2]))
	wantMember(t, n, vs[0], vs[2], stopVNI, true)
	for _, v := range vs {
		v.forget()
	}
	a := vs[1].agent(n)
	first, last := a.register(stopVNI, 2, 5)
	n.settled()
	check(t, n.proc.Signal(syscall.SIGSTOP))
	end, packets := last.Add(2*time.Second), 0
	check(t, netlab.Wait(within(t), "the end of a member", func() bool {
		before := len(vs[1].got())
		begun := time.Now()
		vs[0].flood(n, stopVNI, frame(netlab.Broadcast, packets, 64))
		vs[0].flood(n, stopVNI+1, frame(netlab.Broadcast, packets, 64)) // behind all copies of that
		packets++
		vs[2].await(2 * packets)
		copied := len(vs[1].got()) > before
		if late := begun.Sub(end); copied && late > clockGrain {
			t.Fatalf("got a copy %s after the member's end", late)
		}
		if early := time.Until(first.Add(2 * time.Second)); !copied && early > clockGrain {
			t.Fatalf("got no copy %s before the member's end", early)
		}
		return !copied
	}))
	check(t, n.proc.Signal(syscall.SIGCONT))
	wantMember(t, n, vs[0], vs[1], stopVNI, false)
	n.wantKernel(2 * packets)
}

// twoMembers returns a node that floods to two VTEPs, which have received nothing.
func twoMembers(t *testing.T) (n *node, vs []*machine) {
	t.Helper()
	l := engineTC.lab(t, 0)
	vs = l.vteps(2)
	n = l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{stopVNI}, vs...))
	wantMember(t, n, vs[0], vs[1], stopVNI, true)
	vs[1].forget()
	return n, vs
}

// Where the process does not come back for seconds the kernel floods nothing any
// more: packets wait for the process, and it has them when it goes on.
func TestLeaseOfAStoppedProcess(t *testing.T) {
	t.Parallel()
	n, vs := twoMembers(t)
	stopped := time.Now()
	check(t, n.proc.Signal(syscall.SIGSTOP))
	i, arrived := 0, 0
	check(t, netlab.Wait(within(t), "a packet that the kernel leaves", func() bool {
		vs[0].flood(n, stopVNI, frame(netlab.Broadcast, i, 64))
		i++
		got := len(vs[1].got())
		// What was on its way has had some time by the third one that is left.
		left := got <= arrived
		arrived = got
		return left && i-got > 3
	}))
	lease := time.Since(stopped)
	t.Logf("the kernel flooded for %s", lease)
	if lease < 4*time.Second {
		t.Errorf("got the kernel's flooding ended after %s, want 5 seconds", lease)
	}
	check(t, n.proc.Signal(syscall.SIGCONT))
	wantEach(t, i, vs[1])
	if got := n.status().Kernel.HandedUp["stale"]; got == 0 {
		t.Errorf("got no packets left for want of a sign of life, want some")
	}
	wantMember(t, n, vs[0], vs[1], stopVNI, true)
}

// Nothing of the engine is left behind, whatever ends the process, and the next
// one floods.
func TestNoProgramIsLeftBehind(t *testing.T) {
	t.Parallel()
	l := engineTC.lab(t, 0)
	vs := l.vteps(2)
	config := []string{"workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{stopVNI}, vs...)}
	n := l.idle()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		n.start(config...)
		wantMember(t, n, vs[0], vs[1], stopVNI, true)
		if got := n.programs("eth0"); got != 1 {
			t.Errorf("got %d programs on the node's device, want 1", got)
		}
		n.wantKernel(1)
		n.end(signal)
		// A killed process's are taken away by the kernel, a little later.
		check(t, netlab.Wait(within(t), "no program", func() bool { return n.programs("eth0") == 0 }))
	}
}

// Somebody takes the program away: raw floods, and the program is put back.
func TestProgramIsPutBack(t *testing.T) {
	t.Parallel()
	n, vs := twoMembers(t)
	stop := vs[0].stream(n, stopVNI)
	vs[1].await(20)
	check(t, n.Do(func() error {
		dev, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		hooked, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		for _, p := range hooked.Programs {
			id, _ := p.LinkID()
			tcx, err := link.NewFromID(id)
			if err != nil {
				return err
			}
			defer tcx.Close()
			if err := tcx.Detach(); err != nil {
				return err
			}
		}
		return nil
	}))
	check(t, netlab.Wait(within(t), "the program", func() bool { return n.programs("eth0") == 1 }))
	before := n.status().Kernel.Packets
	check(t, netlab.Wait(within(t), "packets flooded in the kernel", func() bool { return n.status().Kernel.Packets > before }))
	count := stop()
	vs[0].flush(n, vs...)
	wantEach(t, count, vs[1])
}
