// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A sink counts the copies that arrive at a device, by destination, and drops
// them before they reach the IP layer, so that the receiving side costs
// little. It counts a copy only if it carries the VTEP's source address and
// port range, the VXLAN port and one of the VNIs.
type sink struct {
	copies *ebpf.Map // by the last 16 bits of the destination
	wrong  *ebpf.Map // one counter: VXLAN packets that are not as they should be
	close  []func() error
}

// Return codes of TCX programs (linux/bpf.h, enum tcx_action_base).
const (
	tcxNext = -1
	tcxDrop = 2
)

// newSink attaches a sink to a device (TCX, Linux 6.6), for so many VNIs from
// first on.
func newSink(ns *netlab.Namespace, dev string, vtep netip.Addr, first vxlan.VNI, vnis int) (*sink, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memlock: %w", err)
	}
	copies, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1 << 16})
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	wrong, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	src := vtep.As4()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.SchedCLS,
		License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			// Offsets in an Ethernet frame with an IPv4 header of 20 bytes.
			asm.LoadAbs(12, asm.Half), asm.JNE.Imm(asm.R0, 0x0800, "pass"), // EtherType
			asm.LoadAbs(23, asm.Byte), asm.JNE.Imm(asm.R0, 17, "pass"), // protocol
			asm.LoadAbs(36, asm.Half), asm.JNE.Imm(asm.R0, vxlan.Port, "pass"), // destination port
			asm.LoadAbs(26, asm.Word), asm.JNE.Imm32(asm.R0, int32(binary.BigEndian.Uint32(src[:])), "wrong"), // source
			asm.LoadAbs(34, asm.Half), asm.JLT.Imm(asm.R0, firstPort, "wrong"), // source port
			asm.JGE.Imm(asm.R0, firstPort+flows, "wrong"),
			asm.LoadAbs(46, asm.Word), asm.RSh.Imm(asm.R0, 8), asm.JLT.Imm(asm.R0, int32(first), "wrong"),
			asm.JGE.Imm(asm.R0, int32(first)+int32(vnis), "wrong"),
			asm.LoadAbs(32, asm.Half), // destination, last half
			asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
			asm.LoadMapPtr(asm.R1, copies.FD()),
			asm.Ja.Label("count"),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("wrong"),
			asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
			asm.LoadMapPtr(asm.R1, wrong.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP).WithSymbol("count"),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "drop"),
			asm.Mov.Imm(asm.R1, 1),
			asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
			asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"),
			asm.Return(),
			asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load sink program: %w", err)
	}
	s := &sink{copies: copies, wrong: wrong}
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach to %s: %w", dev, err)
		}
		s.close = append(s.close, l.Close)
		return nil
	})
	s.close = append(s.close, prog.Close, copies.Close, wrong.Close)
	return s, err
}

// A reading is the sink's counters at one moment.
type reading struct {
	perMember []uint64
	total     uint64
	wrong     uint64
}

// read reads the counters of n members.
func (s *sink) read(n int) (reading, error) {
	r := reading{perMember: make([]uint64, n)}
	for i := range r.perMember {
		b := member(i).As4()
		key := uint32(binary.BigEndian.Uint16(b[2:]))
		if err := s.copies.Lookup(&key, &r.perMember[i]); err != nil {
			return r, fmt.Errorf("read counter of %s: %w", member(i), err)
		}
		r.total += r.perMember[i]
	}
	var zero uint32
	if err := s.wrong.Lookup(&zero, &r.wrong); err != nil {
		return r, fmt.Errorf("read counter: %w", err)
	}
	return r, nil
}

// Close detaches the sink.
func (s *sink) Close() {
	for _, f := range s.close {
		_ = f() // the kernel object goes with the process in any case
	}
}
