// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	service = netip.MustParseAddrPort("10.0.0.100:10001") // svcnode_ip
	vtep1   = netip.MustParseAddrPort("10.0.0.1:10001")
	vtep2   = netip.MustParseAddrPort("10.0.0.2:40000")
	peer    = netip.MustParseAddrPort("10.0.0.201:10001")
)

// addr is netip.MustParseAddr.
func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// A datagram is a message on its way.
type datagram struct {
	b    []byte
	peer netip.AddrPort // who sent it, or is to get it
	self netip.Addr     // the address that it was sent to, or is sent from
	at   time.Time
}

// A fakeConn is a socket whose other end is the test.
type fakeConn struct {
	local  netip.AddrPort
	in     chan datagram
	errs   chan error
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	out   []datagram
	reads int
	fail  func(to netip.AddrPort) error
}

// newFakeConn returns a socket that is bound to the service address.
func newFakeConn() *fakeConn {
	return &fakeConn{local: service, in: make(chan datagram), errs: make(chan error), closed: make(chan struct{})}
}

func (c *fakeConn) ReadFrom(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	select {
	case d := <-c.in:
		return copy(b, d.b), d.peer, d.self, nil
	case err := <-c.errs:
		return 0, netip.AddrPort{}, netip.Addr{}, err
	case <-c.closed:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (c *fakeConn) WriteTo(b []byte, to netip.AddrPort, from netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		if err := c.fail(to); err != nil {
			return err
		}
	}
	c.out = append(c.out, datagram{slices.Clone(b), to, from, time.Now()})
	return nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeConn) LocalAddr() netip.AddrPort { return c.local }

// sent returns what was written since the last call.
func (c *fakeConn) sent() []datagram {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.out
	c.out = nil
	return out
}

// A fakeTable keeps members in the order in which they came, and nothing
// expires.
type fakeTable struct {
	mu         sync.Mutex
	members    map[vxlan.VNI][]netip.Addr
	excluded   map[netip.Addr]fdb.Exclusion
	updates    []fdb.Update
	collisions []fdb.Collision
	refuse     *fdb.Refusal
	looked     func(vni vxlan.VNI) // called for each look at the members
}

func newFakeTable() *fakeTable {
	return &fakeTable{members: map[vxlan.VNI][]netip.Addr{}, excluded: map[netip.Addr]fdb.Exclusion{
		service.Addr():    fdb.ExcludedService,
		peer.Addr():       fdb.ExcludedService,
		addr("10.0.0.99"): fdb.ExcludedOwn,
		addr("10.0.0.66"): fdb.ExcludedDenied,
	}}
}

func (t *fakeTable) Apply(_ fdb.Time, us []fdb.Update) fdb.Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	var res fdb.Result
	t.updates = append(t.updates, us...)
	for _, u := range us {
		at := slices.Index(t.members[u.VNI], u.Addr)
		switch {
		case t.refuse != nil:
			res.Refused[*t.refuse]++
		case u.Holdtime == 0 && at >= 0:
			t.members[u.VNI] = slices.Delete(t.members[u.VNI], at, at+1)
			res.Withdrawn++
		case u.Holdtime == 0:
		case at >= 0:
			res.Refreshed++
		default:
			t.members[u.VNI] = append(t.members[u.VNI], u.Addr)
			res.Added++
		}
	}
	return res
}

func (t *fakeTable) Members(_ fdb.Time, vni vxlan.VNI, dst []netip.Addr) []netip.Addr {
	if t.looked != nil {
		t.looked(vni)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(dst, t.members[vni]...)
}

func (t *fakeTable) VNIs(dst []vxlan.VNI) []vxlan.VNI {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(dst)
	for vni := range t.members {
		dst = append(dst, vni)
	}
	slices.Sort(dst[n:])
	return dst
}

func (t *fakeTable) Excluded(a netip.Addr) fdb.Exclusion {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.excluded[a]
}

func (t *fakeTable) Collisions(dst []fdb.Collision) []fdb.Collision {
	t.mu.Lock()
	defer t.mu.Unlock()
	dst = append(dst, t.collisions...)
	t.collisions = nil
	return dst
}

// took returns the updates since the last call.
func (t *fakeTable) took() []fdb.Update {
	t.mu.Lock()
	defer t.mu.Unlock()
	us := t.updates
	t.updates = nil
	return us
}

// fill gives n VNIs from first on m members each, all octets below 128.
func (t *fakeTable) fill(first vxlan.VNI, n, m int) {
	for v := range n {
		as := make([]netip.Addr, m)
		for i := range as {
			as[i] = netip.AddrFrom4([4]byte{10, byte(i >> 14 & 127), byte(i >> 7 & 127), byte(i & 127)})
		}
		t.members[first+vxlan.VNI(v)] = as
	}
}

// A bench is a Server on a fakeConn and a fakeTable inside a synctest bubble.
type bench struct {
	*testing.T
	server *register.Server
	conn   *fakeConn
	table  *fakeTable
	logs   *logtest.Hook
	st     register.Settings
}

// onBench runs f with a Server that runs; change may alter its options.
func onBench(t *testing.T, change func(o *register.Options), f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		log.SetLevel(logrus.DebugLevel)
		b := &bench{T: t, conn: newFakeConn(), table: newFakeTable(), logs: hook, st: register.Settings{
			Holdtime:      90 * time.Second,
			MaxPacketSize: 1500,
			Peer:          func(a netip.Addr) bool { return a == peer.Addr() },
		}}
		start := time.Now()
		o := register.Options{
			Conns: []register.Conn{b.conn}, Table: b.table, Log: log, Settings: b.st,
			Now: func() fdb.Time { return fdb.Time(time.Since(start)) },
		}
		if change != nil {
			change(&o)
			b.st = o.Settings
		}
		b.server = register.New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.server.Run(ctx) }()
		f(b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v from Run after cancel, want success", err)
		}
	})
}

// send delivers a message to the service address, and waits until all that is
// to be done at once is done.
func (b *bench) send(from netip.AddrPort, msg []byte) {
	b.Helper()
	b.conn.in <- datagram{b: msg, peer: from, self: service.Addr()}
	synctest.Wait()
}

// pass lets time pass, and waits until all that is to be done by then is done.
func (b *bench) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// verdicts returns the counts that are not zero.
func (b *bench) verdicts() map[register.Verdict]uint64 {
	out := map[register.Verdict]uint64{}
	for v := range register.NumVerdicts {
		if n := b.server.Counters().Verdicts[v].Load(); n > 0 {
			out[v] = n
		}
	}
	return out
}

// lines returns the log lines of a level since the last call.
func (b *bench) lines(level logrus.Level) []logrus.Entry {
	var out []logrus.Entry
	for _, e := range b.logs.AllEntries() {
		if e.Level == level {
			out = append(out, *e)
		}
	}
	b.logs.Reset()
	return out
}

// unhex decodes hex text.
func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// refresh encodes a REFRESH message.
func refresh(tb testing.TB, v vxfld.Version, r vxfld.Refresh) []byte {
	tb.Helper()
	b, err := vxfld.Message{Version: v, Body: &r}.Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// names returns records that name VNIs with these addresses in each.
func names(vni vxlan.VNI, as ...netip.Addr) []vxfld.VNIMembers {
	return []vxfld.VNIMembers{{VNI: vni, Addrs: as}}
}

// parse decodes an answer.
func parse(tb testing.TB, b []byte) (vxfld.Version, *vxfld.Refresh) {
	tb.Helper()
	m, err := vxfld.Parse(b)
	if err != nil {
		tb.Fatalf("parse answer: %v", err)
	}
	r, ok := m.Body.(*vxfld.Refresh)
	if !ok {
		tb.Fatalf("got answer %T, want a Refresh", m.Body)
	}
	return m.Version, r
}

// errGone is what a write to an asker that vanished gives.
var errGone = errors.New("no route to host")
