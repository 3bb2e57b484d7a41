// SPDX-License-Identifier: Apache-2.0

package e2e

// Devices come, change and go while others carry traffic. See vxrd_test.go for
// the lab.

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// busyVNI carries traffic from vtep2 to vtep1 while other devices change.
const busyVNI vxlan.VNI = 300

// A traffic is frames that one guest sends another, one after the other.
type traffic struct {
	t    *testing.T
	cap  *netlab.Capture
	stop context.CancelFunc
	sent chan int // the number of them, once
}

// sendTraffic starts to send frames that the VTEP's device floods, and to take note
// of what comes out of the device of the other.
func sendTraffic(from, to *machine, dev string) *traffic {
	t := from.lab.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &traffic{t: t, cap: must(to.Capture(dev))(t), stop: cancel, sent: make(chan int, 1)}
	go func() {
		n := 0
		defer func() { s.sent <- n }()
		// Each frame waits for the one before to have come out: no queue overflows,
		// and there is always one under way.
		for ; ctx.Err() == nil; n++ {
			if err := from.Send(dev, frame(netlab.Broadcast, n, 200)); err != nil {
				t.Error(err)
				return
			}
			if _, err := s.cap.Wait(ctx, n+1, experimentalFrame); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(cancel)
	return s
}

func experimentalFrame(p *netlab.Packet) bool { return p.EtherType == experimental }

// wantAll ends the stream and fails the test unless each frame has come out once
// and in order.
func (s *traffic) wantAll() {
	s.t.Helper()
	s.stop()
	sent := <-s.sent
	got := must(s.cap.Wait(within(s.t), sent, experimentalFrame))(s.t)
	if len(got) != sent || sent < 10 {
		s.t.Errorf("got %d frames, want all %d of many", len(got), sent)
	}
	for i, p := range got {
		if number(p.Frame) != i {
			s.t.Fatalf("got frame %d, want %d", number(p.Frame), i)
		}
	}
}

// Each change of a device is known to the service node, and to the other VTEP's
// flood list, and costs no packet of another device.
func TestVxrdFollowsDevices(t *testing.T) {
	t.Parallel()
	for _, headEnd := range []bool{false, true} {
		t.Run(fmt.Sprintf("head_rep = %t", headEnd), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.serve(1)[0]
			to := n
			if headEnd {
				to = nowhere
			}
			config := []string{"svcnode_ip = " + n.addr.String(), fmt.Sprintf("head_rep = %t", headEnd)}
			a, b := l.kernelVTEP(1), l.kernelVTEP(2)
			second := netip.MustParsePrefix("192.0.2.11/24")
			check(t, a.AddAddr("eth0", second))
			for _, m := range []*machine{a, b} {
				m.vxlan(busyVNI, to)
				m.vxlan(vxrdVNI, to)
			}
			check(t, a.DeleteLink("vxlan100"))
			va := a.vxrd(config...)
			b.vxrd(config...)
			// wantMember waits until a is a member with an address, or is not, and
			// looks at what that makes of what b floods.
			wantMember := func(vni vxlan.VNI, own ...netip.Addr) {
				t.Helper()
				n.waitMembers(vni, append([]netip.Addr{b.addr}, own...)...)
				if headEnd {
					b.waitFloods("vxlan"+vni.String(), own...)
				}
			}
			wantMember(busyVNI, a.addr)
			wantMember(vxrdVNI)
			// wantArrival fails the test unless what b floods comes out of a device.
			frames := 0
			wantArrival := func(dev string) {
				t.Helper()
				c := must(a.Capture(dev))(t)
				defer c.Close()
				frames++
				check(t, b.Send("vxlan100", frame(netlab.Broadcast, frames, 100)))
				got := must(c.Wait(within(t), 1, experimentalFrame))(t)
				if len(got) != 1 || number(got[0].Frame) != frames {
					t.Errorf("got %d frames, want 1", len(got))
				}
			}

			s := sendTraffic(b, a, "vxlan300")
			a.vxlan(vxrdVNI, to)
			wantMember(vxrdVNI, a.addr)
			wantArrival("vxlan100")
			check(t, a.SetDown("vxlan100"))
			wantMember(vxrdVNI)
			check(t, a.SetUp("vxlan100"))
			wantMember(vxrdVNI, a.addr)
			wantArrival("vxlan100")
			check(t, a.ChangeVXLAN("vxlan100", second.Addr(), netip.Addr{}))
			wantMember(vxrdVNI, second.Addr())
			wantArrival("vxlan100")
			if headEnd {
				a.waitFloods("vxlan100", b.addr)
			}
			w := a.watchFloods()
			check(t, a.Rename("vxlan100", "other"))
			va.waitDevice(vxrdVNI, "other")
			if headEnd {
				check(t, netlab.Wait(within(t), "the list under its new name", func() bool {
					return slices.ContainsFunc(va.lists(), func(l control.FloodList) bool { return l.Device == "other" && l.Own == 1 })
				}))
			}
			w.wantChanges() // it is the same device
			wantArrival("other")
			check(t, a.DeleteLink("other"))
			wantMember(vxrdVNI)

			// Another VNI under the name of a former one.
			check(t, a.AddVXLAN("other", netlab.VXLAN{VNI: 101, Local: a.addr, Remote: to.addr}))
			n.waitMembers(101, a.addr)
			check(t, a.DeleteLink("other"))
			check(t, a.AddVXLAN("other", netlab.VXLAN{VNI: uint32(vxrdVNI), Local: a.addr, Remote: to.addr}))
			n.waitMembers(101)
			wantMember(vxrdVNI, a.addr)
			wantArrival("other")
			s.wantAll()
		})
	}
}
