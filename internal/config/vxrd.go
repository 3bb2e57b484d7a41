// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// leastRound is the least time between two rounds of registrations: shorter ones
// are made that long.
const leastRound = 100 * time.Millisecond

// checkVxrd looks at what only vxrd makes use of, or makes another use of.
func (l *loader) checkVxrd(c *Config) {
	if l.program != Vxrd {
		return
	}
	warn := func(option, text string) {
		if s := l.winner(option); s != nil && l.sound(option) {
			l.warnings = append(l.warnings, s.at(text, ""))
		}
	}
	for _, o := range []struct {
		name  string
		addrs []netip.Addr
	}{
		{"svcnode_ip", c.SvcnodeIPs}, {"src_ip", []netip.Addr{c.SrcIP}},
		{"local_addr", []netip.Addr{c.LocalAddr}}, {"svcnode", []netip.Addr{c.Svcnode}},
	} {
		for _, a := range o.addrs {
			// Both wildcards stand for no service node.
			if l.sound(o.name) && a.Is6() && (o.name != "svcnode_ip" || !a.IsUnspecified()) {
				l.complain(fmt.Sprintf("%s is an IPv6 address, but registrations carry IPv4 alone", a), "name an IPv4 address", o.name)
			}
		}
	}
	for _, p := range c.AnswerFrom.Prefixes {
		if p.Addr().Is6() {
			warn("answer_from", fmt.Sprintf("%s holds no sender, since answers come from IPv4 addresses", p))
		}
	}
	if l.sound("svcnode_ip") && c.Svcnode.IsValid() && !c.SvcnodeIP.IsUnspecified() {
		warn("svcnode", "has no effect, since svcnode_ip is set")
	}
	if l.sound("holdtime") && c.Holdtime < HoldtimeStatic && c.Holdtime/time.Duration(c.RefreshRate) < leastRound {
		warn("refresh_rate", fmt.Sprintf("%d in a holdtime of %s is too often: registrations are renewed ten times a second", c.RefreshRate, c.Holdtime))
	}
	if s := l.winner("node_id"); s != nil && c.NodeID == 0 && !strings.EqualFold(s.value, auto) {
		warn("node_id", "0 stands for no machine, and is taken for "+auto)
	}
}
