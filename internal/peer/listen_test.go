// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// host returns loopback address number i, of which each node in a test has one.
func host(i byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, i}) }

// A server is a Group with its table, and listens. Its clock stands still unless
// the test moves it, so that times can be compared.
type server struct {
	*peer.Group
	table *fdb.Table
	time  atomic.Int64
	o     peer.Options
}

func (n *server) now() fdb.Time { return fdb.Time(n.time.Load()) }

// pass lets time pass.
func (n *server) pass(d time.Duration) { n.time.Add(int64(d)) }

// serving returns a server on loopback address number i, which takes SYNC from
// all of 127.0.0.0/24. It has no peers. change may change its options.
func serving(tb testing.TB, i byte, change ...func(*peer.Options)) *server {
	tb.Helper()
	n := &server{table: table(time.Minute)}
	n.pass(1000 * time.Second)
	n.o = options(n.table, n.now)
	n.o.Source = host(i)
	n.o.Allowed = func(a netip.Addr) bool { return netip.MustParsePrefix("127.0.0.0/24").Contains(a) }
	for _, fn := range change {
		fn(&n.o)
	}
	n.Group = peer.New(n.o)
	if err := n.Listen(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = n.Close() })
	return n
}

// meet gives a node its peers.
func (n *server) meet(peers ...netip.AddrPort) {
	n.o.Peers = peers
	n.Configure(n.o.Settings)
}

// entries returns what the table of a node holds, sorted.
func (n *server) entries() []fdb.Entry {
	var es []fdb.Entry
	for _, vni := range n.table.VNIs(nil) {
		es = n.table.Entries(n.now(), vni, es)
	}
	slices.SortFunc(es, func(a, b fdb.Entry) int {
		if a.VNI != b.VNI {
			return int(a.VNI) - int(b.VNI)
		}
		return a.Addr.Compare(b.Addr)
	})
	return es
}

// dial connects to a node from loopback address number i.
func (n *server) dial(tb testing.TB, i byte) *net.TCPConn {
	tb.Helper()
	c, err := n.connect(i)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// connect connects, unless it is turned away in that very moment.
func (n *server) connect(i byte) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: host(i).AsSlice()}}
	c, err := d.Dial("tcp", n.Local().String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// say sends a message to a node from loopback address number i, and returns its
// answer.
func (n *server) say(tb testing.TB, i byte, msg []byte) []byte {
	tb.Helper()
	c, err := n.connect(i)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	} else if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	// A node that refuses may have closed by now.
	_, _ = c.Write(msg)
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		tb.Fatal(err)
	}
	return b
}

// sync returns the bytes of a SYNC.
func sync3(tb testing.TB, s vxfld.Sync) []byte {
	tb.Helper()
	b, err := vxfld.Message{Version: vxfld.V3, Body: &s}.Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// record returns a record of one VNI.
func record(vni vxlan.VNI, es ...vxfld.SyncEntry) vxfld.VNIEntries {
	return vxfld.VNIEntries{VNI: vni, Entries: es}
}

// verdict waits until a node has made up its mind about n connections.
func (n *server) verdict(tb testing.TB, v peer.Verdict, count uint64) {
	tb.Helper()
	eventually(tb, "verdict "+v.String(), func() bool { return n.Counters().Verdicts[v].Load() >= count })
	if got := n.Counters().Verdicts[v].Load(); got != count {
		tb.Errorf("got %d of verdict %s, want %d", got, v, count)
	}
}

// Messages of deployed nodes are taken in.
func TestUpdateIsTakenIn(t *testing.T) {
	type entry struct {
		VNI  vxlan.VNI
		Addr string
		ID   uint64
		Left uint32
	}
	tests := []struct {
		name    string
		vectors []string
		want    []entry
	}{
		{"learned", []string{"captured_sync_learned"}, []entry{{92, "10.99.0.101", 0, 90}}},
		{"static", []string{"captured_sync_static_add"}, []entry{{91, "10.1.1.1", 0, 65535}}},
		{"added and removed", []string{"sync_data_static_add", "sync_data_static_del"}, []entry{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := serving(t, 10)
			run(t, n.Group)
			for _, v := range tt.vectors {
				if answer := n.say(t, 20, vector(t, v)); len(answer) > 0 {
					t.Errorf("got answer %x to %s, want none", answer, v)
				}
			}
			n.verdict(t, peer.VerdictUpdate, uint64(len(tt.vectors)))
			got := []entry{}
			for _, e := range n.entries() {
				if e.Source != fdb.Peer {
					t.Errorf("got source %s, want peer", e.Source)
				}
				got = append(got, entry{e.VNI, e.Addr.String(), e.Identifier, peer.SecondsLeft(e.Expires, n.now())})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

// A withdrawal removes what a peer or a registration told of under the same
// identifier, and nothing else.
func TestUpdateWithdraws(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	update := func(holdtime uint32, id uint64) []byte {
		return sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7, vxfld.SyncEntry{Addr: vtep(1), Holdtime: holdtime, Identifier: id})}})
	}
	n.say(t, 20, update(90, 0))
	n.say(t, 20, update(vxfld.HoldtimeStatic, 5))
	n.verdict(t, peer.VerdictUpdate, 2)
	n.say(t, 20, update(vxfld.HoldtimeWithdraw, 5))
	n.verdict(t, peer.VerdictUpdate, 3)
	if got := n.entries(); len(got) != 1 || got[0].Identifier != 0 {
		t.Errorf("got %+v, want the entry of identifier 0 alone", got)
	}
}

// Addresses that cannot be VTEPs are left out, and the rest is taken in. Who
// became a member before his address was excluded may still be withdrawn.
func TestUpdateLeavesOutWhatIsNoVTEP(t *testing.T) {
	n := serving(t, 10)
	run(t, n.Group)
	update := func(holdtime uint32, addrs ...netip.Addr) []byte {
		rec := record(7)
		for _, a := range addrs {
			rec.Entries = append(rec.Entries, vxfld.SyncEntry{Addr: a, Holdtime: holdtime})
		}
		return sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{rec}})
	}
	n.say(t, 20, update(90, vtep(1)))
	n.verdict(t, peer.VerdictUpdate, 1)
	n.table.Exclude(map[netip.Addr]fdb.Exclusion{vtep(1): fdb.ExcludedOwn, vtep(2): fdb.ExcludedDenied})
	n.say(t, 20, update(90, netip.MustParseAddr("224.0.0.1"), vtep(2), host(1), vtep(3), netip.IPv4Unspecified()))
	n.verdict(t, peer.VerdictUpdate, 2)
	if got := n.table.Members(n.now(), 7, nil); !slices.Equal(got, []netip.Addr{vtep(3)}) {
		t.Errorf("got members %v, want %v", got, vtep(3))
	}
	if c := n.Counters(); c.Unusable.Load() != 3 || c.Excluded.Load() != 1 {
		t.Errorf("got %d unusable and %d excluded, want 3 and 1", c.Unusable.Load(), c.Excluded.Load())
	}
	n.say(t, 20, update(0, vtep(1), vtep(2)))
	n.verdict(t, peer.VerdictUpdate, 3)
	if got := n.entries(); len(got) != 1 || got[0].Addr != vtep(3) {
		t.Errorf("got %+v, want the entry of %v alone", got, vtep(3))
	}
}

// A deployed node makes a connection for each member that it learns: none of
// many that come at once is lost.
func TestManyConnectionsAtOnce(t *testing.T) {
	const connections = 200
	n := serving(t, 10)
	run(t, n.Group)
	conns := make([]*net.TCPConn, connections)
	for i := range conns {
		conns[i] = n.dial(t, 20)
	}
	for i, c := range conns {
		msg := sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7, vxfld.SyncEntry{Addr: vtep(i), Holdtime: 90})}})
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
	}
	n.verdict(t, peer.VerdictUpdate, connections)
	if got := len(n.entries()); got != connections {
		t.Errorf("got %d members, want %d", got, connections)
	}
}

// A peer that opens connections and says nothing takes no place from others,
// and has a limit of its own.
func TestSilentPeerDelaysNobody(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: time.Hour, Whole: time.Hour, Place: time.Hour})
	stop := run(t, n.Group)
	for range 256 {
		n.dial(t, 20)
	}
	if c, err := n.connect(20); err == nil {
		defer c.Close()
	}
	n.verdict(t, peer.VerdictBusy, 1)
	n.say(t, 21, vector(t, "captured_sync_learned"))
	n.verdict(t, peer.VerdictUpdate, 1)
	stop() // does not wait for the silent ones
}

// A second node on the same address and port is told so.
func TestListenFindsTheAddressInUse(t *testing.T) {
	n := serving(t, 10)
	for _, source := range []netip.Addr{host(10), netip.IPv4Unspecified()} {
		o := n.o
		o.Source, o.Port = source, n.Local().Port()
		g := peer.New(o)
		if err := g.Listen(context.Background()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v for %s, want EADDRINUSE", err, source)
		}
		if err := g.Close(); err != nil {
			t.Errorf("got %v from Close without a listener", err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	o := n.o
	o.Port = n.Local().Port()
	g := peer.New(o)
	if err := g.Listen(context.Background()); err != nil {
		t.Errorf("got %v once the address is free", err)
	}
	_ = g.Close()
}

// An address that the machine does not have yet can be listened on.
func TestListenOnAnAddressToCome(t *testing.T) {
	for _, source := range []string{"192.0.2.1", "2001:db8::1", "::"} {
		o := options(table(time.Minute), clock())
		o.Source = netip.MustParseAddr(source)
		g := peer.New(o)
		if err := g.Listen(context.Background()); err != nil {
			if errors.Is(err, syscall.EAFNOSUPPORT) {
				continue // a machine without IPv6
			}
			t.Errorf("listen on %s: got %v", source, err)
		}
		_ = g.Close()
	}
}

// A listener that was closed by somebody else ends the Group with an error.
func TestServeEndsWithTheListener(t *testing.T) {
	n := serving(t, 10)
	done := make(chan error, 1)
	go func() { done <- n.Run(context.Background()) }()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

// A node of ours that greets is answered, and both know each other from then on.
func TestGreeting(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Again: time.Hour})
	p := answering(t, 20, vector(t, "sync_reply_empty_fdb"))
	n.meet(p.addr)
	run(t, n.Group)
	synced(t, n)
	n.put(fdb.Registration, 7, vtep(1), 1, time.Minute)
	if state(n.Group).Ours {
		t.Error("got a peer of ours before it greeted")
	}
	want := &vxfld.Sync{Node: vxfld.SyncNode, NotReady: true, Complete: true}
	if diff := cmp.Diff(want, n.ask(t, vxfld.Sync{Node: vxfld.SyncNode})); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	n.verdict(t, peer.VerdictGreeting, 1)
	if st := state(n.Group); !st.Ours || st.LastHeard != n.now() {
		t.Errorf("got state %+v, want a peer of ours that was heard", st)
	}
}

// A large message takes a place among few, and gives it back.
func TestLargeMessagesTakeTurns(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Large: 1 << 10})
	run(t, n.Group)
	var es []vxfld.SyncEntry
	for i := range 1000 {
		es = append(es, vxfld.SyncEntry{Addr: vtep(i), Holdtime: 90})
	}
	for vni := range vxlan.VNI(5) {
		n.say(t, 20, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(vni, es...)}}))
	}
	n.verdict(t, peer.VerdictUpdate, 5)
	if got := len(n.entries()); got != 5000 {
		t.Errorf("got %d entries, want 5000", got)
	}
}
