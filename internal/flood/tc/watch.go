// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
)

// watchEvery is the time between two looks at whether the program is still where
// it was put, and at devices that the settings name.
const watchEvery = time.Second

// keepFor is how long the program stays on a device by which members are not reached
// any more, so that it does not come and go with a route.
const keepFor = time.Minute

// A place is a device where the program takes packets.
type place struct {
	name string
	attachment
}

// use takes in the devices by which members are reached.
func (s *side) use(ds []underlay.PathDevice) {
	s.mu.Lock()
	s.used = ds
	s.asked++
	s.mu.Unlock()
	s.poke()
}

// watch keeps the program on the devices where it takes packets.
func (s *side) watch(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-t.C:
		}
		if err := s.engine.inside(func() error { s.look(); return s.place(ctx) }); err != nil {
			return err
		}
	}
}

// look forgets where the program is not any more.
func (s *side) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, p := range s.attached {
		if there, err := p.present(); err != nil || there {
			continue
		}
		_ = p.detach()
		delete(s.attached, index)
		if _, err := net.InterfaceByIndex(index); err == nil {
			s.engine.log.WithField("iface", p.name).Warn("somebody took the program away from a device, it is put back")
		}
	}
}

// place puts the program where it is to be, and takes it away elsewhere.
func (s *side) place(ctx context.Context) error {
	want, asked := s.wanted()
	s.detach(want)
	for added := range slices.Chunk(s.added(want), maxArrivals) {
		if err := s.takeOver(ctx, added, want); err != nil || ctx.Err() != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed = asked
	return nil
}

// added returns the devices where the program is to be put, without those that
// have refused it lately.
func (s *side) added(want map[int]string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.engine.cfg.Clock()
	var out []int
	for index := range want {
		if at, refused := s.refused[index]; s.attached[index] == nil && (!refused || now.Sub(at) > lastRetry) {
			out = append(out, index)
		}
	}
	return out
}

// takeOver puts the program on devices, maxArrivals at most. What came in by them
// before is raw's, and the program does not know of it: so raw has what comes in by
// them until it is done with that, lest packets overtake it. What comes in by others
// stays with the program.
func (s *side) takeOver(ctx context.Context, added []int, want map[int]string) error {
	if err := s.kernel.arrive(added); err != nil {
		return fmt.Errorf("note devices that come: %w", err)
	}
	if s.attach(added, want) {
		s.handOver(ctx)
	}
	if ctx.Err() != nil {
		return nil // and all goes to raw
	}
	return s.kernel.arrive(nil)
}

// attach puts the program on devices, and tells whether there was one that took it.
func (s *side) attach(added []int, want map[int]string) (any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, index := range added {
		name := want[index]
		a, err := s.kernel.attach(index)
		if err != nil {
			s.refused[index] = s.engine.cfg.Clock()
			s.refuse(name, err)
			continue
		}
		delete(s.refused, index)
		any = true
		s.attached[index] = &place{name, a}
		s.engine.log.WithFields(logrus.Fields{"iface": name, "hook": a.how}).Info("the kernel floods what comes in by a device")
		if a.how == "clsact" && !s.cleaned {
			s.cleaned = true
			s.clean(want)
		}
	}
	return any
}

// handTime is how long raw may have no moment without a packet in its queue, until
// it only has to be done with what it had.
const handTime = time.Second

// handOver returns when raw is done with all packets that came before the call,
// and with those that it was handed since, as far as it is not overrun.
func (s *side) handOver(ctx context.Context) {
	if err := s.mirror.maps.grace(); err != nil {
		return // and the mirror fails of it soon
	}
	raw, clock := s.engine.cfg.Raw, s.engine.cfg.Clock
	came, empty, unused := clock(), fdb.Never, 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if queued, _ := raw.Backlog(); queued == 0 {
			empty = min(empty, clock())
			if unused++; unused > 1 && raw.Counters().Packets == 0 {
				return // nothing ever came
			}
		}
		if until := raw.DoneUntil(); until >= empty || until >= came.Add(handTime) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clean removes what a process that was killed has left on devices where the
// program is not wanted any more.
func (s *side) clean(want map[int]string) {
	left, err := cleanUp(func(ifindex int) bool { return want[ifindex] == "" })
	if len(left) > 0 {
		s.engine.log.WithField("ifaces", left).Info("removed what a node that was killed has left")
	}
	if err != nil {
		s.engine.log.WithError(err).Warn("what a node that was killed has left is not removed")
	}
}

// refuse says that the program cannot take packets at a device.
func (s *side) refuse(name string, err error) {
	s.engine.repeats.Do(name, func(count int) {
		s.engine.log.WithError(err).WithFields(logrus.Fields{"iface": name, "count": count}).
			Warn("the kernel floods nothing that comes in by a device, raw does")
	})
}

// errVRF says that what comes in by a device is not for raw's sockets.
var errVRF = errors.New("not in the VRF of this node")

// wanted returns the devices where the program is to be, and how often that was
// asked for by then. One that is not named stays for a moment after its use. One by
// which copies leave a VRF, since a route there says so or there is none, is not
// among them: what comes in by it is not the node's.
func (s *side) wanted() (want map[int]string, asked int) {
	s.mu.Lock()
	names, used, asked := s.names, s.used, s.asked
	s.mu.Unlock()
	vrf := s.engine.cfg.VRF
	want = make(map[int]string)
	if len(names) == 0 {
		now := s.engine.cfg.Clock()
		for _, d := range used {
			if underlay.InVRF(d.Index, vrf) {
				want[d.Index] = d.Name
				s.lately[d.Index] = now
			}
		}
		for index, at := range s.lately {
			if d, err := net.InterfaceByIndex(index); err != nil || now.Sub(at) >= keepFor || !underlay.InVRF(index, vrf) {
				delete(s.lately, index)
			} else {
				want[index] = d.Name
			}
		}
		return want, asked
	}
	clear(s.lately)
	for _, name := range names {
		switch d, err := net.InterfaceByName(name); {
		case err != nil:
			s.refuse(name, errors.New("there is no such device yet"))
		case len(d.HardwareAddr) != 6:
			s.refuse(name, errors.New("not an Ethernet device"))
		case !underlay.InVRF(d.Index, vrf):
			s.refuse(name, errVRF)
		default:
			want[d.Index] = name
		}
	}
	return want, asked
}

// detach takes the program away from devices that are not wanted.
func (s *side) detach(want map[int]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, p := range s.attached {
		if want[index] == p.name {
			continue
		}
		if err := p.detach(); err != nil {
			s.engine.log.WithError(err).WithField("iface", p.name).Warn("the program was not taken away from a device")
		} else {
			s.engine.log.WithField("iface", p.name).Info("the kernel floods what comes in by a device no more")
		}
		delete(s.attached, index)
	}
}
