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
// all of 127.0.0.0/24. It has no peers.
func serving(tb testing.TB, i byte) *server {
	tb.Helper()
	n := &server{table: table(time.Minute)}
	n.pass(1000 * time.Second)
	n.o = options(n.table, n.now)
	n.o.Source = host(i)
	n.o.Allowed = func(a netip.Addr) bool { return netip.MustParsePrefix("127.0.0.0/24").Contains(a) }
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
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: host(i).AsSlice()}}
	c, err := d.Dial("tcp", n.Local().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// say sends a message to a node from loopback address number i, and returns its
// answer.
func (n *server) say(tb testing.TB, i byte, msg []byte) []byte {
	tb.Helper()
	c := n.dial(tb, i)
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
