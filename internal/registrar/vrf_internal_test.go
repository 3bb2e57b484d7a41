// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket whose VRF device was made anew is bound to the new one: what waits for
// answers goes on, and the message that found out is sent.
func TestBindsToAnotherVRF(t *testing.T) {
	var made []*fakeConn
	var refuse error
	v, err := listenVRF(func() (conn, error) {
		if refuse != nil {
			return nil, refuse
		}
		made = append(made, newFakeConn())
		return made[len(made)-1], nil
	})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("10.0.0.100:10001")
	read := make(chan error)
	reads := func() {
		b := make([]byte, 10)
		n, _, _, err := v.ReadFrom(b)
		if err == nil && string(b[:n]) != "answer" {
			err = fmt.Errorf("got %q", b[:n])
		}
		read <- err
	}
	go reads()
	write := func() error { return v.WriteTo([]byte("message"), to, netip.Addr{}) }
	gone := func(netip.AddrPort) error { return unix.ENODEV }

	made[0].refuse(gone)
	refuse = errUnreachable
	if err := write(); !errors.Is(err, unix.ENODEV) || !errors.Is(err, errUnreachable) || len(made) != 1 {
		t.Errorf("without a new device: got %v, want why", err)
	}
	refuse = nil
	if err := write(); err != nil || len(made) != 2 || len(made[1].out) != 1 {
		t.Fatalf("with a new device: got %v and %d sockets, want the message on the second", err, len(made))
	}
	made[1].in <- datagram{b: []byte("answer"), peer: to}
	if err := <-read; err != nil {
		t.Errorf("read: got %v, want what came to the second socket", err)
	}
	made[1].refuse(func(netip.AddrPort) error { return errUnreachable })
	if err := write(); !errors.Is(err, errUnreachable) || len(made) != 2 {
		t.Errorf("another error: got %v and %d sockets, want it and no other socket", err, len(made))
	}
	go reads()
	made[1].refuse(gone)
	if err := v.Close(); err != nil {
		t.Errorf("close: got %v", err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: got %v, want net.ErrClosed", err)
	}
	if err := write(); err == nil || len(made) != 2 {
		t.Errorf("after close: got %v and %d sockets, want an error", err, len(made))
	}
}
