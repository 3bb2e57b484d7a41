// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what will certainly happen.
const patience = time.Minute

// loopback is the address of all nodes in tests.
var loopback = netip.MustParseAddr("127.0.0.1")

// eventually waits until ok holds.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			tb.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// clock returns a clock that began a while ago.
func clock() func() fdb.Time {
	start := time.Now()
	return func() fdb.Time { return fdb.Time(1000*time.Second) + fdb.Time(time.Since(start)) }
}

// table returns a table that learns for this long.
func table(holdtime time.Duration) *fdb.Table {
	return fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: holdtime})
}

// options returns options for a Group with these peers, on no port.
func options(t *fdb.Table, now func() fdb.Time, peers ...netip.AddrPort) peer.Options {
	return peer.Options{
		Table:  t,
		Now:    now,
		Source: loopback,
		Send:   func([]byte, netip.AddrPort) error { return nil },
		Settings: peer.Settings{
			Peers:         peers,
			MaxPacketSize: 1500,
			Holdtime:      90 * time.Second,
			SyncTargets:   1,
			SyncTimeout:   30 * time.Second,
		},
	}
}

// run runs a Group until the end of the test, or until the function that it
// returns is called.
func run(tb testing.TB, g *peer.Group) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("got %v from Run after cancel, want success", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// A deployed stands in for a service node of the deployed suite: it reads one
// message from each connection, and answers a request with an empty table.
type deployed struct {
	addr     netip.AddrPort
	messages chan []byte // updates alone
	stop     func()
}

// listen returns a deployed node that listens on addr.
func listen(tb testing.TB, addr netip.AddrPort) *deployed {
	tb.Helper()
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	d := &deployed{addr: l.Addr().(*net.TCPAddr).AddrPort(), messages: make(chan []byte, 1<<16)}
	d.stop = accept(l, d.serve)
	tb.Cleanup(d.stop)
	return d
}

// accept has each connection to l served until the function that it returns is
// called, which waits for all of them.
func accept(l net.Listener, serve func(context.Context, net.Conn)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(ctx, c) })
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
}

// serve reads a message, and leaves the connection open after an update.
func (d *deployed) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	b, err := io.ReadAll(c)
	if err != nil || len(b) == 0 {
		return
	}
	if m, err := vxfld.Parse(b); err == nil {
		if s, ok := m.Body.(*vxfld.Sync); ok && s.Response == vxfld.ResponseAll {
			if b, err := (vxfld.Message{Version: vxfld.V3, Body: &vxfld.Sync{}}).Append(nil); err == nil {
				_, _ = c.Write(b)
			}
			return
		} else if ok && len(s.VNIs) == 0 {
			return // a greeting
		}
	}
	d.messages <- b
	<-ctx.Done()
}

// next returns the next update.
func (d *deployed) next(tb testing.TB) []byte {
	tb.Helper()
	select {
	case b := <-d.messages:
		return b
	case <-time.After(patience):
		tb.Fatal("waited in vain for an update")
		return nil
	}
}

// A member is one VTEP in one VNI.
type member struct {
	vni  vxlan.VNI
	addr netip.Addr
}

// told returns what the next update says: the holdtime of each member.
func (d *deployed) told(tb testing.TB) map[member]uint32 {
	tb.Helper()
	m, err := vxfld.Parse(d.next(tb))
	if err != nil {
		tb.Fatalf("parse update: %v", err)
	}
	s, ok := m.Body.(*vxfld.Sync)
	if !ok || m.Version != vxfld.V3 || s.Response != vxfld.ResponseNone || s.Identifier != 0 {
		tb.Fatalf("got update %+v, want a SYNC of version 3 that asks nothing", m.Body)
	}
	out := make(map[member]uint32)
	for _, rec := range s.VNIs {
		for _, e := range rec.Entries {
			if e.Identifier != 0 {
				tb.Errorf("got identifier %d, want 0", e.Identifier)
			}
			out[member{rec.VNI, e.Addr}] = e.Holdtime
		}
	}
	return out
}

// until adds up what is told until there is a word on each of want.
func (d *deployed) until(tb testing.TB, want ...member) map[member]uint32 {
	tb.Helper()
	all := make(map[member]uint32)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		missing := false
		for _, m := range want {
			_, ok := all[m]
			missing = missing || !ok
		}
		if !missing {
			return all
		}
		for m, s := range d.told(tb) {
			all[m] = s
		}
	}
	tb.Fatalf("got %v, waited in vain for all of %v", all, want)
	return nil
}

// when waits until a member is told with a holdtime that is ok.
func (d *deployed) when(tb testing.TB, m member, ok func(seconds uint32) bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s, told := d.told(tb)[m]; told && ok(s) {
			return
		}
	}
	tb.Fatalf("waited in vain for word on %v", m)
}

func static(seconds uint32) bool    { return seconds == vxfld.HoldtimeStatic }
func withdrawn(seconds uint32) bool { return seconds == vxfld.HoldtimeWithdraw }

// A datagram is one UDP message to a peer.
type datagram struct {
	b  []byte
	to netip.AddrPort
}

// A mailbox keeps what a Group sends over UDP.
type mailbox chan datagram

// send is a Group's Send.
func (m mailbox) send(b []byte, to netip.AddrPort) error {
	m <- datagram{b, to}
	return nil
}

// refresh returns the next message, which is a relayed one.
func (m mailbox) refresh(tb testing.TB) (*vxfld.Refresh, datagram) {
	tb.Helper()
	select {
	case d := <-m:
		msg, err := vxfld.Parse(d.b)
		if err != nil {
			tb.Fatalf("parse relayed message: %v", err)
		}
		r, ok := msg.Body.(*vxfld.Refresh)
		if !ok || msg.Version != vxfld.V3 || r.Originator || r.Response != vxfld.ResponseNone {
			tb.Fatalf("got version %d, %+v, want a relayed REFRESH of version 3", msg.Version, msg.Body)
		}
		return r, d
	case <-time.After(patience):
		tb.Fatal("waited in vain for a relayed message")
		return nil, datagram{}
	}
}

// state returns the state of the only peer.
func state(g *peer.Group) peer.State { return g.States()[0] }

// vector returns the bytes of a message of the deployed suite.
func vector(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile("../vxfld/testdata/vxfld.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vs []struct{ Name, Hex string }
	if err := json.Unmarshal(text, &vs); err != nil {
		tb.Fatal(err)
	}
	for _, v := range vs {
		if v.Name == name {
			b, err := hex.DecodeString(v.Hex)
			if err != nil {
				tb.Fatal(err)
			}
			return b
		}
	}
	tb.Fatalf("no vector %s", name)
	return nil
}

// vtep returns the address of VTEP number i.
func vtep(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}
