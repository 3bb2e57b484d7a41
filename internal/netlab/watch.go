// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An FDBEvent is a change of the forwarding table of a VXLAN device or a bridge.
type FDBEvent struct {
	FDBEntry
	// Index is that of the device.
	Index int
	// Removed tells that the entry is gone; otherwise it is new or has changed.
	Removed bool
}

// An FDBWatch takes note of each change of the forwarding tables of a namespace,
// from the moment that it is made. The kernel says so before the change returns
// to whoever made it, and buffers it: there is no goroutine. It is safe for
// concurrent use.
type FDBWatch struct {
	name string

	mu     sync.Mutex
	fd     int // -1 once closed
	buf    []byte
	events []FDBEvent
}

// WatchFDB starts to watch. It ends with the lab.
func (n *Namespace) WatchFDB() (*FDBWatch, error) {
	w := &FDBWatch{name: n.Name, fd: -1, buf: make([]byte, maxFrame)}
	if err := n.Do(w.open); err != nil {
		return nil, n.fail(errors.Join(err, w.close()), "watch fdb")
	}
	return w, n.lab.own(w.close)
}

func (w *FDBWatch) open() (err error) {
	w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	return unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_NEIGH})
}

func (w *FDBWatch) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return nil
	}
	err := unix.Close(w.fd)
	w.fd = -1
	return err
}

// Events returns what has changed so far, in order. It returns an error where
// the kernel had to drop something.
func (w *FDBWatch) Events() ([]FDBEvent, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.fd >= 0 {
		k, _, err := unix.Recvfrom(w.fd, w.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: watch fdb: %w", w.name, err)
		}
		if err := w.take(bytes.Clone(w.buf[:k])); err != nil {
			return nil, fmt.Errorf("%s: watch fdb: %w", w.name, err)
		}
	}
	return append([]FDBEvent(nil), w.events...), nil
}

// take takes in what the kernel says in one go. It keeps b.
func (w *FDBWatch) take(b []byte) error {
	ms, err := syscall.ParseNetlinkMessage(b)
	for _, m := range ms {
		e, perr := netlink.NeighDeserialize(m.Data)
		if perr != nil {
			return perr
		}
		if e.Family == unix.AF_BRIDGE {
			w.events = append(w.events, FDBEvent{fdbOf(*e), e.LinkIndex, m.Header.Type == unix.RTM_DELNEIGH})
		}
	}
	return err
}
