// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ne is the byte order of netlink(7).
var ne = binary.NativeEndian

const (
	// answerTime bounds the wait for the kernel, which answers at once, in
	// seconds.
	answerTime = 10

	// maxRead is more than the kernel writes into one datagram: 32 KB
	// (netlink_dump of net/netlink/af_netlink.c).
	maxRead = 1 << 16
)

// A conn asks the kernel for what the netlink package does not know, or with
// many requests at a time. It is safe for concurrent use.
type conn struct {
	mu  sync.Mutex
	fd  int // -1 once closed
	seq uint32
	buf []byte
}

// socket opens a netlink socket of a protocol (netlink(7)).
func socket(flags, protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, protocol)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err == nil {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("open netlink: %w", err)
}

func dial() (*conn, error) {
	fd, err := socket(0, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Filters of listings count (Linux 4.20), and errors come without the
	// request that they are about.
	for _, opt := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_CAP_ACK} {
		if err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, opt, 1); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTime})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up netlink: %w", err)
	}
	return &conn{fd: fd, buf: make([]byte, maxRead)}, nil
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// A request is a message to the kernel without its header.
type request struct {
	typ, flags uint16
	body       []byte
}

// append appends the message with its header (struct nlmsghdr).
func (r request) append(b []byte, seq uint32) []byte {
	b = ne.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(r.body)))
	b = ne.AppendUint16(b, r.typ)
	b = ne.AppendUint16(b, unix.NLM_F_REQUEST|r.flags)
	b = ne.AppendUint32(b, seq)
	b = ne.AppendUint32(b, 0)
	b = append(b, r.body...)
	return append(b, make([]byte, pad(len(b)))...)
}

// list hands the messages that answer a request to each, valid until it
// returns, and returns how many datagrams they came in. A listing that a change
// has disturbed is netlink.ErrDumpInterrupted: see retry.
func (c *conn) list(r request, each func(body []byte)) (parts int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	interrupted := false
	errs := []error{errNoAnswer}
	err = c.exchange([]request{r}, errs, func(m message) {
		if m.flags&unix.NLM_F_DUMP_INTR != 0 {
			interrupted = true
		}
		if m.typ != unix.NLMSG_ERROR && m.typ != unix.NLMSG_DONE {
			each(m.body)
		}
	}, &parts)
	switch {
	case err != nil:
		return parts, err
	case errs[0] != nil:
		return parts, errs[0]
	case interrupted:
		return parts, netlink.ErrDumpInterrupted
	}
	return parts, nil
}

// do sends requests, each of which asks for an acknowledgement (NLM_F_ACK), in
// one system call, and returns their errors. The kernel goes through all of them.
func (c *conn) do(rs []request) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(rs))
	for i := range errs {
		errs[i] = errNoAnswer
	}
	if err := c.exchange(rs, errs, nil, nil); err != nil {
		for i := range errs {
			if errs[i] == errNoAnswer {
				errs[i] = err
			}
		}
	}
	return errs
}

// errNoAnswer marks a request that the kernel has not answered yet.
var errNoAnswer = errors.New("no answer from the kernel")

// interrupted tells whether changes have disturbed a listing, however often it
// was repeated: what it says may be incomplete.
func interrupted(err error) bool { return errors.Is(err, netlink.ErrDumpInterrupted) }

// maxTries bounds how often a listing is repeated while changes disturb it.
const maxTries = 5

// retry repeats a listing that changed while the kernel wrote it.
func retry[T any](list func() (T, error)) (v T, err error) {
	for range maxTries {
		if v, err = list(); !interrupted(err) {
			break
		}
	}
	return v, err
}

// exchange sends requests and reads until each is answered. errs, as long as
// rs and full of errNoAnswer, gets their outcomes.
func (c *conn) exchange(rs []request, errs []error, each func(message), parts *int) error {
	if c.fd < 0 {
		return unix.EBADF
	}
	first := c.seq + 1
	c.seq += uint32(len(rs))
	var out []byte
	for i, r := range rs {
		out = r.append(out, first+uint32(i))
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	for left := len(rs); left > 0; {
		b, err := receive(c.fd, c.buf)
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		data := false
		for m := range messages(b) {
			i := int(m.seq - first)
			if i < 0 || i >= len(rs) {
				continue // the answer to a request that was given up
			}
			if each != nil {
				each(m)
			}
			if m.typ != unix.NLMSG_ERROR && m.typ != unix.NLMSG_DONE {
				data = true
				continue
			}
			if errs[i] == errNoAnswer {
				left--
			}
			errs[i] = outcome(m.body)
		}
		if data && parts != nil {
			*parts++
		}
	}
	return nil
}

// outcome is the error of a message that ends an answer.
func outcome(body []byte) error {
	if len(body) >= 4 {
		if code := int32(ne.Uint32(body)); code < 0 {
			return unix.Errno(-code)
		}
	}
	return nil
}

// receive reads one datagram of the kernel's into buf.
func receive(fd int, buf []byte) ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
		switch sa, _ := from.(*unix.SockaddrNetlink); {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n > len(buf):
			return nil, fmt.Errorf("datagram of %d bytes", n)
		case sa != nil && sa.Pid == 0: // not from another process
			return buf[:n], nil
		}
	}
}

// A message is one of netlink(7).
type message struct {
	typ, flags uint16
	seq        uint32
	body       []byte
}

// messages goes through the messages of a datagram.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(ne.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			if !yield(message{typ: ne.Uint16(b[4:]), flags: ne.Uint16(b[6:]), seq: ne.Uint32(b[8:]), body: b[unix.NLMSG_HDRLEN:n]}) {
				return
			}
			b = b[min(n+pad(n), len(b)):]
		}
	}
}

// attributes goes through the attributes that follow the fixed part of a
// message, size bytes long, or are nested in an attribute, where it is 0.
func attributes(b []byte, size int) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		b := b[min(size, len(b)):]
		for len(b) >= unix.SizeofNlAttr {
			n := int(ne.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			typ := ne.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min(n+pad(n), len(b)):]
		}
	}
}

// appendAttribute appends an attribute to a message.
func appendAttribute(b []byte, typ uint16, value []byte) []byte {
	b = ne.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = ne.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, pad(len(b)))...)
}

// pad is what n lacks to a multiple of 4.
func pad(n int) int { return -n & 3 }

// number reads a number of 1, 2 or 4 bytes in the order of the machine.
func number(b []byte) uint32 {
	switch len(b) {
	case 1:
		return uint32(b[0])
	case 2:
		return uint32(ne.Uint16(b))
	case 4:
		return ne.Uint32(b)
	}
	return 0
}
