// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sync/errgroup"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// counted is what the kernel has counted.
type counted struct {
	flood metrics.FloodCount
	up    [numUps]uint64
}

func (c *counted) add(d counted) {
	c.flood = c.flood.Plus(d.flood)
	for i := range c.up {
		c.up[i] += d.up[i]
	}
}

// A side is the kernel's side of the engine, from open to close.
type side struct {
	engine    *Tc
	kernel    *kernel
	most      int // members of a VNI that the kernel takes
	mirror    *mirror
	flows     flows
	paths     *underlay.Paths
	addresses *underlay.Underlay
	tally     *metrics.Tally
	began     atomic.Bool   // run has been called
	ended     chan struct{} // closed when it has returned

	wake chan struct{} // there is something new in what follows

	lately map[int]fdb.Time // when devices were in use last that are not named; of watch alone

	mu       sync.Mutex // guards what follows
	names    []string   // of the devices that the settings name
	used     []underlay.PathDevice
	asked    int // how often these two were set
	placed   int // asked of when the program was put where they say
	attached map[int]*place
	refused  map[int]fdb.Time        // devices that did not take the program, and when
	cleaned  bool                    // clean was called
	services map[netip.Addr]struct{} // nil before they are known
	count    metrics.FloodCount
	up       [numUps]uint64 // in the end; before, the kernel has it
}

// open loads the program and everything around it, which does nothing yet.
func (t *Tc) open() (s *side, err error) {
	t.mu.Lock()
	settings, names := t.mirrorSettings(), t.settings.Interfaces
	t.mu.Unlock()
	s = &side{
		engine: t, names: names, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		attached: make(map[int]*place), refused: make(map[int]fdb.Time), lately: make(map[int]fdb.Time),
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.kernel, err = load(min(t.cfg.MaxVNIs, maxSlots)); err != nil {
		return s, err
	}
	if s.most = s.kernel.most; s.most < maxCount {
		t.log.WithField("count", s.most).Info("the kernel takes VNIs with fewer members than another would")
	}
	settings.most = min(settings.most, s.most)
	if s.paths, err = underlay.OpenPaths(t.cfg.VRF, t.log); err != nil {
		return s, err
	}
	if s.addresses, err = underlay.OpenAddresses(t.cfg.VRF, t.log); err != nil {
		return s, err
	}
	set := s.kernel.settings
	for _, a := range t.cfg.Listen {
		if a.Addr().Is4() {
			set.Port = bigEndian(a.Port())
		}
	}
	if set.Port == 0 {
		return s, errors.New("no IPv4 address is listened to")
	}
	set.DestPort = bigEndian(t.cfg.DestPort)
	s.flows.set(s.kernel.flows, s.kernel.settings)
	t.cfg.Raw.SetDone(s.flows.done)
	s.tally = t.cfg.Traffic.Tally()
	s.mirror = newMirror(mirrorOptions{
		table: t.cfg.Table, maps: s.kernel.mirrored(), paths: s.paths, settings: settings, clock: t.cfg.Clock, sink: s, log: t.log,
	})
	return s, nil
}

// bigEndian returns a port as it lies in a packet.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// run floods in the kernel until ctx is done or something fails. In the end raw
// gets all packets, before the program is taken away.
func (s *side) run(ctx context.Context) error {
	s.began.Store(true)
	defer close(s.ended)
	defer func() { _ = s.engine.inside(func() error { s.detach(nil); return nil }) }()
	samples, err := s.kernel.samples()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.mirror.run(ctx) })
	g.Go(func() error { return s.paths.Run(ctx, s.mirror.pathsChanged, s.use) })
	g.Go(func() error { return s.addresses.Run(ctx, s.own) })
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error { return s.flows.run(ctx, s.engine.cfg.Raw, s.engine.cfg.Clock) })
	g.Go(func() error {
		defer context.AfterFunc(ctx, func() { samples.Close() })()
		return s.sample(samples)
	})
	return g.Wait()
}

// configure puts settings in force, soon.
func (s *side) configure(m mirrorSettings, names []string) {
	m.most = min(m.most, s.most)
	s.mirror.configure(m)
	s.mu.Lock()
	s.names = names
	s.asked++
	s.mu.Unlock()
	s.poke()
}

// divert keeps a VNI with raw, or gives it back, and returns when that is so:
// before run the kernel floods nothing.
func (s *side) divert(v vxlan.VNI, on bool) {
	done := s.mirror.hold(v, on)
	if !s.began.Load() {
		return
	}
	select {
	case <-done:
	case <-s.ended:
	}
}

// own takes in the machine's own addresses. What is sent to an address that is
// listened to but not there is for the machine to forward, or to drop.
func (s *side) own(all []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours := make(map[netip.Addr]struct{})
	for _, a := range all {
		if !a.Is4() || !s.engine.listensTo(a) {
			continue
		}
		ours[a] = struct{}{}
		if _, ok := s.services[a]; !ok {
			s.complain(s.kernel.setService(a))
		}
	}
	for a := range s.services {
		if _, ok := ours[a]; !ok {
			s.complain(s.kernel.deleteService(a))
		}
	}
	s.services = ours
}

// listensTo tells whether what is sent to an IPv4 address comes to raw's sockets.
func (t *Tc) listensTo(a netip.Addr) bool {
	return slices.ContainsFunc(t.cfg.Listen, func(l netip.AddrPort) bool {
		return l.Addr() == a || l.Addr() == netip.IPv4Unspecified()
	})
}

func (s *side) complain(err error) {
	if err != nil {
		s.engine.log.WithError(err).Warn("own address not made known to the kernel program")
	}
}

func (s *side) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sample looks for packets that come back, among those that the program picks.
func (s *side) sample(r *ringbuf.Reader) error {
	var rec ringbuf.Record
	for {
		r.SetDeadline(time.Now().Add(watchEvery / 10))
		err := r.ReadInto(&rec)
		switch {
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case isTimeout(err):
			continue
		case err != nil:
			return fmt.Errorf("read samples: %w", err)
		}
		p, ok := parseSample(rec.RawSample)
		if ok && s.engine.cfg.Raw.Sampled(p.time, p.vni, flood.Packet{Source: p.src, TTL: p.ttl, Payload: p.head}, p.size) {
			s.mu.Lock()
			s.count.Loops++
			s.mu.Unlock()
		}
	}
}

// flooded takes in what the program counted for a VNI.
func (s *side) flooded(v vxlan.VNI, c slotCount) {
	d := metrics.VNICount{Packets: c.packets, Bytes: c.bytes, Copies: c.copies, CopyBytes: c.copyBytes}
	for i, n := range c.drops {
		d.Drops[dropReasons[i]] += n
	}
	s.tally.AddVNI(v, &d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.VNICount = s.count.VNICount.Plus(d)
}

// dropReasons are those of the program, in its order.
var dropReasons = [numSlotDrops]metrics.Drop{
	metrics.DropNoMember, metrics.DropUnreachable, metrics.DropUnresolved, metrics.DropRefused, metrics.DropBlocked,
	metrics.DropKernel,
}

// sent takes in what a member sent.
func (s *side) sent(v vxlan.VNI, a netip.Addr, n sighting) {
	s.tally.AddSender(v, a, metrics.SenderCount{
		Packets: uint64(n.packets), Bytes: n.bytes, Copies: uint64(n.copies), CopyBytes: n.copyBytes, Drops: n.drops, Last: int64(n.seen),
	})
}

// counted returns what the kernel has counted.
func (s *side) counted() counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := counted{flood: s.count, up: s.up}
	if s.kernel != nil {
		c.up, _ = s.kernel.handedUp() // no map that is open fails here
	}
	return c
}

func (s *side) alive() fdb.Time {
	if at := s.mirror.status().Turned; at != 0 {
		return at
	}
	return s.engine.cfg.Clock() // it has not begun
}

// tell fills in what the kernel floods.
func (s *side) tell(out *Status) {
	m := s.mirror.status()
	out.VNIs, out.Members, out.Bytes, out.Differences = m.KernelVNIs, m.Members, m.Bytes, m.Differences
	maps.Copy(out.RawVNIs, m.RawVNIs)
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Pending = m.Pending
	if s.services == nil {
		out.Pending++
	}
	if s.asked != s.placed {
		out.Pending++
	}
	if s.kernel != nil {
		out.Pending += int(atomic.LoadUint32(&s.kernel.settings.Arriving))
	}
	for _, p := range s.attached {
		out.Devices, out.Hook = append(out.Devices, p.name), p.how
	}
	slices.Sort(out.Devices)
}

// close lets go of everything, after run.
func (s *side) close() {
	s.tally.Close(int64(s.engine.cfg.Clock()))
	if s.addresses != nil {
		s.addresses.Close()
	}
	if s.paths != nil {
		s.paths.Close()
	}
	s.engine.cfg.Raw.SetDone(nil)
	s.flows.set(nil, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel != nil {
		s.up, _ = s.kernel.handedUp()
		if err := s.kernel.Close(); err != nil {
			s.engine.log.WithError(err).Warn("kernel program not closed")
		}
		s.kernel = nil
	}
}
