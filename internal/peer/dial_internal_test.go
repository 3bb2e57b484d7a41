// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// silent listens and takes nothing; more than the system's buffers hold does
// not get through to it.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

const hugeMessage = 64 << 20

func TestDeliverGivesUpAPeerThatTakesNothing(t *testing.T) {
	g := New(Options{Settings: Settings{}})
	g.limits.idle = 50 * time.Millisecond
	err := g.deliver(t.Context(), silent(t), make([]byte, hugeMessage))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
}

func TestDeliverEndsWithItsContext(t *testing.T) {
	g := New(Options{Settings: Settings{}})
	g.limits.idle = time.Hour
	g.limits.answer.time = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := g.deliver(ctx, silent(t), make([]byte, hugeMessage)); err == nil {
		t.Error("got success, want an error")
	}
}

func TestDialComesFromTheSource(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	for _, tt := range []struct{ name, source, want string }{
		{"own address", "127.0.0.9", "127.0.0.9"},
		{"wildcard", "0.0.0.0", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := New(Options{Source: netip.MustParseAddr(tt.source)})
			c, err := g.dial(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.LocalAddr().(*net.TCPAddr).IP.String(); got != tt.want {
				t.Errorf("got source %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDialNamesTheVRF(t *testing.T) {
	g := New(Options{VRF: "no-such-device"})
	if _, err := g.dial(t.Context(), silent(t)); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("got %v in a VRF that does not exist, want %v", err, syscall.ENODEV)
	}
}
