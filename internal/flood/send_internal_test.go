// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/sock/socktest"
	"vxsnd/internal/vxlan"
)

// fakeSender is a socket whose send buffer has room again after some waits.
type fakeSender struct {
	socktest.Writer
	waits, room int
	backlog     float64
}

func (f *fakeSender) Backlog() float64 { return f.backlog }

func (f *fakeSender) WaitWritable(time.Duration) bool {
	f.waits++
	return f.waits <= f.room
}

// fakeFragmenter remembers what was sent through it, in the same log as the
// fakeSender, so that the order shows.
type fakeFragmenter struct {
	to   *fakeSender
	err  error
	sent []netip.Addr
}

func (f *fakeFragmenter) WaitWritable(time.Duration) bool { return false }

func (f *fakeFragmenter) Send(src, dst netip.Addr, ttl, tos uint8, udp, payload []byte) error {
	if f.err != nil {
		return f.err
	}
	f.sent = append(f.sent, dst)
	f.to.Sent = append(f.to.Sent, socktest.Sent{To: dst, Bytes: fmt.Appendf(nil, "%s ttl %d tos %d %x %x", src, ttl, tos, udp, payload)})
	return nil
}

// fakeNeighbours shows what is hidden when it is asked to look again.
type fakeNeighbours struct {
	shown, hidden map[netip.Addr]struct{}
	rechecks      int
}

func (f *fakeNeighbours) Unresolved() map[netip.Addr]struct{} { return f.shown }

func (f *fakeNeighbours) Recheck(time.Duration) {
	f.rechecks++
	if f.hidden != nil {
		f.shown, f.hidden = f.hidden, nil
	}
}

func addrs(list ...string) map[netip.Addr]struct{} {
	m := make(map[netip.Addr]struct{})
	for _, a := range list {
		m[netip.MustParseAddr(a)] = struct{}{}
	}
	return m
}

type rig struct {
	lane
	neighbours fakeNeighbours
	main, slow fakeSender
	frag       fakeFragmenter
	table      *fdb.Table
}

func newRig(t testing.TB, like string, members ...string) *rig {
	t.Helper()
	r := &rig{table: fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: time.Minute})}
	a := netip.MustParseAddr(like)
	r.frag.to = &r.main
	r.lane = lane{
		v4: a.Is4(), port: vxlan.Port,
		main:       queue{conn: &r.main, frag: &r.frag, out: sock.NewOutbox(4, a), full: metrics.DropBlocked, wait: true},
		slow:       queue{conn: &r.slow, frag: &r.frag, out: sock.NewOutbox(4, a), full: metrics.DropUnresolved},
		neighbours: &r.neighbours, table: r.table, taps: new(atomic.Pointer[Tap]),
	}
	for _, m := range members {
		r.member(m, time.Minute)
	}
	return r
}

func (r *rig) member(addr string, hold time.Duration) {
	r.table.Apply(0, []fdb.Update{{VNI: 77, Addr: netip.MustParseAddr(addr), Source: fdb.Registration, Holdtime: hold}})
}

// flood sends one packet from src through the lane.
func (r *rig) flood(now fdb.Time, src string, ttl uint8, payload string) {
	p := Packet{Source: netip.MustParseAddrPort(src), TTL: ttl, Payload: append(vxlan.AppendHeader(nil, 77), payload...)}
	q := []fdb.Lookup{{VNI: 77, Source: p.Source.Addr()}}
	r.table.LookupBatch(now, q)
	r.begin(r.settings)
	r.take(now, &p, &q[0], false)
	r.end()
	r.learn(now)
	r.settle(now)
}

func (r *rig) to() []string {
	var out []string
	for _, s := range r.main.Sent {
		out = append(out, s.To.String())
	}
	return out
}

func (r *rig) want(t *testing.T, to []string, drops map[metrics.Drop]uint64) {
	t.Helper()
	if got := r.to(); !slices.Equal(got, to) {
		t.Errorf("copies: got %v, want %v", got, to)
	}
	if got := r.count.Copies; got != uint64(len(to)) {
		t.Errorf("copies counted: got %d, want %d", got, len(to))
	}
	for d := range metrics.NumDrops {
		if got := r.count.Drops[d]; got != drops[d] {
			t.Errorf("drops for %s: got %d, want %d", d, got, drops[d])
		}
	}
}

func TestReplicateToAllButTheSender(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6")
	r.flood(1, "10.0.0.3:50000", 64, "frame")
	r.want(t, []string{"10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"}, nil)
	for _, s := range r.main.Sent {
		if !bytes.HasSuffix(s.Bytes, []byte("\x08\x00\x00\x00\x00\x00\x4d\x00frame")) || s.Bytes[8] != 63 {
			t.Errorf("copy to %s: got %x", s.To, s.Bytes)
		}
	}
	if got, want := r.count.CopyBytes, uint64(5*13); got != want {
		t.Errorf("bytes: got %d, want %d", got, want)
	}
}

func TestOneFailingMemberCostsTheOthersNothing(t *testing.T) {
	members := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"}
	tests := []struct {
		name  string
		err   error
		drop  metrics.Drop
		fails []string
	}{
		{"no route", unix.ENETUNREACH, metrics.DropUnreachable, []string{"10.0.0.2"}},
		{"unreachable route", unix.EHOSTUNREACH, metrics.DropUnreachable, []string{"10.0.0.1"}},
		{"blackhole", unix.EINVAL, metrics.DropUnreachable, []string{"10.0.0.7"}},
		{"firewall", unix.EPERM, metrics.DropRefused, []string{"10.0.0.2", "10.0.0.3"}},
		{"prohibit route", unix.EACCES, metrics.DropRefused, []string{"10.0.0.4"}},
		{"no memory", unix.ENOBUFS, metrics.DropBlocked, []string{"10.0.0.5"}},
		{"anything", unix.EIO, metrics.DropSend, []string{"10.0.0.4", "10.0.0.6"}},
		{"all", unix.EIO, metrics.DropSend, members[1:]},
	}
	for _, tt := range tests {
		for _, limit := range []int{0, 1, 3} {
			t.Run(fmt.Sprintf("%s/limit %d", tt.name, limit), func(t *testing.T) {
				r := newRig(t, "10.0.0.1", append([]string{"10.0.0.9"}, members...)...)
				r.main.Limit = limit
				r.main.Fail = func(to netip.Addr, _ int) error {
					if slices.Contains(tt.fails, to.String()) {
						return tt.err
					}
					return nil
				}
				r.flood(1, "10.0.0.9:50000", 64, "frame")
				var want []string
				for _, m := range members {
					if !slices.Contains(tt.fails, m) {
						want = append(want, m)
					}
				}
				r.want(t, want, map[metrics.Drop]uint64{tt.drop: uint64(len(tt.fails))})
			})
		}
	}
}

func TestReceivedTTLDecides(t *testing.T) {
	for ttl, copies := range map[uint8][]string{0: nil, 1: nil, 2: {"10.0.0.2"}} {
		r := newRig(t, "10.0.0.1", "10.0.0.2")
		r.flood(1, "10.0.0.1:1", ttl, "frame")
		drops := map[metrics.Drop]uint64{}
		if copies == nil {
			drops[metrics.DropTTL] = 1
		} else if got := r.main.Sent[0].Bytes[8]; got != ttl-1 {
			t.Errorf("TTL: got %d, want %d", got, ttl-1)
		}
		r.want(t, copies, drops)
	}
}

func TestNoOtherMember(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.1")
	r.flood(1, "10.0.0.1:1", 64, "frame")
	r.want(t, nil, map[metrics.Drop]uint64{metrics.DropNoMember: 1})
}

func TestExpiredMemberGetsNoCopyBeforeTheSweep(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.2")
	r.member("10.0.0.3", time.Second)
	r.flood(fdb.Time(time.Second)-1, "10.0.0.1:1", 64, "frame")
	r.flood(fdb.Time(time.Second), "10.0.0.1:1", 64, "frame")
	r.want(t, []string{"10.0.0.2", "10.0.0.3", "10.0.0.2"}, nil)
}

func TestMembersOfTheOtherFamilyAreCounted(t *testing.T) {
	members := []string{"10.0.0.2", "2001:db8::2", "10.0.0.3"}
	r := newRig(t, "10.0.0.1", members...)
	r.flood(1, "10.0.0.1:1", 64, "frame")
	r.want(t, []string{"10.0.0.2", "10.0.0.3"}, map[metrics.Drop]uint64{metrics.DropFamily: 1})

	r = newRig(t, "2001:db8::1", members...)
	r.flood(1, "[2001:db8::1]:1", 64, "frame")
	r.want(t, []string{"2001:db8::2"}, map[metrics.Drop]uint64{metrics.DropFamily: 2})
}

func TestOversizeCopies(t *testing.T) {
	members := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"}
	big := func(to netip.Addr, _ int) error {
		if to.String() == "10.0.0.3" {
			return unix.EMSGSIZE
		}
		return nil
	}
	t.Run("fragment", func(t *testing.T) {
		r := newRig(t, "10.0.0.1", members...)
		r.main.Fail = big
		r.flood(1, "10.0.0.1:7", 64, "frame")
		r.want(t, members, nil)
		if r.count.Fragmented != 1 || len(r.frag.sent) != 1 {
			t.Errorf("got %d fragmented, %v through the fragmenter, want 1", r.count.Fragmented, r.frag.sent)
		}
		want := "10.0.0.1 ttl 63 tos 0 000712b500150000 0800000000004d006672616d65"
		if got := string(r.main.Sent[1].Bytes); got != want {
			t.Errorf("got  %s,\nwant %s", got, want)
		}
	})
	t.Run("drop", func(t *testing.T) {
		r := newRig(t, "10.0.0.1", members...)
		r.settings.Oversize = Discard
		r.main.Fail = big
		r.flood(1, "10.0.0.1:7", 64, "frame")
		r.want(t, []string{"10.0.0.2", "10.0.0.4"}, map[metrics.Drop]uint64{metrics.DropOversize: 1})
	})
	t.Run("refused", func(t *testing.T) {
		r := newRig(t, "10.0.0.1", members...)
		r.main.Fail = big
		r.frag.err = unix.EPERM
		r.flood(1, "10.0.0.1:7", 64, "frame")
		r.want(t, []string{"10.0.0.2", "10.0.0.4"}, map[metrics.Drop]uint64{metrics.DropRefused: 1})
	})
}

func TestFullSendBuffer(t *testing.T) {
	members := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"}
	t.Run("drains", func(t *testing.T) {
		r := newRig(t, "10.0.0.1", members...)
		r.main.room = 100
		r.main.Fail = func(netip.Addr, int) error {
			if r.main.Calls%2 == 1 {
				return sock.ErrFull
			}
			return nil
		}
		r.flood(1, "10.0.0.1:1", 64, "frame")
		r.want(t, members, nil)
	})
	t.Run("stays full", func(t *testing.T) {
		r := newRig(t, "10.0.0.1", members...)
		r.main.Fail = func(netip.Addr, int) error { return sock.ErrFull }
		r.flood(1, "10.0.0.1:1", 64, "frame")
		r.want(t, nil, map[metrics.Drop]uint64{metrics.DropBlocked: 3})
	})
}

func TestUnresolvedNeighboursHaveTheirOwnQueue(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	r.neighbours.shown = addrs("10.0.0.3")
	r.slow.Fail = func(netip.Addr, int) error { return sock.ErrFull }
	r.flood(1, "10.0.0.1:1", 64, "frame")
	r.want(t, []string{"10.0.0.2", "10.0.0.4"}, map[metrics.Drop]uint64{metrics.DropUnresolved: 1})
	if r.slow.waits != 0 {
		t.Error("waited for room in front of a neighbour that does not resolve")
	}
	r.slow.Fail = nil
	r.flood(1, "10.0.0.1:1", 64, "frame")
	if len(r.slow.Sent) != 1 {
		t.Errorf("got %d copies in the queue of unresolved neighbours, want 1", len(r.slow.Sent))
	}
}

func TestCrowdedSendBufferShowsUnresolvedNeighbours(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	r.neighbours.hidden = addrs("10.0.0.3")
	big := strings.Repeat("x", 20000)
	r.flood(1, "10.0.0.1:1", 64, big) // 60,000 bytes: not looked at yet
	r.main.backlog = crowded
	r.flood(1, "10.0.0.1:1", 64, big)
	if r.neighbours.rechecks != 0 {
		t.Errorf("got %d looks at neighbours while there is room, want none", r.neighbours.rechecks)
	}
	r.main.backlog = 2 * crowded
	r.flood(1, "10.0.0.1:1", 64, big)
	r.flood(1, "10.0.0.1:1", 64, big)
	if r.neighbours.rechecks != 1 {
		t.Errorf("got %d looks at neighbours, want 1", r.neighbours.rechecks)
	}
	r.main.Sent = nil
	r.flood(1, "10.0.0.1:1", 64, "frame")
	if got, want := r.to(), []string{"10.0.0.2", "10.0.0.4"}; !slices.Equal(got, want) || len(r.slow.Sent) == 0 {
		t.Errorf("got %v and %d slow ones, want %v and the third", got, len(r.slow.Sent), want)
	}
}

func TestFullSendBufferShowsUnresolvedNeighbours(t *testing.T) {
	r := newRig(t, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	r.neighbours.hidden = addrs("10.0.0.3")
	r.main.room = 10
	r.main.Fail = func(to netip.Addr, _ int) error {
		if to.String() == "10.0.0.3" {
			return sock.ErrFull
		}
		return nil
	}
	r.flood(1, "10.0.0.1:1", 64, "frame")
	r.want(t, []string{"10.0.0.2", "10.0.0.4"}, map[metrics.Drop]uint64{metrics.DropUnresolved: 1})
	if r.main.waits != 0 {
		t.Errorf("waited %d times for room in front of a neighbour that does not resolve", r.main.waits)
	}
}
