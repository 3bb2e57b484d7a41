// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vxsnd/internal/vxlan"
)

// showComing adds a VTEP while all runs, and removes it.
func (l *lab) showComing(ctx context.Context, o options) error {
	m := l.vteps[3]
	l.say("vxrd follows the devices of its machine. On vtep4 it runs before there is one.")
	l.gap()
	if err := l.startVxrd(ctx, o, m, false, "--head-rep=no"); err != nil {
		return err
	}
	s := design{vni: blue, remote: true}
	l.typed(m, s)
	start := time.Now()
	if err := m.addDevice(s); err != nil {
		return err
	}
	if err := l.waitMembers(ctx, blue, l.vteps...); err != nil {
		return err
	}
	l.ok("vtep4 is a member %s after the start of 'ip link add': vxrd waits 50 ms for what else changes.", round(time.Since(start)))
	if err := l.pingAll(ctx, blue, l.vteps); err != nil {
		return err
	}
	if err := l.copyTable(ctx, l.vteps); err != nil {
		return err
	}
	if err := l.leave(ctx, m); err != nil {
		return err
	}
	l.gap()
	if err := l.typeCtl(ctx, l.vxsnd, "fdb"); err != nil {
		return err
	}
	if err := l.copyTable(ctx, l.steady()); err != nil {
		return err
	}
	return l.stop(ctx, m.vxrd, true)
}

// leave removes the device of a VTEP, and waits until it is no member any more.
func (l *lab) leave(ctx context.Context, m *machine) error {
	l.gap()
	l.command(m.Name, "ip link delete vxlan"+blue.String())
	start := time.Now()
	if err := m.deleteDevice(blue); err != nil {
		return err
	}
	if err := l.waitMembers(ctx, blue, l.steady()...); err != nil {
		return err
	}
	l.ok("%s is no member any more, %s after 'ip link delete': vxrd has withdrawn it.", m.Name, round(time.Since(start)))
	return nil
}

// pingAll pings all pairs of machines.
func (l *lab) pingAll(ctx context.Context, vni vxlan.VNI, ms []*machine) error {
	ps := pairs(ms)
	for _, p := range ps {
		if _, err := p.ping(ctx, vni); err != nil {
			return err
		}
	}
	l.ok("%s ping each other in VNI %s: %s, all answered.", names(ms), vni, count(len(ps), "pair"))
	return nil
}

// showIsolation adds a second VXLAN, with a VTEP that does not register.
func (l *lab) showIsolation(ctx context.Context, _ options) error {
	one, four := l.vteps[0], l.vteps[3]
	l.say("vtep1 gets a second VXLAN device, with VNI %s, which vxrd registers. So does vtep4, but vxrd does not run there: "+
		"the service node learns a VTEP from the first BUM packet that it sends. arp_notify makes the kernel send one, a "+
		"gratuitous ARP, as soon as the device is up.", green)
	l.gap()
	for _, s := range []design{{vni: green, remote: true}, {vni: green, remote: true, notify: true}} {
		m, want := one, []*machine{one}
		if s.notify {
			m, want = four, []*machine{one, four}
		}
		l.typed(m, s)
		if err := m.addDevice(s); err != nil {
			return err
		}
		if err := l.waitMembers(ctx, green, want...); err != nil {
			return err
		}
	}
	if err := l.typeCtl(ctx, l.vxsnd, "fdb"); err != nil {
		return err
	}
	l.ok("The members of VNI %s are vtep1, which has registered, and vtep4, which was learned.", green)
	if err := l.pingAll(ctx, green, []*machine{one, four}); err != nil {
		return err
	}
	for _, try := range []struct {
		vni     vxlan.VNI
		members []*machine
	}{{green, []*machine{four}}, {blue, l.vteps[1:3]}} {
		if _, err := l.flood(ctx, one, try.vni, broadcast(try.vni), try.members...); err != nil {
			return err
		}
		l.ok("A broadcast of vtep1 in VNI %s: a copy at %s, out of vxlan%s alone, and none anywhere else.",
			try.vni, names(try.members), try.vni)
	}
	return nil
}

// showHeadEndComing adds a VTEP while all replicate themselves, and removes it.
func (l *lab) showHeadEndComing(ctx context.Context, o options) error {
	m := l.vteps[3]
	l.command(m.Name, "ip link delete vxlan"+green.String())
	if err := m.deleteDevice(green); err != nil {
		return err
	}
	began := time.Now()
	s := design{vni: blue}
	l.typed(m, s)
	if err := m.addDevice(s); err != nil {
		return err
	}
	if err := l.startVxrd(ctx, o, m, false, headEndOptions()...); err != nil {
		return err
	}
	for _, of := range l.vteps {
		if err := of.waitFloods(ctx, blue, without(l.vteps, of)...); err != nil {
			return err
		}
	}
	l.ok("vtep4 has the three others in its flood list, and they have vtep4: after %.1f s.", time.Since(began).Seconds())
	if err := l.pingAll(ctx, blue, l.vteps); err != nil {
		return err
	}
	if err := l.copyTable(ctx, l.vteps); err != nil {
		return err
	}
	if err := l.leave(ctx, m); err != nil {
		return err
	}
	l.gap()
	wait := fmt.Sprintf("Ours will have run that long in %.0f s:", time.Until(l.began.Add(trial)).Seconds())
	if time.Since(l.began) > trial {
		wait = "Ours has run longer than that:"
	}
	l.say("The others take vtep4 off their lists when an answer of the service node leaves it out. For its first %d s a "+
		"service node says that its answers may leave out members, since these have yet to register again after its "+
		"restart, and vxrd takes nobody off a list then. %s", trial/time.Second, wait)
	err := within(ctx, trial+patience, "vtep4 to be gone from all flood lists", func() (bool, error) {
		for _, of := range l.steady() {
			to, err := of.floods(blue)
			if err != nil || slices.Contains(to, m.addr) {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	l.gap()
	if err := l.typeFloods(l.vteps[0], blue); err != nil {
		return err
	}
	for _, of := range l.steady() {
		if err := of.wantFloods(blue, addrs(without(l.steady(), of))...); err != nil {
			return err
		}
	}
	l.ok("vtep4 is gone from the flood lists, and everybody else has stayed.")
	if time.Since(l.began) < trial {
		return fmt.Errorf("vtep4 was taken off flood lists before the service node had run for %s", trial)
	}
	return l.copyTable(ctx, l.steady())
}

// trial is how long the answers of a service node are not the whole truth
// (PROTOCOL, field partial).
const trial = 90 * time.Second
