// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

var (
	first  = netip.MustParseAddrPort("127.0.0.2:10001")
	second = netip.MustParseAddrPort("127.0.0.3:10002")

	equateAddrs = cmpopts.EquateComparable(netip.Addr{})
)

// relaying returns a Group with these peers that does not run, and what it
// sends over UDP once it does.
func relaying(peers ...netip.AddrPort) (*peer.Group, mailbox) {
	o := options(table(time.Minute), clock(), peers...)
	m := make(mailbox, 1<<16)
	o.Send = m.send
	return peer.New(o), m
}

func TestRelayPassesRegistrationsOn(t *testing.T) {
	named := []vxfld.VNIMembers{{VNI: 77, Addrs: []netip.Addr{vtep(1)}}, {VNI: 78, Addrs: []netip.Addr{vtep(2), vtep(3)}}}
	for _, tt := range []struct {
		name string
		in   vxfld.Refresh
		want vxfld.Refresh
	}{
		{"registration", vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 4711, VNIs: named},
			vxfld.Refresh{Holdtime: 90, Identifier: 4711, VNIs: named}},
		{"one that asks", vxfld.Refresh{Originator: true, Holdtime: 30, Response: vxfld.ResponseAll, VNIs: named},
			vxfld.Refresh{Holdtime: 30, VNIs: named}},
		{"withdrawal", vxfld.Refresh{Originator: true, Holdtime: 0, Identifier: 1 << 60, VNIs: named},
			vxfld.Refresh{Holdtime: 0, Identifier: 1 << 60, VNIs: named}},
		{"static", vxfld.Refresh{Originator: true, Holdtime: 65535, VNIs: named},
			vxfld.Refresh{Holdtime: 65535, VNIs: named}},
		{"long", vxfld.Refresh{Originator: true, Holdtime: 1 << 30, VNIs: named},
			vxfld.Refresh{Holdtime: 1 << 30, VNIs: named}},
		{"VNIs without members", vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: append([]vxfld.VNIMembers{{VNI: 5}}, named...)},
			vxfld.Refresh{Holdtime: 90, VNIs: named}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, m := relaying(first, second)
			run(t, g)
			g.Relay(&tt.in)
			got := make(map[netip.AddrPort]int)
			for range 2 {
				r, d := m.refresh(t)
				if diff := cmp.Diff(&tt.want, r, equateAddrs); diff != "" {
					t.Errorf("relayed (-want +got):\n%s", diff)
				}
				got[d.to]++
			}
			if got[first] != 1 || got[second] != 1 {
				t.Errorf("got messages to %v, want one to each peer", got)
			}
		})
	}
}

func TestRelayOfNothingIsNothing(t *testing.T) {
	g, m := relaying(first)
	run(t, g)
	g.Relay(&vxfld.Refresh{Originator: true, Holdtime: 90, Response: vxfld.ResponseAll})
	g.Relay(&vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: 5}}})
	last := &vxfld.Refresh{Originator: true, Holdtime: 7, VNIs: []vxfld.VNIMembers{{VNI: 5, Addrs: []netip.Addr{vtep(1)}}}}
	g.Relay(last)
	if r, _ := m.refresh(t); r.Holdtime != 7 {
		t.Errorf("got %+v relayed first, want only what names a member", r)
	}
}

// A relayed message is no answer, so it stays within the limit whatever it
// names.
func TestRelayStaysWithinThePacketSize(t *testing.T) {
	for _, size := range []int{60, 128, 576, 1500, 9000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			o := options(table(time.Minute), clock(), first)
			o.MaxPacketSize = size
			m := make(mailbox, 1<<16)
			o.Send = m.send
			g := peer.New(o)
			in := &vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 1 << 63}
			want := make(map[member]bool)
			for vni, n := range []int{1, 2, 300, 0, 2000, 1} {
				rec := vxfld.VNIMembers{VNI: vxlan.MaxVNI - vxlan.VNI(vni)}
				for i := range n {
					a := netip.AddrFrom4([4]byte{200, 200, byte(128 | i>>7), byte(128 | i&127)})
					rec.Addrs = append(rec.Addrs, a)
					want[member{rec.VNI, a}] = true
				}
				in.VNIs = append(in.VNIs, rec)
			}
			run(t, g)
			g.Relay(in)
			got := make(map[member]bool)
			for len(got) < len(want) {
				r, d := m.refresh(t)
				if size >= 128 && len(d.b) > size-vxfld.Overhead {
					t.Fatalf("got a message of %d bytes, want at most %d", len(d.b), size-vxfld.Overhead)
				}
				if r.Identifier != in.Identifier {
					t.Fatalf("got identifier %d, want %d", r.Identifier, in.Identifier)
				}
				for _, rec := range r.VNIs {
					for _, a := range rec.Addrs {
						got[member{rec.VNI, a}] = true
					}
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %d members, want those %d that were registered", len(got), len(want))
			}
		})
	}
}

// registration returns a registration of n members in as many VNIs.
func registration(n int) *vxfld.Refresh {
	r := &vxfld.Refresh{Originator: true, Holdtime: 90, Identifier: 90520741919692}
	for i := range n {
		r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: vxlan.VNI(i), Addrs: []netip.Addr{vtep(1)}})
	}
	return r
}

func TestRelayToASlowPeerDelaysNobody(t *testing.T) {
	o := options(table(time.Minute), clock(), first, second)
	release := make(chan struct{})
	o.Send = func(_ []byte, to netip.AddrPort) error {
		if to == first {
			<-release
		}
		return nil
	}
	g := peer.New(o)
	stop := run(t, g)
	const n = 10_000
	r := registration(1)
	for i := range n {
		g.Relay(r)
		if i%1000 == 999 {
			eventually(t, "the other peer gets it", func() bool { return g.States()[1].Relayed == uint64(i+1) })
		}
	}
	s := g.States()[0]
	if s.Queue < 4096-1 || s.Queue > 4096 || s.Dropped == 0 || uint64(s.Queue)+s.Dropped+1 < n {
		t.Errorf("got %d in the queue and %d dropped of %d, want a full queue of 4096 and the rest dropped", s.Queue, s.Dropped, n)
	}
	if s := g.States()[1]; s.Dropped != 0 {
		t.Errorf("got %d dropped for the other peer, want none", s.Dropped)
	}
	close(release)
	eventually(t, "the slow peer gets what waited", func() bool { return g.States()[0].Queue == 0 })
	stop()
}

func TestRelayQueueIsBoundedInBytes(t *testing.T) {
	o := options(table(time.Minute), clock(), first)
	o.MaxPacketSize = 60000
	g := peer.New(o)
	for range 200 {
		g.Relay(registration(2000))
	}
	s := state(g)
	if s.Queue == 0 || s.Queue > 4<<20/25000 || s.Dropped != uint64(200-s.Queue) {
		t.Errorf("got %d large messages in the queue and %d dropped, want about 4 MiB and the rest dropped", s.Queue, s.Dropped)
	}
	run(t, g)
	eventually(t, "the queue drains", func() bool { return state(g).Queue == 0 })
	g.Relay(registration(1))
	eventually(t, "the room is there again", func() bool { return state(g).Relayed == uint64(s.Queue+1) })
}

func TestRelayCountsWhatCannotBeSent(t *testing.T) {
	o := options(table(time.Minute), clock(), first)
	n := 0
	o.Send = func([]byte, netip.AddrPort) error {
		if n++; n%2 == 1 {
			return errors.New("network is unreachable")
		}
		return nil
	}
	g := peer.New(o)
	run(t, g)
	for range 10 {
		g.Relay(registration(1))
	}
	eventually(t, "all are sent or not", func() bool {
		s := state(g)
		return s.Relayed == 5 && s.RelayErrors == 5
	})
}

func TestConfigureKeepsThePeersThatStay(t *testing.T) {
	g, m := relaying(first)
	run(t, g)
	g.Relay(registration(1))
	m.refresh(t)
	eventually(t, "it is counted", func() bool { return state(g).Relayed == 1 })
	st := options(nil, nil, second, first, second).Settings
	g.Configure(st)
	if s := g.States(); len(s) != 2 || s[0].Addr != second || s[1].Addr != first || s[1].Relayed != 1 {
		t.Fatalf("got states %+v, want the new peer and the old one with its count", s)
	}
	g.Relay(registration(1))
	got := make(map[netip.AddrPort]bool)
	for range 2 {
		_, d := m.refresh(t)
		got[d.to] = true
	}
	if len(got) != 2 {
		t.Errorf("got messages to %v, want both peers", got)
	}
	st.Peers = st.Peers[:1]
	g.Configure(st)
	g.Relay(registration(1))
	if _, d := m.refresh(t); d.to != second {
		t.Errorf("got a message to %s, want only %s", d.to, second)
	}
	if len(g.States()) != 1 {
		t.Errorf("got %d states, want one", len(g.States()))
	}
}

// BenchmarkRelay measures registrations relayed to two peers over the loopback
// interface, in members. It goes as fast as the sockets allow, and waits where
// the queues fill up.
func BenchmarkRelay(b *testing.B) {
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(anyPort))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			var peers []netip.AddrPort
			for range 2 {
				peers = append(peers, open().LocalAddr().(*net.UDPAddr).AddrPort())
			}
			o := options(table(time.Minute), clock(), peers...)
			from := open()
			o.Send = func(msg []byte, to netip.AddrPort) error {
				_, err := from.WriteToUDPAddrPort(msg, to)
				return err
			}
			g := peer.New(o)
			run(b, g)
			r := registration(n)
			waiting := func() int { s := g.States(); return max(s[0].Queue, s[1].Queue) }
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				g.Relay(r)
				if i++; i%1024 == 0 {
					for waiting() > 1024 {
						runtime.Gosched()
					}
				}
			}
			eventually(b, "the queues drain", func() bool { return waiting() == 0 })
			s := g.States()
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "members/s")
			b.ReportMetric(float64(s[0].Dropped+s[1].Dropped)/float64(b.N), "dropped/op")
		})
	}
}
