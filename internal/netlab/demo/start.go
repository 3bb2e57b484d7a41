// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// drawing is the lab.
var drawing = strings.Split(`                     service node, 192.0.2.254
           vxsnd: VXLAN on UDP port 4789, registrations on 10001
                               |
 ==========================  switch  ==========================  192.0.2.0/24, MTU 1500
     |                 |                 |                 |
   vtep1             vtep2             vtep3             vtep4      vxrd on each
   192.0.2.1         192.0.2.2         192.0.2.3         192.0.2.4
     |                 |                 |                 :
   vxlan100          vxlan100          vxlan100          vxlan100     VNI 100
   10.0.100.1        10.0.100.2        10.0.100.3        10.0.100.4   (vtep4: later)
     :                                                     :
   vxlan200                                              vxlan200     VNI 200
   10.0.200.1                                            10.0.200.4   (later)`, "\n")

// showStart draws the lab and starts vxsnd.
func (l *lab) showStart(ctx context.Context, o options) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	l.say("Each machine below is a network namespace of this Linux (%s): the VTEPs are VXLAN devices of the kernel, "+
		"the service node is a machine that runs vxsnd. What a VTEP cannot send to one other VTEP (broadcast, unknown "+
		"unicast and multicast: BUM) has to reach every other VTEP of that VXLAN. Either the service node makes the "+
		"copies (parts 2 to 7), or the VTEP itself does (head-end replication, parts 8 to 12).",
		unix.ByteSliceToString(uts.Release[:]))
	l.gap()
	for _, line := range drawing {
		l.row("%s", line)
	}
	l.gap()
	l.began = time.Now()
	var err error
	l.vxsnd, err = l.start(ctx, l.node, "vxsnd", false, "-c", o.config, "-l", "stdout")
	if err != nil {
		return err
	}
	l.showLog(l.vxsnd)
	members, err := l.members(ctx, blue)
	if err != nil {
		return err
	}
	if len(members) != 0 {
		return fmt.Errorf("got %s as the members of VNI %s at the start, want none", addrList(members), blue)
	}
	l.ok("vxsnd is ready. Its configuration names no VTEP and no VXLAN.")
	return nil
}

// showRegistration brings VTEPs up that register.
func (l *lab) showRegistration(ctx context.Context, o options) error {
	l.say("A VXLAN device of a VTEP has the service node as its 'remote': there it sends all BUM packets. vxrd finds the " +
		"device, and registers its VNI and local address with the service node. With head_rep = no that is all it does.")
	l.gap()
	s := design{vni: blue, remote: true}
	for _, m := range l.steady() {
		if m.number == 1 {
			l.typed(m, s)
		}
		if err := m.addDevice(s); err != nil {
			return err
		}
		if err := l.startVxrd(ctx, o, m, m.number > 1, "--head-rep=no"); err != nil {
			return err
		}
	}
	l.showLog(l.vteps[0].vxrd)
	l.gap()
	l.say("The same on vtep2 and vtep3, with their own addresses. The service node knows who is there:")
	l.gap()
	if err := l.waitMembers(ctx, blue, l.steady()...); err != nil {
		return err
	}
	if err := l.typeCtl(ctx, l.vxsnd, "fdb"); err != nil {
		return err
	}
	l.ok("The members of VNI %s are %s: each lives for 90 s (holdtime), and vxrd registers it again every 30 s.", blue, names(l.steady()))
	ps, err := l.node.received()
	if err != nil {
		return err
	}
	if len(ps) != 0 {
		return fmt.Errorf("got %s at the service node before anybody was to send one", count(len(ps), "VXLAN packet"))
	}
	l.ok("No VTEP has sent a VXLAN packet so far: a quiet VTEP gets broadcasts, too.")
	l.gap()
	if err := l.typeCtl(ctx, l.vteps[0].vxrd, "vxlans"); err != nil {
		return err
	}
	vs, err := ask[control.VXLAN](ctx, l.vteps[0].vxrd, control.CommandVXLANs, nil)
	if err != nil {
		return err
	}
	if len(vs) != 1 || !vs[0].Registered || vs[0].Local != l.vteps[0].addr {
		return fmt.Errorf("vxrd of vtep1 does not say that it has registered vxlan%s", blue)
	}
	l.ok("vxrd of vtep1 has registered vxlan%s with the service node.", blue)
	l.gap()
	if err := l.typeFloods(l.vteps[0], blue); err != nil {
		return err
	}
	for _, m := range l.steady() {
		if err := m.wantFloods(blue, nodeAddr); err != nil {
			return err
		}
	}
	l.ok("Each VTEP's kernel sends BUM packets to the service node alone.")
	return nil
}

// startVxrd starts vxrd on a VTEP with some options besides its file.
func (l *lab) startVxrd(ctx context.Context, o options, m *machine, quiet bool, more ...string) (err error) {
	m.vxrd, err = l.start(ctx, m, "vxrd", quiet, append([]string{"-c", o.vxrdConfig, "-l", "stdout"}, more...)...)
	return err
}

// isARP tells whether an inner frame is a broadcast ARP packet.
func isARP(inner []byte) bool {
	p, err := netlab.Decode(inner)
	return err == nil && p.EtherType == unix.ETH_P_ARP && p.EtherDst.String() == netlab.Broadcast.String()
}

// arpTarget returns the address that an ARP request over Ethernet asks for
// (RFC 826).
func arpTarget(inner []byte) (netip.Addr, bool) {
	const (
		operation = 14 + 6
		target    = 14 + 24
		request   = 1
	)
	if !isARP(inner) || len(inner) < target+4 || binary.BigEndian.Uint16(inner[operation:]) != request {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(inner[target:])), true
}

// round returns a duration with the figures that matter.
func round(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// guest returns the VTEP with an address inside a VXLAN.
func (l *lab) guest(vni vxlan.VNI, a netip.Addr) string {
	for _, m := range l.vteps {
		if d := m.devices[vni]; d != nil && d.addr == a {
			return m.Name
		}
	}
	return a.String()
}
