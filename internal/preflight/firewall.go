// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

const (
	conntrackCount = "net/netfilter/nf_conntrack_count"

	trackExplanation = "Connection tracking makes an entry per flow: for each flow that arrives, and one per machine that it is copied to. " +
		"The table fills up and packets are dropped, and each packet costs more time. The rule takes the packets out of it. A firewall " +
		"that lets in what belongs to a connection needs a rule besides that lets these ports in and out. With iptables: " +
		"'iptables -t raw -A PREROUTING -p udp --dport PORT -j CT --notrack', the same for OUTPUT, and with ip6tables."

	natExplanation = "A copy carries the source address of the machine that sent the original, by which the receiver knows where to answer. A rule " +
		"that masquerades or translates it breaks that: the receiver learns a wrong address. Packets that are not tracked are not " +
		"translated either, so that the rule for conntrack is all it takes; a rule in the nat table that accepts these ports first does as well."
)

// firewall checks whether UDP to these ports is tracked or translated.
func (p proc) firewall(ports []uint16) (track, nat Finding) {
	track = Finding{Name: "conntrack", Explanation: trackExplanation}
	nat = Finding{Name: "nat", Explanation: natExplanation}
	both := func(change func(*Finding)) (Finding, Finding) {
		change(&track)
		change(&nat)
		return track, nat
	}
	count, err := p.sysctl(conntrackCount)
	value := setting(conntrackCount, count)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return both(func(f *Finding) {
			f.OK, f.Value, f.Text = true, "no connection tracking", "nothing is tracked or translated in this network namespace"
		})
	case len(ports) == 0:
		return both(func(f *Finding) { f.OK, f.Value, f.Text = true, value, "harmless, since nothing is flooded" })
	}
	rules, err := readRuleset()
	if err != nil {
		return both(func(f *Finding) {
			f.Unknown, f.Value, f.Text = true, value, fmt.Sprintf("the rules of the firewall cannot be read: %v", err)
			if errors.Is(err, unix.EPERM) {
				f.Text = "the rules of the firewall can be read with CAP_NET_ADMIN only: look as root"
			}
		})
	}
	defer rules.close()
	legacy := p.legacyTables()
	v := inspect(rules, ports)
	v.track(&track, value, count > 0, legacy)
	v.translate(&nat, legacy)
	for _, f := range []*Finding{&track, &nat} {
		if !f.OK && !f.Unknown {
			f.Fix = notrackRule(ports)
		}
	}
	return track, nat
}

// legacyTables returns the tables of iptables-legacy in the thread's network
// namespace, as far as the files can be read (root alone can).
func (p proc) legacyTables() map[string]bool {
	tables := make(map[string]bool)
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		b, err := os.ReadFile(filepath.Join(string(p), "thread-self/net", name))
		if err != nil {
			continue
		}
		for _, table := range strings.Fields(string(b)) {
			tables[table] = true
		}
	}
	return tables
}

// A verdict is what the rules of nf_tables do.
type verdict struct {
	tracks     string   // a chain that makes the kernel track, "" for none
	exempt     bool     // all packets to the ports are taken out of it
	translates []string // chains that may translate them if they are tracked
}

func inspect(r *ruleset, ports []uint16) verdict {
	var v verdict
	var families []nftables.TableFamily // in which something tracks
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		if chain := r.tracking(family); chain != "" {
			v.tracks = chain
			families = append(families, family)
		}
	}
	if v.tracks == "" {
		// What else may track is not known to keep to a family.
		families = append(families, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6)
	}
	v.exempt = true
	for _, family := range families {
		for _, port := range ports {
			p := packet{family, port}
			v.exempt = v.exempt && r.untracked(p, nftables.ChainHookPrerouting) && r.untracked(p, nftables.ChainHookOutput)
			for _, ch := range r.bases {
				name := nameOf(ch.Table.Name, ch.Name)
				if !slices.Contains(v.translates, name) && r.reaches(ch, p, isTranslation) {
					v.translates = append(v.translates, name)
				}
			}
		}
	}
	return v
}

func nameOf(table, chain string) string { return "chain " + chain + " of table " + table }

// tracking returns a chain that has the kernel track packets of a family, the
// last one by name; "" if none does.
func (r *ruleset) tracking(family nftables.TableFamily) string {
	last := ""
	for id, rules := range r.rules {
		if id.family != nftables.TableFamilyINet && id.family != family {
			continue
		}
		for _, rule := range rules {
			if slices.ContainsFunc(rule.Exprs, isTracking) {
				last = max(last, nameOf(id.table, id.chain))
			}
		}
	}
	return last
}

// untracked tells whether a rule takes packet p out of tracking at a hook. It has
// to come before tracking itself does.
func (r *ruleset) untracked(p packet, hook *nftables.ChainHook) bool {
	return slices.ContainsFunc(r.bases, func(ch *nftables.Chain) bool {
		return *ch.Hooknum == *hook && *ch.Priority < *nftables.ChainPriorityConntrack && r.reaches(ch, p, isNotrack)
	})
}

// track tells in f whether the packets are tracked. Active is that something is
// in this namespace: iptables-legacy does not show its rules, only what comes
// of them.
func (v verdict) track(f *Finding, value string, active bool, legacy map[string]bool) {
	f.Value = value
	if v.tracks != "" {
		f.Value += ", tracked for " + v.tracks
	}
	switch {
	case v.exempt:
		f.OK, f.Text = true, "packets to the data ports are not tracked"
	case v.tracks == "" && !active && len(legacy) == 0:
		f.OK, f.Text = true, "no rule has connections tracked"
	case legacy["raw"]:
		f.Unknown, f.Text = true, "iptables-legacy has rules that are not shown here: look for one for these ports with 'iptables-legacy -t raw -S'"
	case v.tracks != "" || legacy["nat"] && active:
		f.Text = "each flow to a data port, and each flow of its copies, takes an entry of the table of connections, and packets are dropped when that is full"
	default:
		f.Unknown, f.Text = true, "something tracks connections, or may, that is not among the rules of nft: look for conntrack in 'iptables-legacy-save'"
	}
}

// translate tells in f whether the packets' addresses are translated.
func (v verdict) translate(f *Finding, legacy map[string]bool) {
	switch {
	case len(v.translates) > 0:
		f.Value = "translation in " + some(v.translates)
	case legacy["nat"]:
		f.Value = "iptables-legacy has a nat table"
	default:
		f.OK, f.Value, f.Text = true, "no translation", "no rule translates packets to the data ports"
		return
	}
	switch {
	case v.exempt:
		f.OK, f.Text = true, "packets to the data ports are not tracked and therefore not translated"
	case len(v.translates) > 0:
		f.Text = "the source address of copies may be replaced, and then their receivers learn a wrong one"
	default:
		f.Unknown, f.Text = true, "its rules are not shown here: look for one that covers these ports with 'iptables-legacy -t nat -S'"
	}
}

// isTracking tells whether an expression makes the kernel track connections of
// its family in its namespace.
func isTracking(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Ct, *expr.CtHelper, *expr.CtExpect, *expr.CtTimeout, *expr.Connlimit, *expr.FlowOffload, *expr.SynProxy:
		return true
	case *expr.Match:
		return slices.Contains([]string{"conntrack", "state", "connbytes", "connlabel", "connlimit", "connmark", "helper"}, e.Name)
	case *expr.Target:
		return e.Name == "CT" && !isNotrack(e) || slices.Contains([]string{"CONNMARK", "CONNSECMARK", "SYNPROXY"}, e.Name) || isTranslation(e)
	}
	return isTranslation(e)
}

func isTranslation(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.NAT, *expr.Masq, *expr.Redir:
		return true
	case *expr.Target:
		return slices.Contains([]string{"MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP"}, e.Name)
	}
	return false
}

// isNotrack tells whether an expression takes packets out of tracking. The
// first flag of the target CT says so (linux/netfilter/xt_CT.h, XT_CT_NOTRACK).
func isNotrack(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Notrack:
		return true
	case *expr.Target:
		info, ok := e.Info.(*xt.Unknown)
		return e.Name == "NOTRACK" || e.Name == "CT" && ok && len(*info) > 1 && ((*info)[0]|(*info)[1])&1 != 0
	}
	return false
}

// notrackRule returns the command that takes UDP to the ports out of tracking.
func notrackRule(ports []uint16) string {
	var list []string
	for _, port := range slices.Compact(slices.Sorted(slices.Values(ports))) {
		list = append(list, strconv.Itoa(int(port)))
	}
	chain := func(hook string) string {
		return fmt.Sprintf("chain %s { type filter hook %s priority raw; udp dport { %s } notrack; };", hook, hook, strings.Join(list, ", "))
	}
	return "nft 'table inet untracked { " + chain("prerouting") + " " + chain("output") + " }'"
}
