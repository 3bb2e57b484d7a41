// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A vrfConn is a socket in a VRF that is bound anew when the VRF device is another
// one under the old name: the kernel binds to the device, not to the name
// (SO_BINDTODEVICE of socket(7)), and sends nothing once that is gone.
type vrfConn struct {
	open func() (conn, error)
	conn atomic.Pointer[conn]

	mu     sync.Mutex // for WriteTo and Close, when they replace or close conn
	closed bool
}

// listenVRF returns a socket that open makes.
func listenVRF(open func() (conn, error)) (conn, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	v := &vrfConn{open: open}
	v.conn.Store(&c)
	return v, nil
}

// ReadFrom reads from the socket, and goes on with the one that takes its place.
func (v *vrfConn) ReadFrom(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error) {
	for {
		c := v.conn.Load()
		n, from, to, err = (*c).ReadFrom(b)
		if err == nil || v.conn.Load() == c {
			return n, from, to, err
		}
	}
}

// WriteTo sends a datagram. Where the VRF device is gone it is sent by a socket that
// is bound to the new one, if there is one.
func (v *vrfConn) WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error {
	c := v.conn.Load()
	err := (*c).WriteTo(b, to, from)
	if !errors.Is(err, unix.ENODEV) {
		return err
	}
	if rerr := v.replace(c); rerr != nil {
		return fmt.Errorf("%w; bind to the VRF anew: %w", err, rerr)
	}
	return (*v.conn.Load()).WriteTo(b, to, from)
}

// replace puts another socket in the place of one.
func (v *vrfConn) replace(old *conn) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || v.conn.Load() != old {
		return nil
	}
	c, err := v.open()
	if err != nil {
		return err
	}
	v.conn.Store(&c)
	return (*old).Close()
}

// LocalAddr returns the address that the socket is bound to.
func (v *vrfConn) LocalAddr() netip.AddrPort { return (*v.conn.Load()).LocalAddr() }

// Close ends ReadFrom.
func (v *vrfConn) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	return (*v.conn.Load()).Close()
}
