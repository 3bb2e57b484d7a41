// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// check compares options with each other, where each is fine by itself, and
// warns of what does not work yet.
func (l *loader) check(c *Config) {
	if l.program == Vxsnd && l.sound("vxlan_listen_port", "vxlan_port", "vxfld_port", "enable_vxlan_listen", "no_flood") &&
		c.EnableVXLANListen && !c.NoFlood && c.VXLANListenPort == c.VxfldPort {
		l.complain(fmt.Sprintf("vxlan_listen_port and vxfld_port are both %d, but each needs its own port", c.VxfldPort),
			"change one of the two, the defaults are 4789 and 10001", "vxlan_listen_port", "vxlan_port", "vxfld_port")
	}
	if l.sound("vxfld_proxy_servers", "area") && len(c.Tiers.ProxyServers) > 0 && !c.Tiers.HasArea {
		l.complain("needs area to be set", "set area to the number of this node's area", "vxfld_proxy_servers")
	}
	if l.program == Vxsnd && l.sound("install_svcnode_ip", "svcnode_ip") && c.InstallSvcnodeIP && c.SvcnodeIP.IsUnspecified() {
		c.InstallSvcnodeIP = false
		if win := l.winner("install_svcnode_ip"); win != nil {
			l.warnings = append(l.warnings, win.at("nothing is installed, since svcnode_ip is "+c.SvcnodeIP.String(), ""))
		}
	}
	if l.program == Vxsnd && l.sound("install_svcnode_ip", "svcnode_ip", "src_ip") && c.InstallSvcnodeIP && c.SrcIP == c.SvcnodeIP {
		l.warnings = append(l.warnings, l.winner("src_ip").at(c.SrcIP.String()+" is svcnode_ip too, which is taken away when the node stops "+
			"or is not healthy: peers need another address of this node", ""))
	}
	if l.program == Vxsnd && l.sound("engine", "udp_checksum", "enable_udp_chksum") && c.Engine == EngineTC && c.UDPChecksum == ChecksumCompute {
		l.complain("engine = tc makes no checksums, as udp_checksum = compute wants", "choose one of the two, or engine = auto", "udp_checksum", "enable_udp_chksum")
	}
	for i := range table {
		o := &table[i]
		win := l.winner(o.Name)
		if win == nil || o.Programs&l.program == 0 {
			continue
		}
		if text := o.missing(); text != "" && o.Value(c) != o.DefaultFor(l.program) {
			l.warnings = append(l.warnings, win.at(text, ""))
		}
	}
	l.checkMembership(c)
	l.checkVxrd(c)
}

// checkMembership warns of static members that get no copies, because they are
// addresses of service nodes or proxies, or of a family that no data arrives by.
// Names are not resolved here.
func (l *loader) checkMembership(c *Config) {
	if l.program != Vxsnd || !l.sound("vtep_membership") {
		return
	}
	what := make(map[netip.Addr]string)
	for _, p := range c.Tiers.ProxyServers {
		what[p.Addr] = "a proxy (vxfld_proxy_servers)"
	}
	for _, p := range c.SvcnodePeers {
		what[p.Addr] = "a peer (svcnode_peers)"
	}
	what[c.SrcIP] = "src_ip"
	what[c.SvcnodeIP] = "svcnode_ip"
	floods := c.EnableVXLANListen && !c.NoFlood && l.sound("svcnode_ip", "src_ip", "enable_vxlan_listen", "no_flood")
	foreign := func(a netip.Addr) bool {
		return floods && c.SvcnodeIP.Is4() != a.Is4() && (c.SrcIP.IsUnspecified() || c.SrcIP.Is4() != a.Is4())
	}
	var first *Problem // about a foreign one; there may be a million
	strangers := make(map[netip.Addr]bool)
	ss := l.settings[byName["vtep_membership"]]
	for i := range ss {
		ms, err := memberships.parse(ss[i].value)
		if err != nil {
			panic("config: vtep_membership taken and refused: " + err.Error())
		}
		said := make(map[netip.Addr]bool)
		for _, m := range ms {
			switch w := what[m.Addr]; {
			case w != "" && !said[m.Addr]:
				said[m.Addr] = true
				l.warnings = append(l.warnings, ss[i].at(fmt.Sprintf("%s gets no copies, since it is %s: "+
					"change one of the two", m.Addr, w), ""))
			case w == "" && foreign(m.Addr):
				if first == nil {
					first = ss[i].at(fmt.Sprintf("%s gets no copies, since neither svcnode_ip nor src_ip is an address of its family", m.Addr), "")
				}
				strangers[m.Addr] = true
			}
		}
	}
	if first != nil {
		if n := len(strangers) - 1; n > 0 {
			first.Text += fmt.Sprintf("; the same goes for %d more", n)
		}
		l.warnings = append(l.warnings, first)
	}
}

// checkFiles returns what is wrong with the names of the files that the daemon
// writes: each needs a file of its own, which is none that it reads either.
func (l *loader) checkFiles(c *Config, in *Input) Problems {
	users := make(map[string]string)
	if in.File != "" {
		for _, suffix := range []string{"", OverrideSuffix} {
			if name, err := in.absolute(in.File + suffix); err == nil {
				users[name] = "the configuration"
			}
		}
	}
	var ps Problems
	for _, f := range []struct{ option, name string }{
		{"pidfile", c.PIDFile}, {"udsfile", c.UDSFile}, {"statefile", c.StateFile}, {"logdest", c.LogDest.Path},
		{"metrics_listen", metricsFile(c)},
	} {
		if f.name == "" || f.name == os.DevNull || lookup(f.option).Programs&l.program == 0 {
			continue
		}
		user, taken := users[f.name]
		if users[f.name] = f.option; !taken {
			continue
		}
		// A flag is no matter of usage here: it clashes with what stands elsewhere.
		p := &Problem{Key: f.option}
		if s := l.winner(f.option); s != nil && s.flag == "" {
			p = s.at("", "")
		}
		p.Text, p.Hint = fmt.Sprintf("%s is the file of %s, too", f.name, user), "name another file"
		ps = append(ps, p)
	}
	return ps
}

// sound tells whether none of the named options has a problem.
func (l *loader) sound(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return l.bad[n] })
}

// complain adds a problem at the first of the named options that is set.
func (l *loader) complain(text, hint string, names ...string) {
	for _, n := range names {
		if s := l.winner(n); s != nil {
			l.problems = append(l.problems, s.at(text, hint))
			return
		}
	}
	l.problems = append(l.problems, &Problem{Key: names[0], Text: text, Hint: hint})
}

// metricsFile returns the name of the Unix socket that metrics_listen names, ""
// where it names none.
func metricsFile(c *Config) string {
	if strings.HasPrefix(c.MetricsListen, "/") {
		return c.MetricsListen
	}
	return ""
}
