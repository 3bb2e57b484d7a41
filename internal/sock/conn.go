// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BatchConn is a socket that reads and writes batches of datagrams. Conn is
// the real one; a test may stand in for it and return short counts and errors.
type BatchConn interface {
	// ReadBatch waits for at least one datagram, takes what else is there
	// without waiting, and returns how many messages were filled in.
	ReadBatch(ms []Message) (int, error)
	// WriteBatch hands messages to the kernel in their order, without
	// waiting, and returns how many it took. It returns an error only if it
	// took none; that error is the first message's.
	WriteBatch(ms []Message) (int, error)
}

// Errors that a caller of BatchConn branches on, besides those of the kernel.
var (
	// ErrTimeout says that nothing arrived within the read timeout.
	ErrTimeout = errors.New("nothing received in time")
	// ErrFull says that the send buffer has no room now.
	ErrFull = errors.New("send buffer full")
)

// A Conn is a socket for batches. ReadBatch belongs to one goroutine and
// WriteBatch to one; Wake and Drops may be called by any. Close must come
// after both have returned, since the kernel reuses descriptors.
type Conn struct {
	fd int
}

// open makes a socket with all options set; where anything fails it is closed.
func open(domain, typ, proto int, opts []Option) (*Conn, error) {
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := setAll(fd, opts); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Conn{fd: fd}, nil
}

// ReadBatch is recvmmsg(2) with MSG_WAITFORONE. It returns ErrTimeout when
// the read timeout has passed. After Wake, when nothing is left, it returns
// empty messages without a sender, which an Inbox takes for nothing.
func (c *Conn) ReadBatch(ms []Message) (int, error) {
	if n, err := c.ReadQueued(ms); !errors.Is(err, ErrTimeout) {
		return n, err
	}
	return batch(unix.Syscall6, unix.SYS_RECVMMSG, c.fd, ms, unix.MSG_WAITFORONE, ErrTimeout)
}

// ReadQueued is ReadBatch without waiting: ErrTimeout says that nothing is queued.
func (c *Conn) ReadQueued(ms []Message) (int, error) {
	return batch(unix.RawSyscall6, unix.SYS_RECVMMSG, c.fd, ms, unix.MSG_DONTWAIT, ErrTimeout)
}

// batch is one system call for all messages. again is the error that stands
// for EAGAIN.
//
// A call that does not wait is made by unix.RawSyscall6, without a word to Go's
// scheduler. Told of it, the scheduler's monitor would wake some thousand times
// per second to see whether the call still runs, at the cost of 3 to 4 % of a busy
// CPU. Instead a stop of the world, for garbage collection, waits for its end.
func batch(system func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno),
	call uintptr, fd int, ms []Message, flags int, again error) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	for {
		n, _, e := system(call, uintptr(fd), uintptr(unsafe.Pointer(&ms[0])),
			uintptr(len(ms)), uintptr(flags), 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, again
		default:
			return 0, e
		}
	}
}

// writeBatch is how many messages are sent in one call at most, so that it ends
// within some 0.2 ms. Longer calls gain nothing.
const writeBatch = 64

// WriteBatch is sendmmsg(2) with MSG_DONTWAIT. The kernel stops at the first
// message that it refuses and reports the refusal only if that message is the
// first of a call, so the caller goes on behind what was taken.
func (c *Conn) WriteBatch(ms []Message) (int, error) {
	return batch(unix.RawSyscall6, unix.SYS_SENDMMSG, c.fd, ms[:min(len(ms), writeBatch)], unix.MSG_DONTWAIT, ErrFull)
}

// WaitWritable waits until at least half of the send buffer is free, or d has
// passed; it tells whether there is room.
func (c *Conn) WaitWritable(d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	return err == nil && n == 1 && fds[0].Revents&unix.POLLOUT != 0
}

// Wake ends a ReadBatch that waits, and each later one once the queue is
// empty. The kernel answers ENOTCONN on an unconnected socket but wakes all
// the same (inet_shutdown).
func (c *Conn) Wake() { _ = unix.Shutdown(c.fd, unix.SHUT_RD) }

// Refuse has the kernel drop what arrives from now on, while what is queued can
// still be read (a socket filter that takes nothing, socket(7)).
func (c *Conn) Refuse() error { return c.filter(refuse) }

const (
	udpHeader = 8 // a filter of a UDP socket sees the header too

	// adIfindex is where a filter finds the index of the device that a packet
	// came in by, and loopback what it is there for packets that the machine
	// sends to itself (SKF_AD_IFINDEX in linux/filter.h; LOOPBACK_IFINDEX in
	// net/flow.h).
	adIfindex = 1<<32 - 0x1000 + 8
	loopback  = 1
)

// Socket filters (Documentation/networking/filter.rst): what they return is
// how much of the packet to keep.
var (
	refuse = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}

	markLooped = []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: adIfindex},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: loopback, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: udpHeader + loopedLen},
		// Others of that length lose a byte more, so that it tells looped ones.
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: udpHeader + loopedLen, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: udpHeader + loopedLen - 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	}
)

// filter attaches a filter in place of the one that is there.
func (c *Conn) filter(code []unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	if err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// Close releases the socket.
func (c *Conn) Close() error {
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// ReceiveBuffer returns the size of the receive buffer in bytes, as asked for.
func (c *Conn) ReceiveBuffer() int { return buffer(c.fd, unix.SO_RCVBUF) }

// SendBuffer returns the size of the send buffer in bytes, as asked for.
func (c *Conn) SendBuffer() int { return buffer(c.fd, unix.SO_SNDBUF) }

// Indexes into the answer to SO_MEMINFO (linux/sock_diag.h, Linux 4.12).
const (
	memInfoReceived = 0 // SK_MEMINFO_RMEM_ALLOC
	memInfoSent     = 2 // SK_MEMINFO_WMEM_ALLOC
	memInfoSend     = 3 // SK_MEMINFO_SNDBUF
	memInfoDrops    = 8 // SK_MEMINFO_DROPS
	memInfoLen      = 9
)

func (c *Conn) memInfo() (info [memInfoLen]uint32, ok bool) {
	n := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(c.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&n)), 0)
	return info, e == 0 && uintptr(n) >= unsafe.Sizeof(info)
}

// Drops returns how many datagrams the kernel has dropped for want of room in
// the receive buffer since the socket was opened, modulo 2^32.
func (c *Conn) Drops() (uint32, bool) {
	info, ok := c.memInfo()
	return info[memInfoDrops], ok
}

// Queued returns the memory that is taken by datagrams which nobody has read yet
// and by packets which have not left the machine yet, bytes: more than they are
// long. Of a socket that cannot tell it is 0.
func (c *Conn) Queued() (receive, send int) {
	info, _ := c.memInfo()
	return int(info[memInfoReceived]), int(info[memInfoSent])
}

// Backlog returns the share of the send buffer that is taken by packets which
// have not left the machine yet, 0 to 1 and a little more.
func (c *Conn) Backlog() float64 {
	info, ok := c.memInfo()
	if !ok || info[memInfoSend] == 0 {
		return 0
	}
	return float64(info[memInfoSent]) / float64(info[memInfoSend])
}
