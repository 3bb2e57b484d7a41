// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"bytes"
	"context"
	"flag"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// useLoopback runs the scenarios over UDP on the loopback interface instead of
// over a fake socket.
var useLoopback = flag.Bool("loopback", false, "run the scenarios over real UDP sockets")

// patience is how long a test waits for what has to come.
const patience = 10 * time.Second

// A udpConn is a socket that is bound to one address, so it knows where a
// message came.
type udpConn struct{ *net.UDPConn }

func (c udpConn) ReadFrom(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	return n, from, c.LocalAddr().Addr(), err
}

func (c udpConn) WriteTo(b []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := c.WriteToUDPAddrPort(b, to)
	return err
}

func (c udpConn) LocalAddr() netip.AddrPort {
	return c.UDPConn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// A client is the other end of a Server's socket.
type client struct {
	send    func(b []byte)
	receive func() []byte
}

// pair returns a socket for the Server and its other end.
func pair(t *testing.T) (register.Conn, client) {
	t.Helper()
	if !*useLoopback {
		c := newFakeConn()
		return c, client{
			send: func(b []byte) { c.in <- datagram{b: b, peer: vtep2, self: service.Addr()} },
			receive: func() []byte {
				deadline := time.Now().Add(patience)
				for time.Now().Before(deadline) {
					c.mu.Lock()
					if len(c.out) > 0 {
						b := c.out[0].b
						c.out = c.out[1:]
						c.mu.Unlock()
						return b
					}
					c.mu.Unlock()
					<-time.After(time.Millisecond)
				}
				t.Fatal("got no answer in time")
				return nil
			},
		}
	}
	listen := func() udpConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return udpConn{c}
	}
	server, far := listen(), listen()
	// What a busy machine lets pile up is not to be lost, as far as it may.
	if err := far.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return server, client{
		send: func(b []byte) {
			if err := far.WriteTo(b, server.LocalAddr(), netip.Addr{}); err != nil {
				t.Fatal(err)
			}
		},
		receive: func() []byte {
			b := make([]byte, 1<<16)
			if err := far.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, _, _, err := far.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			return b[:n]
		},
	}
}

// serve runs a Server with the real table on a pair of sockets.
func serve(t *testing.T) (client, *register.Server, *fdb.Table) {
	t.Helper()
	conn, far := pair(t)
	table := fdb.New(fdb.Options{})
	start := time.Now()
	s := register.New(register.Options{
		Conns: []register.Conn{conn}, Table: table,
		Now:      func() fdb.Time { return fdb.Time(time.Since(start)) },
		Settings: register.Settings{Holdtime: 90 * time.Second, MaxPacketSize: 1500, Pause: 20 * time.Millisecond},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run, want success", err)
		}
	})
	return far, s, table
}

// VTEPs of all versions register with the real table and see each other;
// whatever is refused in between gets no answer.
func TestScenario(t *testing.T) {
	far, s, _ := serve(t)
	silent := [][]byte{
		nil, {3}, {4, 1}, unhex(t, "01010000005a"), unhex(t, "0301"), unhex(t, "03018f"),
		refresh(t, 3, vxfld.Refresh{Holdtime: 9, Response: 2, VNIs: names(7, addr("10.9.9.9"))}),
		bytes.Repeat([]byte{3, 1}, vxfld.MaxDatagram/2),
	}
	var members []netip.Addr
	for i, v := range []vxfld.Version{1, 2, 3, 1, 2, 3} {
		for _, b := range silent {
			far.send(b)
		}
		members = append(members, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
		r := vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, members[i])}
		if v != vxfld.V1 {
			r.Response = vxfld.ResponseRequested
		}
		far.send(refresh(t, v, r))
		gotVersion, got := parse(t, far.receive())
		want := &vxfld.Refresh{Holdtime: 90, VNIs: names(7, members...)}
		if diff := cmp.Diff(want, got, equateAddrs); diff != "" || gotVersion != v {
			t.Errorf("got version %d, want %d, answer (-want +got):\n%s", gotVersion, v, diff)
		}
	}
	far.send(refresh(t, 3, vxfld.Refresh{Originator: true, Response: 1, VNIs: names(7, members...)}))
	if _, got := parse(t, far.receive()); len(got.VNIs) != 0 {
		t.Errorf("got %v after all were withdrawn, want nothing", got.VNIs)
	}
	if got := s.Counters().Verdicts[register.VerdictNotPeer].Load(); got != 18 {
		t.Errorf("got %d messages of strangers refused, want 18", got)
	}
}

// The largest VNI that a datagram holds is registered in one message and
// answered in one.
func TestScenarioLargestVNI(t *testing.T) {
	far, _, table := serve(t)
	r := vxfld.Refresh{Originator: true, Holdtime: 90, Response: 1, VNIs: []vxfld.VNIMembers{{VNI: 9}}}
	for i := range 5400 {
		r.VNIs[0].Addrs = append(r.VNIs[0].Addrs, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	far.send(refresh(t, 3, r))
	_, got := parse(t, far.receive())
	if len(got.VNIs) != 1 || len(got.VNIs[0].Addrs) != 5400 {
		t.Errorf("got %d records, want one with all members", len(got.VNIs))
	}
	if got := len(table.VNIs(nil)); got != 1 {
		t.Errorf("got %d VNIs, want 1", got)
	}
}

// A table larger than a burst arrives whole.
func TestScenarioAll(t *testing.T) {
	far, _, table := serve(t)
	var us []fdb.Update
	for vni := range vxlan.VNI(400) {
		for i := range 50 {
			us = append(us, fdb.Update{VNI: vni, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Source: fdb.Operator, Holdtime: fdb.Static})
		}
	}
	table.Apply(0, us)
	far.send(askAll(t))
	seen := map[vxlan.VNI]int{}
	for len(seen) < 400 {
		_, got := parse(t, far.receive())
		for _, rec := range got.VNIs {
			seen[rec.VNI] += len(rec.Addrs)
		}
	}
	for vni, n := range seen {
		if n != 50 {
			t.Errorf("got %d members of vni %d, want 50", n, vni)
		}
	}
}
