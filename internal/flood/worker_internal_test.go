// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/sock/socktest"
	"vxsnd/internal/vxlan"
)

type workerRig struct {
	*rig
	w  *worker
	rd socktest.Reader
}

// newWorkerRig makes a worker whose sockets are stand-ins.
func newWorkerRig(t *testing.T, members ...string) *workerRig {
	t.Helper()
	return workerOf(newRig(t, "10.0.0.1", members...))
}

// workerOf makes a worker of a lane.
func workerOf(lane *rig) *workerRig {
	r := &workerRig{rig: lane}
	now := fdb.Time(1)
	r.w = &worker{
		done:     new(atomic.Pointer[func([]Flow)]),
		lane:     r.lane,
		conn:     &r.rd,
		loops:    newLoopDetector(),
		clock:    func() fdb.Time { return now },
		settings: func() Settings { return Settings{} },
		in:       sock.NewInbox(receiveBatch),
		stats:    new(metrics.Flood),
	}
	return r
}

func (r *workerRig) packet(src string, vni vxlan.VNI, ttl uint8) {
	r.rd.Queue = append(r.rd.Queue, sock.Datagram{
		Payload: append(vxlan.AppendHeader(nil, vni), "frame"...), Source: netip.MustParseAddrPort(src), TTL: ttl,
	})
}

// run lets the worker take in what is queued.
func (r *workerRig) run() metrics.FloodCount {
	r.w.run(func() bool { return len(r.rd.Queue) == 0 })
	return r.w.stats.Load()
}

func TestPacketsThatAreNotFlooded(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.1", "10.0.0.2")
	r.table.Exclude(map[netip.Addr]fdb.Exclusion{
		netip.MustParseAddr("10.9.0.1"): fdb.ExcludedOwn,
		netip.MustParseAddr("10.9.0.2"): fdb.ExcludedService,
		netip.MustParseAddr("10.9.0.3"): fdb.ExcludedDenied,
	})
	good := vxlan.AppendHeader(nil, 77)
	tests := []struct {
		src     string
		payload []byte
		want    metrics.Drop
	}{
		{"10.0.0.1:1", good[:7], metrics.DropShort},
		{"10.0.0.1:1", nil, metrics.DropShort},
		{"10.0.0.1:1", good[:3], metrics.DropOwn}, // what the socket makes of what looped
		{"10.0.0.1:1", []byte{0xf7, 0, 0, 0, 0, 0, 77, 0}, metrics.DropNoVNI},
		{"10.9.0.1:1", good, metrics.DropOwn},
		{"127.0.0.1:1", good, metrics.DropOwn},
		{"10.9.0.2:1", good, metrics.DropService},
		{"10.9.0.3:1", good, metrics.DropDenied},
		{"224.0.0.1:1", good, metrics.DropSource},
		{"255.255.255.255:1", good, metrics.DropSource},
		{"0.0.0.0:1", good, metrics.DropSource},
		{"[::ffff:10.0.0.1]:1", good, metrics.DropSource},
	}
	var want metrics.FloodCount
	for _, tt := range tests {
		r.rd.Queue = append(r.rd.Queue, sock.Datagram{Payload: tt.payload, Source: netip.MustParseAddrPort(tt.src), TTL: 64})
		want.Drops[tt.want]++
		want.Packets++
		want.Bytes += uint64(len(tt.payload))
	}
	r.rd.Dropped = 7
	want.Drops[metrics.DropKernel] = 7
	if got := r.run(); got != want {
		t.Errorf("got  %+v,\nwant %+v", got, want)
	}
	if len(r.main.Sent) != 0 {
		t.Errorf("got copies %v, want none", r.to())
	}
	if got := r.table.Stats().BySource[fdb.Data]; got != 0 {
		t.Errorf("got %d learned members, want none", got)
	}
}

func TestKernelDropsNeverRunBackwards(t *testing.T) {
	r := newWorkerRig(t)
	for _, total := range []uint32{7, 5, 7, 9, 1<<32 - 1, 3} {
		r.w.kernelDrops(total)
	}
	// An old value is no news; the counter of 32 bits may wrap.
	r.w.drops = 1<<32 - 2
	r.w.kernelDrops(3)
	if got, want := r.w.count.Drops[metrics.DropKernel], uint64(9+5); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestSenderIsLearnedAndFloodedTo(t *testing.T) {
	r := newWorkerRig(t)
	r.packet("10.0.0.1:1", 77, 64)
	r.run()
	r.packet("10.0.0.2:1", 77, 64)
	r.packet("10.0.0.3:1", 78, 64)
	c := r.run()
	if got, want := r.to(), []string{"10.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("copies: got %v, want %v", got, want)
	}
	if c.Learned != 3 || c.Drops[metrics.DropNoMember] != 2 {
		t.Errorf("got %d learned, %d without members, want 3, 2", c.Learned, c.Drops[metrics.DropNoMember])
	}
}

func TestWorkerServesItsQueueBeforeItEnds(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.2")
	const packets = 3*receiveBatch + 5
	for range packets {
		r.packet("10.0.0.1:1", 77, 64)
	}
	r.w.run(func() bool { return true })
	if got := len(r.main.Sent); got != packets {
		t.Errorf("got %d copies, want %d", got, packets)
	}
}

// endless is a socket whose queue never ends.
type endless struct{ socktest.Reader }

func (e *endless) ReadQueued(ms []sock.Message) (int, error) {
	d := sock.Datagram{Payload: vxlan.AppendHeader(nil, 77), Source: netip.MustParseAddrPort("10.0.0.1:1"), TTL: 64}
	for i := range ms {
		ms[i].Deliver(&d)
	}
	return len(ms), nil
}

func TestWorkerEndsWhateverIsQueued(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.2")
	var now fdb.Time
	r.w.clock = func() fdb.Time {
		now = now.Add(10 * time.Millisecond)
		return now
	}
	r.w.conn = &endless{}
	r.main.Fail = func(netip.Addr, int) error { return sock.ErrFull }
	r.w.run(func() bool { return true })
	if r.main.waits != 0 {
		t.Errorf("waited %d times for room in the send buffer, want none", r.main.waits)
	}
	if r.w.stats.Load().Packets == 0 {
		t.Error("served nothing of what was queued")
	}
}

func TestOrderIsKept(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.2", "10.0.0.3")
	var want []string
	for i := range 200 {
		frame := fmt.Sprintf("frame %03d", i)
		r.rd.Queue = append(r.rd.Queue, sock.Datagram{
			Payload: append(vxlan.AppendHeader(nil, 77), frame...), Source: netip.MustParseAddrPort("10.0.0.1:1"), TTL: 64,
		})
		want = append(want, frame)
	}
	r.main.Limit = 3
	r.run()
	for _, to := range []string{"10.0.0.2", "10.0.0.3"} {
		var got []string
		for _, s := range r.main.Sent {
			if s.To.String() == to {
				got = append(got, string(s.Bytes[ipv4Len+udpLen+vxlan.HeaderLen:]))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("copies to %s: got %d in another order, want %d", to, len(got), len(want))
		}
	}
}

// What floods must not allocate: neither per packet nor per copy.
func TestFloodDoesNotAllocate(t *testing.T) {
	members := make([]string, 64)
	for i := range members {
		members[i] = fmt.Sprintf("10.0.1.%d", i)
	}
	r := newWorkerRig(t, members...)
	w := r.w
	w.main.conn, w.slow.conn = discard{}, discard{}
	var batch []sock.Datagram
	for i := range receiveBatch {
		batch = append(batch, sock.Datagram{
			Payload: append(vxlan.AppendHeader(nil, 77), make([]byte, 1400)...),
			Source:  netip.MustParseAddrPort(fmt.Sprintf("10.0.1.%d:%d", i, 50000+i)), TTL: 64,
		})
	}
	var in socktest.Reader
	turn := func() {
		in.Queue = batch
		n, err := w.in.Read(in.ReadBatch)
		if err != nil || n != receiveBatch {
			t.Fatal(n, err)
		}
		w.flood(n)
	}
	turn() // learns the senders
	if got := testing.AllocsPerRun(20, turn); got != 0 {
		t.Errorf("got %v allocations per batch, want 0", got)
	}
	if c := w.stats.Load(); c.Copies == 0 || c.Copies%63 != 0 {
		t.Errorf("got %d copies, want 63 per packet", c.Copies)
	}
}

// discard is a socket that takes everything.
type discard struct{}

func (discard) WriteBatch(ms []sock.Message) (int, error) { return len(ms), nil }
func (discard) WaitWritable(time.Duration) bool           { return true }
func (discard) Backlog() float64                          { return 0 }

func TestLoopIsNoticed(t *testing.T) {
	d := newLoopDetector()
	src := netip.MustParseAddrPort("10.0.0.1:50000")
	packet := func(i int, ttl uint8) *Packet {
		return &Packet{Source: src, TTL: ttl, Payload: append(vxlan.AppendHeader(nil, 77), fmt.Sprint("frame ", i)...)}
	}
	const packets = 100 * loopSample
	count := func(name string, ttl uint8, at time.Duration) int {
		noticed := 0
		for i := range packets {
			if d.check(fdb.Time(at), 77, packet(i, ttl)) {
				noticed++
			}
		}
		t.Logf("%s: %d of %d noticed", name, noticed, packets)
		return noticed
	}
	if got := count("first", 64, 0); got != 0 {
		t.Errorf("seen once: got %d, want 0", got)
	}
	if got := count("repeated", 64, time.Millisecond); got != 0 {
		t.Errorf("repeated with the same TTL: got %d, want 0", got)
	}
	if got := count("returned", 62, 2*time.Millisecond); got == 0 {
		t.Error("returned with a lower TTL: got 0, want some")
	}
	n, l := d.report()
	if n == 0 || l.vni != 77 || l.src != src || l.first != 64 || l.then != 62 {
		t.Errorf("report: got %d, %+v", n, l)
	}
	if got := count("late", 60, time.Hour); got != 0 {
		t.Errorf("long after: got %d, want 0", got)
	}
}

func TestLoopOfOnePacketIsNoticed(t *testing.T) {
	d := newLoopDetector()
	p := Packet{Source: netip.MustParseAddrPort("10.0.0.1:50000"), Payload: append(vxlan.AppendHeader(nil, 77), "frame"...)}
	for second := range fdb.Time(2 * loopSample) {
		now := second * fdb.Time(loopWindow)
		p.TTL = 64
		d.check(now, 77, &p)
		p.TTL = 62
		if d.check(now+fdb.Time(time.Millisecond), 77, &p) {
			return
		}
	}
	t.Error("not noticed within two turns of the sample")
}

func BenchmarkFlood(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			table := fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: time.Hour})
			var us []fdb.Update
			for i := range n {
				us = append(us, fdb.Update{VNI: 77, Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}),
					Source: fdb.Registration, Identifier: uint64(i + 1), Holdtime: time.Hour})
			}
			table.Apply(0, us)
			like := netip.AddrFrom4([4]byte{10})
			w := &worker{
				done: new(atomic.Pointer[func([]Flow)]),
				lane: lane{v4: true, port: vxlan.Port, neighbours: &fakeNeighbours{}, table: table, taps: new(atomic.Pointer[Tap]),
					main: queue{conn: discard{}, out: sock.NewOutbox(sendBatch, like), wait: true},
					slow: queue{conn: discard{}, out: sock.NewOutbox(sendBatch, like)}},
				loops:    newLoopDetector(),
				clock:    func() fdb.Time { return 1 },
				settings: func() Settings { return Settings{} },
				in:       sock.NewInbox(receiveBatch),
				stats:    new(metrics.Flood),
			}
			var in socktest.Reader
			batch := make([]sock.Datagram, receiveBatch)
			for i := range batch {
				batch[i] = sock.Datagram{Payload: append(vxlan.AppendHeader(nil, 77), make([]byte, 64)...),
					Source: netip.MustParseAddrPort("10.2.0.1:50000"), TTL: 64}
			}
			b.ReportAllocs()
			for b.Loop() {
				in.Queue = batch
				got, _ := w.in.Read(in.ReadBatch)
				w.flood(got)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(w.stats.Load().Copies), "ns/copy")
		})
	}
}
