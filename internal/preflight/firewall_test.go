// SPDX-License-Identifier: Apache-2.0

package preflight_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/preflight"
)

const dataPort = 4789

// A firewall makes rules, each in a base chain of a new table.
type firewall struct {
	*nftables.Conn
	tables int
}

func (f *firewall) table(family nftables.TableFamily) *nftables.Table {
	f.tables++
	return f.AddTable(&nftables.Table{Family: family, Name: "t" + string(rune('0'+f.tables))})
}

func (f *firewall) chain(t *nftables.Table, typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, rules ...[]expr.Any) {
	f.rules(f.AddChain(&nftables.Chain{Table: t, Name: "c", Type: typ, Hooknum: hook, Priority: &priority}), rules...)
}

func (f *firewall) rules(c *nftables.Chain, rules ...[]expr.Any) {
	for _, exprs := range rules {
		f.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: exprs})
	}
}

// stateful looks at the state of connections, which makes the kernel track.
func (f *firewall) stateful(family nftables.TableFamily) {
	f.chain(f.table(family), nftables.ChainTypeFilter, nftables.ChainHookInput, 0,
		[]expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, accept})
}

// raw puts a rule into chains that come before tracking.
func (f *firewall) raw(family nftables.TableFamily, hooks []*nftables.ChainHook, rules ...[]expr.Any) {
	for _, hook := range hooks {
		f.chain(f.table(family), nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, rules...)
	}
}

// masquerade replaces the source of packets that pass all conditions.
func (f *firewall) masquerade(rules ...[]expr.Any) {
	f.chain(f.table(nftables.TableFamilyIPv4), nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource, rules...)
}

// iptables puts a rule into the chains of the table that its target asks for.
func (f *firewall) iptables(rule []expr.Any) {
	t := f.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "raw"})
	for name, hook := range map[string]*nftables.ChainHook{"PREROUTING": both[0], "OUTPUT": both[1]} {
		f.rules(f.AddChain(&nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook,
			Priority: nftables.ChainPriorityRaw}), rule)
	}
}

func (f *firewall) set(t *nftables.Table, interval bool, elements ...nftables.SetElement) *expr.Lookup {
	s := &nftables.Set{Table: t, Anonymous: true, Constant: true, Interval: interval, KeyType: nftables.TypeInetService}
	if err := f.AddSet(s, elements); err != nil {
		panic(err)
	}
	return &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}
}

var (
	accept  = &expr.Verdict{Kind: expr.VerdictAccept}
	both    = []*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookOutput}
	inet    = nftables.TableFamilyINet
	loadL4  = &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}
	loadOut = &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}
	dport   = &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
)

func number(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

func is(v ...byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: v} }

func protocol(n byte) []expr.Any { return []expr.Any{loadL4, is(n)} }

// rule is UDP to a port, and what to do with it.
func rule(port uint16, then ...expr.Any) []expr.Any {
	return append(append(protocol(unix.IPPROTO_UDP), dport, is(number(port)...)), then...)
}

func udpTo(condition, then expr.Any) []expr.Any {
	return append(protocol(unix.IPPROTO_UDP), dport, condition, then)
}

func find(t *testing.T, found []preflight.Finding, name string) preflight.Finding {
	t.Helper()
	i := slices.IndexFunc(found, func(f preflight.Finding) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("got no finding %s", name)
	}
	return found[i]
}

func TestFirewall(t *testing.T) {
	ct := &expr.Target{Name: "CT", Rev: 2, Info: ctTarget(1)}
	zone := &expr.Target{Name: "CT", Rev: 2, Info: ctTarget(0)}
	tests := []struct {
		name       string
		rules      func(f *firewall)
		track, nat string

		// blind is that one packet over the loopback interface does not show
		// what the rules do.
		blind bool
	}{
		{"none", func(*firewall) {}, "ok", "ok", false},
		{"stateless", func(f *firewall) {
			f.chain(f.table(inet), nftables.ChainTypeFilter, nftables.ChainHookInput, 0, rule(dataPort, accept))
		}, "ok", "ok", false},
		{"stateful", func(f *firewall) { f.stateful(inet) }, "warn", "ok", false},
		{"stateful in another family", func(f *firewall) { f.stateful(nftables.TableFamilyIPv6) }, "warn", "ok", true},
		{"no tracking of the port", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, rule(dataPort, &expr.Notrack{}))
		}, "ok", "ok", false},
		{"no tracking of what is received", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both[:1], rule(dataPort, &expr.Notrack{}))
		}, "warn", "ok", false},
		{"no tracking of what is sent", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both[1:], rule(dataPort, &expr.Notrack{}))
		}, "warn", "ok", true},
		{"no tracking of another port", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, rule(dataPort+1, &expr.Notrack{}))
		}, "warn", "ok", false},
		{"no tracking of anything", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, []expr.Any{&expr.Notrack{}})
		}, "ok", "ok", false},
		{"no tracking of TCP", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, append(protocol(unix.IPPROTO_TCP), &expr.Notrack{}))
		}, "warn", "ok", false},
		{"no tracking, but too late", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				f.chain(f.table(inet), nftables.ChainTypeFilter, hook, 0, rule(dataPort, &expr.Notrack{}))
			}
		}, "warn", "ok", false},
		{"no tracking, but accepted before", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, rule(dataPort, accept), rule(dataPort, &expr.Notrack{}))
		}, "warn", "ok", false},
		{"no tracking, by IPv4 alone", func(f *firewall) {
			f.stateful(inet)
			f.raw(nftables.TableFamilyIPv4, both, rule(dataPort, &expr.Notrack{}))
		}, "warn", "ok", true},
		{"no tracking of IPv4, and only that is tracked", func(f *firewall) {
			f.stateful(nftables.TableFamilyIPv4)
			f.raw(nftables.TableFamilyIPv4, both, rule(dataPort, &expr.Notrack{}))
		}, "ok", "ok", false},
		{"no tracking of IPv4 by its header", func(f *firewall) {
			f.stateful(nftables.TableFamilyIPv4)
			f.raw(nftables.TableFamilyIPv4, both, []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 9, Len: 1}, is(unix.IPPROTO_UDP),
				dport, is(number(dataPort)...), &expr.Notrack{}})
		}, "ok", "ok", false},
		{"no tracking of IPv4 in a table for both", func(f *firewall) {
			f.stateful(nftables.TableFamilyIPv4)
			f.raw(inet, both, append([]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, is(unix.NFPROTO_IPV4)},
				rule(dataPort, &expr.Notrack{})...))
		}, "ok", "ok", false},
		{"no tracking of a range", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, udpTo(&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: number(4000), ToData: number(5000)}, &expr.Notrack{}))
		}, "ok", "ok", false},
		{"no tracking outside of a range", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, udpTo(&expr.Range{Op: expr.CmpOpNeq, Register: 1, FromData: number(4000), ToData: number(5000)}, &expr.Notrack{}))
		}, "warn", "ok", false},
		{"no tracking of higher ports", func(f *firewall) {
			f.stateful(inet)
			f.raw(inet, both, udpTo(&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: number(dataPort)}, &expr.Notrack{}))
		}, "ok", "ok", false},
		{"no tracking of a set", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				in := f.set(tab, false, nftables.SetElement{Key: number(8472)}, nftables.SetElement{Key: number(dataPort)})
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, udpTo(in, &expr.Notrack{}))
			}
		}, "ok", "ok", false},
		{"no tracking of another set", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				in := f.set(tab, false, nftables.SetElement{Key: number(8472)})
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, udpTo(in, &expr.Notrack{}))
			}
		}, "warn", "ok", false},
		{"no tracking of a set of intervals", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				in := f.set(tab, true, intervals(1, 100, dataPort, 4800)...)
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, udpTo(in, &expr.Notrack{}))
			}
		}, "ok", "ok", false},
		{"no tracking of intervals that touch", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				in := f.set(tab, true, intervals(1, dataPort, dataPort, 4800)...)
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, udpTo(in, &expr.Notrack{}))
			}
		}, "ok", "ok", false},
		{"no tracking of intervals to the left and right", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				in := f.set(tab, true, intervals(1, dataPort, dataPort+1, 4800)...)
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw, udpTo(in, &expr.Notrack{}))
			}
		}, "warn", "ok", false},
		{"no tracking in a chain that is jumped to", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				f.rules(f.AddChain(&nftables.Chain{Table: tab, Name: "d"}), []expr.Any{&expr.Notrack{}})
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw,
					rule(dataPort, &expr.Verdict{Kind: expr.VerdictJump, Chain: "d"}))
			}
		}, "ok", "ok", false},
		{"no tracking in a chain that is jumped to for others", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				f.rules(f.AddChain(&nftables.Chain{Table: tab, Name: "d"}), []expr.Any{&expr.Notrack{}})
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw,
					rule(dataPort+1, &expr.Verdict{Kind: expr.VerdictJump, Chain: "d"}))
			}
		}, "warn", "ok", false},
		{"no tracking behind a chain that is gone to", func(f *firewall) {
			f.stateful(inet)
			for _, hook := range both {
				tab := f.table(inet)
				f.AddChain(&nftables.Chain{Table: tab, Name: "d"})
				f.chain(tab, nftables.ChainTypeFilter, hook, *nftables.ChainPriorityRaw,
					rule(dataPort, &expr.Verdict{Kind: expr.VerdictGoto, Chain: "d"}), []expr.Any{&expr.Notrack{}})
			}
		}, "warn", "ok", false},
		{"no tracking by iptables", func(f *firewall) {
			f.stateful(nftables.TableFamilyIPv4)
			f.iptables(append(protocol(unix.IPPROTO_UDP), udpMatch(dataPort, dataPort), ct))
		}, "ok", "ok", false},
		{"no tracking of another port by iptables", func(f *firewall) {
			f.stateful(nftables.TableFamilyIPv4)
			f.iptables(append(protocol(unix.IPPROTO_UDP), udpMatch(1, dataPort-1), ct))
		}, "warn", "ok", false},
		{"tracking by iptables", func(f *firewall) {
			f.iptables([]expr.Any{zone})
		}, "warn", "ok", false},

		{"masquerade", func(f *firewall) { f.masquerade([]expr.Any{&expr.Masq{}}) }, "warn", "warn", true},
		{"masquerade of TCP", func(f *firewall) {
			f.masquerade(append(protocol(unix.IPPROTO_TCP), &expr.Masq{}))
		}, "warn", "ok", false},
		{"masquerade by an interface", func(f *firewall) {
			f.masquerade([]expr.Any{loadOut, is([]byte("eth0\x00")...), &expr.Masq{}})
		}, "warn", "warn", false},
		{"masquerade of what is not tracked", func(f *firewall) {
			f.masquerade([]expr.Any{&expr.Masq{}})
			f.raw(inet, both, rule(dataPort, &expr.Notrack{}))
		}, "ok", "ok", false},
		{"masquerade of the rest", func(f *firewall) {
			f.masquerade(rule(dataPort, accept), []expr.Any{&expr.Masq{}})
		}, "warn", "ok", false},
		{"masquerade of what does not return", func(f *firewall) {
			f.masquerade(rule(dataPort, &expr.Verdict{Kind: expr.VerdictReturn}), []expr.Any{&expr.Masq{}})
		}, "warn", "ok", false},
		{"masquerade of what may not return", func(f *firewall) {
			f.masquerade([]expr.Any{loadOut, is([]byte("eth0\x00")...), &expr.Verdict{Kind: expr.VerdictReturn}}, []expr.Any{&expr.Masq{}})
		}, "warn", "warn", true},
		{"redirection", func(f *firewall) {
			f.chain(f.table(nftables.TableFamilyIPv4), nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest,
				rule(dataPort, &expr.Redir{}))
		}, "warn", "warn", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ns, err := netlab.Test(t).Namespace("node")
			if err != nil {
				t.Fatal(err)
			}
			err = ns.Do(func() error {
				c, err := nftables.New()
				if err != nil {
					return err
				}
				tt.rules(&firewall{Conn: c})
				if err := c.Flush(); err != nil {
					return err
				}
				found := preflight.Run(preflight.Input{Ports: []uint16{dataPort}})
				track, nat := find(t, found, "conntrack"), find(t, found, "nat")
				if track.State() != tt.track || nat.State() != tt.nat {
					t.Errorf("got %s and %s, want %s and %s\n%+v\n%+v", track.State(), nat.State(), tt.track, tt.nat, track, nat)
				}
				for _, f := range []preflight.Finding{track, nat} {
					if want := f.State() == "warn"; strings.HasPrefix(f.Fix, "nft ") != want {
						t.Errorf("%s: got fix %q, want one: %t", f.Name, f.Fix, want)
					}
				}
				if tracked := trackedByTheKernel(t); !tt.blind && tracked != (tt.track == "warn") {
					t.Errorf("got that the kernel tracks a packet: %t, but the finding %s", tracked, tt.track)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// intervals makes elements of pairs: the first port of each, and the one after
// the last.
func intervals(ports ...uint16) []nftables.SetElement {
	var es []nftables.SetElement
	for i, p := range ports {
		es = append(es, nftables.SetElement{Key: number(p), IntervalEnd: i%2 == 1})
	}
	return es
}

func udpMatch(from, to uint16) *expr.Match {
	return &expr.Match{Name: "udp", Info: &xt.Udp{SrcPorts: [2]uint16{0, 65535}, DstPorts: [2]uint16{from, to}}}
}

// ctTarget is what the target CT of iptables carries (linux/netfilter/xt_CT.h,
// struct xt_ct_target_info_v1).
func ctTarget(flags uint16) *xt.Unknown {
	b := make(xt.Unknown, 72)
	binary.NativeEndian.PutUint16(b, flags)
	return &b
}

// trackedByTheKernel sends a packet to the data port over the loopback
// interface and tells whether an entry comes of it.
func trackedByTheKernel(t *testing.T) bool {
	t.Helper()
	c, err := net.Dial("udp4", "127.0.0.1:4789")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A masquerade has no address for the loopback interface and drops it.
	if _, err := c.Write([]byte("x")); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatal(err)
	}
	count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if errors.Is(err, fs.ErrNotExist) {
		return false // a kernel that has not loaded it yet
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(count)) != "0"
}
