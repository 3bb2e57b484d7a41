// SPDX-License-Identifier: Apache-2.0

package e2e

// A group of service nodes behind one anycast address that a real routing
// daemon announces: BIRD on each node and on the router.
//
//	      lo 198.51.100.53 on each of them
//	 sn1         sn2         sn3          203.0.113.6, .10, .14
//	  │ BIRD      │ BIRD      │ BIRD
//	  └───────────┼───────────┘
//	        router, BIRD                  three routes to 198.51.100.53
//	  ┌───────────┼───────────┐
//	vtep1       vtep2       vtep3         192.0.2.6, .10, .14
//	  │ vxlan100  │           │           10.0.0.N

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const birdVNI vxlan.VNI = 100

// A site is the lab of a group.
type site struct {
	*lab
	router *netlab.Namespace
	nodes  []*node
	birds  []*netlab.Process // of the nodes
	guests []guest           // VXLAN devices of the VTEPs
	caps   []*netlab.Capture // on those devices
	agents []*agent          // registration daemons of the VTEPs
	proto  routing
	extra  func(i int) []string // further configuration of a node
}

// A routing is a routing protocol: the configurations of BIRD.
type routing struct {
	node   func(i int) string // of node i
	router string
	uses   []int // the nodes that the router uses while all are announced; nil for all
}

// linkAddr returns an address of the link of node or VTEP i: end 1 is the
// router's, end 2 the machine's.
func linkAddr(net string, i, end int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("%s.%d", net, 4*i+end))
}

const nodeNet, vtepNet = "203.0.113", "192.0.2"

// ospf is what docs/operations.md says. The router shares what it has among the
// nodes.
var ospf = routing{
	node: func(i int) string {
		return fmt.Sprintf(`router id %s;
protocol device { scan time 1; }
protocol direct { ipv4; interface "lo"; }
protocol ospf v2 {
    ipv4 { export where source = RTS_DEVICE; };
    area 0 {
        interface "eth0" { hello 1; dead 4; };
    };
}
`, linkAddr(nodeNet, i, 2))
	},
	router: `router id 203.0.113.1;
protocol device { scan time 1; }
protocol kernel { scan time 1; ipv4 { export where net ~ [198.51.100.0/24+]; }; merge paths yes; }
protocol ospf v2 {
    merge external yes;
    ipv4;
    area 0 { interface "sn*" { hello 1; dead 4; }; };
}
`,
}

// bgp is BGP with the router as the neighbour of each node, which is told at once
// of an address that comes or goes. step is how much better each node is than
// the one after it; with 0 the router shares what it has among them.
func bgp(step int) routing {
	const timers = "connect delay time 1; connect retry time 1; error wait time 1, 1;"
	router := `router id 203.0.113.1;
protocol device { scan time 1; }
protocol kernel { scan time 1; ipv4 { export where source = RTS_BGP; }; merge paths yes; }
`
	for i := 1; i <= 3; i++ {
		router += fmt.Sprintf(`protocol bgp sn%d {
    local as 65001; neighbor %s as %d; %s
    ipv4 { import all; export none; preference %d; };
}
`, i, linkAddr(nodeNet, i, 2), 65010+i, timers, 200-step*i)
	}
	var uses []int
	if step > 0 {
		uses = []int{1}
	}
	return routing{
		uses: uses,
		node: func(i int) string {
			return fmt.Sprintf(`router id %s;
protocol device { scan time 1; }
protocol direct { ipv4; interface "lo"; }
protocol bgp uplink {
    local as %d; neighbor %s as 65001; %s
    ipv4 { import none; export where source = RTS_DEVICE; };
}
`, linkAddr(nodeNet, i, 2), 65010+i, linkAddr(nodeNet, i, 1), timers)
		},
		router: router,
	}
}

// newSite returns a site whose router and VTEPs run.
func newSite(t *testing.T, proto routing, extra func(i int) []string) *site {
	t.Helper()
	if _, err := netlab.HasBIRD(); err != nil {
		netlab.Lacks(t, "bird", err)
	}
	l := newLab(t, 0)
	s := &site{lab: l, router: must(l.Lab.Namespace("router"))(t), proto: proto, extra: extra}
	check(t, s.router.SetSysctl("net.ipv4.ip_forward", "1"))
	// As docs/operations.md says: a hash of addresses and ports.
	check(t, s.router.SetSysctl("net.ipv4.fib_multipath_hash_policy", "1"))
	service := netip.MustParseAddr(serviceAddr)
	for i := 1; i <= 3; i++ {
		m := s.spoke(fmt.Sprintf("sn%d", i), nodeNet, i)
		m.addr = service
		s.nodes = append(s.nodes, &node{machine: m})
	}
	s.birds = make([]*netlab.Process, len(s.nodes))
	for i := 1; i <= 3; i++ {
		m := s.spoke(fmt.Sprintf("vtep%d", i), vtepNet, i)
		dev := m.device(s.nodes[0], birdVNI, netlab.VXLAN{MTU: 1450})
		check(t, m.AddAddr(dev, guestAddr(i)))
		s.guests = append(s.guests, guest{m.Namespace, dev, guestAddr(i).Addr(), must(m.Link(dev))(t).MAC, m})
		s.caps = append(s.caps, must(m.Capture(dev))(t))
		a := m.agent(s.nodes[0])
		a.node = nil // routes decide
		s.agents = append(s.agents, a)
	}
	s.bird(s.router, proto.router)
	return s
}

// spoke adds a machine with a link of its own to the router, which has the
// machine's name there.
func (s *site) spoke(name, net string, i int) *machine {
	s.t.Helper()
	m := &machine{Namespace: must(s.Lab.Namespace(name))(s.t), lab: s.lab, addr: linkAddr(net, i, 2)}
	check(s.t, netlab.Veth(s.router, name, m.Namespace, "eth0", 0))
	check(s.t, s.router.AddAddr(name, netip.PrefixFrom(linkAddr(net, i, 1), 30)))
	check(s.t, m.AddAddr("eth0", netip.PrefixFrom(m.addr, 30)))
	check(s.t, m.AddRoute(netlab.Route{To: netip.MustParsePrefix("0.0.0.0/0"), Via: linkAddr(net, i, 1)}))
	m.mac = must(m.Link("eth0"))(s.t).MAC
	m.cap = must(m.Capture("eth0"))(s.t)
	check(s.t, m.cap.Close()) // what counts is what comes out of the VXLAN devices
	return m
}

// bird starts the routing daemon of a machine.
func (s *site) bird(m *netlab.Namespace, config string) *netlab.Process {
	s.t.Helper()
	p := must(m.BIRD(s.t.TempDir(), config))(s.t)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("BIRD of %s:\n%s", m.Name, tail(p.Output()))
		}
	})
	return p
}

// start starts BIRD and vxsnd on nodes, 1 to 3, one after the other.
func (s *site) start(nodes ...int) {
	s.t.Helper()
	for _, i := range nodes {
		s.announce(i)
		s.nodes[i-1].start(s.config(i)...)
	}
}

// announce has BIRD run on node i.
func (s *site) announce(i int) {
	s.t.Helper()
	if s.birds[i-1] == nil {
		s.birds[i-1] = s.bird(s.nodes[i-1].Namespace, s.proto.node(i))
	}
}

// config is the configuration of node i. Nodes learn nothing: a member is known
// everywhere because it has been relayed.
func (s *site) config(i int) []string {
	var peers []string
	for j := range s.nodes {
		peers = append(peers, linkAddr(nodeNet, j+1, 2).String())
	}
	config := []string{
		"svcnode_ip = " + serviceAddr, "src_ip = " + linkAddr(nodeNet, i, 2).String(), "install_svcnode_ip = yes",
		"svcnode_peers = " + strings.Join(peers, ", "), "workers = 1", "learning = off",
	}
	return append(config, s.extra(i)...)
}

// hops returns the nodes, 1 to 3, that the router has routes to the service
// address by.
func (s *site) hops() (nodes []int) {
	s.t.Helper()
	gs := must(s.router.Gateways(host(s.nodes[0].addr), 0))(s.t)
	for i := range s.nodes {
		if slices.Contains(gs, linkAddr(nodeNet, i+1, 2)) {
			nodes = append(nodes, i+1)
		}
	}
	return nodes
}

// waitHops waits until the router uses exactly these nodes.
func (s *site) waitHops(nodes ...int) {
	s.t.Helper()
	var got []int
	err := netlab.Wait(within(s.t), "routes to nodes", func() bool {
		got = s.hops()
		return slices.Equal(got, nodes)
	})
	if err != nil {
		s.t.Fatalf("got routes to nodes %v, want %v: %v", got, nodes, err)
	}
}

// waitAnnounced waits until all nodes are announced, and returns those that the
// router uses: the best ones.
func (s *site) waitAnnounced() (nodes []int) {
	s.t.Helper()
	nodes = s.proto.uses
	if nodes == nil {
		nodes = []int{1, 2, 3}
	}
	s.waitHops(nodes...)
	return nodes
}

// register has all VTEPs register, and waits until each node knows them all.
func (s *site) register() {
	s.t.Helper()
	for i, a := range s.agents {
		a.register(birdVNI, 90, uint64(i+1))
	}
	s.waitMembers()
}

// waitMembers waits until each node knows all VTEPs.
func (s *site) waitMembers() {
	s.t.Helper()
	for _, n := range s.nodes {
		n.waitMembers(birdVNI, s.agents[0].addr, s.agents[1].addr, s.agents[2].addr)
	}
}

// registeredWith returns the node, 1 to 3, that a VTEP has registered with, the
// only one that has it from the VTEP.
func (s *site) registeredWith(a *agent) (node int) {
	s.t.Helper()
	for i, n := range s.nodes {
		for _, e := range n.entries(birdVNI) {
			if e.Address == a.addr && e.Source == "registration" {
				if node != 0 {
					s.t.Errorf("got %s registered with nodes %d and %d, want one", a.Name, node, i+1)
				}
				node = i + 1
			}
		}
	}
	if node == 0 {
		s.t.Fatalf("got %s registered with no node", a.Name)
	}
	return node
}
