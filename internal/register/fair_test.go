// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// onSmallBench runs f with a Server whose bursts have 32 messages of 158 bytes.
// VNIs 1 to 10 take more than that each.
func onSmallBench(t *testing.T, f func(b *bench)) {
	onBench(t, func(o *register.Options) { o.MaxPacketSize = 200 }, func(b *bench) {
		b.table.fill(1, 10, 600)
		f(b)
	})
}

// nth returns the nth asker of a network.
func nth(net byte, n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{net, byte(n >> 16), byte(n >> 8), byte(n)}), 10001)
}

// A datagram that is larger than a burst is all that an asker gets in a window.
func TestTurnIsBoundedInBytes(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(1, 10, 5400) // as many as a datagram holds
		b.send(vtep1, askFor(t, vxfld.V3, 1, 10))
		for i := range 10 {
			if got := answered(t, 3, vtep1, b.conn.sent()); len(got) != 1 {
				t.Errorf("got %d VNIs in window %d, want 1", len(got), i)
			}
			b.pass(100 * time.Millisecond)
		}
		if got := b.conn.sent(); len(got) > 0 {
			t.Errorf("got %d messages afterwards, want none", len(got))
		}
	})
}

// Smaller messages of one large VNI after the other end with the same bytes.
func TestTurnCountsBytesOfAllMessages(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(1, 64, 500)
		b.send(vtep1, askFor(t, vxfld.V3, 1, 64))
		got, n := b.conn.sent(), 0
		for _, d := range got {
			n += len(d.b)
		}
		if limit := 32 * 1458; n < limit || n-len(got[0].b) >= limit {
			t.Errorf("got %d bytes in %d messages at once, want one message over %d at most", n, len(got), limit)
		}
	})
}

// While the answering goroutine is held up, more questions come than there is
// room for, of strangers that are made up. Those of members wait for none of
// them.
func TestMembersAreAnsweredBeforeStrangers(t *testing.T) {
	onSmallBench(t, func(b *bench) {
		const members, strangers = 30, 4000
		for i := range members {
			b.table.members[100] = append(b.table.members[100], nth(11, i).Addr())
		}
		begun, release := make(chan struct{}), make(chan struct{})
		b.table.looked = func(vni vxlan.VNI) {
			if vni == 99 {
				close(begun)
				<-release
			}
		}
		b.send(vtep1, askFor(t, vxfld.V3, 99, 1))
		<-begun
		for i := range strangers {
			b.conn.in <- datagram{b: askFor(t, vxfld.V3, 1, 10), peer: nth(12, i), self: service.Addr()}
		}
		for i := range members {
			b.send(nth(11, i), askFor(t, vxfld.V3, 100, 1)) // is one
			b.send(nth(13, i), refresh(t, 3, vxfld.Refresh{
				Originator: true, Holdtime: 90, Response: 1, VNIs: names(101, nth(13, i).Addr()), // becomes one
			}))
		}
		close(release)
		synctest.Wait()
		place := map[netip.AddrPort]int{}
		for i, d := range b.conn.sent() {
			if _, ok := place[d.peer]; !ok {
				place[d.peer] = i
			}
		}
		for i := range members {
			for _, from := range []netip.AddrPort{nth(11, i), nth(13, i)} {
				if at, ok := place[from]; !ok || at > 2*members {
					t.Errorf("got %s answered %t at place %d, want it before the strangers", from, ok, at)
				}
			}
		}
		answered := len(place) - 2*members - 1
		if answered < 1000 || answered > 2048 {
			t.Errorf("got %d strangers answered, want what half of the room holds", answered)
		}
	})
}

// Strangers that ask for much do not take the place of one that asks for
// little, however many they are.
func TestStrangerIsAnsweredAmongMany(t *testing.T) {
	onSmallBench(t, func(b *bench) {
		b.table.fill(100, 1, 3)
		for i := range 6000 {
			b.send(nth(12, i), askFor(t, vxfld.V3, 1, 10))
			if i%1000 == 999 {
				b.conn.sent()
				b.send(nth(11, i), askFor(t, vxfld.V3, 100, 1))
				if got := b.conn.sent(); len(got) != 1 || got[0].peer != nth(11, i) {
					t.Errorf("got %d messages after %d questions of others, want the answer", len(got), i+1)
				}
			}
		}
		if got := b.server.Counters().Dropped.Load(); got > 0 {
			t.Errorf("got %d questions dropped, want none", got)
		}
	})
}

// Whoever asks in the name of one address, and from however many ports, makes
// no more than a burst go to it in a window, and two whole tables.
func TestWindowsAreOfAnAddress(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 2000, 90)
		for port := range uint16(64) {
			b.send(netip.AddrPortFrom(vtep1.Addr(), 20000+port), askAll(t))
		}
		for i := range 5 {
			n := 0
			for _, d := range b.conn.sent() {
				n += len(d.b)
				if d.peer.Port() >= 20002 {
					t.Errorf("got a message to port %d, want whole tables to the first two alone", d.peer.Port())
				}
			}
			if n == 0 || n > 32*1458 {
				t.Errorf("got %d bytes to the address in window %d, want a burst", n, i)
			}
			b.pass(100 * time.Millisecond)
		}
		// The slots are there for others.
		for i := range 20 {
			b.send(nth(12, i), askAll(t))
		}
		if got := b.server.Counters().Dropped.Load(); got != 62 {
			t.Errorf("got %d questions dropped, want those of the other 62 ports", got)
		}
	})
}

// Daemons that share an address each get their small answers in turn, though
// one of them asked for the whole table and others for much.
func TestAskersBehindOneAddress(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 2000, 90)
		b.table.fill(5000, 10, 5400)
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(vtep1.Addr(), port) }
		b.send(at(1), askAll(t))
		b.send(at(2), askFor(t, vxfld.V3, 5000, 10))
		for port := range uint16(40) {
			b.send(at(100+port), askFor(t, vxfld.V3, vxlan.VNI(port), 1))
		}
		got := map[uint16]int{}
		for range 3 {
			n := 0
			b.pass(100 * time.Millisecond)
			for _, d := range b.conn.sent() {
				n++
				got[d.peer.Port()]++
			}
			if n > 64 { // what was sent at once is in the first
				t.Errorf("got %d messages in a window, want a burst", n)
			}
		}
		for port := range uint16(40) {
			if got[100+port] != 1 {
				t.Errorf("got %d messages to port %d in 300 ms, want 1", got[100+port], 100+port)
			}
		}
		b.pass(time.Minute)
		vnis := map[uint16]int{}
		for _, d := range b.conn.sent() {
			_, r := parse(t, d.b)
			vnis[d.peer.Port()] += len(r.VNIs)
		}
		if vnis[1] < 1900 || vnis[2] < 8 {
			t.Errorf("got %v VNIs by port afterwards, want the rest of the large answers", vnis)
		}
	})
}
