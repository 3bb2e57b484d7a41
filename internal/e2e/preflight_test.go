// SPDX-License-Identifier: Apache-2.0

package e2e

// Settings of the machine that would be in the way: the log tells them at the
// start, and so do --check-system and vxsndctl show.
//
//	node 192.0.2.254, with a second interface
//	      │
//	── switch ──

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// base adds a rule in a chain of a new table of the machine's firewall.
func (m *machine) base(typ nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority, rule ...expr.Any) {
	m.lab.t.Helper()
	check(m.lab.t, m.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "test"})
		chain := c.AddChain(&nftables.Chain{Table: table, Name: "chain", Type: typ, Hooknum: hook, Priority: priority})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
		return c.Flush()
	}))
}

// stateful looks at connections, which makes the kernel track all packets.
func stateful(n *node) {
	n.lab.t.Helper()
	n.base(nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, &expr.Verdict{Kind: expr.VerdictAccept})
}

// masquerade replaces the source of what leaves.
func masquerade(n *node) {
	n.lab.t.Helper()
	n.base(nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, &expr.Masq{})
}

// A checked setting is one block of what --check-system prints.
type checked struct {
	state, name, fix string
}

// checkSystem runs vxsnd --check-system as the node is configured.
func (n *node) checkSystem(cmd *exec.Cmd) (found []checked, status int) {
	n.lab.t.Helper()
	cmd.Args = append(cmd.Args, "--check-system", "-c", n.file("vxsnd.conf"))
	p := must(n.Start(cmd))(n.lab.t)
	status = must(p.Wait(within(n.lab.t)))(n.lab.t)
	for block := range strings.SplitSeq(p.Output(), "\n\n") {
		head, body, _ := strings.Cut(block, "\n")
		words := strings.Fields(head)
		if len(words) < 3 || !strings.HasPrefix(body, "         ") {
			n.lab.t.Fatalf("got %q, want a state, a name and a value, and text below", block)
		}
		c := checked{state: words[0], name: words[1]}
		if _, fix, ok := strings.Cut(body, "fix: "); ok {
			c.fix, _, _ = strings.Cut(fix, "\n")
		}
		found = append(found, c)
	}
	return found, status
}

func TestStartUpChecks(t *testing.T) {
	t.Parallel()
	const small = "receive_queue = 65536"
	asRoot := func(t *testing.T) *exec.Cmd { return exec.Command(program(t)) }
	asOther := func(t *testing.T) *exec.Cmd { return asNobody(t, unix.CAP_NET_RAW) }
	tests := []struct {
		name    string
		as      func(t *testing.T) *exec.Cmd
		arrange func(n *node)
		config  []string
		warns   []checked
		unknown []string
	}{
		{name: "nothing", as: asRoot, config: []string{small}},
		{
			// Without privilege a firewall's rules are not to be seen.
			name: "receive buffer, unprivileged", as: asOther, config: []string{"receive_queue = 1000000000"}, arrange: stateful,
			warns:   []checked{{name: "rmem_max", fix: "sysctl -w net.core.rmem_max=1000000000"}},
			unknown: []string{"conntrack", "nat"},
		},
		{name: "receive buffer, privileged", as: asRoot, config: []string{"receive_queue = 1000000000"}},
		{
			// All namespaces share it, and only the first one shows it.
			name: "members", as: asRoot, config: []string{small, absent(1, "10.9.0.1")},
			unknown: []string{"gc_thresh3"},
		},
		{
			name: "strict about sources", as: asRoot, config: []string{small},
			arrange: func(n *node) { check(n.lab.t, n.SetSysctl("net.ipv4.conf.eth1.rp_filter", "1")) },
			warns:   []checked{{name: "rp_filter", fix: "sysctl -w net.ipv4.conf.all.rp_filter=2"}},
		},
		{
			name: "forwarding with a shared address", as: asRoot, config: []string{small, "svcnode_ip = " + serviceAddr},
			arrange: func(n *node) {
				check(n.lab.t, n.AddAddr("lo", netip.MustParsePrefix(serviceAddr+"/32")))
				check(n.lab.t, n.SetSysctl("net.ipv4.ip_forward", "1"))
			},
			warns: []checked{{name: "ip_forward", fix: "sysctl -w net.ipv4.ip_forward=0"}},
		},
		{
			name: "forwarding", as: asRoot, config: []string{small},
			arrange: func(n *node) { check(n.lab.t, n.SetSysctl("net.ipv4.ip_forward", "1")) },
		},
		{
			name: "connections are tracked", as: asRoot, config: []string{small, "vxlan_listen_port = 8472"}, arrange: stateful,
			warns: []checked{{name: "conntrack", fix: "nft 'table inet untracked {"}},
		},
		{
			name: "connections are tracked, unprivileged", as: asOther, config: []string{small}, arrange: stateful,
			unknown: []string{"conntrack", "nat"},
		},
		{
			name: "addresses are translated", as: asRoot, config: []string{small}, arrange: masquerade,
			warns: []checked{{name: "conntrack", fix: "nft 'table inet untracked {"}, {name: "nat", fix: "nft 'table inet untracked {"}},
		},
		{
			name: "addresses are translated, but nothing is flooded", as: asRoot, arrange: masquerade,
			config: []string{"no_flood = true"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.idle()
			check(t, netlab.Veth(n.Namespace, "eth1", must(l.Lab.Namespace("other"))(t), "eth0", 0))
			if tt.arrange != nil {
				tt.arrange(n)
			}
			n.startAs(tt.as(t), tt.config...)

			logged := slices.DeleteFunc(lines(n.proc.Output()), func(l map[string]string) bool { return l["check"] == "" })
			if got := values(logged, "check"); !slices.Equal(got, names(tt.warns)) {
				t.Errorf("got checks logged %q, want %q", got, names(tt.warns))
			}
			for i, l := range logged[:min(len(logged), len(tt.warns))] {
				if l["level"] != "warning" || l["msg"] == "" || l["value"] == "" || !strings.HasPrefix(l["fix"], tt.warns[i].fix) {
					t.Errorf("got %q, want a warning with a value and the fix %q", l, tt.warns[i].fix)
				}
			}

			// It opens no socket that the running node has.
			found, status := n.checkSystem(tt.as(t))
			if want := min(len(tt.warns), 1); status != want {
				t.Errorf("got status %d, want %d", status, want)
			}
			if want := []string{"rmem_max", "gc_thresh3", "conntrack", "nat", "rp_filter", "ip_forward"}; !slices.Equal(names(found), want) {
				t.Errorf("got checks %q printed, want %q", names(found), want)
			}
			var warned []checked
			for _, f := range found {
				want := "ok"
				switch i := slices.Index(names(tt.warns), f.name); {
				case i >= 0:
					want = "warn"
					warned = append(warned, f)
				case slices.Contains(tt.unknown, f.name):
					want = "unknown"
				}
				if f.state != want {
					t.Errorf("got %s for %s, want %s", f.state, f.name, want)
				}
			}

			var s control.Status
			check(t, json.Unmarshal([]byte(n.ctl("show", "--json").printed()), &s))
			shown := make([]checked, 0, len(s.Checks))
			for i, c := range s.Checks {
				shown = append(shown, checked{"warn", c.Name, c.Fix})
				if i < len(logged) && c.Text != logged[i]["msg"] {
					t.Errorf("got text %q, want the one of the log, %q", c.Text, logged[i]["msg"])
				}
			}
			if diff := cmp.Diff(append([]checked{}, warned...), shown, cmp.AllowUnexported(checked{})); diff != "" {
				t.Errorf("checks shown are not those printed (-printed +shown)\n%s", diff)
			}
			text := n.ctl("show").printed()
			if got := strings.Contains(text, "Start-up checks that failed"); got != (len(tt.warns) > 0) {
				t.Errorf("got show with failed checks: %t, want them: %t\n%s", got, len(tt.warns) > 0, text)
			}

			// What is a sysctl of the namespace does away with it.
			for _, f := range found {
				setting, ok := strings.CutPrefix(f.fix, "sysctl -w ")
				key, value, _ := strings.Cut(setting, "=")
				if !ok || key == "net.core.rmem_max" {
					continue
				}
				check(t, n.SetSysctl(key, value))
				if _, status := n.checkSystem(tt.as(t)); status != 0 {
					t.Errorf("got status %d after %q, want 0", status, f.fix)
				}
			}
		})
	}
}

func names(cs []checked) (ns []string) {
	for _, c := range cs {
		ns = append(ns, c.name)
	}
	return ns
}

// A configuration that is wrong is told as at a start.
func TestCheckSystemReadsTheConfiguration(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.node()
	n.configure("holdtime = 0")
	cmd := exec.Command(program(t), "--check-system", "-c", n.file("vxsnd.conf"))
	p := must(n.Start(cmd))(t)
	if status := must(p.Wait(within(t)))(t); status != exitConfig || !strings.HasPrefix(p.Output(), "vxsnd: "+n.file("vxsnd.conf")+":1: holdtime: ") {
		t.Errorf("got status %d and %q, want %d and what is wrong", status, p.Output(), exitConfig)
	}
}
