// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// showIsolation adds a second VXLAN and floods in both.
func (l *lab) showIsolation(ctx context.Context, _ options) error {
	one, three := l.vteps[0], l.vteps[2]
	l.say("%s and %s get a second VXLAN device, with VNI %s; %s does not.", one.Name, three.Name, green, l.vteps[1].Name)
	for _, m := range []*machine{one, three} {
		l.typed(m, green, true)
		if err := m.addDevice(green, true); err != nil {
			return err
		}
		err := until(ctx, m.Name+" to be learned", func() (bool, error) {
			members, err := l.agent.ask(ctx, green)
			return slices.Contains(members, m.addr), err
		})
		if err != nil {
			return err
		}
	}
	for _, vni := range []vxlan.VNI{blue, green} {
		members, err := l.agent.ask(ctx, vni)
		if err != nil {
			return err
		}
		want := l.vteps[:3]
		if vni == green {
			want = []*machine{one, three}
		}
		if err := wantMembers(vni, members, want...); err != nil {
			return err
		}
		l.ok("Members of VNI %s at the service node: %s", vni, addrList(members))
	}
	for _, p := range pairs([]*machine{one, three}) {
		if _, err := p.ping(ctx, green); err != nil {
			return err
		}
	}
	l.ok("%s and %s ping each other in VNI %s", one.Name, three.Name, green)
	for _, try := range []struct {
		vni     vxlan.VNI
		members []*machine
	}{{green, []*machine{three}}, {blue, l.vteps[1:3]}} {
		if _, err := l.flood(ctx, one, try.vni, broadcast(try.vni), try.members...); err != nil {
			return err
		}
		l.ok("A broadcast of %s in VNI %s: a copy at %s, out of vxlan%s alone, and none anywhere else",
			one.Name, try.vni, names(try.members), try.vni)
	}
	return nil
}

// showRegistration makes vtep4 a member by registration.
func (l *lab) showRegistration(ctx context.Context, _ options) error {
	one, quiet := l.vteps[0], l.vteps[3]
	if err := l.wantUnreachable(ctx, pair{one, quiet}); err != nil {
		return err
	}
	l.gap()
	l.say("A learned member is forgotten when the service node has got nothing from it for 90 seconds (holdtime). A VTEP " +
		"that may be quiet for longer registers: a daemon on it tells the service node, every 30 seconds or so, which VXLANs it is a member " +
		"of. Here this program sends vtep4's registrations, in each version of the protocol that is in the field, and " +
		"after each answer of the service node vtep1 sends a broadcast:")
	l.gap()
	l.row("                                        members of VNI %s       copies of the broadcast at", blue)
	l.row("version  message                bytes  in the answer: 192.0.2  vtep2   vtep3   vtep4")
	for _, v := range []vxfld.Version{vxfld.V1, vxfld.V2, vxfld.V3} {
		for _, holdtime := range []uint32{vxfld.HoldtimeDefault, vxfld.HoldtimeWithdraw} {
			if err := l.registerRow(ctx, v, holdtime); err != nil {
				return err
			}
		}
	}
	l.gap()
	if err := l.showExpiry(ctx); err != nil {
		return err
	}
	if _, _, err := l.agent.register(ctx, vxfld.V3, blue, vxfld.HoldtimeDefault); err != nil {
		return err
	}
	for _, p := range []pair{{one, quiet}, {quiet, one}} {
		if _, err := p.ping(ctx, blue); err != nil {
			return err
		}
	}
	l.ok("Registered again: vtep1 and vtep4 ping each other.")
	ps, err := l.node.received()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(ps, func(p packet) bool { return p.Src == quiet.addr }) {
		return fmt.Errorf("%s was to send nothing to port %d of the service node, and did", quiet.Name, vxlan.Port)
	}
	l.ok("In all this time vtep4 has not sent a single VXLAN packet to the service node.")
	return nil
}

// wantUnreachable checks that a ping stays without an answer.
func (l *lab) wantUnreachable(ctx context.Context, p pair) error {
	const silence = 500 * time.Millisecond
	short, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, err := p.from.Ping(short, p.to.devices[blue].addr, pingSize)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		return fmt.Errorf("%s reaches %s, of which nobody should know", p.from.Name, p.to.Name)
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	l.ok("%s pings %s, which has a VXLAN device but has never sent anything: no answer.", p.from.Name, p.to.Name)
	return nil
}

// registerRow registers or withdraws vtep4 and shows what a broadcast of vtep1
// becomes then.
func (l *lab) registerRow(ctx context.Context, v vxfld.Version, holdtime uint32) error {
	members, size, err := l.agent.register(ctx, v, blue, holdtime)
	if err != nil {
		return err
	}
	n, what := 4, fmt.Sprintf("member for %d seconds", holdtime)
	if holdtime == vxfld.HoldtimeWithdraw {
		n, what = 3, "withdrawn"
	}
	if err := wantMembers(blue, members, l.vteps[:n]...); err != nil {
		return err
	}
	f, err := l.flood(ctx, l.vteps[0], blue, broadcast(blue), l.vteps[1:n]...)
	if err != nil {
		return err
	}
	short := ""
	for _, a := range members {
		short += fmt.Sprintf(" .%d", a.As4()[3])
	}
	l.row("%7d  %-22s %5d %-24s %5d %7d %7d", v, what, size, short,
		len(f.copies[l.vteps[1]]), len(f.copies[l.vteps[2]]), len(f.copies[l.vteps[3]]))
	return nil
}

// showExpiry registers vtep4 for a short time and lets that pass.
func (l *lab) showExpiry(ctx context.Context) error {
	const holdtime = 2
	if _, _, err := l.agent.register(ctx, vxfld.V3, blue, holdtime); err != nil {
		return err
	}
	registered := time.Now()
	if _, err := l.flood(ctx, l.vteps[0], blue, broadcast(blue), l.vteps[1:]...); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(registered.Add(holdtime*time.Second + expiryGrain))):
	}
	f, err := l.flood(ctx, l.vteps[0], blue, broadcast(blue), l.vteps[1:3]...)
	if err != nil {
		return err
	}
	members, err := l.agent.ask(ctx, blue)
	if err != nil {
		return err
	}
	if err := wantMembers(blue, members, l.vteps[:3]...); err != nil {
		return err
	}
	l.ok("A registration for %d seconds that nobody renews: 1 copy at vtep4 right away, %d after %s.",
		holdtime, len(f.copies[l.vteps[3]]), time.Since(registered).Round(10*time.Millisecond))
	return nil
}

// expiryGrain is how far the service node's clock may lag behind: it reads the
// kernel's once per batch of packets.
const expiryGrain = 20 * time.Millisecond
