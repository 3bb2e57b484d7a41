// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A group of service nodes on one segment, and a machine that plays all of
// their VTEPs.
//
//	vteps .1, .2     sn1 .201     sn2 .202     sn3 .203
//	──────────────────── switch ──────────────────────── 192.0.2.0/24
type group struct {
	*plan
	vteps *netlab.Namespace
	mac   net.HardwareAddr // of vteps
	nodes []*snode
	extra string // of the configuration of service nodes

	// pinned gives the first node one CPU to itself; its peers share the other
	// with what the VTEPs do. Else all share all, and a node may use several as it
	// would elsewhere.
	pinned bool
}

// probeVNI has prober and probed as static members at each node. The members
// also see to it that no node's table is empty, which its peers would not take
// for an answer.
const probeVNI vxlan.VNI = 78

var (
	prober = netip.MustParseAddr("192.0.2.1")
	probed = netip.MustParseAddr("192.0.2.2")
)

// groupLimit bounds the measurements of one kind.
const groupLimit = 3 * time.Minute

// staticMembers is the number of members of probeVNI.
const staticMembers = 2

// An snode is one service node of the group.
type snode struct {
	*netlab.Namespace
	addr   netip.Addr
	cpu    int
	socket string // for management
	proc   *netlab.Process
}

// buildGroup makes the network of n nodes.
func (p *plan) buildGroup(lab *netlab.Lab, n int) (*group, error) {
	g := &group{plan: p}
	sw, err := lab.Switch("switch", 0)
	if err != nil {
		return nil, err
	}
	attach := func(name string, addrs ...netip.Addr) (*netlab.Namespace, error) {
		ns, err := lab.Namespace(name)
		if err != nil {
			return nil, err
		}
		_, err = sw.Attach(ns, "eth0")
		for _, a := range addrs {
			err = errors.Join(err, ns.AddAddr("eth0", netip.PrefixFrom(a, 24)))
		}
		return ns, err
	}
	if g.vteps, err = attach("vteps", prober, probed); err != nil {
		return nil, err
	}
	link, err := g.vteps.Link("eth0")
	if err != nil {
		return nil, err
	}
	g.mac = link.MAC
	for i := range n {
		s := &snode{addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(201 + i)}), cpu: senderCPU}
		if i == 0 {
			s.cpu = nodeCPU
		}
		name := fmt.Sprintf("sn%d", i+1)
		s.socket = fmt.Sprintf("%s/%s.sock", p.dir, name)
		if s.Namespace, err = attach(name, s.addr); err != nil {
			return nil, err
		}
		g.nodes = append(g.nodes, s)
	}
	return g, nil
}

// launch starts a node with these peers and does not wait for it.
func (g *group) launch(s *snode, peers []*snode) (err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "logdest = stdout\nuser = root\nworkers = 1\nsrc_ip = %s\n", s.addr)
	// What is lost on the way is to be seen, not repaired.
	fmt.Fprintf(&b, "resync_interval = 0\n")
	fmt.Fprintf(&b, "vtep_membership = %s %d\nvtep_membership = %s %d\n", prober, probeVNI, probed, probeVNI)
	var list []string
	for _, o := range peers {
		list = append(list, o.addr.String())
	}
	if len(list) > 0 {
		fmt.Fprintf(&b, "svcnode_peers = %s\n", strings.Join(list, ", "))
	}
	b.WriteString(g.extra)
	file := g.dir + "/" + s.Name + ".conf"
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	args := []string{"-c", file, "-p", g.dir + "/" + s.Name + ".pid", "-u", s.socket}
	if g.pinned {
		s.proc, err = g.start(s.Namespace, s.cpu, append([]string{g.vxsnd}, args...)...)
	} else {
		s.proc, err = s.Start(exec.Command(g.vxsnd, args...))
	}
	return err
}

// ready waits until a node says that it is ready.
func (s *snode) ready(ctx context.Context) error {
	_, err := s.proc.WaitLine(ctx, func(l string) bool { return strings.Contains(l, "msg=ready") })
	return err
}

// up starts nodes as each other's peers, the last one first, and waits for
// each. All but that one find a peer at once and ask for no table later, when
// it would disturb what is measured or repair what was lost.
func (g *group) up(ctx context.Context, nodes ...*snode) error {
	for _, s := range slices.Backward(nodes) {
		if err := g.launch(s, nodes); err != nil {
			return err
		}
		if err := s.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// down stops nodes.
func down(ctx context.Context, nodes ...*snode) error {
	for _, s := range nodes {
		if status, err := s.proc.Stop(ctx); err != nil || status != 0 {
			return fmt.Errorf("%s ended with status %d: %w", s.Name, status, errors.Join(err, errors.New(s.proc.Output())))
		}
	}
	return nil
}

// call asks a node over its management socket.
func (s *snode) call(ctx context.Context, command string, args any, each func(json.RawMessage) error) error {
	c, err := control.Dial(ctx, s.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, command, args, each)
}

func (s *snode) status(ctx context.Context) (st control.Status, err error) {
	err = s.call(ctx, control.CommandShow, nil, func(b json.RawMessage) error { return json.Unmarshal(b, &st) })
	return st, err
}

func (s *snode) peers(ctx context.Context) (ps []control.Peer, err error) {
	err = s.call(ctx, control.CommandPeers, nil, func(b json.RawMessage) error { return json.Unmarshal(b, &ps) })
	return ps, err
}

// members returns the number of members that a node has besides static ones.
func (s *snode) members(ctx context.Context) (int, error) {
	st, err := s.status(ctx)
	return st.Members - staticMembers, err
}

// settle waits until each of nodes has want members, or nothing more has come
// for a second. It returns the members of each and when the last one came.
func settle(ctx context.Context, want int, nodes ...*snode) (got []int, last time.Time, err error) {
	const grain, patience = 10 * time.Millisecond, time.Second
	got = make([]int, len(nodes))
	for last = time.Now(); time.Since(last) < patience; time.Sleep(grain) {
		all := true
		for i, s := range nodes {
			n, err := s.members(ctx)
			if err != nil {
				return nil, last, err
			}
			if n != got[i] {
				got[i], last = n, time.Now()
			}
			all = all && n == want
		}
		if all {
			break
		}
	}
	return got, last, nil
}
