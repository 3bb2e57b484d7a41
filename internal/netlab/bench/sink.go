// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	// One copy in timedEvery, a power of two, tells its delay.
	timedEvery = 64

	// ringBytes holds the samples of a measurement.
	ringBytes = 32 << 20
)

// A sink counts the copies that arrive at a device, by destination, and drops
// them before they reach the IP layer, so that the receiving side costs
// little. It counts a copy only if it carries the expected source address, port
// range, VXLAN port, VNI and mark; of a sample it tells all that it carries.
type sink struct {
	copies *ebpf.Map // by the last 16 bits of the destination
	faults *ebpf.Map // by kind of fault
	ring   *ebpf.Map
	counts *ebpf.Memory // of copies
	close  []func() error
}

// Faults that a sink counts.
const (
	faultWrong    = iota // VXLAN packets that are not as they should be
	faultUnsample        // samples that found no room
	numFaults
)

// expected is what copies have to carry.
type expected struct {
	src    netip.Addr
	native bool // the kernel chooses source ports
	vnis   int
	every  int // one packet in so many, a power of two, has each of its copies looked at
}

// Return codes of TCX programs (linux/bpf.h, enum tcx_action_base).
const (
	tcxNext = -1
	tcxDrop = 2
)

// Offsets in struct __sk_buff (linux/bpf.h).
const (
	skbData    = 76
	skbDataEnd = 80
)

// What a sample is for: that all copies of a packet are there, how long one took,
// or when a gauge is flooded to.
const (
	kindExact = 1
	kindTimed = 2
	kindGauge = 4
)

// A sample as the program writes it, offsets in bytes. What comes from the packet
// is in network order.
const (
	sampleNumber = 0
	sampleNow    = 8
	sampleSent   = 16
	sampleSrc    = 24
	sampleDst    = 28
	samplePorts  = 32
	sampleVXLAN  = 36 // the header
	sampleLength = 44 // first word of the IPv4 header: version, TOS, total length
	sampleTTL    = 48 // third word: flags, TTL, protocol
	sampleKind   = 52
	sampleSize   = 56
)

// native returns what a load of these bytes gives.
func native16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

func native32(v uint32) int32 {
	return int32(binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, v)))
}

// program returns the instructions of a sink. Offsets are those in an Ethernet
// frame with an IPv4 header of 20 bytes.
func (s *sink) program(e expected) asm.Instructions {
	src := e.src.As4()
	mark := int16(outerLen + offMark)
	is := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, skbData, asm.Word),
		asm.LoadMem(asm.R8, asm.R1, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, int32(mark)+markLen),
		asm.JGT.Reg(asm.R2, asm.R8, "pass"),
		asm.LoadMem(asm.R0, asm.R7, 12, asm.Half), asm.JNE.Imm(asm.R0, native16(0x0800), "pass"), // EtherType
		asm.LoadMem(asm.R0, asm.R7, 23, asm.Byte), asm.JNE.Imm(asm.R0, 17, "pass"), // protocol
		asm.LoadMem(asm.R0, asm.R7, 36, asm.Half), asm.JNE.Imm(asm.R0, native16(vxlan.Port), "pass"),
		asm.LoadMem(asm.R0, asm.R7, 26, asm.Word), asm.JNE.Imm32(asm.R0, native32(binary.BigEndian.Uint32(src[:])), "wrong"),
		asm.LoadMem(asm.R0, asm.R7, mark, asm.Word), asm.JNE.Imm32(asm.R0, native32(magic), "wrong"),
		asm.LoadMem(asm.R0, asm.R7, 46, asm.Word), asm.HostTo(asm.BE, asm.R0, asm.Word), asm.RSh.Imm(asm.R0, 8),
		asm.JLT.Imm(asm.R0, int32(firstVNI), "wrong"), asm.JGE.Imm(asm.R0, int32(firstVNI+e.vnis), "wrong"),
	}
	if !e.native {
		is = append(is,
			asm.LoadMem(asm.R0, asm.R7, 34, asm.Half), asm.HostTo(asm.BE, asm.R0, asm.Half),
			asm.JLT.Imm(asm.R0, firstPort, "wrong"), asm.JGE.Imm(asm.R0, firstPort+flows, "wrong"))
	}
	return append(is,
		asm.LoadMem(asm.R0, asm.R7, 32, asm.Half), asm.HostTo(asm.BE, asm.R0, asm.Half), // destination, last half
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, s.copies.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),

		// What is it a sample for?
		asm.FnGetPrandomU32.Call(),
		asm.Mov.Imm(asm.R9, 0),
		asm.JSet.Imm(asm.R0, timedEvery-1, "untimed"),
		asm.Or.Imm(asm.R9, kindTimed),
		asm.LoadMem(asm.R0, asm.R7, mark+markNumber+4, asm.Word).WithSymbol("untimed"),
		asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.JSet.Imm(asm.R0, int32(e.every-1), "inexact"),
		asm.Or.Imm(asm.R9, kindExact),
		asm.LoadMem(asm.R0, asm.RFP, -4, asm.Word).WithSymbol("inexact"),
		asm.JNE.Imm(asm.R0, gaugeIndex, "ungauged"),
		asm.Or.Imm(asm.R9, kindGauge),
		asm.JEq.Imm(asm.R9, 0, "drop").WithSymbol("ungauged"),

		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.RFP, sampleNow-sampleSize, asm.R0, asm.DWord),
		asm.LoadMem(asm.R0, asm.R7, mark+markNumber, asm.DWord), asm.StoreMem(asm.RFP, sampleNumber-sampleSize, asm.R0, asm.DWord),
		asm.LoadMem(asm.R0, asm.R7, mark+markTime, asm.DWord), asm.StoreMem(asm.RFP, sampleSent-sampleSize, asm.R0, asm.DWord),
		asm.LoadMem(asm.R0, asm.R7, 26, asm.Word), asm.StoreMem(asm.RFP, sampleSrc-sampleSize, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 30, asm.Word), asm.StoreMem(asm.RFP, sampleDst-sampleSize, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 34, asm.Word), asm.StoreMem(asm.RFP, samplePorts-sampleSize, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 46, asm.Word), asm.StoreMem(asm.RFP, sampleVXLAN+4-sampleSize, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 14, asm.Word), asm.StoreMem(asm.RFP, sampleLength-sampleSize, asm.R0, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 20, asm.Word), asm.StoreMem(asm.RFP, sampleTTL-sampleSize, asm.R0, asm.Word),
		asm.StoreMem(asm.RFP, sampleKind-sampleSize, asm.R9, asm.Word),
		asm.LoadMem(asm.R0, asm.R7, 42, asm.Word), asm.StoreMem(asm.RFP, sampleVXLAN-sampleSize, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, s.ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -sampleSize),
		asm.Mov.Imm(asm.R3, sampleSize),
		asm.Mov.Imm(asm.R4, 1), // BPF_RB_NO_WAKEUP
		asm.FnRingbufOutput.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Imm(asm.R0, faultUnsample), asm.Ja.Label("fault"),

		asm.Mov.Imm(asm.R0, faultWrong).WithSymbol("wrong"),
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word).WithSymbol("fault"),
		asm.LoadMapPtr(asm.R1, s.faults.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
		asm.Return(),
	)
}

// newSink attaches a sink to a device (TCX, Linux 6.6).
func newSink(ns *netlab.Namespace, dev string, e expected) (_ *sink, err error) {
	s := &sink{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memlock: %w", err)
	}
	if s.copies, err = s.newMap(ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1 << 16, Flags: mmapable}); err != nil {
		return nil, err
	}
	if s.counts, err = s.copies.Memory(); err != nil {
		return nil, fmt.Errorf("map counters: %w", err)
	}
	if s.faults, err = s.newMap(ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: numFaults}); err != nil {
		return nil, err
	}
	if s.ring, err = s.newMap(ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: ringBytes}); err != nil {
		return nil, err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: s.program(e)})
	if err != nil {
		return nil, fmt.Errorf("load sink program: %w", err)
	}
	s.close = append(s.close, prog.Close)
	detach, err := attach(ns, dev, prog)
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, detach)
	return s, nil
}

// mmapable is BPF_F_MMAPABLE (linux/bpf.h).
const mmapable = 1 << 10

func (s *sink) newMap(spec ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&spec)
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	s.close = append(s.close, m.Close)
	return m, nil
}

// attach puts a program on what comes in by a device of a namespace.
func attach(ns *netlab.Namespace, dev string, prog *ebpf.Program) (detach func() error, err error) {
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach to %s: %w", dev, err)
		}
		detach = l.Close
		return nil
	})
	return detach, err
}

// total returns the number of copies so far.
func (s *sink) total() (sum uint64, err error) {
	b := make([]byte, s.counts.Size())
	if _, err := s.counts.ReadAt(b, 0); err != nil {
		return 0, fmt.Errorf("read counters: %w", err)
	}
	for ; len(b) >= 8; b = b[8:] {
		sum += binary.NativeEndian.Uint64(b)
	}
	return sum, nil
}

// check returns an error if something was wrong with what came.
func (s *sink) check() error {
	var n [numFaults]uint64
	for i := range n {
		if err := s.faults.Lookup(uint32(i), &n[i]); err != nil {
			return fmt.Errorf("read counter: %w", err)
		}
	}
	if n[faultWrong] > 0 {
		return fmt.Errorf("%d packets with a wrong source, VNI or content", n[faultWrong])
	}
	if n[faultUnsample] > 0 {
		return fmt.Errorf("%d samples lost", n[faultUnsample])
	}
	return nil
}

// samples calls f with each sample that is there.
func (s *sink) samples(f func(b []byte) error) error {
	r, err := ringbuf.NewReader(s.ring)
	if err != nil {
		return fmt.Errorf("read samples: %w", err)
	}
	defer r.Close()
	r.SetDeadline(time.Now().Add(-time.Second))
	for rec := (ringbuf.Record{}); ; {
		err := r.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		if len(rec.RawSample) < sampleSize {
			return errors.New("read samples: short sample")
		}
		if err := f(rec.RawSample); err != nil {
			return err
		}
	}
}

// Close detaches the sink.
func (s *sink) Close() { closeAll(s.close) }

// closeAll closes what was opened, in turn. Its objects go with the process in any
// case.
func closeAll(fs []func() error) {
	for _, f := range slices.Backward(fs) {
		_ = f()
	}
}
