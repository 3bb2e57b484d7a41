// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

func summedUDP(d *netlab.Datagram) { d.NoChecksum = false }

// verifier returns a program that says of each packet what a device says which has
// verified the outermost checksum.
func verifier(t *testing.T) packetCounter {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 1), // BPF_CSUM_LEVEL_INC of linux/bpf.h
		asm.FnCsumLevel.Call(),
		asm.Mov.Imm(asm.R0, -1),
		asm.Return(),
	}})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return packetCounter{Program: p}
}

// copied waits for the one copy of a packet that had a checksum, and checks it.
func (s *site) copied(sent []byte, port uint16) netlab.Packet {
	s.Helper()
	in, err := netlab.Decode(sent)
	check(s, err)
	p := s.capturedAt(s.copies, 1, port)[0]
	if p.Checksum != 0 || p.Dst != other || !bytes.Equal(p.Payload, in.Payload) {
		s.Errorf("got checksum %#x, a copy to %v of %x, want 0, %v, %x", p.Checksum, p.Dst, p.Payload, other, in.Payload)
	}
	return p
}

// wantUp fails the test unless so many packets went up for their checksum.
func (s *site) wantUp(want uint64) {
	s.Helper()
	up, err := s.handedUp()
	check(s, err)
	if up[upChecksum] != want {
		s.Errorf("got %d packets up for their checksum, want %d", up[upChecksum], want)
	}
}

// Of what nobody has verified the program clears no checksum.
func TestChecksumsThatNobodyVerified(t *testing.T) {
	s := newSite(t, hooks[0].attach)
	s.expect(1, "raw", summedUDP)
	s.expect(2, "raw", summedUDP)
	s.wantUp(2)
	s.expect(3, "member")
}

func TestChecksumsThatTheDeviceVerified(t *testing.T) {
	for _, h := range hooks {
		t.Run(h.name, func(t *testing.T) {
			first := verifier(t)
			s := newSite(t, func(k *kernel, index int) (attachment, error) {
				if err := addProgram(t, h.name, index, first, 0); err != nil {
					return attachment{}, err
				}
				return h.attach(k, index)
			})
			for i := range 3 {
				s.expect(i, "member", summedUDP)
				s.copied(s.frame(i, summedUDP), vxlan.Port)
			}
			s.wantUp(0)
		})
	}
}

// A listener is a program that keeps what the last packet brings along as its sum
// (CHECKSUM_COMPLETE).
func listener(t *testing.T) (packetCounter, *ebpf.Map) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	check(t, err)
	t.Cleanup(func() { m.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0),
		asm.FnCsumUpdate.Call(),
		asm.JSLT.Imm(asm.R0, 0, "out"),
		asm.StoreMem(asm.RFP, -16, asm.R0, asm.DWord),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -16),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return packetCounter{Program: p}, m
}

// A tunnel whose packets have a checksum knows the sum of what is inside: the
// program verifies by that, and copies take one along that is right.
func TestChecksumsByTheSumOfThePacket(t *testing.T) {
	s := newSite(t, hooks[0].attach)
	near, far := netip.MustParseAddr("198.51.100.8"), netip.MustParseAddr("198.51.100.9")
	check(t, s.node.AddAddr("eth0", netip.PrefixFrom(near, 24)))
	check(t, s.far.AddAddr("eth0", netip.PrefixFrom(far, 24)))
	check(t, s.node.AddVXLAN("tun", netlab.VXLAN{VNI: 1, Local: near, Remote: far, Port: 8472}))
	check(t, s.far.AddVXLAN("tun", netlab.VXLAN{VNI: 1, Local: far, Remote: near, Port: 8472}))
	check(t, s.node.SetUp("tun"))
	check(t, s.far.SetUp("tun"))
	tun, err := s.node.Link("tun")
	check(t, err)
	check(t, s.node.Do(func() error { _, err := s.attach(tun.Index); return err }))
	behind, heard := listener(t)
	eth0, err := s.far.Link("eth0")
	check(t, err)
	check(t, s.far.Do(func() error { return addProgram(t, "tcx", eth0.Index, behind, 0) }))

	for number, tt := range []struct {
		more int // bytes of the inner frame: odd lengths are sums of their own
		port uint16
	}{{0, vxlan.Port}, {1, vxlan.Port}, {2, 8473}, {3, 8473}} {
		s.settings.DestPort = swap(tt.port)
		in := frame(replicated, 64+tt.more, summedUDP, func(d *netlab.Datagram) {
			d.Src = netip.AddrPortFrom(d.Src.Addr(), uint16(sentPort+number))
			d.Payload[len(d.Payload)-1] = byte(number)
		})
		copy(in, tun.MAC)
		check(t, s.far.Send("tun", in))
		p := s.copied(in, tt.port)
		var told uint64
		check(t, heard.Lookup(uint32(0), &told))
		if got, want := fold(told), sumOfPacket(p.Frame[14:]); got != want {
			t.Errorf("packet %d: got sum %#x with the copy, want %#x", number, got, want)
		}
	}
	s.wantUp(0)

	// One that is damaged is for the socket to refuse.
	before := s.refused()
	f := s.frame(20, summedUDP)
	copy(f, tun.MAC)
	f[len(f)-10] ^= 1
	check(t, s.far.Send("tun", f))
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	check(t, netlab.Wait(ctx, "the refusal", func() bool { return s.refused() == before+1 }))
	s.wantUp(1)
}

// sumOfPacket is the sum that a device tells of a packet (RFC 1071).
func sumOfPacket(b []byte) uint16 {
	var sum uint64
	for i := 0; i < len(b); i += 2 {
		sum += uint64(binary.NativeEndian.Uint16(append(slices.Clone(b[i:min(i+2, len(b))]), 0)))
	}
	return fold(sum)
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// refused returns how many datagrams the node has refused for their checksum.
func (s *site) refused() (n int) {
	s.Helper()
	var b []byte
	check(s, s.node.Do(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	}))
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "InCsumErrors" {
				_, err := fmt.Sscan(fields[i], &n)
				check(s, err)
			}
		}
	}
	return n
}

// Between virtual devices checksums are yet to be computed: the outer one or, where
// the inner one is (local checksum offload), that alone. The program cannot tell them
// apart. Without an outer one it leaves the inner one as it is, to be computed.
func TestChecksumsThatAreYetToBeComputed(t *testing.T) {
	arp := append(bytes.Repeat([]byte{0xff}, 6), make([]byte, 60)...)
	for _, tt := range []struct {
		name     string
		none     bool // no outer checksum
		datagram bool // the inner frame has one of UDP
		want     string
	}{
		{"outer", false, false, "raw"},
		{"inner", false, true, "raw"},
		{"none", true, false, "member"},
		{"inner alone", true, true, "member"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, hooks[0].attach)
			check(t, s.far.SetChecksumOffload("eth0", true))
			check(t, s.far.AddAddr("eth0", netip.PrefixFrom(sender, 24)))
			check(t, s.far.AddRoute(netlab.Route{To: netip.PrefixFrom(service, 32), Via: sender.Next()}))
			check(t, s.far.AddVXLAN("vtep", netlab.VXLAN{VNI: uint32(replicated), Local: sender, Remote: service, NoChecksum: tt.none}))
			inside := netip.MustParsePrefix("10.9.0.1/24")
			check(t, s.far.AddAddr("vtep", inside))
			check(t, s.far.SetUp("vtep"))
			before, err := s.handedUp()
			check(t, err)
			const number = 7
			if tt.datagram {
				c, err := s.far.ListenUDP(netip.AddrPortFrom(inside.Addr(), 0))
				check(t, err)
				defer c.Close()
				_, err = c.WriteToUDPAddrPort([]byte{1, 2, number}, netip.MustParseAddrPort("10.9.0.255:9"))
				check(t, err)
			} else {
				arp[len(arp)-1] = number
				check(t, s.far.Send("vtep", arp))
			}
			if got := s.taker(number); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if tt.want == "raw" {
				if got := s.reason(before); got != upChecksum {
					t.Errorf("got reason %v, want %v", got, upChecksum)
				}
				return
			}
			for _, p := range s.captured(s.copies, 1) {
				inner, err := netlab.Decode(p.Payload[vxlan.HeaderLen:])
				if tt.datagram && (err != nil || !inner.ChecksumValid()) || p.Checksum != 0 {
					t.Errorf("got %x, %v, want a checksum inside alone", p.Frame, err)
				}
			}
		})
	}
}
