// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A tag is not for the device that it comes in by, but for one above it.
func TestTaggedPacketsGoBy(t *testing.T) {
	s := newSite(t, hooks[0].attach)
	check(t, s.far.Send("eth0", slices.Insert(s.frame(1), 12, 0x81, 0x00, 0, 5)))
	s.expect(2, "member")
	if got := countersOf(&s.kernel.slots[0]).Packets; got != 1 {
		t.Errorf("got %d packets, want 1", got)
	}
}

// Drivers may leave the headers, or all behind some of them, outside of what a
// program can read without asking.
func TestPacketsInPieces(t *testing.T) {
	const inner = 4500
	r := newRig(t)
	check(t, r.node.SetMTU("eth0", 9000))
	check(t, r.far.SetMTU("eth0", 9000))
	r.vni(replicated, 9000, to(sender, good), to(other, good))
	copies, err := r.far.Capture("eth0")
	check(t, err)
	samples, err := r.samples()
	check(t, err)
	defer samples.Close()
	var a attachment
	check(t, r.node.Do(func() (err error) { a, err = r.attach(r.eth0.Index); return err }))
	defer func() { check(t, a.detach()) }()
	out, err := r.far.Link("eth0")
	check(t, err)
	in := make([][]byte, 128)
	for i := range in {
		in[i] = frame(replicated, inner, func(d *netlab.Datagram) { d.Payload[30] = byte(i) })
		copy(in[i], r.eth0.MAC)
	}
	// So much of a frame is in one piece: the headers, or Ethernet's alone.
	for _, linear := range []uint16{inner, 42, 14} {
		check(t, r.far.Do(func() error { return sendInPieces(out.Index, linear, in) }))
		for i, p := range r.captured(copies, len(in)) {
			if !bytes.Equal(p.Payload, in[i][42:]) || p.TTL != 63 || p.Dst != other {
				t.Errorf("%d bytes linear: got %x, want a copy of %x", linear, p.Frame[:100], in[i][:100])
			}
		}
	}
	if got := countersOf(&r.kernel.slots[0]); got.Copies != uint64(3*len(in)) {
		t.Errorf("got %+v, want %d copies", got, 3*len(in))
	}
	if n := len(drain(t, samples)); n == 0 {
		t.Error("got no sample, want some")
	}
}

// sendInPieces sends frames of which only so many bytes are in the first piece
// (PACKET_VNET_HDR, packet(7)): the kernel does so with more than a page.
func sendInPieces(index int, linear uint16, frames [][]byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	for _, f := range frames {
		header := make([]byte, 10) // struct virtio_net_hdr: flags, type, length of the headers
		binary.LittleEndian.PutUint16(header[2:], linear)
		if err := unix.Sendto(fd, append(header, f...), 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			return err
		}
	}
	return nil
}

// drain returns the samples that are there.
func drain(t *testing.T, r *ringbuf.Reader) (out []programSample) {
	t.Helper()
	r.SetDeadline(time.Now())
	for {
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		check(t, err)
		var s programSample
		_, err = binary.Decode(rec.RawSample, binary.NativeEndian, &s)
		check(t, err)
		out = append(out, s)
	}
}

func TestSamples(t *testing.T) {
	const packets = 1024
	r := newRig(t)
	r.vni(replicated, wideMTU, to(sender, good))
	samples, err := r.samples()
	check(t, err)
	defer samples.Close()
	// The bytes of a packet decide, of short ones and long ones alike: 42 is ARP.
	for _, inner := range []int{42, 64, 1000} {
		variant := func(i int, ttl uint8) []byte {
			return frame(replicated, inner, func(d *netlab.Datagram) {
				binary.BigEndian.PutUint16(d.Payload[20:], uint16(i))
				d.TTL = ttl
			})
		}
		payload := func(i int) []byte { return variant(i, 64)[42:] }
		began := now(t)
		for i := range packets {
			r.run(variant(i, 64), nil)
		}
		got := drain(t, samples)
		if n := len(got); n < packets/64 || n > packets/4 {
			t.Errorf("inner frames of %d: got %d samples of %d packets, want one in 16 or so", inner, n, packets)
		}
		for _, s := range got {
			i := int(binary.BigEndian.Uint16(s.Head[20:]))
			want := programSample{
				Time: s.Time, Vni: uint32(replicated), Addr: network(sender), Port: swap(sentPort), Ttl: 64, Len: uint32(8 + inner),
			}
			copy(want.Head[:], payload(i))
			if s != want || s.Time < began || s.Time > now(t) {
				t.Fatalf("got %+v, want %+v", s, want)
			}
		}
		// One that comes back soon is picked again. The choice is another each 2^30 ns.
		again := func() bool {
			for i := range packets {
				before := now(t) >> 30
				r.run(variant(i, 64), nil)
				r.run(variant(i, 60), nil)
				same := before == now(t)>>30
				if got := drain(t, samples); same && len(got) > 0 {
					if len(got) != 2 || got[0].Ttl != 64 || got[1].Ttl != 60 || got[0].Head != got[1].Head {
						t.Errorf("got %+v, want the packet twice", got)
					}
					return true
				}
			}
			return false
		}
		if !again() {
			t.Error("got no sample, want some")
		}
	}
}

// Copies of all packets go on with the ring full and nobody who reads it.
func TestSamplesThatNobodyReads(t *testing.T) {
	r := newRig(t)
	s, _ := r.vni(replicated, wideMTU, to(sender, good), to(netip.MustParseAddr("203.0.113.1"), lost))
	samples, err := r.samples()
	check(t, err)
	defer samples.Close()
	const packets = 60000 // 1 in 16 of 100 bytes and more: what the ring holds, twice
	in := frame(replicated, 64)
	check(t, r.node.Do(func() error {
		for i := range packets {
			binary.BigEndian.PutUint16(in[62:], uint16(i))
			if verdict, err := r.objects.Flood.Run(&ebpf.RunOptions{Data: in}); verdict != done || err != nil {
				return fmt.Errorf("got verdict %d, %w, want %d", int32(verdict), err, done)
			}
		}
		return nil
	}))
	if got := countersOf(s).Packets; got != packets {
		t.Errorf("got %d packets, want %d", got, packets)
	}
}

// What VTEPs send to another port than theirs, or to an address that was one of
// ours, is not for the program.
func TestSettingsThatDecideWhatIsOurs(t *testing.T) {
	r := newRig(t)
	r.vni(replicated, wideMTU, to(sender, good), to(other, good))
	try := func(want uint32, change ...func(*netlab.Datagram)) {
		t.Helper()
		if verdict, _ := r.run(frame(replicated, 64, change...), nil); verdict != want {
			t.Errorf("got verdict %d, want %d", int32(verdict), int32(want))
		}
	}
	second := netip.MustParseAddr("192.0.2.2")
	toSecond := func(d *netlab.Datagram) { d.Dst = netip.AddrPortFrom(second, d.Dst.Port()) }
	toPort := func(d *netlab.Datagram) { d.Dst = netip.AddrPortFrom(d.Dst.Addr(), 8472) }
	try(wentUp, toSecond)
	check(t, r.setService(second))
	try(done, toSecond)
	check(t, r.deleteService(second))
	check(t, r.deleteService(second))
	try(wentUp, toSecond)

	try(wentUp, toPort)
	r.settings.Port = swap(8472)
	try(done, toPort)
	r.settings.Port = swap(vxlan.Port)

	check(t, r.deleteVNI(uint32(replicated)))
	check(t, r.deleteVNI(uint32(replicated)))
	try(wentUp)
}
