// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settle is how long changes, which come in bursts, are collected before they
	// are told.
	settle = 50 * time.Millisecond

	// resubscribe is the pause before what could not be read is read again.
	resubscribe = 200 * time.Millisecond

	// receiveBuffer is that of the sockets in bytes. When one overruns (ENOBUFS),
	// everything is read anew.
	receiveBuffer = 1 << 20
)

// A feed is a socket on which the kernel tells of changes. One goroutine reads it.
type feed struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// openFeed opens a feed of rtnetlink(7) with a receive buffer of so many bytes, on
// which nothing comes yet.
func openFeed(buffer int) (*feed, error) { return openFeedOf(unix.NETLINK_ROUTE, buffer) }

// openFeedOf is openFeed for any protocol of netlink(7).
func openFeedOf(protocol, buffer int) (*feed, error) {
	fd, err := socket(unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	f := &feed{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, maxRead)}
	// The system's limit (net.core.rmem_max) binds who may not pass it.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			f.close()
			return nil, fmt.Errorf("set receive buffer: %w", err)
		}
	}
	if f.raw, err = f.file.SyscallConn(); err != nil {
		f.close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return f, nil
}

func (f *feed) close() { f.file.Close() }

// subscribe has the kernel tell of what concerns these groups (RTNLGRP_… of
// rtnetlink(7), XFRMNLGRP_…), but for those that it does not have.
func (f *feed) subscribe(groups ...int) (err error) {
	cerr := f.raw.Control(func(fd uintptr) {
		for _, g := range groups {
			err = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
			if errors.Is(err, unix.EINVAL) {
				err = nil
			}
			if err != nil {
				return
			}
		}
	})
	return errors.Join(cerr, err)
}

// next waits for a datagram, valid until the next call, until due or, where that
// is zero, without end. The error is that of ctx once it is done,
// os.ErrDeadlineExceeded when it is due, and unix.ENOBUFS where datagrams were lost.
func (f *feed) next(ctx context.Context, due time.Time) (b []byte, err error) {
	f.file.SetReadDeadline(due)
	if ctx.Err() != nil {
		return nil, ctx.Err() // the deadline that ends reading may just have been overwritten
	}
	rerr := f.raw.Read(func(fd uintptr) bool {
		b, err = receive(int(fd), f.buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return b, errors.Join(rerr, err)
}

// until ends next when ctx is done. The function that it returns gives that up.
func (f *feed) until(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { f.file.SetReadDeadline(time.Unix(0, 1)) })
}

// drain hands all that the kernel has told to each.
//
// After an overrun the kernel drops what it would tell until everything older
// has been read (netlink_overrun of net/netlink/af_netlink.c): what is listed
// before that may be older than what is lost.
func (f *feed) drain(each func(b []byte)) (err error) {
	cerr := f.raw.Control(func(fd uintptr) {
		var b []byte
		for err == nil || errors.Is(err, unix.ENOBUFS) {
			if b, err = receive(int(fd), f.buf); err == nil {
				each(b)
			}
		}
	})
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return errors.Join(cerr, err)
}
