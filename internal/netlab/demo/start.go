// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// drawing is the lab.
var drawing = strings.Split(`                     service node, 192.0.2.254
           vxsnd: VXLAN on UDP port 4789, registrations on 10001
                               |
 ==========================  switch  ==========================  192.0.2.0/24, MTU 1500
     |                 |                 |                 |
   vtep1             vtep2             vtep3             vtep4
   192.0.2.1         192.0.2.2         192.0.2.3         192.0.2.4
     |                 |                 |                 |
   vxlan100          vxlan100          vxlan100          vxlan100     VNI 100
   10.0.100.1        10.0.100.2        10.0.100.3        10.0.100.4
     |                                   |
   vxlan200                            vxlan200                       VNI 200
   10.0.200.1                          10.0.200.3`, "\n")

// showStart draws the lab and starts vxsnd.
func (l *lab) showStart(ctx context.Context, o options) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	l.say("Each machine below is a network namespace of this Linux (%s): the VTEPs are VXLAN devices of the kernel, "+
		"the service node is a machine that runs vxsnd. A VTEP sends what it cannot deliver by itself (broadcast, "+
		"unknown unicast and multicast: BUM) to the service node, which sends a copy to every other VTEP of that VXLAN.",
		unix.ByteSliceToString(uts.Release[:]))
	l.gap()
	for _, line := range drawing {
		l.row("%s", line)
	}
	l.gap()
	l.command("service node", fmt.Sprintf("%s -c %s -l stdout", o.vxsnd, o.config))
	cmd := exec.Command(o.vxsnd, "-c", o.config, "-l", "stdout")
	// Its own process group: a ^C at the terminal is for us, who stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if l.vxsnd, err = l.node.Start(cmd); err != nil {
		return err
	}
	err = until(ctx, "vxsnd to be ready", func() (bool, error) {
		if strings.Contains(l.vxsnd.Output(), "msg=ready") {
			return true, nil
		}
		select {
		case <-l.vxsnd.Done():
			status, _ := l.vxsnd.Wait(ctx)
			return false, fmt.Errorf("vxsnd ended with status %d and did not get ready", status)
		default:
			return false, nil
		}
	})
	l.showLog()
	if err != nil {
		return err
	}
	l.ok("vxsnd is ready. Its configuration names no VTEP and no VXLAN.")
	return nil
}

// showLearning brings the VTEPs up one after the other.
func (l *lab) showLearning(ctx context.Context, _ options) error {
	l.say("A VTEP needs no daemon and no configuration at the service node: 'remote' makes the service node the " +
		"destination of BUM packets, and whoever sends one becomes a member of that VXLAN. arp_notify makes the kernel " +
		"send its first packet, a gratuitous ARP, as soon as the device is up. 'tos inherit' is for part 4. This program " +
		"asks the service node for its members as a registration daemon does.")
	var err error
	if l.agent, err = newAgent(l.vteps[3]); err != nil {
		return err
	}
	for i, m := range l.vteps[:3] {
		l.typed(m, blue, true)
		before, err := l.node.mark()
		if err != nil {
			return err
		}
		start := time.Now()
		if err := m.addDevice(blue, true); err != nil {
			return err
		}
		var first packet
		err = until(ctx, m.Name+"'s first packet at the service node", func() (bool, error) {
			ps, err := l.node.since(before)
			if err != nil || len(ps) == 0 {
				return false, err
			}
			first = ps[0]
			return true, nil
		})
		if err != nil {
			return err
		}
		took := time.Since(start)
		if first.Src != m.addr || first.vni != blue || !isARP(first.inner) {
			return fmt.Errorf("the first packet at the service node is not the gratuitous ARP of %s but from %s in VNI %s",
				m.Name, first.Src, first.vni)
		}
		var members []netip.Addr
		err = until(ctx, m.Name+" to be learned", func() (bool, error) {
			var err error
			members, err = l.agent.ask(ctx, blue)
			return slices.Contains(members, m.addr), err
		})
		if err != nil {
			return err
		}
		if err := wantMembers(blue, members, l.vteps[:i+1]...); err != nil {
			return err
		}
		l.ok("Its gratuitous ARP is at the service node after %s. Members of VNI %s there: %s", round(took), blue, addrList(members))
	}
	return l.showSilent(ctx)
}

// showSilent brings vtep4 up, which sends nothing.
func (l *lab) showSilent(ctx context.Context) error {
	m := l.vteps[3]
	l.gap()
	l.say("vtep4 gets its device without arp_notify and keeps quiet, so nobody can know of it (see part 6).")
	l.typed(m, blue, false)
	if err := m.addDevice(blue, false); err != nil {
		return err
	}
	members, err := l.agent.ask(ctx, blue)
	if err != nil {
		return err
	}
	if err := wantMembers(blue, members, l.vteps[:3]...); err != nil {
		return err
	}
	l.ok("Members of VNI %s at the service node are still %s", blue, addrList(members))
	return nil
}

// typed shows the commands that make a VXLAN device: in full for vtep1, and how
// they differ for the others.
func (l *lab) typed(m *machine, vni vxlan.VNI, notify bool) {
	l.gap()
	if m == l.vteps[0] {
		for _, c := range m.commands(vni, notify) {
			l.command(m.Name, c)
		}
		return
	}
	without := ""
	if !notify {
		without = ", without arp_notify"
	}
	l.row("%s: the same with local %s and address %s/24%s", m.Name, m.addr, guestAddr(vni, m.number), without)
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
