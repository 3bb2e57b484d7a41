// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// headEndOptions are those of vxrd for head-end replication. It registers often,
// so that nobody has to wait.
func headEndOptions() []string {
	return []string{"--svcnode-ip", nodeAddr.String(), "--refresh-rate", "45"}
}

// showHeadEnd changes all VTEPs over to head-end replication.
func (l *lab) showHeadEnd(ctx context.Context, o options) error {
	l.say("A VTEP changes over: its device is made anew without 'remote', and vxrd runs with head_rep = yes, the default. " +
		"It registers as before, takes from the service node's answers who else is there, and gives the device an entry " +
		"for each: a flood list. The kernel then sends a copy to each itself. Here vxrd registers every 2 s, and not every " +
		"30 s (refresh_rate), so that you need not wait.")
	l.gap()
	for _, m := range l.steady() {
		if err := l.changeOver(ctx, o, m); err != nil {
			return err
		}
	}
	l.headEnd = true
	for _, m := range l.steady() {
		if err := m.waitFloods(ctx, blue, without(l.steady(), m)...); err != nil {
			return err
		}
	}
	one := l.vteps[0]
	l.showLog(one.vxrd)
	l.gap()
	l.say("The same on vtep2 and vtep3.")
	l.gap()
	if err := l.typeCtl(ctx, one.vxrd, "vxlans"); err != nil {
		return err
	}
	l.gap()
	if err := l.typeCtl(ctx, one.vxrd, "peers"); err != nil {
		return err
	}
	ls, err := ask[control.FloodList](ctx, one.vxrd, control.CommandPeers, nil)
	if err != nil {
		return err
	}
	if len(ls) != 1 || !slices.Equal(ls[0].Members, addrs(without(l.steady(), one))) {
		return fmt.Errorf("vxrd of vtep1 does not say that vtep2 and vtep3 are its peers")
	}
	l.ok("vxrd of vtep1 was told of the others, without its own address.")
	l.gap()
	if err := l.typeFloods(one, blue); err != nil {
		return err
	}
	for _, m := range l.steady() {
		if err := m.wantFloods(blue, addrs(without(l.steady(), m))...); err != nil {
			return err
		}
	}
	l.ok("Each VTEP's kernel has the two others in its flood list.")
	if err := l.waitMembers(ctx, blue, l.steady()...); err != nil {
		return err
	}
	l.ok("The members at the service node are the same as before.")
	return nil
}

// changeOver gives a VTEP a device without remote and a vxrd that fills its flood
// list.
func (l *lab) changeOver(ctx context.Context, o options, m *machine) error {
	quiet := m.number > 1
	if err := l.stop(ctx, m.vxrd, quiet); err != nil {
		return err
	}
	for _, vni := range []vxlan.VNI{blue, green} {
		if m.devices[vni] == nil {
			continue
		}
		if !quiet {
			l.command(m.Name, "ip link delete vxlan"+vni.String())
		}
		if err := m.deleteDevice(vni); err != nil {
			return err
		}
	}
	s := design{vni: blue}
	if !quiet {
		l.typed(m, s)
	}
	if err := m.addDevice(s); err != nil {
		return err
	}
	return l.startVxrd(ctx, o, m, quiet, headEndOptions()...)
}

// showHeadEndFlood floods from each VTEP.
func (l *lab) showHeadEndFlood(ctx context.Context, _ options) error {
	l.say("vtep1 sends a broadcast once more. The copies come from it directly:")
	err := l.packetTables(ctx, kind{"broadcast", netlab.Broadcast, guestAddr(blue, 255), 46, 0})
	if err != nil {
		return err
	}
	l.ok("Each copy is of the kernel's own making: with the DSCP of the inner packet, and a full TTL.")
	return l.copyTable(ctx, l.steady())
}

// showEnd stops vxrd on all VTEPs.
func (l *lab) showEnd(ctx context.Context, _ options) error {
	l.say("At a stop vxrd removes what it has made, and nothing else (withdraw_on_exit). A restart by systemd keeps it.")
	l.gap()
	for _, m := range l.vteps {
		if err := l.stop(ctx, m.vxrd, m.number > 1); err != nil {
			return err
		}
	}
	if err := l.typeFloods(l.vteps[0], blue); err != nil {
		return err
	}
	for _, m := range l.steady() {
		if err := m.wantFloods(blue, []netip.Addr{}...); err != nil {
			return err
		}
	}
	l.ok("vxrd stopped with status 0 on each VTEP, and the flood lists are empty.")
	return nil
}
