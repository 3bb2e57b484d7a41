// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// resolved is a machine whose neighbours all resolve.
type resolved struct{}

func (resolved) Unresolved() map[netip.Addr]struct{} { return nil }
func (resolved) Recheck(time.Duration)               {}

// A plant is the engine at work, and VTEPs one cable away.
//
//	vteps .2 .3 .4 --- eth0 .1 node
type plant struct {
	testing.TB
	*Tc
	node, far *netlab.Namespace
	addrs     []netip.Addr // of the node, and the VTEPs
	config    Config
	table     *fdb.Table
	traffic   *metrics.Traffic
	copies    *netlab.Capture
	number    int // of the last packet
	stop      func()
}

const plantVNI vxlan.VNI = 77

// newPlant returns an engine that has not listened yet.
func newPlant(t testing.TB, change ...func(*Config)) *plant {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	lab := netlab.Test(t)
	p := &plant{TB: t, table: fdb.New(fdb.Options{Learning: fdb.LearnOff}), stop: func() {}}
	var err error
	p.node, err = lab.Namespace("node")
	check(t, err)
	p.far, err = lab.Namespace("vteps")
	check(t, err)
	p.cable()
	for i := range 4 {
		p.addrs = append(p.addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	p.address()
	p.traffic = metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 10})
	log := logrus.New()
	log.SetOutput(t.Output())
	log.SetLevel(logrus.DebugLevel)
	listen := []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), vxlan.Port)}
	p.config = Config{
		Table: p.table, Listen: listen, DestPort: vxlan.Port, MaxVNIs: 16, Clock: monotonic,
		Settings: Settings{MaxMembers: 256, LearnHoldtime: time.Hour}, Traffic: p.traffic, Log: log,
	}
	for _, f := range change {
		f(&p.config)
	}
	p.config.Raw = flood.NewRaw(flood.RawConfig{
		Listen: p.config.Listen, DestPort: vxlan.Port, Workers: 1, Receive: 1 << 20, Clock: monotonic, Neighbours: resolved{},
		Settings: p.config.Flood, Traffic: p.traffic, Log: log,
	}, p.table)
	p.Tc = New(p.config)
	p.inside = p.node.Do
	return p
}

// cable connects node and VTEPs.
func (p *plant) cable() {
	p.Helper()
	check(p, netlab.Veth(p.node, "eth0", p.far, "eth0", 0))
	var err error
	p.copies, err = p.far.Capture("eth0")
	check(p, err)
}

func (p *plant) address() {
	p.Helper()
	check(p, p.node.AddAddr("eth0", netip.PrefixFrom(p.addrs[0], 24)))
	for _, a := range p.addrs[1:] {
		check(p, p.far.AddAddr("eth0", netip.PrefixFrom(a, 24)))
	}
}

// member makes a VTEP one of the VNI.
func (p *plant) member(v vxlan.VNI, a netip.Addr) {
	p.table.Apply(monotonic(), []fdb.Update{{VNI: v, Addr: a, Source: fdb.Operator, Holdtime: time.Hour}})
}

// start runs the engine with the VTEPs as members, and returns when the kernel
// floods to them.
func (p *plant) start() {
	p.Helper()
	check(p, p.node.Do(p.Listen))
	p.run()
	for _, a := range p.addrs[1:] {
		p.member(plantVNI, a)
	}
	p.floods()
}

// run runs the engine that listens.
func (p *plant) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	p.stop = func() {
		p.Helper()
		p.stop = func() {}
		cancel()
		check(p, <-ended)
		check(p, p.node.Do(func() error { return p.Close() }))
	}
	p.Cleanup(func() { p.stop() })
}

// floods waits until the kernel floods the VNI of all that comes by eth0, and
// reaches the VTEPs.
func (p *plant) floods() {
	p.Helper()
	until(p, "a VNI in the kernel", func() bool {
		check(p, p.Sync(context.Background()))
		s := p.Status()
		return s.Active && slices.Equal(s.Devices, []string{"eth0"}) && s.VNIs == 1 && s.Members == 3 && s.Pending == 0 && p.takes() && p.reached()
	})
}

// reached tells whether there is a good way to each VTEP.
func (p *plant) reached() bool {
	s := p.current()
	return s != nil && !slices.ContainsFunc(p.addrs[1:], func(a netip.Addr) bool {
		return s.paths.Path(a).State != underlay.PathGood
	})
}

// takes tells whether the program takes packets for the node: its addresses are
// known to it.
func (p *plant) takes() bool {
	s := p.current()
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.services[p.addrs[0]]
	return ok
}

// frame returns the next packet of the first VTEP, of a flow of its own.
func (p *plant) frame() []byte {
	p.Helper()
	p.number++
	l, err := p.node.Link("eth0")
	check(p, err)
	inner := make([]byte, 64)
	binary.BigEndian.PutUint32(inner[60:], uint32(p.number))
	d := netlab.Datagram{
		Src: netip.AddrPortFrom(p.addrs[1], uint16(10000+p.number)), Dst: netip.AddrPortFrom(p.addrs[0], vxlan.Port),
		TTL: 64, NoChecksum: true, Payload: netlab.Encapsulate(plantVNI, inner),
	}
	return d.Frame(l.MAC, []byte{2, 0, 0, 0, 0, 1})
}

// flood sends a packet and waits for the copies: one for each other member.
func (p *plant) flood() {
	p.Helper()
	check(p, p.far.Send("eth0", p.frame()))
	p.arrived(p.number)
}

// arrived waits for the copies of a packet.
func (p *plant) arrived(number int) {
	p.Helper()
	var to []netip.Addr
	want := p.addrs[2:]
	until(p, "copies", func() bool {
		ps, err := p.copies.Packets(func(q *netlab.Packet) bool {
			return q.DstPort == vxlan.Port && q.Dst != p.addrs[0] && binary.BigEndian.Uint32(q.Payload[len(q.Payload)-4:]) == uint32(number)
		})
		check(p, err)
		to = to[:0]
		for i := range ps {
			to = append(to, ps[i].Dst)
		}
		return len(to) >= len(want)
	})
	slices.SortFunc(to, netip.Addr.Compare)
	if !slices.Equal(to, want) {
		p.Errorf("packet %d: got copies for %v, want %v", number, to, want)
	}
}

// wantBy fails the test unless so many packets were flooded by the kernel and by
// raw.
func (p *plant) wantBy(kernel, raw uint64) {
	p.Helper()
	until(p, "figures", func() bool { return p.Counters().Packets >= kernel+raw })
	if s, r := p.Status(), p.config.Raw.Counters(); s.Packets != kernel || r.Packets != raw {
		p.Errorf("got %d packets flooded in the kernel and %d by raw, want %d and %d", s.Packets, r.Packets, kernel, raw)
	}
}

// hooks returns how many programs are in the hook of a device.
func (p *plant) hooks(device string) (n int) {
	p.Helper()
	l, err := p.node.Link(device)
	check(p, err)
	check(p, p.node.Do(func() error {
		q, err := link.QueryPrograms(link.QueryOptions{Target: l.Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		n = len(q.Programs)
		return nil
	}))
	return n
}

// unhook takes the program away from a device, as somebody else could.
func (p *plant) unhook(device string) {
	p.Helper()
	l, err := p.node.Link(device)
	check(p, err)
	check(p, p.node.Do(func() error {
		q, err := link.QueryPrograms(link.QueryOptions{Target: l.Index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		id, _ := q.Programs[0].LinkID()
		l, err := link.NewFromID(id)
		if err != nil {
			return err
		}
		return errors.Join(l.Detach(), l.Close())
	}))
}

// forget removes the entry of a neighbour, which is resolved again then.
func (p *plant) forget(a netip.Addr) {
	p.Helper()
	check(p, p.node.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice()})
	}))
	until(p, "the neighbour again", func() bool {
		ns, err := p.node.Neighbours("eth0")
		check(p, err)
		return slices.ContainsFunc(ns, func(n netlab.Neighbour) bool { return n.Addr == a && len(n.MAC) == 6 })
	})
}
