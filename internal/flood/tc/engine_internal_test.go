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
	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
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
		check(p, p.node.Do(func() error { return p.Close(false) }))
	}
	p.Cleanup(func() { p.stop() })
}

// floods waits until the kernel floods the VNI of all that comes by eth0.
func (p *plant) floods() {
	p.Helper()
	until(p, "a VNI in the kernel", func() bool {
		s := p.Status()
		return s.Active && slices.Equal(s.Devices, []string{"eth0"}) && s.VNIs == 1 && s.Members == 3 && p.takes()
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

func TestEngineFloodsInTheKernel(t *testing.T) {
	p := newPlant(t)
	p.start()
	if p.String() != "tc" {
		t.Errorf("got engine %s, want tc", p)
	}
	const packets = 5
	for range packets {
		p.flood()
	}
	p.wantBy(packets, 0)
	dead := p.frame()
	dead[22] = 1 // TTL, which raw drops it for
	check(t, p.far.Send("eth0", summed(dead)))
	until(t, "a packet handed up", func() bool { return p.Counters().Drops[metrics.DropTTL] == 1 })
	s := p.Status()
	if !s.Loaded || s.Reason != "" || s.Why != "" || s.Hook != "tcx" || s.Copies != 2*packets || s.Bytes != segmentBytes || s.Differences != 0 {
		t.Errorf("got %+v", s)
	}
	if n := len(s.RawVNIs); n != int(numReasons)-1 || s.RawVNIs["held"] != 0 {
		t.Errorf("got reasons %v, want all of them", s.RawVNIs)
	}
	if _, ok := s.HandedUp["sender"]; !ok || len(s.HandedUp) != int(numUps)-1 {
		t.Errorf("got reasons %v, want all of them", s.HandedUp)
	}
	const bytes = packets * (vxlan.HeaderLen + 64)
	want := metrics.FloodCount{VNICount: metrics.VNICount{Packets: packets + 1, Bytes: bytes + vxlan.HeaderLen + 64, Copies: 2 * packets, CopyBytes: 2 * bytes}}
	want.Drops[metrics.DropTTL] = 1
	if got := p.Counters(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	p.stop()
	if n := p.hooks("eth0"); n != 0 {
		t.Errorf("got %d programs after the end, want none", n)
	}
	if got := p.Counters(); got != want {
		t.Errorf("got %+v in the end, want %+v", got, want)
	}
	if s := p.Status(); s.Loaded || s.Active || s.Packets != packets || s.HandedUp["ttl"] != 1 || p.String() != "raw" {
		t.Errorf("got %+v in the end", s)
	}
	rows, _ := p.traffic.Load(nil)
	if len(rows) != 1 || rows[0].VNI != plantVNI || rows[0].Packets != packets+1 || rows[0].Copies != 2*packets {
		t.Errorf("got %+v for VNIs, want those packets for one", rows)
	}
}

// What the settings ask for and the program cannot do.
func TestChecksumsKeepPacketsFromTheKernel(t *testing.T) {
	t.Run("required", func(t *testing.T) {
		p := newPlant(t, func(c *Config) { c.Required, c.Flood.Checksum = true, true })
		if err := p.node.Do(p.Listen); !errors.Is(err, ErrNotPossible) || !errors.Is(err, ErrChecksum) {
			t.Errorf("got %v, want %v", err, ErrChecksum)
		}
		check(t, p.node.Do(func() error { return p.Close(false) }))
		q, err := p.node.ListenUDP(p.config.Listen[0]) // nothing of it is left
		check(t, err)
		q.Close()
	})
	t.Run("else", func(t *testing.T) {
		p := newPlant(t, func(c *Config) { c.Flood.Checksum = true })
		check(t, p.node.Do(p.Listen))
		p.run()
		for _, a := range p.addrs[1:] {
			p.member(plantVNI, a)
		}
		p.flood()
		if s := p.Status(); s.Active || s.Why != "checksum" || p.String() != "raw" {
			t.Errorf("got %+v, engine %s, want raw for the checksum", s, p)
		}
		p.Configure(flood.Settings{})
		p.floods()
		p.flood()
		p.wantBy(1, 1)
		p.Configure(flood.Settings{Checksum: true})
		until(t, "a VNI that raw has", func() bool { return p.Status().RawVNIs["settings"] == 1 })
		p.flood()
		p.wantBy(1, 2)
	})
}

// Nobody waits for an engine that does not run yet.
func TestDivert(t *testing.T) {
	p := newPlant(t)
	check(t, p.node.Do(p.Listen))
	p.Divert(plantVNI, true)
	p.run()
	for _, a := range p.addrs[1:] {
		p.member(plantVNI, a)
	}
	until(t, "a VNI that is held", func() bool { return p.Status().RawVNIs["held"] == 1 && len(p.Status().Devices) == 1 })
	p.flood()
	p.Divert(plantVNI, false)
	p.floods()
	p.flood()
	for range 3 {
		p.Divert(plantVNI, true)
		p.flood()
		p.Divert(plantVNI, false)
	}
	p.wantBy(1, 4)
	p.stop()
	p.Divert(plantVNI, true)
}

// Packets that come meanwhile are flooded once each, by the one or the other.
func TestEngineGoesOnWithoutTheKernel(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.flood()
	first := p.current()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	frames := make([][]byte, 400)
	began := p.number + 1
	for i := range frames {
		frames[i] = p.frame()
	}
	go func() {
		for i, f := range frames {
			if err := p.far.Send("eth0", f); err != nil {
				ended <- err
				return
			}
			if i > 100 { // without haste
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
		ended <- nil
	}()
	first.fail()
	until(t, "another try", func() bool { s := p.current(); return s != nil && s != first })
	p.floods()
	cancel()
	check(t, <-ended)
	for i := range frames {
		p.arrived(began + i)
	}
	until(t, "figures", func() bool { return p.Counters().Packets >= uint64(1+len(frames)) })
	if c, s := p.Counters(), p.Status(); c.Packets != uint64(1+len(frames)) || s.Packets == 0 || s.Packets == c.Packets {
		t.Errorf("got %d packets, %d in the kernel, want %d by both", c.Packets, s.Packets, 1+len(frames))
	}
}

// fail has the side fail, as where the kernel ends a connection.
func (s *side) fail() { s.addresses.Close() }

func TestProgramIsPutBack(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.flood()
	l, err := p.node.Link("eth0")
	check(t, err)
	check(t, p.node.Do(func() error {
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
	if n := p.hooks("eth0"); n == 0 {
		p.flood()
	}
	until(t, "the program", func() bool { return p.hooks("eth0") == 1 })
	p.flood()
	p.stop()
}

func TestDeviceGoesAndComes(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.flood()
	check(t, p.copies.Close())
	check(t, p.node.DeleteLink("eth0"))
	until(t, "no device", func() bool { return len(p.Status().Devices) == 0 })
	p.cable()
	p.address()
	p.floods()
	p.flood()
	p.wantBy(2, 0)
}

// Devices that the settings name are those where the program is, whatever is there
// else, and as they come.
func TestInterfaces(t *testing.T) {
	p := newPlant(t, func(c *Config) { c.Settings.Interfaces = []string{"eth1", "lo"} })
	check(t, p.node.Do(p.Listen))
	p.run()
	for _, a := range p.addrs[1:] {
		p.member(plantVNI, a)
	}
	until(t, "a VNI in the kernel", func() bool { return p.Status().VNIs == 1 })
	p.flood()
	check(t, netlab.Veth(p.node, "eth1", p.far, "eth1", 0))
	until(t, "the device", func() bool { return slices.Equal(p.Status().Devices, []string{"eth1"}) })
	if n := p.hooks("eth0"); n != 0 {
		t.Errorf("got %d programs at another device, want none", n)
	}
	s := p.config.Settings
	s.Interfaces = nil
	p.Adjust(s)
	p.floods()
	if n := p.hooks("eth1"); n != 0 {
		t.Errorf("got %d programs at the device of before, want none", n)
	}
	p.flood()
	p.wantBy(1, 1)
	s.MaxMembers = 2
	p.Adjust(s)
	until(t, "a VNI that is too large", func() bool { return p.Status().RawVNIs["too_many_members"] == 1 })
	p.flood()
	p.wantBy(1, 2)
}

// What is sent to an address that is listened to but not the machine's goes where
// the machine sends it.
func TestServiceAddressThatComesAndGoes(t *testing.T) {
	service := netip.MustParseAddr("203.0.113.53")
	// A socket of raw cannot be bound before its address is there.
	p := newPlant(t, func(c *Config) {
		c.Listen = []netip.AddrPort{netip.AddrPortFrom(service, vxlan.Port)}
	})
	check(t, p.node.AddAddr("lo", netip.PrefixFrom(service, 32)))
	node := p.addrs[0]
	p.addrs[0] = service // frames go there
	p.start()
	p.flood()
	elsewhere := p.frame() // to another address of the machine
	copy(elsewhere[30:34], node.AsSlice())
	check(t, p.far.Send("eth0", summed(elsewhere)))
	check(t, p.node.DeleteAddr("lo", netip.PrefixFrom(service, 32)))
	until(t, "no address", func() bool { return !p.takes() })
	check(t, p.far.Send("eth0", p.frame()))
	check(t, p.node.AddAddr("lo", netip.PrefixFrom(service, 32)))
	until(t, "the address", p.takes)
	p.flood()
	p.wantBy(2, 0)
}
