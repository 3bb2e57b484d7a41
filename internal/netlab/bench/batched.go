// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

const (
	batchIn  = 64   // packets per system call
	batchOut = 256  // copies per system call
	largest  = 2048 // bytes of a packet

	// batchBuffer is the size of both its buffers, as vxsnd's receive_queue.
	batchBuffer = 8 << 20
)

// A batcher is the floor of what a program with raw sockets can cost: it reads
// batches and writes batches by plain system calls, and has nothing else to do.
// It knows its members when it starts, looks at no TTL, counts nothing and ends
// at the first error.
type batcher struct {
	in, out int
	lists   [][][4]byte // by VNI

	bufs  [batchIn][largest]byte
	names [batchIn]unix.RawSockaddrInet4
	iovIn [batchIn]unix.Iovec
	msIn  [batchIn]mmsghdr

	heads  [batchOut][28]byte
	to     [batchOut]unix.RawSockaddrInet4
	iovOut [batchOut][2]unix.Iovec
	msOut  [batchOut]mmsghdr
	n      int
}

// batched floods to a table's members.
func batched(t table) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // there is nothing to collect
	b := &batcher{}
	for k := range t.vnis {
		var list [][4]byte
		for _, a := range t.list(k) {
			list = append(list, a.As4())
		}
		b.lists = append(b.lists, list)
	}
	if err := b.open(); err != nil {
		return err
	}
	b.wire()
	fmt.Println("msg=ready")
	for {
		n, err := system(unix.SYS_RECVMMSG, b.in, unsafe.Pointer(&b.msIn[0]), batchIn, unix.MSG_WAITFORONE)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		for i := range n {
			if err := b.flood(i); err != nil {
				return err
			}
			b.msIn[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		if err := b.flush(); err != nil {
			return err
		}
	}
}

func (b *batcher) open() (err error) {
	if b.in, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if b.out, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return os.NewSyscallError("raw socket", err)
	}
	return errors.Join(
		unix.SetsockoptInt(b.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, batchBuffer),
		unix.SetsockoptInt(b.out, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, batchBuffer),
		unix.Bind(b.in, &unix.SockaddrInet4{Port: vxlan.Port}))
}

// wire connects the messages with their memory.
func (b *batcher) wire() {
	for i := range b.msIn {
		b.iovIn[i].Base = &b.bufs[i][0]
		b.iovIn[i].SetLen(largest)
		h := &b.msIn[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), unix.SizeofSockaddrInet4
		h.Iov = &b.iovIn[i]
		h.SetIovlen(1)
	}
	for i := range b.msOut {
		b.iovOut[i][0].Base = &b.heads[i][0]
		b.iovOut[i][0].SetLen(len(b.heads[i]))
		b.to[i].Family = unix.AF_INET
		h := &b.msOut[i].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.to[i])), unix.SizeofSockaddrInet4
		h.Iov = &b.iovOut[i][0]
		h.SetIovlen(2)
	}
}

// flood queues the copies of packet i.
func (b *batcher) flood(i int) error {
	p := b.bufs[i][:b.msIn[i].n]
	vni, err := vxlan.ParseHeader(p)
	k := int(vni) - firstVNI
	if err != nil || k < 0 || k >= len(b.lists) {
		return nil
	}
	from := &b.names[i]
	src := *(*[4]byte)(unsafe.Pointer(&from.Addr))
	port := *(*[2]byte)(unsafe.Pointer(&from.Port)) // in network order, as it is sent again
	n := len(p) + 8
	head := [28]byte{
		0: 0x45, 8: sentTTL - 1, 9: unix.IPPROTO_UDP, 12: src[0], 13: src[1], 14: src[2], 15: src[3],
		20: port[0], 21: port[1], 22: vxlan.Port >> 8, 23: vxlan.Port & 0xff, 24: byte(n >> 8), 25: byte(n),
	}
	for _, a := range b.lists[k] {
		if a == src {
			continue
		}
		j := b.n
		b.heads[j] = head
		*(*[4]byte)(b.heads[j][16:]) = a
		b.to[j].Addr = a
		b.iovOut[j][1].Base = &p[0]
		b.iovOut[j][1].SetLen(len(p))
		if b.n++; b.n == batchOut {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batcher) flush() error {
	for off := 0; off < b.n; {
		n, err := system(unix.SYS_SENDMMSG, b.out, unsafe.Pointer(&b.msOut[off]), b.n-off, 0)
		if err != nil {
			return fmt.Errorf("send to %s: %w", netip.AddrFrom4(b.to[off].Addr), err)
		}
		off += n
	}
	b.n = 0
	return nil
}

// system is recvmmsg(2) or sendmmsg(2), without a word to Go's scheduler.
func system(call uintptr, fd int, ms unsafe.Pointer, n, flags int) (int, error) {
	for {
		k, _, e := unix.RawSyscall6(call, uintptr(fd), uintptr(ms), uintptr(n), uintptr(flags), 0, 0)
		switch e {
		case 0:
			return int(k), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}
