// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// The generator's traffic.
const (
	firstPort = 50000 // source ports, one flow each
	flows     = 16
	burst     = 64

	// sentTTL is that of the generator's packets.
	sentTTL = 64

	// warming packets come first, or one for each VNI, in small groups with a
	// pause after each: so whoever learns the sender can do so before the rest
	// comes.
	warming   = 8
	warmPause = time.Millisecond
)

// What an inner frame of the generator carries behind its Ethernet header, all
// numbers big-endian:
//
//	0       4         12        20      24
//	+-------+---------+---------+-------+
//	| magic | number  | time    | index |
//	+-------+---------+---------+-------+
//
// The time is CLOCK_MONOTONIC in ns, the index that of the VNI.
const (
	offMark    = 14
	markNumber = 4
	markTime   = 12
	markIndex  = 20
	markLen    = 24

	magic = 0x76786230

	// outerLen is the length of all headers in front of an inner frame:
	// Ethernet, IPv4, UDP, VXLAN.
	outerLen = 14 + 20 + 8 + 8
)

// A traffic is what a generator sends.
type traffic struct {
	Device   string
	To, From net.HardwareAddr
	Src, Dst netip.Addr
	// Native sends inner frames alone, for a VTEP to encapsulate.
	Native bool
	VNIs   int
	Inner  int     // length of the inner frame, bytes
	Rate   float64 // packets per second; 0 is as many as one CPU can
	Length time.Duration
}

// monotonic returns CLOCK_MONOTONIC, which is also the clock of BPF programs.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("bench: " + err.Error())
	}
	return ts.Nano()
}

// frame returns the frame that is packet 0.
func (t *traffic) frame() []byte {
	payload := make([]byte, max(t.Inner-offMark, markLen))
	binary.BigEndian.PutUint32(payload, magic)
	inner := netlab.Ethernet(netlab.Broadcast, t.From, experimental, payload)
	if t.Native {
		return inner
	}
	return netlab.Datagram{
		Src: netip.AddrPortFrom(t.Src, firstPort), Dst: netip.AddrPortFrom(t.Dst, vxlan.Port), TTL: sentTTL,
		NoChecksum: true, Payload: append(vxlan.AppendHeader(nil, firstVNI), inner...),
	}.Frame(t.To, t.From)
}

// A generator is a packet socket with a burst of frames.
type generator struct {
	*traffic
	fd     int
	sent   uint64
	frames [burst][]byte
	iovs   [burst]unix.Iovec
	ms     [burst]mmsghdr
}

// An mmsghdr is the kernel's (sendmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// generate sends what its argument, a traffic in JSON, asks for, and tells how
// many packets that were. Between the first few and the rest it waits for a line
// of input. Packets that the node does not keep up with are lost in
// its receive buffer.
func generate(args string) error {
	var t traffic
	if err := json.Unmarshal([]byte(args), &t); err != nil {
		return err
	}
	runtime.LockOSThread()
	// Sleeps of a paced generator end in time (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	g := &generator{traffic: &t}
	if err := g.open(); err != nil {
		return err
	}
	defer unix.Close(g.fd)
	for i := range g.frames {
		g.frames[i] = t.frame()
		g.iovs[i].Base = &g.frames[i][0]
		g.iovs[i].SetLen(len(g.frames[i]))
		g.ms[i].hdr.Iov = &g.iovs[i]
		g.ms[i].hdr.SetIovlen(1)
	}
	if err := g.run(); err != nil {
		return err
	}
	_, err := fmt.Printf("sent=%d\n", g.sent)
	return err
}

func (g *generator) open() error {
	i, err := net.InterfaceByName(g.Device)
	if err != nil {
		return err
	}
	if g.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("packet socket", err)
	}
	if err := unix.SetsockoptInt(g.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return os.NewSyscallError("PACKET_QDISC_BYPASS", err)
	}
	return os.NewSyscallError("bind", unix.Bind(g.fd, &unix.SockaddrLinklayer{Ifindex: i.Index}))
}

func (g *generator) run() error {
	for range max(warming, g.VNIs) {
		if err := g.send(1, monotonic()); err != nil {
			return err
		}
		if g.sent%warming == 0 {
			pause(warmPause)
		}
	}
	fmt.Println("warm")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for a line: %w", err)
	}
	begin := monotonic()
	for first := g.sent; ; {
		now := monotonic()
		since := now - begin
		if since >= int64(g.Length) {
			return nil
		}
		n := burst
		if g.Rate > 0 {
			due := first + uint64(float64(since)*g.Rate/1e9) + 1
			if due <= g.sent {
				pause(time.Duration(float64(g.sent-first)/g.Rate*1e9) - time.Duration(since))
				continue
			}
			n = int(min(due-g.sent, burst))
		}
		if err := g.send(n, now); err != nil {
			return err
		}
	}
}

// pause sleeps; the time of the next packet counts, not who woke us.
func pause(d time.Duration) {
	ts := unix.NsecToTimespec(max(int64(d), 1))
	_ = unix.Nanosleep(&ts, nil)
}

// send sends the next n packets.
func (g *generator) send(n int, now int64) error {
	for i := range n {
		number := g.sent + uint64(i)
		vni := number % uint64(g.VNIs)
		b := g.frames[i]
		if !g.Native {
			// The round in which a VNI's turn comes chooses the flow.
			binary.BigEndian.PutUint16(b[34:], firstPort+uint16(number/uint64(g.VNIs)%flows))
			binary.BigEndian.PutUint32(b[46:], (uint32(firstVNI)+uint32(vni))<<8)
			b = b[outerLen:]
		} else {
			b[11] = byte(number / uint64(g.VNIs) % flows) // of the source address: the kernel makes a port of it
		}
		mark := b[offMark:]
		binary.BigEndian.PutUint64(mark[markNumber:], number)
		binary.BigEndian.PutUint64(mark[markTime:], uint64(now))
		binary.BigEndian.PutUint32(mark[markIndex:], uint32(vni))
	}
	for off := 0; off < n; {
		k, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(g.fd), uintptr(unsafe.Pointer(&g.ms[off])), uintptr(n-off), 0, 0, 0)
		switch e {
		case 0:
			off += int(k)
		case unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
			// ENOBUFS is what the node's queue of received packets says when it is full.
			off++
		default:
			return fmt.Errorf("send: %w", e)
		}
	}
	g.sent += uint64(n)
	return nil
}

// pinTo binds the calling thread, and the program that it becomes, to a CPU.
func pinTo(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}
