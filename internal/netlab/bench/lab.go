// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"os/exec"
	"strconv"

	"vxsnd/internal/netlab"
)

// A lab is the network in which flooding is measured.
//
//	sender               node                               receivers
//	10.0.1.1 packets ─── packets 10.0.1.2   members 10.0.2.1 ─── router 10.0.2.2, to 10.99.0.0/16
//	          frames ─── frames             onlink 10.98.255.1/16 ─── onlink 10.98.0.0/16
//
// The sender has one CPU to itself and the node's program the other. What the
// kernel does in softirq happens where it is caused: the receivers' part on the
// CPU of whoever sends a copy; all that a replicator in the kernel does, on the
// sender's. By the link "frames" come inner frames for the kernel's own
// replication.
type lab struct {
	*plan
	sender, node, receivers *netlab.Namespace
	headend                 *headend
	macs                    map[string][2]net.HardwareAddr // of a link of sender and node
}

var (
	vtep       = netip.MustParseAddr("10.0.1.1")
	node       = netip.MustParseAddr("10.0.1.2")
	nodeSource = netip.MustParseAddr("10.0.2.1")
	router     = netip.MustParseAddr("10.0.2.2")

	farMembers = netip.MustParsePrefix("10.99.0.0/16")
)

// buildLab makes the network.
func (p *plan) buildLab(nl *netlab.Lab) (*lab, error) {
	l := &lab{plan: p, macs: map[string][2]net.HardwareAddr{}}
	for _, n := range []struct {
		name string
		to   **netlab.Namespace
	}{{"sender", &l.sender}, {"node", &l.node}, {"receivers", &l.receivers}} {
		ns, err := nl.Namespace(n.name)
		if err != nil {
			return nil, err
		}
		*n.to = ns
	}
	steps := []func() error{
		func() error { return netlab.Veth(l.sender, "packets", l.node, "packets", 0) },
		func() error { return netlab.Veth(l.sender, "frames", l.node, "frames", 0) },
		func() error { return netlab.Veth(l.node, "members", l.receivers, "members", 0) },
		func() error { return netlab.Veth(l.node, "onlink", l.receivers, "onlink", 0) },
		func() error { return l.sender.AddAddr("packets", netip.PrefixFrom(vtep, 24)) },
		func() error { return l.node.AddAddr("packets", netip.PrefixFrom(node, 24)) },
		func() error { return l.node.AddAddr("members", netip.PrefixFrom(nodeSource, 24)) },
		func() error { return l.receivers.AddAddr("members", netip.PrefixFrom(router, 24)) },
		func() error { return l.node.AddRoute(netlab.Route{To: farMembers, Via: router}) },
		func() error { return l.node.AddAddr("onlink", netip.MustParsePrefix("10.98.255.1/16")) },
		func() error { return l.receivers.AddAddr("onlink", netip.MustParsePrefix("10.98.255.2/16")) },
		// The receivers are all members at once, so that they answer ARP.
		func() error {
			return l.receivers.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.98.0.0/17"), Kind: netlab.Local, Device: "lo"})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, dev := range []string{"packets", "frames"} {
		a, err := l.sender.Link(dev)
		if err != nil {
			return nil, err
		}
		b, err := l.node.Link(dev)
		if err != nil {
			return nil, err
		}
		l.macs[dev] = [2]net.HardwareAddr{a.MAC, b.MAC}
	}
	var err error
	l.headend, err = newHeadend(l.node, "frames")
	return l, err
}

// traffic returns what the generator is to send to a contender.
func (l *lab) traffic(c *contender, t table, inner int) traffic {
	dev := "packets"
	if c.native {
		dev = "frames"
	}
	return traffic{
		Device: dev, From: l.macs[dev][0], To: l.macs[dev][1], Src: vtep, Dst: node,
		Native: c.native, VNIs: t.vnis, Inner: inner,
	}
}

// device returns where the copies of a table arrive.
func (t table) device() string {
	if t.onLink {
		return "onlink"
	}
	return "members"
}

// anyCPU lets a program run on all CPUs.
const anyCPU = -1

// start starts a program in a namespace, on one CPU or any.
func (p *plan) start(ns *netlab.Namespace, cpu int, args ...string) (*netlab.Process, error) {
	return ns.Start(p.pinned(cpu, args...))
}

// pinned returns the command of a program on one CPU or any.
func (p *plan) pinned(cpu int, args ...string) *exec.Cmd {
	if cpu == anyCPU {
		return exec.Command(args[0], args[1:]...)
	}
	return p.command(append([]string{"on", strconv.Itoa(cpu)}, args...)...)
}

// command is this program with other arguments.
func (p *plan) command(args ...string) *exec.Cmd { return exec.Command(p.self, args...) }
