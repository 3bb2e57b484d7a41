// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing/synctest"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// DigestLen is the size of a digest.
const DigestLen = digestLen

// Limits are what a test may change about a Group that does not run yet.
type Limits struct {
	Idle, First, Whole, Place, Lag, Long, Again, Look time.Duration
	Rate, Body, Large                                 int
}

// Limit puts those of l in force that are not 0.
func (g *Group) Limit(l Limits) {
	set(&g.limits.idle, l.Idle)
	set(&g.limits.first, l.First)
	set(&g.limits.receive.time, l.Whole)
	set(&g.limits.answer.time, l.Whole)
	set(&g.limits.place, l.Place)
	set(&g.limits.lag, l.Lag)
	set(&g.limits.long, l.Long)
	set(&g.limits.again, l.Again)
	set(&g.limits.look, l.Look)
	set(&g.limits.rate, l.Rate)
	set(&g.limits.receive.size, l.Body)
	set(&g.limits.answer.size, l.Body)
	set(&g.limits.large, l.Large)
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// Pass lets time pass: that of the bubble of synctest which it has to be called
// in, so that it takes none.
func Pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ErrAway is part of the error of a peer that closes questions.
var ErrAway = errAway

// Local returns the address that the listener has.
func (g *Group) Local() netip.AddrPort { return g.listener.Addr().(*net.TCPAddr).AddrPort() }

// Repair compares the table with a peer's now, and returns how many entries were
// lacking.
func (g *Group) Repair(ctx context.Context, a netip.AddrPort) (int, error) {
	lacking, _, err := g.compare(ctx, g.at(a))
	return lacking, err
}

// RepairFrom does so as the task does it.
func (g *Group) RepairFrom(ctx context.Context, a netip.AddrPort) { g.repairFrom(ctx, g.at(a)) }

func (g *Group) at(a netip.AddrPort) *peer {
	for _, p := range *g.peers.Load() {
		if p.addr == a {
			return p
		}
	}
	panic("no such peer")
}

// A memory is a connection that has everything in it already.
type memory struct {
	net.Conn
	in  *bytes.Reader
	out io.Writer
}

func (m *memory) Read(b []byte) (int, error)       { return m.in.Read(b) }
func (m *memory) Write(b []byte) (int, error)      { return m.out.Write(b) }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// Converse gives the Group one message and returns what it makes of it. The
// answer goes to out.
func (g *Group) Converse(b []byte, from netip.Addr, out io.Writer) (Verdict, error) {
	s := &server{Group: g, large: make(chan struct{}, maxLarge)}
	src := &source{large: make(chan struct{}, maxLargeFrom)}
	return s.converse(context.Background(), &memory{in: bytes.NewReader(b), out: out}, from, src)
}

// TakeLacking gives the Group the answer to a repair.
func (g *Group) TakeLacking(b []byte, from netip.Addr) (int, error) {
	m, err := vxfld.ScanSync(b)
	if err != nil {
		return 0, err
	}
	taken, _, err := g.takeLacking(m, from)
	return taken, err
}

// Place is where the digest has an entry.
func Place(seed uint64, vni vxlan.VNI, e *vxfld.SyncEntry) (bucket int, number uint64) {
	return place(seed, vni, e)
}

// SecondsLeft is how a time is told to a peer.
func SecondsLeft(exp, now fdb.Time) uint32 { return secondsLeft(exp, now) }
