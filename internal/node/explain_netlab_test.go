// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A node that floods, and a machine that stands for all VTEPs:
//
//	            eth0 192.0.2.100/24, 2001:db8::100/64 ──── eth0 .1 .2 .3, ::1 ::2
//	node                                                                          far
//	            eth1 198.51.105.254/24, MTU 1400 ───────── eth1 .1
type lab struct {
	*Node
	t         *testing.T
	node, far *netlab.Namespace
	captures  []*netlab.Capture
}

func newLab(t *testing.T) *lab {
	l := netlab.Test(t)
	x := &lab{t: t}
	var err error
	x.node, err = l.Namespace("node")
	check(t, err)
	x.far, err = l.Namespace("far")
	check(t, err)
	check(t, netlab.Veth(x.node, "eth0", x.far, "eth0", 0))
	check(t, netlab.Veth(x.node, "eth1", x.far, "eth1", 1400))
	for _, a := range []struct {
		ns       *netlab.Namespace
		dev, net string
	}{
		{x.node, "eth0", "192.0.2.100/24"}, {x.node, "eth0", "2001:db8::100/64"}, {x.node, "eth1", "198.51.105.254/24"},
		{x.far, "eth0", "192.0.2.1/24"}, {x.far, "eth0", "192.0.2.2/24"}, {x.far, "eth0", "192.0.2.3/24"},
		{x.far, "eth0", "2001:db8::1/64"}, {x.far, "eth0", "2001:db8::2/64"}, {x.far, "eth1", "198.51.105.1/24"},
	} {
		check(t, a.ns.AddAddr(a.dev, netip.MustParsePrefix(a.net)))
	}
	prefix := netip.MustParsePrefix
	for _, r := range []netlab.Route{
		{To: prefix("198.51.100.0/24"), Via: host(2)},
		{To: prefix("198.51.101.0/24"), Kind: netlab.Blackhole},
		{To: prefix("198.51.102.0/24"), Kind: netlab.Unreachable},
		{To: prefix("198.51.103.0/24"), Kind: netlab.Prohibit},
		{To: prefix("198.51.104.0/24"), Kind: netlab.Local, Device: "lo", Table: unix.RT_TABLE_LOCAL},
		{To: prefix("198.51.106.0/24"), Via: host(99)},
	} {
		check(t, x.node.AddRoute(r))
	}
	// A neighbour that is not there is known as such soon.
	for key, value := range map[string]string{"retrans_time_ms": "10", "mcast_solicit": "1"} {
		check(t, x.node.SetSysctl("net.ipv4.neigh.eth0."+key, value))
	}
	for _, dev := range []string{"eth0", "eth1"} {
		c, err := x.far.Capture(dev)
		check(t, err)
		x.captures = append(x.captures, c)
	}

	x.Node = newNode(t, func(c *config.Config) {
		c.Engine = config.EngineRaw // its figures are there at once, and its latency is measured
		c.NoFlood = false
		c.SvcnodeIP, c.SrcIP = host(100), netip.MustParseAddr("2001:db8::100")
		c.SvcnodePeers = []config.Peer{{Addr: host(50), Port: c.VxfldPort}}
		c.Workers = 1
	})
	check(t, x.node.Do(func() error { return x.Listen(t.Context()) }))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	// Without the rest of the node nothing is swept.
	go func() { ended <- x.flooding.run(ctx) }()
	go func() { ended <- x.node.Do(func() error { return x.underlay.Run(ctx, x.guard.setOwn) }) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// until waits until cond holds.
func (x *lab) until(what string, cond func() bool) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	check(x.t, netlab.Wait(ctx, what, cond))
}

// explain asks what would happen to a packet.
func (x *lab) explain(args control.ExplainArgs) (head control.Explanation, dests []control.ExplainedDestination) {
	x.t.Helper()
	first := true
	check(x.t, give(x.t.Context(), x.t, x.Node, control.CommandExplain, args, func(v any) error {
		if first {
			head, first = decoded[control.Explanation](x.t, v), false
		} else {
			dests = append(dests, decoded[[]control.ExplainedDestination](x.t, v)...)
		}
		return nil
	}, nil))
	return head, dests
}

// A fate is what became of a packet: the destinations of copies that arrived, and
// what was counted.
type fate struct {
	Copies  []netip.Addr
	Handed  uint64 // copies that the kernel took
	Drops   map[string]uint64
	Learned uint64
}

// foretold is the fate of a packet by an explanation of it.
func foretold(head control.Explanation, dests []control.ExplainedDestination) fate {
	f := fate{Drops: make(map[string]uint64)}
	if !head.Flooded {
		f.Drops[head.Rule]++
	}
	if head.Learned {
		f.Learned = 1
	}
	for _, d := range dests {
		switch d.Rule {
		case ruleCopy:
			f.Copies = append(f.Copies, d.Address)
			f.Handed++
		case metrics.DropUnresolved.String(), ruleLocal:
			f.Handed++ // and comes to nothing later
		case metrics.DropFamily.String(), metrics.DropUnreachable.String(), metrics.DropRefused.String(), metrics.DropOversize.String():
			f.Drops[d.Rule]++
		}
	}
	return f
}

// flood sends a packet to the node and returns what became of it.
func (x *lab) flood(args control.ExplainArgs, want fate) fate {
	x.t.Helper()
	for _, c := range x.captures {
		check(x.t, c.Reset())
	}
	before := x.flooding.counters()
	d := netlab.Datagram{
		Src: netip.AddrPortFrom(args.Source, 50000), Dst: netip.AddrPortFrom(host(100), vxlan.Port), TTL: uint8(*args.TTL),
		Payload: append(vxlan.AppendHeader(nil, vxlan.VNI(args.VNI)), make([]byte, *args.Length)...),
	}
	if args.Source.Is6() {
		d.Dst = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::100"), vxlan.Port)
	}
	near, err := x.node.Link("eth0")
	check(x.t, err)
	far, err := x.far.Link("eth0")
	check(x.t, err)
	check(x.t, x.far.Send("eth0", d.Frame(near.MAC, far.MAC)))

	var got fate
	look := func() bool {
		now := x.flooding.counters()
		got = fate{Drops: make(map[string]uint64), Handed: now.Copies - before.Copies, Learned: now.Learned - before.Learned}
		for i, count := range now.Drops {
			if count > before.Drops[i] {
				got.Drops[metrics.Drop(i).String()] = count - before.Drops[i]
			}
		}
		for _, c := range x.captures {
			ps, err := c.Packets(func(p *netlab.Packet) bool { return p.Src == args.Source && p.Protocol == unix.IPPROTO_UDP })
			check(x.t, err)
			for _, p := range ps {
				if !slices.Contains(got.Copies, p.Dst) { // or it is a fragment
					got.Copies = append(got.Copies, p.Dst)
				}
			}
		}
		slices.SortFunc(got.Copies, netip.Addr.Compare)
		return cmp.Equal(got, want, cmpopts.EquateComparable(netip.Addr{}))
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	_ = netlab.Wait(ctx, "what was foretold", look) // the difference is shown
	return got
}

// What is explained is what happens.
func TestExplainedIsWhatHappens(t *testing.T) {
	x := newLab(t)
	addr := netip.MustParseAddr
	for _, a := range []string{
		"192.0.2.1", "192.0.2.2", "192.0.2.50", "192.0.2.100", "192.0.2.99", "192.0.2.255",
		"198.51.100.1", "198.51.101.1", "198.51.102.1", "198.51.103.1", "198.51.104.1", "198.51.105.1", "198.51.106.1", "203.0.113.1",
		"2001:db8::2", "2001:db8:9::1",
	} {
		put(t, x.Node, fdb.Operator, 5, addr(a))
	}
	put(t, x.Node, fdb.Configuration, 5, host(2))
	x.table.Apply(clock(), []fdb.Update{{VNI: 5, Addr: host(7), Source: fdb.Operator, Holdtime: 1}})
	put(t, x.Node, fdb.Operator, 6, host(1), host(50))
	x.until("the neighbour to fail", func() bool {
		check(t, x.node.Do(func() error { return send("192.0.2.99:9") }))
		_, failed := x.underlay.Unresolved()[host(99)]
		return failed
	})

	rules := map[string]string{
		"192.0.2.1": "sender", "192.0.2.2": "copy", "192.0.2.7": "expired", "192.0.2.50": "service_node", "192.0.2.99": "unresolved",
		"192.0.2.100": "service_node", "192.0.2.255": "refused",
		"198.51.100.1": "copy", "198.51.101.1": "unreachable", "198.51.102.1": "unreachable", "198.51.103.1": "refused",
		"198.51.104.1": "local", "198.51.105.1": "copy", "198.51.106.1": "unresolved", "203.0.113.1": "unreachable",
		"2001:db8::2": "family", "2001:db8:9::1": "family",
	}
	with := func(changes ...string) map[string]string {
		m := maps.Clone(rules)
		for i := 0; i < len(changes); i += 2 {
			m[changes[i]] = changes[i+1]
		}
		return m
	}
	all := func(rule string, others ...string) map[string]string {
		m := make(map[string]string)
		for a, r := range rules {
			if m[a] = rule; r == "sender" || r == "expired" || r == "service_node" {
				m[a] = r
			}
		}
		for i := 0; i < len(others); i += 2 {
			m[others[i]] = others[i+1]
		}
		return m
	}
	tests := []struct {
		name     string
		vni      uint32
		source   string
		ttl, len int
		drop     bool // oversize = drop
		rule     string
		learned  bool
		rules    map[string]string
	}{
		{name: "of a member", vni: 5, source: "192.0.2.1", rule: "flooded", rules: rules},
		{name: "of somebody else", vni: 5, source: "192.0.2.3", rule: "flooded", learned: true, rules: with("192.0.2.1", "copy")},
		{name: "of one who was learned", vni: 5, source: "192.0.2.3", rule: "flooded", rules: with("192.0.2.1", "copy", "192.0.2.3", "sender")},
		{name: "in fragments", vni: 5, source: "192.0.2.1", len: 1400, rule: "flooded", rules: with("192.0.2.3", "copy")},
		{name: "too large", vni: 5, source: "192.0.2.1", len: 1400, drop: true, rule: "flooded", rules: with("192.0.2.3", "copy", "198.51.105.1", "oversize")},
		{name: "with its last TTL", vni: 5, source: "192.0.2.1", ttl: 1, rule: "ttl", rules: all("ttl", "192.0.2.3", "ttl")},
		{name: "over IPv6", vni: 5, source: "2001:db8::1", rule: "flooded", learned: true, rules: all("family",
			"192.0.2.1", "family", "192.0.2.3", "family", "2001:db8::2", "copy", "2001:db8:9::1", "unreachable")},
		{name: "of a peer", vni: 5, source: "192.0.2.50", rule: "service_node"},
		{name: "of nobody", vni: 5, source: "0.0.0.1", rule: "source"},
		{name: "to nobody", vni: 6, source: "192.0.2.1", rule: "no_member", rules: map[string]string{"192.0.2.1": "sender", "192.0.2.50": "service_node"}},
		{name: "in an unknown VNI", vni: 7, source: "192.0.2.1", rule: "no_member", learned: true},
	}
	check(t, x.configure(func(c *config.Config) { c.Learning = config.LearnAny }))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x.t = t
			if tt.ttl == 0 {
				tt.ttl = 64
			}
			check(t, x.configure(func(c *config.Config) {
				if c.Oversize = config.OversizeFragment; tt.drop {
					c.Oversize = config.OversizeDrop
				}
			}))
			args := control.ExplainArgs{VNI: tt.vni, Source: addr(tt.source), TTL: &tt.ttl, Length: &tt.len}
			head, dests := x.explain(args)
			got := make(map[string]string)
			copies := 0
			for _, d := range dests {
				got[d.Address.String()] = d.Rule
				if d.Copy != (d.Rule == ruleCopy) {
					t.Errorf("%s: got copy %v by rule %s", d.Address, d.Copy, d.Rule)
				}
				if d.Copy {
					copies++
				} else if d.Text == "" {
					t.Errorf("%s: got no words for rule %s", d.Address, d.Rule)
				}
			}
			if diff := cmp.Diff(fmt.Sprint(tt.rules), fmt.Sprint(got)); diff != "" {
				t.Errorf("destinations (-want +got):\n%s", cmp.Diff(tt.rules, got))
			}
			if !slices.IsSortedFunc(dests, func(a, b control.ExplainedDestination) int { return a.Address.Compare(b.Address) }) {
				t.Errorf("got %v, want them sorted by address", dests)
			}
			if head.Rule != tt.rule || head.Flooded != (tt.rule == ruleFlooded) || head.Learned != tt.learned || head.Copies != copies || head.Text == "" {
				t.Errorf("got %+v, want rule %s, learned %v and %d copies", head, tt.rule, tt.learned, copies)
			}
			want := foretold(head, dests)
			if diff := cmp.Diff(want, x.flood(args, want), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("fate (-foretold +real):\n%s", diff)
			}
		})
	}
	x.t = t

	_, dests := x.explain(control.ExplainArgs{VNI: 5, Source: host(1)})
	i := slices.IndexFunc(dests, func(d control.ExplainedDestination) bool { return d.Address == host(2) })
	if d := dests[i]; d.Device != "eth0" || d.Gateway.IsValid() || !slices.Equal(d.Sources, []string{"operator", "configuration"}) {
		t.Errorf("got %+v, want it by eth0 and two sources", d)
	}
	i = slices.IndexFunc(dests, func(d control.ExplainedDestination) bool { return d.Address == addr("198.51.100.1") })
	if d := dests[i]; d.Device != "eth0" || d.Gateway != host(2) {
		t.Errorf("got %+v, want it by %s", d, host(2))
	}
	// Who asks does not send, and all that was sent was counted.
	total := x.flooding.counters()
	if total.Packets != uint64(len(tests)) {
		t.Errorf("got %d packets, want the %d of the test", total.Packets, len(tests))
	}
	f := x.Figures()
	sum := f.Other
	for _, v := range f.VNIs {
		sum = sum.Plus(v.VNICount)
	}
	if f.Engine != "raw" || f.Flood.Packets != total.Packets || sum.Packets != total.Packets || sum.Copies != total.Copies || f.Latency.Count == 0 {
		t.Errorf("got engine %s, %d packets, %d of all VNIs, %d in the latency, want %d", f.Engine, f.Flood.Packets, sum.Packets, f.Latency.Count, total.Packets)
	}
}

// configure puts a changed configuration in force.
func (x *lab) configure(change func(*config.Config)) error {
	cfg := x.config()
	change(&cfg)
	c, err := x.Prepare(cfg)
	if err == nil {
		c.Commit()
	}
	return err
}
