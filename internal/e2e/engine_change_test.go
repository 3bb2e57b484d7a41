// SPDX-License-Identifier: Apache-2.0

package e2e

// What changes while packets are flooded: each member that stays gets each packet
// once, in order, whoever floods it at that moment.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────────
//	  │     │     │     │
//	  1     2     3     4      192.0.2.N; 4 registers

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

const changeVNI vxlan.VNI = 530

// capture returns the inner frames of so many packets of a VNI, as the node sees
// them.
func (n *node) capture(vni vxlan.VNI, count int) (inner [][]byte) {
	n.lab.t.Helper()
	n.call(control.CommandCapture, control.CaptureArgs{VNI: uint32(vni), Count: count}, func(data json.RawMessage) error {
		var e control.CaptureEvent
		err := json.Unmarshal(data, &e)
		for _, p := range e.Packets {
			inner = append(inner, p.Payload[vxlan.HeaderLen:])
		}
		return err
	})
	return inner
}

// wantOrder fails the test unless machines have got numbered packets in order.
func wantOrder(t *testing.T, ms ...*machine) {
	t.Helper()
	for _, m := range ms {
		last := -1
		for i, g := range m.got() {
			if number(g.inner) <= last {
				t.Fatalf("%s: got packet %d at position %d, behind %d", m.Name, number(g.inner), i, last)
			}
			last = number(g.inner)
		}
	}
}

// A capture takes a VNI away from the kernel and gives it back, again and again:
// each packet is flooded once, and the capture has all that came while it went on.
func TestCaptureTakesVNIFromTheKernel(t *testing.T) { overEngines(t, testCaptureTakesVNIFromTheKernel) }

func testCaptureTakesVNIFromTheKernel(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", "capture_rate = 100000", markerConfig(vs...), memberConfig([]vxlan.VNI{changeVNI}, vs...))
	stop := vs[0].stream(n, changeVNI)
	for range 5 {
		seen := n.capture(changeVNI, 50)
		for i, p := range seen {
			if want := number(seen[0]) + i; number(p) != want {
				t.Fatalf("got packet %d captured at position %d, want %d", number(p), i, want)
			}
		}
		if e == engineTC {
			before := n.status().Kernel.Packets
			check(t, netlab.Wait(within(t), "the kernel to flood again", func() bool { return n.status().Kernel.Packets > before+20 }))
		}
	}
	count := stop()
	vs[0].flush(n, vs...)
	wantEach(t, count, vs[1])
	wantEach(t, count, vs[2])
	wantOrder(t, vs[1:]...)
}

// Reloads of all kinds interrupt nothing.
func TestReloadsWhileFlooding(t *testing.T) { overEngines(t, testReloadsWhileFlooding) }

func testReloadsWhileFlooding(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	base := []string{"workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{changeVNI}, vs...)}
	n := l.idle()
	n.start(base...)
	stop := vs[0].stream(n, changeVNI)
	for _, more := range []string{
		"", "holdtime = 60", many(changeVNI, 100), many(changeVNI+1, 10), "tc_max_members = 1", "tc_max_members = 4095", "interfaces = eth0",
		"interfaces = none", "udp_checksum = zero", "oversize = drop", "learning = any", "",
	} {
		before := len(vs[1].got())
		n.reload(append(base[:len(base):len(base)], more)...)
		vs[1].await(before + 20)
	}
	count := stop()
	vs[0].flush(n, vs...)
	for _, v := range vs[1:] {
		wantEach(t, count, v)
	}
	wantOrder(t, vs[1:]...)
	n.wantKernel(count / 10)
	if got := n.status().Kernel; got != nil && got.Differences > 0 {
		t.Errorf("got %d members in the kernel that were others than in the table, want none", got.Differences)
	}
}

// A thousand changes a second of a VNI's members, and as many of others: who stays
// gets each packet once; who comes and goes, each at most once.
func TestChangesWhileFlooding(t *testing.T) { overEngines(t, testChangesWhileFlooding) }

func testChangesWhileFlooding(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(4)
	n := l.idle()
	check(t, n.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.20.0.0/16"), Kind: netlab.Blackhole}))
	n.start("workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{changeVNI}, vs[:3]...),
		many(changeVNI+9, 60), memberConfig([]vxlan.VNI{changeVNI + 9}, vs[3])) // so that the ways to them are known
	a := vs[3].agent(n)
	stop := vs[0].stream(n, changeVNI)
	// Ten changes in one message, of the VTEP that is there and of those without a
	// way: registered in one round and withdrawn in the next.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range 300 {
		r := &vxfld.Refresh{Originator: true, Holdtime: uint32(90 * (1 - i%2)), Identifier: 5}
		for vni := range vxlan.VNI(3) {
			addrs := []netip.Addr{vs[3].addr}
			for k := range byte(3) {
				addrs = append(addrs, netip.AddrFrom4([4]byte{10, 20, 0, 1 + k + 3*byte(i/2%20)}))
			}
			for _, addr := range addrs { // an identifier has one address in a VNI
				r.VNIs = []vxfld.VNIMembers{{VNI: changeVNI + vni, Addrs: []netip.Addr{addr}}}
				r.Identifier = uint64(addr.As4()[3]) + 5
				a.send(vxfld.V3, r)
			}
		}
		<-tick.C
	}
	a.ask()
	count := stop()
	vs[0].flush(n, vs...)
	for _, v := range vs[1:3] {
		wantEach(t, count, v)
	}
	wantOrder(t, vs[1:]...)
	if got := len(vs[3].got()); got == 0 || got == count {
		t.Errorf("%s: got %d packets of %d, want some, since it came and went", vs[3].Name, got, count)
	}
	n.wantKernel(count / 10)
	n.settled()
	wantMember(t, n, vs[0], vs[3], changeVNI, false)
	if got := n.status().Kernel; got != nil && got.Differences > 0 {
		t.Errorf("got %d members in the kernel that were others than in the table, want none", got.Differences)
	}
}

// A change of the table is in the kernel soon: within 50 ms, were the machine idle.
func TestChangesReachTheKernelSoon(t *testing.T) {
	t.Parallel()
	l := engineTC.lab(t, 0)
	vs := l.vteps(4)
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{changeVNI}, vs[:3]...))
	a := vs[3].agent(n)
	a.register(changeVNI+1, 90, 5) // the way to it is known
	n.settled()
	var longest time.Duration
	for i := range 20 {
		member := i%2 == 0
		_, since := a.register(changeVNI, uint32(90*(1-i%2)), 5)
		check(t, netlab.Wait(within(t), "a change in the kernel", func() bool {
			vs[3].forget()
			vs[0].flood(n, changeVNI, frame(netlab.Broadcast, i, 64))
			vs[1].await(1)
			vs[1].forget()
			return (len(vs[3].got()) > 0) == member
		}))
		longest = max(longest, time.Since(since))
	}
	t.Logf("the longest took %s", longest)
}
