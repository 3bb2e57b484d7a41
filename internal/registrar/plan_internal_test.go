// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// addr is netip.MustParseAddr, and the zero Addr for "".
func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func addrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range ss {
		out = append(out, addr(s))
	}
	return out
}

// A device is an up VXLAN device with the address of this machine in tests.
func device(name string, vni vxlan.VNI, remote string) underlay.Device {
	return underlay.Device{
		Name: name, Index: int(vni) + 1000, VNIs: []underlay.DeviceVNI{{VNI: vni, Remote: addr(remote)}},
		Local: addr("10.0.0.1"), Port: 4789, Up: true,
	}
}

func with(d underlay.Device, change func(*underlay.Device)) underlay.Device {
	change(&d)
	return d
}

// testConfig is a configuration of vxrd with these service nodes.
func testConfig(svcnodes ...string) config.Config {
	c := config.DefaultFor(config.Vxrd)
	if len(svcnodes) > 0 {
		c.SvcnodeIPs = addrs(svcnodes...)
		c.SvcnodeIP = c.SvcnodeIPs[0]
	}
	return c
}

func TestPlan(t *testing.T) {
	own := map[netip.Addr]struct{}{addr("10.0.0.1"): {}, addr("10.0.0.9"): {}}
	noRoute := func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("network is unreachable") }
	viaNine := func(netip.Addr) (netip.Addr, error) { return addr("10.0.0.9"), nil }
	noLocal := func(d *underlay.Device) { d.Local = netip.Addr{} }
	tests := []struct {
		name    string
		devices []underlay.Device
		change  func(*config.Config)
		nodes   []string // svcnode_ip
		source  func(netip.Addr) (netip.Addr, error)
		want    []string // "VNI device local nodes", and "VNI device reason" in the order of plan
	}{
		{name: "nothing"},
		{name: "the device's remote", devices: []underlay.Device{device("a", 1, "10.0.0.100")},
			want: []string{"1 a 10.0.0.1 [10.0.0.100]"}},
		{name: "svcnode_ip wins over the remote", devices: []underlay.Device{device("a", 1, "10.0.0.100")}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200]"}},
		{name: "several service nodes", devices: []underlay.Device{device("a", 1, "")}, nodes: []string{"10.0.0.200", "10.0.0.201"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200 10.0.0.201]"}},
		{name: "svcnode is for those without a remote",
			devices: []underlay.Device{device("a", 1, "10.0.0.100"), device("b", 2, "")},
			change:  func(c *config.Config) { c.Svcnode = addr("10.0.0.50") },
			want:    []string{"1 a 10.0.0.1 [10.0.0.100]", "2 b 10.0.0.1 [10.0.0.50]"}},
		{name: "no service node", devices: []underlay.Device{device("a", 1, "")}, want: []string{"1 a no_service_node"}},
		{name: "multicast", devices: []underlay.Device{device("a", 1, "239.0.0.1")},
			change: func(c *config.Config) { c.Svcnode = addr("10.0.0.50") }, want: []string{"1 a multicast"}},
		{name: "svcnode_ip wins over multicast", devices: []underlay.Device{device("a", 1, "239.0.0.1")}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200]"}},
		{name: "down", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Up = false })}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a down"}},
		{name: "another port", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Port = 8472 })}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a port"}},
		{name: "the port of the configuration", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Port = 8472 })},
			nodes: []string{"10.0.0.200"}, change: func(c *config.Config) { c.VXLANPort = 8472 }, want: []string{"1 a 10.0.0.1 [10.0.0.200]"}},
		{name: "another VRF", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.VRF = "red" })}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a vrf"}},
		{name: "in no VRF", devices: []underlay.Device{device("a", 1, "")}, nodes: []string{"10.0.0.200"},
			change: func(c *config.Config) { c.VRF = "red" }, want: []string{"1 a vrf"}},
		{name: "elsewhere", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Elsewhere = true })}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a namespace"}},
		{name: "IPv6 local", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Local = addr("2001:db8::1") })},
			nodes: []string{"10.0.0.200"}, want: []string{"1 a ipv6"}},
		{name: "IPv6 remote", devices: []underlay.Device{device("a", 1, "2001:db8::2")}, nodes: []string{"10.0.0.200"}, want: []string{"1 a ipv6"}},
		{name: "IPv6 service node", devices: []underlay.Device{device("a", 1, "")}, nodes: []string{"2001:db8::2"}, want: []string{"1 a ipv6"}},
		{name: "one of both families", devices: []underlay.Device{device("a", 1, "")}, nodes: []string{"2001:db8::2", "10.0.0.200"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200]"}},
		{name: "local_addr", devices: []underlay.Device{with(device("a", 1, ""), noLocal)}, nodes: []string{"10.0.0.200"}, source: noRoute,
			change: func(c *config.Config) { c.LocalAddr = addr("10.0.0.9") }, want: []string{"1 a 10.0.0.9 [10.0.0.200]"}},
		{name: "IPv6 local_addr", devices: []underlay.Device{with(device("a", 1, ""), noLocal)}, nodes: []string{"10.0.0.200"}, source: noRoute,
			change: func(c *config.Config) { c.LocalAddr = addr("2001:db8::1") }, want: []string{"1 a ipv6"}},
		{name: "by route", devices: []underlay.Device{with(device("a", 1, ""), noLocal)}, nodes: []string{"10.0.0.200"}, source: viaNine,
			want: []string{"1 a 10.0.0.9 [10.0.0.200]"}},
		{name: "no route", devices: []underlay.Device{with(device("a", 1, ""), noLocal)}, nodes: []string{"10.0.0.200", "10.0.0.201"}, source: noRoute,
			want: []string{"1 a no_local_address"}},
		{name: "not of this machine", devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Local = addr("10.0.0.77") })},
			nodes: []string{"10.0.0.200"}, want: []string{"1 a not_local"}},
		{name: "the service node itself", devices: []underlay.Device{device("a", 1, "10.0.0.1")}, want: []string{"1 a self"}},
		{name: "one of several itself", devices: []underlay.Device{device("a", 1, "")}, nodes: []string{"10.0.0.1", "10.0.0.200"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200]"}},
		{name: "twice", devices: []underlay.Device{device("a", 1, ""), device("b", 1, ""), device("c", 1, "")}, nodes: []string{"10.0.0.200"},
			want: []string{"1 a 10.0.0.1 [10.0.0.200]", "1 b twice", "1 c twice"}},
		{name: "twice, the first is down",
			devices: []underlay.Device{with(device("a", 1, ""), func(d *underlay.Device) { d.Up = false }), device("b", 1, "")},
			nodes:   []string{"10.0.0.200"}, want: []string{"1 b 10.0.0.1 [10.0.0.200]", "1 a down"}},
		{name: "many VNIs, and none",
			devices: []underlay.Device{
				with(device("a", 0, ""), func(d *underlay.Device) {
					d.External = true
					d.VNIs = []underlay.DeviceVNI{{VNI: 3}, {VNI: 5, Remote: addr("10.0.0.100")}}
				}),
				device("b", 4, "10.0.0.100"),
				with(device("c", 0, ""), func(d *underlay.Device) { d.External, d.VNIs = true, nil }),
			},
			change: func(c *config.Config) { c.Svcnode = addr("10.0.0.50") },
			want:   []string{"3 a 10.0.0.1 [10.0.0.50]", "4 b 10.0.0.1 [10.0.0.100]", "5 a 10.0.0.1 [10.0.0.100]", "0 c no_vni"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(tt.nodes...)
			if tt.change != nil {
				tt.change(&c)
			}
			p := makePlan(&inputs{Devices: tt.devices, Own: own, Config: &c, Source: tt.source})
			var got []string
			for _, r := range p.Register {
				got = append(got, fmt.Sprint(r.VNI, " ", r.Device.Device, " ", r.Local, " ", r.Nodes))
				if r.Device.VNI != r.VNI || r.Device.Index == 0 {
					t.Errorf("got flood list %+v of VNI %s", r.Device, r.VNI)
				}
			}
			for i := range p.Skipped {
				s := &p.Skipped[i]
				got = append(got, fmt.Sprint(s.VNI, " ", s.Name, " ", s.Reason.word()))
				if text := s.String(); !strings.HasPrefix(text, s.Reason.word()+": ") || strings.Contains(text, "%") {
					t.Errorf("got reason %q", text)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if p.Devices != len(tt.devices) {
				t.Errorf("got %d devices, want %d", p.Devices, len(tt.devices))
			}
		})
	}
}

// Thousands of devices ask the kernel for one route, and share what is the same.
func TestPlanAsksOnce(t *testing.T) {
	var ds []underlay.Device
	for vni := range vxlan.VNI(2000) {
		ds = append(ds, with(device(fmt.Sprintf("vxlan%04d", vni), vni, "10.0.0.100"), func(d *underlay.Device) { d.Local = netip.Addr{} }))
	}
	c := testConfig()
	asked := 0
	p := makePlan(&inputs{Devices: ds, Own: map[netip.Addr]struct{}{addr("10.0.0.1"): {}}, Config: &c, Source: func(netip.Addr) (netip.Addr, error) {
		asked++
		return addr("10.0.0.1"), nil
	}})
	if asked != 1 || len(p.Register) != 2000 {
		t.Errorf("got %d questions and %d registrations, want 1 and 2000", asked, len(p.Register))
	}
	if &p.Register[0].Nodes[0] != &p.Register[1999].Nodes[0] {
		t.Error("got a list of service nodes for each device, want one for all")
	}
}

func TestNodeID(t *testing.T) {
	a, b := nodeID("machine", addr("10.0.0.1")), nodeID("machine", addr("10.0.0.2"))
	if a == b {
		t.Errorf("two namespaces of one machine: got %#x twice", a)
	}
	if c := nodeID("another", addr("10.0.0.1")); c == a {
		t.Errorf("two machines: got %#x twice", c)
	}
	if c := nodeID("machine", addr("10.0.0.1")); c != a {
		t.Errorf("got %#x and then %#x", a, c)
	}
	if a == 0 || a>>48 != 0 {
		t.Errorf("got %#x, want 48 bits", a)
	}
}

func TestMachineID(t *testing.T) {
	if machineID() == "" {
		t.Error("got nothing")
	}
}

func TestLowestLocal(t *testing.T) {
	p := &plan{Register: []registration{{Local: addr("10.0.0.9")}, {Local: addr("10.0.0.10")}, {Local: addr("192.0.2.1")}}}
	if got := p.lowestLocal(); got != addr("10.0.0.9") {
		t.Errorf("got %s, want 10.0.0.9", got)
	}
}
