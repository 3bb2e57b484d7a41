// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	pingSize = 56 // bytes of data, as ping(8) sends
	rounds   = 5  // pings of each pair once everybody is known
)

// A pair is one VTEP that pings another.
type pair struct{ from, to *machine }

// pairs returns all pairs of machines.
func pairs(ms []*machine) []pair {
	var out []pair
	for _, a := range ms {
		for _, b := range ms {
			if a != b {
				out = append(out, pair{a, b})
			}
		}
	}
	return out
}

// ping pings until there is an answer, and returns how long that took.
func (p pair) ping(ctx context.Context, vni vxlan.VNI) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	start := time.Now()
	_, err := p.from.Ping(ctx, p.to.devices[vni].addr, pingSize)
	return time.Since(start), err
}

// showPings pings all pairs, first with ARP and then without.
func (l *lab) showPings(ctx context.Context, _ options) error {
	ms := l.steady()
	before, err := l.marks()
	if err != nil {
		return err
	}
	if l.headEnd {
		l.say("The same again. Now the ARP requests of the first pings go to each other VTEP directly, too.")
	} else {
		l.say("The first ping needs ARP: a broadcast, which goes by the service node. From its copy the kernel of a VTEP " +
			"learns behind which VTEP a MAC address is, and all that follows goes there directly.")
	}
	l.gap()
	ps := pairs(ms)
	first := make(map[pair]time.Duration)
	for _, p := range ps {
		if first[p], err = p.ping(ctx, blue); err != nil {
			return err
		}
	}
	asked, err := l.arps(before)
	if err != nil {
		return err
	}
	between, err := l.marks()
	if err != nil {
		return err
	}
	mean := make(map[pair]time.Duration)
	for _, p := range ps {
		for range rounds {
			took, err := p.ping(ctx, blue)
			if err != nil {
				return err
			}
			mean[p] += took / rounds
		}
	}
	l.row("from    to                    first ping   mean of %d more", rounds)
	for _, p := range ps {
		l.row("%s   %s, %-12s %10s %15s", p.from.Name, p.to.Name, p.to.devices[blue].addr, round(first[p]), round(mean[p]))
	}
	l.gap()
	if l.headEnd {
		l.ok("The first pings sent no packet by the service node: the ARP requests (%s) arrived at both other VTEPs from the "+
			"VTEP that asked.", strings.Join(asked, ", "))
	} else {
		l.ok("The first pings sent %s by the service node, all of them ARP requests (%s).",
			count(len(asked), "packet"), strings.Join(asked, ", "))
	}
	if err := l.wantDirect(between, len(ps)*rounds); err != nil {
		return err
	}
	return l.showLearnedMACs(ms)
}

// arps returns the ARP requests since some marks, as "vtep1 for vtep2", and
// checks which way they went, and that nothing else went by the service node.
func (l *lab) arps(marks map[*machine]int) (asked []string, err error) {
	ps, err := l.node.since(marks[l.node])
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		what, ok := l.arp(p)
		if !ok || l.headEnd {
			return nil, fmt.Errorf("the pings sent a packet by the service node that was not to go there: % x", p.inner)
		}
		asked = append(asked, what)
	}
	if l.headEnd {
		if asked, err = l.headEndARPs(marks); err != nil {
			return nil, err
		}
	}
	if len(asked) == 0 {
		return nil, fmt.Errorf("the pings sent no ARP request")
	}
	return asked, nil
}

// headEndARPs returns the ARP requests that VTEPs have sent to all others.
func (l *lab) headEndARPs(marks map[*machine]int) (asked []string, err error) {
	at := make(map[string]map[*machine]bool)
	for _, m := range l.steady() {
		ps, err := m.since(marks[m])
		if err != nil {
			return nil, err
		}
		for _, p := range ps {
			what, ok := l.arp(p)
			if !ok {
				continue
			}
			if at[what] == nil {
				at[what] = make(map[*machine]bool)
				asked = append(asked, what)
			}
			at[what][m] = true
		}
	}
	for _, what := range asked {
		if want := len(l.steady()) - 1; len(at[what]) != want {
			return nil, fmt.Errorf("the ARP request of %s came to %s, want %d", what, count(len(at[what]), "VTEP"), want)
		}
	}
	slices.Sort(asked)
	return asked, nil
}

// arp describes an ARP request in VNI 100.
func (l *lab) arp(p packet) (string, bool) {
	target, ok := arpTarget(p.inner)
	if !ok || p.vni != blue {
		return "", false
	}
	return fmt.Sprintf("%s for %s", l.byAddr(p.Src), l.guest(blue, target)), true
}

// wantDirect checks that pings went from VTEP to VTEP.
func (l *lab) wantDirect(marks map[*machine]int, answered int) error {
	at, err := l.node.since(marks[l.node])
	if err != nil {
		return err
	}
	if len(at) != 0 {
		return fmt.Errorf("got %d packets at the service node when everybody was known, want none", len(at))
	}
	direct := 0
	for _, m := range l.vteps {
		ps, err := m.since(marks[m])
		if err != nil {
			return err
		}
		for _, p := range ps {
			if bytes.Equal(p.EtherSrc, l.node.mac) {
				return fmt.Errorf("%s got a packet by the service node when everybody was known", m.Name)
			}
			if in, err := netlab.Decode(p.inner); err == nil && in.Protocol == unix.IPPROTO_ICMP {
				direct++
			}
		}
	}
	if direct < 2*answered {
		return fmt.Errorf("got %d ICMP packets directly between the VTEPs, want a request and a reply for %d pings", direct, answered)
	}
	l.ok("Then %s were answered: %d packets went directly between the VTEPs, and none by the service node.",
		count(answered, "ping"), direct)
	return nil
}

// showLearnedMACs shows which VTEP each kernel has learned each MAC behind.
func (l *lab) showLearnedMACs(ms []*machine) error {
	l.ok("No kernel has learned a MAC address behind the service node, but each behind its own VTEP (bridge fdb show):")
	l.gap()
	l.row("at      MAC address                is behind")
	for _, p := range pairs(ms) {
		behind, err := p.from.behind(blue, p.to.devices[blue].mac)
		if err != nil {
			return err
		}
		if behind != p.to.addr {
			return fmt.Errorf("%s has the MAC address of %s behind %s, want %s", p.from.Name, p.to.Name, behind, p.to.addr)
		}
		l.row("%s   %s, %s   %s (%s)", p.from.Name, p.to.Name, p.to.devices[blue].mac, behind, l.byAddr(behind))
	}
	return nil
}

// behind returns the VTEP that m's device has learned a MAC behind, which is
// not valid if it has not. It is an error if any is behind the service node.
func (m *machine) behind(vni vxlan.VNI, mac []byte) (netip.Addr, error) {
	es, err := m.FDB(m.devices[vni].name)
	if err != nil {
		return netip.Addr{}, err
	}
	var found netip.Addr
	for _, e := range es {
		if e.Permanent {
			continue // the all-zero entry, which 'remote' made
		}
		if e.VTEP == nodeAddr {
			return netip.Addr{}, fmt.Errorf("%s has learned %s behind the service node", m.Name, e.MAC)
		}
		if bytes.Equal(e.MAC, mac) {
			found = e.VTEP
		}
	}
	return found, nil
}

// byAddr returns the name of the machine with an address.
func (l *lab) byAddr(a netip.Addr) string {
	for _, m := range append([]*machine{l.node}, l.vteps...) {
		if m.addr == a {
			return m.Name
		}
	}
	return a.String()
}
