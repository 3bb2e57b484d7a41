// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/sock"
	"vxsnd/internal/sock/socktest"
	"vxsnd/internal/vxlan"
)

// A place is a VNI and an address in it.
type place struct {
	vni  vxlan.VNI
	addr netip.Addr
}

// Each failing address fails in its own way, whatever the batch has in front of
// it and behind it.
var failures = map[byte]error{
	3: unix.ENETUNREACH, 4: unix.EPERM, 5: unix.EMSGSIZE, 6: unix.EIO,
}

var failureDrops = map[byte]metrics.Drop{
	3: metrics.DropUnreachable, 4: metrics.DropRefused, 5: metrics.DropOversize, 6: metrics.DropSend, 7: metrics.DropUnresolved,
}

// Figures per VNI and per sender are exact with packets of many VNIs in a batch,
// system calls that end between any two copies, and copies that fail in between.
func TestFiguresPerVNIAndSenderAreExact(t *testing.T) {
	for _, net := range []string{"10.0.0.0", "2001:db8::"} {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%s/%d", net, seed), func(t *testing.T) {
				testFigures(t, netip.MustParseAddr(net), rand.New(rand.NewPCG(seed, 1)))
			})
		}
	}
}

func testFigures(t *testing.T, net netip.Addr, rnd *rand.Rand) {
	host := func(i int) netip.Addr {
		b := net.AsSlice()
		b[len(b)-1] = byte(i)
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	r := workerOf(newRig(t, net.String()))
	r.settings.Oversize = Discard
	r.w.settings = func() Settings { return Settings{Oversize: Discard} }
	r.neighbours.shown = map[netip.Addr]struct{}{host(7): {}}
	r.main.Limit = 3
	r.main.Fail = func(to netip.Addr, _ int) error { b := to.AsSlice(); return failures[b[len(b)-1]] }
	r.slow.Fail = func(netip.Addr, int) error { return sock.ErrFull }
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 100})
	r.w.tally = tr.Tally()

	r.table.Exclude(map[netip.Addr]fdb.Exclusion{host(99): fdb.ExcludedService})
	const other = "192.0.2.1" // of the other family in one of the two runs
	members := make(map[vxlan.VNI][]netip.Addr)
	for vni := vxlan.VNI(1); vni <= 5; vni++ {
		for i := range 10 {
			if rnd.IntN(2) == 0 {
				members[vni] = append(members[vni], host(i))
			}
		}
		members[vni] = append(members[vni], netip.MustParseAddr(other))
		for i, a := range members[vni] {
			r.table.Apply(0, []fdb.Update{{VNI: vni, Addr: a, Source: fdb.Registration, Identifier: uint64(i + 1), Holdtime: time.Hour}})
		}
	}

	wantVNIs := make(map[vxlan.VNI]metrics.VNICount)
	var wantOther metrics.VNICount
	wantSenders := make(map[place]metrics.SenderCount)
	for range 500 {
		vni, src, ttl := vxlan.VNI(1+rnd.IntN(6)), host(rnd.IntN(10)), uint8(64)
		switch rnd.IntN(10) {
		case 0:
			ttl = 1
		case 1:
			src = host(99)
		}
		if vni == 6 {
			src = host(99) // a VNI that nobody knows
		}
		payload := append(vxlan.AppendHeader(nil, vni), make([]byte, rnd.IntN(50))...)
		r.rd.Queue = append(r.rd.Queue, sock.Datagram{Payload: payload, Source: netip.AddrPortFrom(src, 1000), TTL: ttl})

		c := metrics.VNICount{Packets: 1, Bytes: uint64(len(payload))}
		switch {
		case src == host(99):
			c.Drops[metrics.DropService]++
		case ttl == 1:
			c.Drops[metrics.DropTTL]++
		default:
			// The table learns senders after the batch; they are no members before.
			for _, m := range members[vni] {
				b := m.AsSlice()
				switch {
				case m == src:
				case m.Is4() != net.Is4():
					c.Drops[metrics.DropFamily]++
				case m.String() == other: // which does not fail in its own family
					c.Copies++
				case failureDrops[b[len(b)-1]] != metrics.DropNone:
					c.Drops[failureDrops[b[len(b)-1]]]++
				default:
					c.Copies++
				}
			}
			c.CopyBytes = c.Copies * c.Bytes
		}
		if src != host(99) {
			s := wantSenders[place{vni, src}]
			s.Packets++
			s.Bytes += c.Bytes
			s.Copies += c.Copies
			s.CopyBytes += c.CopyBytes
			s.Drops += c.TotalDrops()
			s.Last = 1
			wantSenders[place{vni, src}] = s
		}
		if _, ok := wantVNIs[vni]; src == host(99) && !ok {
			wantOther = wantOther.Plus(c)
			continue
		}
		wantVNIs[vni] = wantVNIs[vni].Plus(c)
	}
	// The senders are learned beforehand, so that the model need not know when.
	r.w.table = noLearning{r.table}
	all := r.run()

	vnis, gotOther := tr.Load(nil)
	want := make([]metrics.VNITotal, 0, len(wantVNIs))
	sum := wantOther
	for _, v := range slices.Sorted(maps.Keys(wantVNIs)) {
		want = append(want, metrics.VNITotal{VNI: v, VNICount: wantVNIs[v]})
		sum = sum.Plus(wantVNIs[v])
	}
	if d := gocmp.Diff(want, vnis); d != "" {
		t.Errorf("VNIs: (-want +got)\n%s", d)
	}
	if d := gocmp.Diff(wantOther, gotOther); d != "" {
		t.Errorf("other: (-want +got)\n%s", d)
	}
	got := metrics.VNICount{Packets: all.Packets, Bytes: all.Bytes, Copies: all.Copies, CopyBytes: all.CopyBytes, Drops: all.Drops}
	if d := gocmp.Diff(sum, got); d != "" {
		t.Errorf("all, against the worker's own sum: (-want +got)\n%s", d)
	}
	var senders []metrics.SenderTotal
	for p, c := range wantSenders {
		senders = append(senders, metrics.SenderTotal{VNI: p.vni, Addr: p.addr, SenderCount: c})
	}
	slices.SortFunc(senders, func(a, b metrics.SenderTotal) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), a.Addr.Compare(b.Addr))
	})
	same := gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := gocmp.Diff(senders, tr.Senders(nil, netip.Addr{}, nil), same); d != "" {
		t.Errorf("senders: (-want +got)\n%s", d)
	}
}

// noLearning is a table that learns nothing, so that its members stay.
type noLearning struct{ *fdb.Table }

func (noLearning) Learn(fdb.Time, []fdb.Learned) fdb.Result { return fdb.Result{} }

// Only the VNIs that the table knows have rows: forged ones take no room.
func TestForgedVNIsTakeNoRows(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.2")
	r.w.table = fdb.New(fdb.Options{Learning: fdb.LearnKnown, LearnHoldtime: time.Minute})
	r.w.table.(*fdb.Table).Apply(0, []fdb.Update{{VNI: 77, Addr: netip.MustParseAddr("10.0.0.2"), Source: fdb.Registration, Holdtime: time.Minute}})
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 10})
	r.w.tally = tr.Tally()
	for vni := range vxlan.VNI(200) {
		r.packet("10.0.0.1:1", vni, 64)
	}
	r.run()
	vnis, other := tr.Load(nil)
	if len(vnis) != 1 || vnis[0].VNI != 77 || vnis[0].Packets != 1 || other.Packets != 199 || other.Drops[metrics.DropNoMember] != 199 {
		t.Errorf("got %v, other %+v, want VNI 77 alone", vnis, other)
	}
}

func TestLatencyIsMeasuredToTheLastCopy(t *testing.T) {
	newSampled := func(members ...string) (*workerRig, *fdb.Time) {
		r := newWorkerRig(t, members...)
		now := fdb.Time(time.Second)
		r.w.clock = func() fdb.Time { return now }
		r.w.latency = new(metrics.Latency)
		return r, &now
	}
	send := func(r *workerRig, n int, ago time.Duration) {
		for range n {
			r.rd.Queue = append(r.rd.Queue, sock.Datagram{
				Payload: vxlan.AppendHeader(nil, 77), Source: netip.MustParseAddrPort("10.0.0.1:1"), TTL: 64,
				Received: time.Now().Add(-ago).UnixNano(),
			})
		}
		r.run()
	}
	r, now := newSampled("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7")
	send(r, 3, time.Hour)
	send(r, 1, time.Hour) // too soon for another one
	*now += fdb.Time(sampleEvery)
	send(r, 2, time.Hour)
	if got := r.w.latency.Load(); got.Count != 2 || got.Sum < 2*time.Hour || got.Counts[len(got.Counts)-1] != 2 {
		t.Errorf("got %+v, want 2 of an hour each", got)
	}
	// A clock that was set back, or a socket that does not tell, counts nothing.
	*now += fdb.Time(sampleEvery)
	send(r, 1, -time.Hour)
	*now += fdb.Time(sampleEvery)
	r.packet("10.0.0.1:1", 77, 64)
	r.run()
	if got := r.w.latency.Load().Count; got != 2 {
		t.Errorf("got %d, want 2 still", got)
	}

	// Copies to members that do not resolve are the last to go.
	r, _ = newSampled("10.0.0.2", "10.0.0.3")
	r.neighbours.shown = addrs("10.0.0.3")
	seen := uint64(99)
	r.slow.Fail = func(netip.Addr, int) error {
		seen = r.w.latency.Load().Count
		return nil
	}
	send(r, 1, time.Second)
	if got := r.w.latency.Load().Count; got != 1 || seen != 0 {
		t.Errorf("got %d, %d before the last copy, want 1, 0", got, seen)
	}

	// Without copies there is no last one.
	r, _ = newSampled()
	send(r, 1, time.Second)
	if got := r.w.latency.Load().Count; got != 0 {
		t.Errorf("without members: got %d, want 0", got)
	}
}

// busyBatch has a packet of each of 64 members of one VNI, or one of each of
// that many VNIs.
func busyBatch(vnis int) []sock.Datagram {
	batch := make([]sock.Datagram, receiveBatch)
	for i := range batch {
		batch[i] = sock.Datagram{
			Payload: append(vxlan.AppendHeader(nil, vxlan.VNI(77+i%vnis)), make([]byte, 64)...),
			Source:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 50000), TTL: 64,
			Received: time.Now().UnixNano(),
		}
	}
	return batch
}

func TestCountingAndTapsDoNotAllocate(t *testing.T) {
	members := make([]string, 64)
	for i := range members {
		members[i] = fmt.Sprintf("10.1.0.%d", i)
	}
	r := newWorkerRig(t, members...)
	w := r.w
	w.main.conn, w.slow.conn = discard{}, discard{}
	w.tally = metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1000, Senders: 1000}).Tally()
	w.latency = new(metrics.Latency)
	var now fdb.Time
	w.clock = func() fdb.Time { now += fdb.Time(sampleEvery); return now }
	taken := 0
	w.taps.Store(&Tap{Wants: func(vxlan.VNI) bool { return true }, Take: func(*Record) { taken++ }})
	var in socktest.Reader
	batch := busyBatch(1)
	turn := func() {
		in.Queue = batch
		n, err := w.in.Read(in.ReadBatch)
		if err != nil || n != receiveBatch {
			t.Fatal(n, err)
		}
		w.flood(n)
	}
	turn()
	if got := testing.AllocsPerRun(20, turn); got != 0 {
		t.Errorf("got %v allocations per batch, want 0", got)
	}
	if taken == 0 || w.latency.Load().Count == 0 || !w.tally.On() {
		t.Error("nothing was counted or shown")
	}
}

// What counting, and a tap that wants nothing, add to a batch without any system
// call; one in a VNI with few members costs the kernel some 100 microseconds.
func BenchmarkCounting(b *testing.B) {
	for _, vnis := range []int{1, receiveBatch} {
		for _, members := range []int{2, 8, 64} {
			table := fdb.New(fdb.Options{Learning: fdb.LearnAny, LearnHoldtime: time.Hour})
			for v := range vnis {
				for i := range members {
					table.Apply(0, []fdb.Update{{VNI: vxlan.VNI(77 + v), Addr: netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}),
						Source: fdb.Registration, Identifier: uint64(i + 1), Holdtime: time.Hour}})
				}
			}
			for _, mode := range []string{"off", "on", "tap"} {
				b.Run(fmt.Sprintf("vnis=%d/members=%d/%s", vnis, members, mode), func(b *testing.B) {
					r := workerOf(newRig(b, "10.0.0.1"))
					w := r.w
					w.main = queue{conn: discard{}, out: sock.NewOutbox(sendBatch, netip.AddrFrom4([4]byte{10})), wait: true}
					w.table = noLearning{table}
					switch mode {
					case "on":
						w.tally = metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1000, Senders: 1000}).Tally()
						w.latency = new(metrics.Latency)
					case "tap":
						w.taps.Store(&Tap{Wants: func(v vxlan.VNI) bool { return v == 1 }})
					}
					var in socktest.Reader
					batch := busyBatch(vnis)
					for b.Loop() {
						in.Queue = batch
						n, _ := w.in.Read(in.ReadBatch)
						w.flood(n)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*receiveBatch), "ns/packet")
				})
			}
		}
	}
}
