// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenData opens a data socket on a port of the kernel's choice. It takes
// what comes by the loopback device as if it came from elsewhere.
func listenData(t *testing.T, host string, c DataConfig) (*Conn, netip.AddrPort) {
	t.Helper()
	conn, addr := listenDataLooped(t, host, c)
	if err := conn.filter([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}}); err != nil {
		t.Fatal(err)
	}
	return conn, addr
}

func listenDataLooped(t *testing.T, host string, c DataConfig) (*Conn, netip.AddrPort) {
	t.Helper()
	c.Addr = netip.AddrPortFrom(netip.MustParseAddr(host), 0)
	conn, err := ListenData(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sa, err := unix.Getsockname(conn.fd)
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = sa.Port
	case *unix.SockaddrInet6:
		port = sa.Port
	}
	return conn, netip.AddrPortFrom(c.Addr.Addr(), uint16(port))
}

func dial(t *testing.T, to netip.AddrPort, opts ...Option) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Control(func(fd uintptr) { err = setAll(int(fd), opts) }); err != nil {
		t.Fatal(err)
	}
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func write(t *testing.T, c *net.UDPConn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestInboxTellsWhatArrived(t *testing.T) {
	tests := []struct {
		name, host string
		opts       []Option
	}{
		{"IPv4", "127.0.0.1", []Option{
			{Name: "IP_TTL", Level: unix.IPPROTO_IP, Opt: unix.IP_TTL, Value: 33, Mandatory: true},
			{Name: "IP_TOS", Level: unix.IPPROTO_IP, Opt: unix.IP_TOS, Value: 0xb8, Mandatory: true},
		}},
		{"IPv6", "::1", []Option{
			{Name: "IPV6_UNICAST_HOPS", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_UNICAST_HOPS, Value: 33, Mandatory: true},
			{Name: "IPV6_TCLASS", Level: unix.IPPROTO_IPV6, Opt: unix.IPV6_TCLASS, Value: 0xb8, Mandatory: true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, addr := listenData(t, tt.host, DataConfig{Receive: 1 << 20, Timeout: time.Minute})
			c, local := dial(t, addr, tt.opts...)
			in := NewInbox(8)
			// Twice, since the kernel changes what the messages say.
			for range 2 {
				sent := [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), 65507), {}, []byte("four")}
				for _, b := range sent {
					write(t, c, b)
				}
				for got := 0; got < len(sent); {
					n, err := in.Read(conn.ReadBatch)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						var d Datagram
						in.Datagram(i, &d)
						if !bytes.Equal(d.Payload, sent[got]) {
							t.Errorf("datagram %d: got %d bytes, want %d", got, len(d.Payload), len(sent[got]))
						}
						if d.Source != local || d.TTL != 33 || d.TOS != 0xb8 || d.Truncated {
							t.Errorf("datagram %d: got %v, TTL %d, TOS %#x, truncated %v, want %v, 33, 0xb8, false",
								got, d.Source, d.TTL, d.TOS, d.Truncated, local)
						}
						got++
					}
				}
			}
		})
	}
}

func TestReadEnds(t *testing.T) {
	in := NewInbox(4)
	conn, _ := listenData(t, "127.0.0.1", DataConfig{Timeout: time.Millisecond})
	if n, err := in.Read(conn.ReadBatch); n != 0 || !errors.Is(err, ErrTimeout) {
		t.Errorf("nothing sent: got %d, %v, want ErrTimeout", n, err)
	}
	if n, err := in.Read(conn.ReadQueued); n != 0 || !errors.Is(err, ErrTimeout) {
		t.Errorf("nothing queued: got %d, %v, want ErrTimeout", n, err)
	}

	conn, addr := listenData(t, "127.0.0.1", DataConfig{Timeout: time.Hour})
	woken := make(chan error)
	go func() {
		n, err := in.Read(conn.ReadBatch)
		if n != 0 && err == nil {
			err = errors.New("got a datagram")
		}
		woken <- err
	}()
	conn.Wake()
	if err := <-woken; err != nil {
		t.Errorf("after Wake: got %v, want nothing", err)
	}
	// What is queued is still there after Wake.
	c, _ := dial(t, addr)
	write(t, c, []byte("late"))
	for range 2 {
		n, err := in.Read(conn.ReadQueued)
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			return
		}
	}
	t.Error("a datagram that came after Wake is lost")
}

func TestLoopedDatagramsAreMarked(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, addr := listenDataLooped(t, host, DataConfig{Timeout: time.Minute})
		c, local := dial(t, addr)
		write(t, c, make([]byte, 1000))
		in := NewInbox(1)
		n, err := in.Read(conn.ReadBatch)
		var d Datagram
		if n == 1 {
			in.Datagram(0, &d)
		}
		if err != nil || !d.Looped || len(d.Payload) != loopedLen || d.Source != local || d.TTL == 0 || d.Truncated {
			t.Errorf("%s: got %+v, %v, want a looped one from %v", host, d, err, local)
		}
	}
}

func TestRefuseKeepsWhatIsQueued(t *testing.T) {
	conn, addr := listenData(t, "127.0.0.1", DataConfig{Receive: 1 << 20, Timeout: time.Minute})
	c, _ := dial(t, addr)
	write(t, c, []byte("before"))
	if err := conn.Refuse(); err != nil {
		t.Fatal(err)
	}
	write(t, c, []byte("after"))
	in := NewInbox(4)
	n, err := in.Read(conn.ReadQueued)
	var d Datagram
	if n == 1 {
		in.Datagram(0, &d)
	}
	if err != nil || n != 1 || string(d.Payload) != "before" {
		t.Errorf("got %d datagrams, %q, %v, want the first alone", n, d.Payload, err)
	}
}

func TestBacklogOfAnIdleSocket(t *testing.T) {
	conn, _ := listenData(t, "127.0.0.1", DataConfig{})
	if got := conn.Backlog(); got < 0 || got > 0.1 {
		t.Errorf("got %v, want next to nothing", got)
	}
}

func TestKernelDropsAreCounted(t *testing.T) {
	conn, addr := listenData(t, "127.0.0.1", DataConfig{Receive: 1, Timeout: time.Minute})
	c, _ := dial(t, addr)
	const sent = 100
	for range sent {
		write(t, c, make([]byte, 1000))
	}
	in := NewInbox(sent)
	received := 0
	for {
		n, err := in.Read(conn.ReadQueued)
		if errors.Is(err, ErrTimeout) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		received += n
	}
	drops, ok := conn.Drops()
	if !ok || received == 0 || int(drops) != sent-received {
		t.Errorf("got %d drops, %v, with %d of %d received", drops, ok, received, sent)
	}
	// The next datagram carries the same figure.
	write(t, c, []byte("x"))
	n, err := in.Read(conn.ReadBatch)
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	var d Datagram
	in.Datagram(0, &d)
	if got, ok := in.Drops(); !ok || got != drops {
		t.Errorf("with the datagram: got %d, %v, want %d", got, ok, drops)
	}
}

func TestSecondSocketIsRefused(t *testing.T) {
	_, addr := listenData(t, "127.0.0.1", DataConfig{Shared: true})
	if c, err := ListenData(DataConfig{Addr: addr, Shared: true}); err != nil {
		t.Errorf("one of the group: got %v", err)
	} else {
		c.Close()
	}
	_, err := ListenData(DataConfig{Addr: addr})
	if !IsInUse(err) {
		t.Errorf("not of the group: got %v, want address in use", err)
	}

	ctl, err := ListenControl(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	if _, err := ListenControl(context.Background(), ctl.LocalAddr(), ""); !IsInUse(err) {
		t.Errorf("second control socket: got %v, want address in use", err)
	}
}

func TestMissingOptionIsNamed(t *testing.T) {
	_, err := open(unix.AF_INET, unix.SOCK_DGRAM, 0, []Option{{Name: "SO_NONE", Level: unix.SOL_SOCKET, Opt: 9999, Mandatory: true}})
	if err == nil || err.Error() != "set SO_NONE: protocol not available" {
		t.Errorf("got %v", err)
	}
	if _, err := ListenData(DataConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0"), VRF: "no-such-device"}); err == nil {
		t.Error("a VRF device that is not there: got no error")
	}
}

func TestControlAnswersFromTheAskedAddress(t *testing.T) {
	tests := []struct{ name, bind, ask string }{
		{"IPv4 wildcard", "0.0.0.0:0", "127.0.0.9"},
		{"IPv4 address", "127.0.0.7:0", "127.0.0.7"},
		{"IPv6 wildcard", "[::]:0", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctl, err := ListenControl(context.Background(), netip.MustParseAddrPort(tt.bind), "")
			if err != nil {
				t.Fatal(err)
			}
			defer ctl.Close()
			asked := netip.AddrPortFrom(netip.MustParseAddr(tt.ask), ctl.LocalAddr().Port())
			// A connected socket takes the answer from no other address.
			c, local := dial(t, asked)
			write(t, c, []byte("question"))
			b := make([]byte, 65536)
			n, from, to, err := ctl.ReadFrom(b)
			if err != nil || string(b[:n]) != "question" || from != local || to != asked.Addr() {
				t.Fatalf("got %q from %v to %v, %v", b[:n], from, to, err)
			}
			if err := ctl.WriteTo([]byte("answer"), from, to); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := c.Read(b); err != nil || string(b[:n]) != "answer" {
				t.Errorf("got %q, %v", b[:n], err)
			}
		})
	}
}

func TestControlReadEndsWithClose(t *testing.T) {
	ctl, err := ListenControl(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), "")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, _, _, err := ctl.ReadFrom(make([]byte, 10))
		done <- err
	}()
	ctl.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

func TestOutboxSharesThePayload(t *testing.T) {
	payload := []byte("payload")
	o := NewOutbox(2, netip.MustParseAddr("10.0.0.1"))
	copy(o.Add4([4]byte{10, 0, 0, 1}, 3, payload), "abc")
	copy(o.Add4([4]byte{10, 0, 0, 2}, 3, payload), "def")
	if !o.Full() || o.Len() != 2 {
		t.Errorf("got full %v, %d messages", o.Full(), o.Len())
	}
	for i, want := range []string{"abc", "def"} {
		parts, to := o.Messages()[i].Parts()
		if string(parts[0]) != want || &parts[1][0] != &payload[0] || to != netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) {
			t.Errorf("message %d: got %q to %v", i, parts, to)
		}
		if string(o.Header(i)) != want || string(o.Payload(i)) != "payload" || o.PayloadLen(i) != 7 {
			t.Errorf("message %d: got %q, %q", i, o.Header(i), o.Payload(i))
		}
	}
	o.Reset()
	if o.Len() != 0 || len(o.Messages()) != 0 {
		t.Error("not empty after Reset")
	}
}
