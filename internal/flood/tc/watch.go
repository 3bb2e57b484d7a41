// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/underlay"
)

// watchEvery is the time between two looks at whether the program is still where
// it was put, and at devices that the settings name.
const watchEvery = time.Second

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
		if err := s.engine.inside(func() error { s.look(); s.place(ctx); return nil }); err != nil {
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
func (s *side) place(ctx context.Context) {
	want, asked := s.wanted()
	s.detach(want)
	// The ways by a device that has come are there before packets that come by it.
	select {
	case <-s.mirror.inForce():
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed = asked
	for index, name := range want {
		if s.attached[index] != nil {
			continue
		}
		a, err := s.kernel.attach(index)
		if err != nil {
			s.refuse(name, err)
			continue
		}
		s.attached[index] = &place{name, a}
		s.engine.log.WithFields(logrus.Fields{"iface": name, "hook": a.how}).Info("the kernel floods what comes in by a device")
		if a.how == "clsact" && !s.cleaned {
			s.cleaned = true
			s.clean(want)
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

// wanted returns the devices where the program is to be, and how often that was
// asked for by then.
func (s *side) wanted() (want map[int]string, asked int) {
	s.mu.Lock()
	names, used, asked := s.names, s.used, s.asked
	s.mu.Unlock()
	want = make(map[int]string)
	if len(names) == 0 {
		for _, d := range used {
			want[d.Index] = d.Name
		}
		return want, asked
	}
	for _, name := range names {
		switch d, err := net.InterfaceByName(name); {
		case err != nil:
			s.refuse(name, err)
		case len(d.HardwareAddr) != 6:
			s.refuse(name, errors.New("not an Ethernet device"))
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
