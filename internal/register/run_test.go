// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/sock"
	"vxsnd/internal/vxfld"
)

var (
	_ register.Table = (*fdb.Table)(nil)
	_ register.Conn  = (*sock.Control)(nil)
)

// One sender's work is bounded; peers and others are not held back by it, and
// it is heard again a moment later.
func TestRate(t *testing.T) {
	change := func(o *register.Options) { o.Rate, o.Burst = 10, 20 }
	onBench(t, change, func(b *bench) {
		msg := refresh(t, 3, vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))})
		for range 100 {
			b.send(vtep1, msg)
			b.send(peer, msg)
		}
		got := b.verdicts()
		if got[register.VerdictRate] != 80 || got[register.VerdictRegistration] != 120 {
			t.Errorf("got %v, want 80 of the vtep refused and nothing of the peer", got)
		}
		b.send(vtep2, msg)
		b.pass(time.Second)
		b.send(vtep1, msg)
		if got := b.verdicts()[register.VerdictRegistration]; got != 122 {
			t.Errorf("got %d registrations, want those of the other and a second later: 122", got)
		}
		// Another port is no other sender.
		for range 20 {
			b.send(netip.AddrPortFrom(vtep1.Addr(), 5), msg)
		}
		if got := b.verdicts()[register.VerdictRate]; got != 91 {
			t.Errorf("got %d refused, want 91", got)
		}
		b.st.Rate, b.st.Burst = 1000, 1000
		b.server.Configure(b.st)
		b.send(vtep1, msg) // refused still; from now on the new rate counts
		b.pass(time.Second)
		for range 500 {
			b.send(vtep1, msg)
		}
		if got := b.verdicts()[register.VerdictRate]; got != 92 {
			t.Errorf("got %d refused after a larger rate was set, want one more: 92", got)
		}
	})
}

// A large message costs what it takes to read it.
func TestRateCountsBytes(t *testing.T) {
	change := func(o *register.Options) { o.Rate, o.Burst = 10, 100 }
	onBench(t, change, func(b *bench) {
		large := make([]byte, vxfld.MaxDatagram)
		for range 3 {
			b.send(vtep1, large)
		}
		got := b.verdicts()
		if got[register.Malformed(vxfld.ErrVersion)] != 1 || got[register.VerdictRate] != 2 {
			t.Errorf("got %v, want one looked at and two not", got)
		}
	})
}

// What repeats is logged at once and then once a minute with its number.
func TestFloodIsLoggedOnceAMinute(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		for range 1000 {
			b.send(vtep1, []byte{9, 9})
		}
		lines := b.lines(logrus.WarnLevel)
		if len(lines) != 1 || lines[0].Data["src"] != vtep1 || lines[0].Data["reason"] != "version" || lines[0].Data["task"] != "register" {
			t.Errorf("got %d lines, the first %v, want one that names the source and the reason", len(lines), lines)
		}
		b.pass(2 * time.Minute)
		lines = b.lines(logrus.WarnLevel)
		if len(lines) != 1 || lines[0].Data["count"] != 999 {
			t.Errorf("got %d lines, %v, want one that counts the other 999", len(lines), lines)
		}
	})
}

func TestCollisionsAreReported(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		collide := func(n int) {
			b.table.mu.Lock()
			defer b.table.mu.Unlock()
			for i := range n {
				b.table.collisions = append(b.table.collisions, fdb.Collision{
					VNI: 7, Identifier: uint64(i), First: addr("10.0.0.1"), Second: addr("10.0.0.2"), Count: 3,
				})
			}
		}
		collide(20)
		b.pass(time.Second)
		lines := b.lines(logrus.WarnLevel)
		if len(lines) != 17 || lines[0].Data["vtep"] != addr("10.0.0.1") || lines[0].Data["other"] != addr("10.0.0.2") ||
			lines[16].Data["count"] != 4 {
			t.Errorf("got %d lines, want 16 collisions and how many more there are", len(lines))
		}
		collide(1)
		b.pass(time.Minute - time.Second)
		if lines := b.lines(logrus.WarnLevel); len(lines) != 0 {
			t.Errorf("got %d lines within the minute, want none", len(lines))
		}
		b.pass(time.Second)
		if lines := b.lines(logrus.WarnLevel); len(lines) != 1 {
			t.Errorf("got %d lines after the minute, want 1", len(lines))
		}
		b.pass(2 * time.Minute)
		if lines := b.lines(logrus.WarnLevel); len(lines) != 0 {
			t.Errorf("got %d lines with nothing new, want none", len(lines))
		}
	})
}

// A socket that cannot be read is tried again at longer and longer intervals,
// and serves again when it can.
func TestReadErrors(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		stop := make(chan struct{})
		var feed sync.WaitGroup
		feed.Go(func() {
			for {
				select {
				case b.conn.errs <- errors.New("out of memory"):
				case <-stop:
					return
				}
			}
		})
		b.pass(10 * time.Second)
		close(stop)
		feed.Wait()
		if got := b.server.Counters().ReadErrors.Load(); got < 5 || got > 20 {
			t.Errorf("got %d reads in 10 s, want a few", got)
		}
		if n := len(b.lines(logrus.WarnLevel)); n != 1 {
			t.Errorf("got %d warnings, want 1", n)
		}
		b.pass(time.Second)
		b.send(vtep1, askAll(t))
		if got := len(b.conn.sent()); got != 1 {
			t.Errorf("got %d answers afterwards, want 1", got)
		}
	})
}

// A socket that is closed without being asked for ends the task with an error.
func TestClosedSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone, other := newFakeConn(), newFakeConn()
		s := register.New(register.Options{
			Conns: []register.Conn{gone, other}, Table: newFakeTable(), Now: func() fdb.Time { return 0 },
		})
		gone.Close()
		if err := s.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
		select {
		case <-other.closed:
		default:
			t.Error("got the other socket open, want it closed")
		}
	})
}

// Each socket answers what it was asked.
func TestSeveralSockets(t *testing.T) {
	second := newFakeConn()
	onBench(t, func(o *register.Options) {
		second = newFakeConn() // made inside the bubble
		second.local = netip.MustParseAddrPort("10.0.0.98:10001")
		o.Conns = append(o.Conns, second)
	}, func(b *bench) {
		b.table.fill(7, 1, 3)
		second.in <- datagram{b: askAll(t), peer: vtep1, self: second.local.Addr()}
		synctest.Wait()
		got := second.sent()
		if len(got) != 1 || got[0].self != second.local.Addr() || len(b.conn.sent()) != 0 {
			t.Errorf("got %+v, want one answer from %s", got, second.local)
		}
		// What the other socket sends is from this node too.
		b.send(second.local, askAll(t))
		if got := b.verdicts()[register.VerdictOwn]; got != 1 {
			t.Errorf("got %d messages from this node, want 1", got)
		}
	})
}

// Whatever one node is told in the name of another, the two do not go on
// talking: what one says is never a question to the other.
func TestTwoNodesDoNotAnswerEachOther(t *testing.T) {
	for _, tt := range vectors(t) {
		if tt.Transport != "udp" {
			continue
		}
		t.Run(tt.Name, func(t *testing.T) {
			for _, known := range []bool{false, true} {
				change := func(o *register.Options) {
					o.Peer = func(netip.Addr) bool { return known }
				}
				onBench(t, change, func(b *bench) {
					b.send(peer, unhex(t, tt.Hex))
					for _, d := range b.conn.sent() {
						// The other node runs the same program and has the same table.
						b.send(netip.AddrPortFrom(addr("10.0.0.202"), service.Port()), d.b)
					}
					if again := b.conn.sent(); len(again) > 0 {
						t.Errorf("got %d answers to an answer, want none", len(again))
					}
				})
			}
		})
	}
}

// A task that is stopped in the middle of an answer ends.
func TestStopInTheMiddle(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 10000, 50)
		b.send(vtep1, askAll(t))
		b.send(vtep2, askAll(t))
	})
}

// Everything at once, for the race detector: two sockets, questions,
// registrations, reloads and readers of the counters.
func TestConcurrentUse(t *testing.T) {
	conns := []*fakeConn{newFakeConn(), newFakeConn()}
	table := newFakeTable()
	table.fill(0, 200, 20)
	st := register.Settings{Holdtime: time.Minute, MaxPacketSize: 1500, Pause: time.Microsecond}
	s := register.New(register.Options{
		Conns: []register.Conn{conns[0], conns[1]}, Table: table, Settings: st, Relayer: ignore{},
		Now: func() fdb.Time { return fdb.Time(time.Now().UnixNano()) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	var wg sync.WaitGroup
	const rounds = 200
	for i, c := range conns {
		wg.Go(func() {
			for n := range rounds {
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(n % 5)}), 10001)
				msgs := [][]byte{
					askAll(t), askFor(t, vxfld.V2, 0, 50),
					refresh(t, 1, vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(7, from.Addr())}),
				}
				c.in <- datagram{b: msgs[n%len(msgs)], peer: from, self: service.Addr()}
			}
		})
	}
	wg.Go(func() {
		for range rounds {
			s.Configure(st)
			_ = s.Counters().Messages.Load()
		}
	})
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want success", err)
	}
	if got := s.Counters().Questions.Load(); got != 2*rounds {
		t.Errorf("got %d questions, want %d", got, 2*rounds)
	}
}

// ignore relays nothing.
type ignore struct{}

func (ignore) Relay(*vxfld.Refresh) {}

func TestNames(t *testing.T) {
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for v := range register.NumVerdicts {
		if !bytes.Contains(page, []byte("`"+v.String()+"`")) {
			t.Errorf("got no %s in docs/protocol.md, want each verdict there", v)
		}
		if name := v.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("got name %q for verdict %d, want one of its own", name, v)
		}
		seen[v.String()] = true
	}
	for l := range register.NumLeftOut {
		if name := l.String(); name == "" || name == "unknown" {
			t.Errorf("got name %q for reason %d, want one", name, l)
		}
	}
	if got := register.NumVerdicts.String() + register.NumLeftOut.String(); got != "unknownunknown" {
		t.Errorf("got %q past the end, want unknown", got)
	}
	if got := register.New(register.Options{}).String(); got != "register" {
		t.Errorf("got task name %q, want register", got)
	}
}
