// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// captureBuffer is the receive buffer of a capture in bytes; the kernel
	// counts about 2 KB for a small frame.
	captureBuffer = 64 << 20

	// maxFrame holds any frame that a link can carry: 64 KB of IP and headers.
	maxFrame = 1 << 17
)

// A Capture collects the frames that a link receives from outside, from the
// moment that it is made. The kernel buffers them and a call reads them: there
// is no goroutine. It is safe for concurrent use.
type Capture struct {
	name string

	mu      sync.Mutex
	fd      int // -1 once closed
	buf     []byte
	packets []Packet
}

// Capture starts to collect what dev receives. Frames that the namespace itself
// sends are left out. Close ends it, or that of the lab.
func (n *Namespace) Capture(dev string) (*Capture, error) {
	c := &Capture{name: n.Name + " " + dev, fd: -1, buf: make([]byte, maxFrame)}
	l, err := n.Link(dev)
	if err != nil {
		return nil, err
	}
	if err := n.Do(func() error { return c.open(l.Index) }); err != nil {
		return nil, n.fail(errors.Join(err, c.Close()), "capture on %s", dev)
	}
	return c, n.lab.own(c.Close)
}

// open opens the packet socket (packet(7)) on the link with the given index.
func (c *Capture) open(index int) (err error) {
	// Protocol 0 receives nothing until bind names the link too.
	c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing: %w", err)
	}
	if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	if err := unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: swap16(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// swap16 turns a host's 16 bits into network order on a little-endian host,
// the only kind that the labs run on.
func swap16(v uint16) uint16 { return v<<8 | v>>8 }

// Close ends the capture. What it has read stays readable.
func (c *Capture) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// drainLocked reads all that the kernel has buffered. It returns an error if
// the kernel had to drop frames, or cannot decode one: a test must know.
func (c *Capture) drainLocked() error {
	if c.fd < 0 {
		return nil
	}
	for {
		k, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return fmt.Errorf("capture on %s: %w", c.name, err)
		}
		if k > len(c.buf) {
			return fmt.Errorf("capture on %s: frame of %d bytes", c.name, k)
		}
		p, err := Decode(append([]byte(nil), c.buf[:k]...))
		if err != nil {
			return fmt.Errorf("capture on %s: %w: % x", c.name, err, c.buf[:min(k, 64)])
		}
		c.packets = append(c.packets, p)
	}
	st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("capture on %s: statistics: %w", c.name, err)
	}
	if st.Drops != 0 {
		return fmt.Errorf("capture on %s: kernel dropped %d frames", c.name, st.Drops)
	}
	return nil
}

// Packets returns what has been received so far and matches, in order. A nil
// match takes everything.
func (c *Capture) Packets(match func(*Packet) bool) ([]Packet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.drainLocked(); err != nil {
		return nil, err
	}
	var out []Packet
	for i := range c.packets {
		if match == nil || match(&c.packets[i]) {
			out = append(out, c.packets[i])
		}
	}
	return out, nil
}

// Wait waits until at least n packets that match have been received, counted
// from the start of the capture or the last Reset, and returns all that match.
// When ctx ends first it returns those there are and an error.
func (c *Capture) Wait(ctx context.Context, n int, match func(*Packet) bool) ([]Packet, error) {
	for {
		ps, err := c.Packets(match)
		if err != nil || len(ps) >= n {
			return ps, err
		}
		if err := c.wait(ctx); err != nil {
			return ps, fmt.Errorf("capture on %s: %d of %d packets: %w", c.name, len(ps), n, err)
		}
	}
}

// wait blocks until the socket is readable or ctx has ended.
func (c *Capture) wait(ctx context.Context) error {
	const step = 20 * time.Millisecond // how late the end of ctx is noticed at most
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		c.mu.Lock()
		fd := c.fd
		c.mu.Unlock()
		if fd < 0 {
			return errClosed
		}
		k, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(step.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if k > 0 {
			return nil
		}
	}
}

// Reset forgets what has been received so far.
func (c *Capture) Reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.drainLocked()
	c.packets = nil
	return err
}

// Send sends Ethernet frames out of a link, in order. On a VXLAN device the
// frames are inner frames: the kernel encapsulates them.
func (n *Namespace) Send(dev string, frames ...[]byte) error {
	l, err := n.Link(dev)
	if err != nil {
		return err
	}
	fd, err := n.sender()
	if err != nil {
		return n.fail(err, "send on %s", dev)
	}
	to := &unix.SockaddrLinklayer{Ifindex: l.Index}
	for _, f := range frames {
		if _, err := unix.SendmsgN(fd, f, nil, to, 0); err != nil {
			return n.fail(err, "send %d bytes on %s", len(f), dev)
		}
	}
	return nil
}

// sender returns the namespace's packet socket for sending. It is opened once,
// since closing one waits for the kernel's readers (packet_release).
func (n *Namespace) sender() (fd int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tx > 0 {
		return n.tx, nil
	}
	err = n.Do(func() error {
		// Protocol 0 receives nothing.
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		n.tx = s
		return nil
	})
	return n.tx, err
}
