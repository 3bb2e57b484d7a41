// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A stream is packets of one flow of the first VTEP, numbered, until it ends.
type stream struct {
	*plant
	cancel func()
	ended  chan error
	sent   atomic.Uint32
}

// streamGap is the time between two packets of a stream.
const streamGap = 500 * time.Microsecond

// stream begins to send.
func (p *plant) stream() *stream {
	p.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{plant: p, cancel: cancel, ended: make(chan error, 1)}
	in, err := p.node.Link("eth0")
	check(p, err)
	out, err := p.far.Link("eth0")
	check(p, err)
	fd := -1
	check(p, p.far.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	inner := make([]byte, 64)
	d := netlab.Datagram{
		Src: netip.AddrPortFrom(p.addrs[1], 40000), Dst: netip.AddrPortFrom(p.addrs[0], vxlan.Port),
		TTL: 64, NoChecksum: true, Payload: netlab.Encapsulate(plantVNI, inner),
	}
	f := d.Frame(in.MAC, out.MAC)
	go func() {
		defer unix.Close(fd)
		tick := time.NewTicker(streamGap)
		defer tick.Stop()
		for ctx.Err() == nil {
			binary.BigEndian.PutUint32(f[len(f)-4:], s.sent.Load())
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: out.Index}); err != nil {
				s.ended <- err
				return
			}
			s.sent.Add(1)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		s.ended <- nil
	}()
	return s
}

// end ends a stream, and fails the test unless each VTEP got each packet once, in
// order.
func (s *stream) end() {
	s.Helper()
	s.cancel()
	check(s, <-s.ended)
	sent := s.sent.Load()
	for _, to := range s.addrs[2:] {
		var got []uint32
		until(s, "the last copy", func() bool {
			ps, err := s.copies.Packets(func(q *netlab.Packet) bool { return q.DstPort == vxlan.Port && q.Dst == to })
			check(s, err)
			got = got[:0]
			for i := range ps {
				got = append(got, binary.BigEndian.Uint32(ps[i].Payload[len(ps[i].Payload)-4:]))
			}
			return len(got) > 0 && got[len(got)-1] == sent-1 || len(got) >= int(sent)
		})
		bad := 0
		for i, next := 0, uint32(0); i < len(got) && bad < 10; i++ {
			if got[i] != next {
				s.Errorf("%v got packet %d where %d was to come", to, got[i], next)
				bad++
			}
			next = got[i] + 1
		}
		if len(got) != int(sent) {
			s.Errorf("%v got %d packets, want %d", to, len(got), sent)
		}
	}
}

// inKernel returns how many packets the kernel has flooded by now.
func (p *plant) inKernel() uint64 {
	p.Helper()
	check(p, p.Sync(p.Context()))
	return p.Status().Packets
}

// Whatever takes a VNI from the kernel to raw and back, each packet of a flow
// that goes on is flooded once to each member, in order.
func TestNothingIsLostBetweenKernelAndRaw(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.77") // nobody has it
	for _, tt := range []struct {
		name   string
		rounds int
		change func(p *plant) // and back
	}{
		{"captures", 30, func(p *plant) {
			p.Divert(plantVNI, true)
			p.Divert(plantVNI, false)
		}},
		{"members", 30, func(p *plant) {
			p.member(plantVNI, other)
			check(t, p.Sync(t.Context()))
			p.table.Apply(monotonic(), []fdb.Update{{VNI: plantVNI, Addr: other, Source: fdb.Operator}})
			check(t, p.Sync(t.Context()))
		}},
		{"a way that is not known", 2, func(p *plant) {
			p.member(plantVNI, other)
			until(p, "a VNI that raw has", func() bool { return p.Status().RawVNIs["pending"] == 1 })
			p.table.Apply(monotonic(), []fdb.Update{{VNI: plantVNI, Addr: other, Source: fdb.Operator}})
			until(p, "a VNI in the kernel", func() bool { return p.Status().VNIs == 1 })
		}},
		{"the cap", 10, func(p *plant) {
			s := p.config.Settings
			s.MaxMembers = 2
			p.Adjust(s)
			until(p, "a VNI that is too large", func() bool { return p.Status().RawVNIs["too_many_members"] == 1 })
			s.MaxMembers = 256
			p.Adjust(s)
			until(p, "a VNI in the kernel", func() bool { return p.Status().VNIs == 1 })
		}},
		{"checksums", 10, func(p *plant) {
			p.Configure(flood.Settings{Checksum: true})
			until(p, "a VNI that raw has", func() bool { return p.Status().RawVNIs["settings"] == 1 })
			p.Configure(flood.Settings{})
			until(p, "a VNI in the kernel", func() bool { return p.Status().VNIs == 1 })
		}},
		{"devices", 5, func(p *plant) {
			s := p.config.Settings
			s.Interfaces = []string{"lo"}
			p.Adjust(s)
			until(p, "no device", func() bool { return len(p.Status().Devices) == 0 })
			s.Interfaces = nil
			p.Adjust(s)
			until(p, "the device", func() bool { return len(p.Status().Devices) == 1 })
		}},
		{"a program that is taken away", 2, func(p *plant) {
			p.unhook("eth0")
			until(p, "the program", func() bool { return p.hooks("eth0") == 1 })
		}},
		{"a side that fails", 2, func(p *plant) {
			first := p.current()
			first.fail()
			until(p, "another try", func() bool { s := p.current(); return s != nil && s != first })
			p.floods()
		}},
		{"neighbours that are forgotten", 10, func(p *plant) { p.forget(p.addrs[2]) }},
		{"MTUs", 10, func(p *plant) {
			check(p, p.node.SetMTU("eth0", 1000))
			check(p, p.node.SetMTU("eth0", 1500))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlant(t)
			p.start()
			s := p.stream()
			for range tt.rounds {
				tt.change(p)
				n := p.inKernel()
				until(t, "packets in the kernel", func() bool { return p.inKernel() > n })
			}
			p.floods()
			s.end()
			check(t, p.Sync(t.Context()))
			c, k := p.Counters(), p.Status()
			if c.Packets != uint64(s.sent.Load()) || k.Packets == 0 {
				t.Errorf("got %d packets, %d of them in the kernel, want %d", c.Packets, k.Packets, s.sent.Load())
			}
			p.stop()
		})
	}
}
