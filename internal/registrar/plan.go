// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// A registration is what one VNI of a device registers.
type registration struct {
	VNI    vxlan.VNI
	Device headend.Key
	Local  netip.Addr
	Nodes  []netip.Addr // service nodes, distinct; shared by many, so never changed
	Remote netip.Addr   // default destination of the device; zero for none
}

// A skip is a VNI of a device that is not registered, or a device without any.
type skip struct {
	VNI    vxlan.VNI
	HasVNI bool
	Name   string
	Index  int
	Local  netip.Addr
	Nodes  []netip.Addr
	Up     bool
	Reason reason
	Other  string // what the reason is about
}

// A reason says why a VNI is not registered. Its word is stable.
type reason uint8

const (
	reasonDown reason = iota
	reasonPort
	reasonVRF
	reasonElsewhere
	reasonNoVNI
	reasonMulticast
	reasonNoNode
	reasonIPv6
	reasonNoRoute
	reasonForeign
	reasonSelf
	reasonTwice
	numReasons
)

var reasons = [numReasons]struct{ word, text string }{
	reasonDown:      {"down", "the device is down"},
	reasonPort:      {"port", "the device sends to port %s"},
	reasonVRF:       {"vrf", "the underlay of the device is %s"},
	reasonElsewhere: {"namespace", "the underlay of the device is in another network namespace"},
	reasonNoVNI:     {"no_vni", "the device carries no VNI"},
	reasonMulticast: {"multicast", "the device floods to the multicast group %s, and svcnode_ip is not set"},
	reasonNoNode:    {"no_service_node", "no service node: the device has no remote address, and neither svcnode_ip nor svcnode is set"},
	reasonIPv6:      {"ipv6", "%s is an IPv6 address, and registrations carry IPv4 alone"},
	reasonNoRoute:   {"no_local_address", "no local address: the device has none, local_addr is not set, and there is no route to the service node %s"},
	reasonForeign:   {"not_local", "the local address %s is not of this machine"},
	reasonSelf:      {"self", "the local address %s is the service node's own"},
	reasonTwice:     {"twice", "the device %s registers this VNI"},
}

// word is the stable word of the reason.
func (r reason) word() string { return reasons[r].word }

// passes tells whether the reason is one that goes by itself: the device is there,
// and what it floods goes on to its list.
func (r reason) passes() bool {
	return r == reasonDown || r == reasonNoRoute || r == reasonForeign
}

// String says in words why the VNI is not registered, after the stable word.
func (s *skip) String() string {
	r := reasons[s.Reason]
	if s.Other == "" {
		return r.word + ": " + r.text
	}
	return r.word + ": " + fmt.Sprintf(r.text, s.Other)
}

// fields are what the log says of it.
func (s *skip) fields() logrus.Fields {
	f := logrus.Fields{"iface": s.Name, "reason": s.String()}
	if s.HasVNI {
		f["vni"] = s.VNI
	}
	return f
}

// A plan is what is to be registered.
type plan struct {
	Devices  int
	Register []registration          // ascending VNIs, each once
	Skipped  []skip                  // ascending VNIs, then names
	Routed   bool                    // it depends on routes
	Nodes    map[netip.Addr]struct{} // all service nodes of what is registered
}

// nothing returns why nothing is registered, if there are devices for it that are
// up: one of the reasons.
func (p *plan) nothing() *skip {
	if len(p.Register) > 0 {
		return nil
	}
	for i := range p.Skipped {
		if s := &p.Skipped[i]; s.Up && s.Reason != reasonDown {
			return s
		}
	}
	return nil
}

// newSkips returns what a plan skips and the one before did not, or not for this
// reason.
func newSkips(before, now *plan) (skips []*skip) {
	key := func(s *skip) string { return fmt.Sprint(s.VNI, s.Name, " ", s) }
	was := make(map[string]struct{}, len(before.Skipped))
	for i := range before.Skipped {
		was[key(&before.Skipped[i])] = struct{}{}
	}
	for i := range now.Skipped {
		s := &now.Skipped[i]
		if _, ok := was[key(s)]; !ok {
			skips = append(skips, s)
		}
	}
	return skips
}

// inputs are what a plan is made of.
type inputs struct {
	Devices []underlay.Device // sorted by name
	Own     map[netip.Addr]struct{}
	Config  *config.Config
	// Source returns the address that a route to a service node would use.
	Source func(to netip.Addr) (netip.Addr, error)
}

// makePlan decides what is registered where. It asks for a source once for each
// service node at most.
func makePlan(in *inputs) *plan {
	b := planner{inputs: in, plan: &plan{Devices: len(in.Devices), Nodes: make(map[netip.Addr]struct{})}, single: make(map[netip.Addr][]netip.Addr), sources: make(map[netip.Addr]netip.Addr)}
	b.service = serviceNodes(in.Config)
	taken := make(map[vxlan.VNI]string)
	for i := range in.Devices {
		d := &in.Devices[i]
		if len(d.VNIs) == 0 {
			b.Skipped = append(b.Skipped, skip{Name: d.Name, Index: d.Index, Local: d.Local, Up: d.Up, Reason: reasonNoVNI})
		}
		for _, v := range d.VNIs {
			r, why := b.judge(d, v)
			if first, ok := taken[v.VNI]; why == nil && ok {
				why = &refusal{reasonTwice, first}
			}
			if why != nil {
				b.Skipped = append(b.Skipped, skip{
					VNI: v.VNI, HasVNI: true, Name: d.Name, Index: d.Index, Local: r.Local, Nodes: r.Nodes, Up: d.Up,
					Reason: why.reason, Other: why.other,
				})
				continue
			}
			taken[v.VNI] = d.Name
			b.Register = append(b.Register, r)
			for _, n := range r.Nodes {
				b.Nodes[n] = struct{}{}
			}
		}
	}
	slices.SortFunc(b.Register, func(a, c registration) int { return cmp.Compare(a.VNI, c.VNI) })
	slices.SortFunc(b.Skipped, func(a, c skip) int {
		return cmp.Or(cmp.Compare(a.VNI, c.VNI), cmp.Compare(a.Name, c.Name))
	})
	return b.plan
}

// serviceNodes returns svcnode_ip, nil where it is not set.
func serviceNodes(c *config.Config) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(c.SvcnodeIPs), netip.Addr.IsUnspecified)
}

// A planner makes a plan.
type planner struct {
	*inputs
	*plan
	service []netip.Addr                // svcnode_ip
	single  map[netip.Addr][]netip.Addr // lists of one service node, to be shared
	sources map[netip.Addr]netip.Addr   // what was asked for; zero where there is no route
}

// A refusal is a reason with what it is about.
type refusal struct {
	reason reason
	other  string
}

// judge returns the registration of a VNI, or as much of it as is known and why
// there is none.
func (b *planner) judge(d *underlay.Device, v underlay.DeviceVNI) (registration, *refusal) {
	r := registration{
		VNI: v.VNI, Local: d.Local, Remote: v.Remote,
		Device: headend.Key{Device: d.Name, Index: d.Index, VNI: v.VNI, External: d.External},
	}
	nodes, why := b.nodes(v.Remote)
	r.Nodes = nodes
	switch {
	case !d.Up:
		return r, &refusal{reason: reasonDown}
	case d.Elsewhere:
		return r, &refusal{reason: reasonElsewhere}
	case d.Port != b.Config.VXLANPort:
		return r, &refusal{reasonPort, fmt.Sprintf("%d, vxlan_port is %d", d.Port, b.Config.VXLANPort)}
	case d.VRF != b.Config.VRF:
		return r, &refusal{reasonVRF, fmt.Sprintf("%s, vrf is %s", vrfName(d.VRF), cmp.Or(b.Config.VRF, "none"))}
	case why != nil:
		return r, why
	case r.Local.IsValid() && !r.Local.Is4():
		return r, &refusal{reasonIPv6, r.Local.String()}
	case r.Remote.IsValid() && !r.Remote.Is4():
		return r, &refusal{reasonIPv6, r.Remote.String()} // and so is the device
	}
	if r.Local = b.local(d, nodes); !r.Local.IsValid() {
		return r, &refusal{reasonNoRoute, nodes[0].String()}
	}
	if !r.Local.Is4() {
		return r, &refusal{reasonIPv6, r.Local.String()}
	}
	if _, ok := b.Own[r.Local]; !ok {
		return r, &refusal{reasonForeign, r.Local.String()}
	}
	if slices.Contains(nodes, r.Local) {
		if len(nodes) == 1 {
			return r, &refusal{reasonSelf, r.Local.String()}
		}
		r.Nodes = slices.DeleteFunc(slices.Clone(nodes), func(a netip.Addr) bool { return a == r.Local })
	}
	return r, nil
}

func vrfName(vrf string) string {
	if vrf == "" {
		return "in no VRF"
	}
	return "VRF " + vrf
}

// nodes returns the service nodes of a VNI with this default destination.
func (b *planner) nodes(remote netip.Addr) ([]netip.Addr, *refusal) {
	switch {
	case len(b.service) > 0:
		return only4(b.service)
	case remote.IsMulticast():
		return nil, &refusal{reasonMulticast, remote.String()}
	case remote.IsValid() && !remote.IsUnspecified():
		return only4(b.one(remote))
	case b.Config.Svcnode.IsValid():
		return only4(b.one(b.Config.Svcnode))
	}
	return nil, &refusal{reason: reasonNoNode}
}

// only4 leaves the IPv6 addresses out of nodes, which is not empty.
func only4(nodes []netip.Addr) ([]netip.Addr, *refusal) {
	is6 := func(a netip.Addr) bool { return !a.Is4() }
	i := slices.IndexFunc(nodes, is6)
	if i < 0 {
		return nodes, nil
	}
	out := slices.DeleteFunc(slices.Clone(nodes), is6)
	if len(out) == 0 {
		return nodes, &refusal{reasonIPv6, nodes[i].String()}
	}
	return out, nil
}

// one returns the list of one service node.
func (b *planner) one(node netip.Addr) []netip.Addr {
	list := b.single[node]
	if list == nil {
		list = []netip.Addr{node}
		b.single[node] = list
	}
	return list
}

// local returns the local address of a device: its own, the configured one, or
// that of the first route to one of the service nodes.
func (b *planner) local(d *underlay.Device, nodes []netip.Addr) netip.Addr {
	switch {
	case d.Local.IsValid():
		return d.Local
	case b.Config.LocalAddr.IsValid():
		return b.Config.LocalAddr
	}
	for _, n := range nodes {
		a, asked := b.sources[n]
		if !asked {
			a, _ = b.Source(n) // no route is a reason like others
			b.Routed = true
			b.sources[n] = a
		}
		if a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}
