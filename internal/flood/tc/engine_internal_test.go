// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"testing"
	"time"

	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

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
		check(t, p.node.Do(func() error { return p.Close() }))
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
