// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// delta returns what a packet of 100 bytes with some copies adds.
func delta(vni vxlan.VNI, src string, copies uint32, drops ...metrics.Drop) metrics.Delta {
	d := metrics.Delta{
		VNI: vni, Known: true, Sender: true, Source: netip.MustParseAddr(src).As16(),
		Packets: 1, Bytes: 100, Copies: copies, CopyBytes: 100 * uint64(copies),
	}
	for _, why := range drops {
		d.Drop(why)
	}
	return d
}

func count(packets, copies uint64, drops ...metrics.Drop) metrics.VNICount {
	c := metrics.VNICount{Packets: packets, Bytes: 100 * packets, Copies: copies, CopyBytes: 100 * copies}
	for _, why := range drops {
		c.Drops[why]++
	}
	return c
}

func sender(vni vxlan.VNI, src string, packets, copies, drops uint64, last int64) metrics.SenderTotal {
	return metrics.SenderTotal{VNI: vni, Addr: netip.MustParseAddr(src), SenderCount: metrics.SenderCount{
		Packets: packets, Bytes: 100 * packets, Copies: copies, CopyBytes: 100 * copies, Drops: drops, Last: last,
	}}
}

var diffAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// want checks all that a Traffic tells.
func want(t *testing.T, tr *metrics.Traffic, vnis []metrics.VNITotal, other metrics.VNICount, senders []metrics.SenderTotal) {
	t.Helper()
	gotVNIs, gotOther := tr.Load(nil)
	if d := cmp.Diff(vnis, gotVNIs); d != "" {
		t.Errorf("VNIs: (-want +got)\n%s", d)
	}
	if d := cmp.Diff(other, gotOther); d != "" {
		t.Errorf("other: (-want +got)\n%s", d)
	}
	if got := tr.Other(); got != gotOther {
		t.Errorf("other alone: got %+v, want %+v", got, gotOther)
	}
	for _, v := range vnis {
		if got := tr.VNI(v.VNI); got != v.VNICount {
			t.Errorf("VNI %s alone: got %+v, want %+v", v.VNI, got, v.VNICount)
		}
	}
	if d := cmp.Diff(senders, tr.Senders(nil, netip.Addr{}, nil), diffAddrs); d != "" {
		t.Errorf("senders: (-want +got)\n%s", d)
	}
}

func TestTrafficOfSeveralWorkers(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 10})
	a, b := tr.Tally(), tr.Tally()
	a.Add(5, []metrics.Delta{
		delta(77, "10.0.0.1", 3), delta(77, "10.0.0.1", 2, metrics.DropUnreachable), delta(9, "2001:db8::1", 1),
	})
	b.Add(7, []metrics.Delta{delta(77, "10.0.0.1", 1), delta(77, "10.0.0.2", 0, metrics.DropTTL)})

	vnis := []metrics.VNITotal{
		{VNI: 9, VNICount: count(1, 1)}, {VNI: 77, VNICount: count(4, 6, metrics.DropUnreachable, metrics.DropTTL)},
	}
	senders := []metrics.SenderTotal{
		sender(9, "2001:db8::1", 1, 1, 0, 5), sender(77, "10.0.0.1", 3, 6, 1, 7), sender(77, "10.0.0.2", 1, 0, 1, 7),
	}
	want(t, tr, vnis, metrics.VNICount{}, senders)

	// It stays when the workers end, one after the other.
	a.Close(8)
	want(t, tr, vnis, metrics.VNICount{}, senders)
	b.Close(8)
	b.Close(8)
	want(t, tr, vnis, metrics.VNICount{}, senders)
	b.Add(9, []metrics.Delta{delta(78, "10.0.0.1", 3)})
	want(t, tr, vnis, metrics.VNICount{}, senders)

	vni := vxlan.VNI(77)
	if got := tr.Senders(&vni, netip.Addr{}, nil); !slices.Equal(got, senders[1:]) {
		t.Errorf("in a VNI: got %v, want %v", got, senders[1:])
	}
	if got := tr.Senders(nil, senders[0].Addr, nil); !slices.Equal(got, senders[:1]) {
		t.Errorf("of an address: got %v, want %v", got, senders[:1])
	}
	if got := tr.Senders(&vni, senders[2].Addr, senders[:1:1]); !slices.Equal(got, []metrics.SenderTotal{senders[0], senders[2]}) {
		t.Errorf("of both, appended: got %v", got)
	}
	if got := vnis[1].TotalDrops(); got != 2 {
		t.Errorf("all drops: got %d, want 2", got)
	}
}

func TestWhatHasNoRowIsOther(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 2, Senders: 10})
	y := tr.Tally()
	forged := delta(1, "10.0.0.1", 0, metrics.DropNoMember)
	forged.Known = false
	refused := delta(2, "10.9.0.1", 0, metrics.DropService)
	refused.Known, refused.Sender = false, false
	y.Add(1, []metrics.Delta{
		forged, delta(2, "10.0.0.1", 4), delta(3, "10.0.0.1", 5), delta(4, "10.0.0.1", 6), refused,
	})
	want(t, tr, []metrics.VNITotal{
		{VNI: 2, VNICount: count(2, 4, metrics.DropService)}, {VNI: 3, VNICount: count(1, 5)},
	}, count(2, 6, metrics.DropNoMember), []metrics.SenderTotal{
		sender(2, "10.0.0.1", 1, 4, 0, 1), sender(3, "10.0.0.1", 1, 5, 0, 1),
	})
}

func TestKeepForgets(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 4, Senders: 10})
	old, y := tr.Tally(), tr.Tally()
	old.Add(1, []metrics.Delta{delta(1, "10.0.0.1", 1), delta(2, "10.0.0.2", 1)})
	old.Close(2)
	y.Add(3, []metrics.Delta{delta(2, "10.0.0.2", 1), delta(3, "10.0.0.3", 1)})
	asked := map[vxlan.VNI]int{}
	tr.Keep(func(v vxlan.VNI) bool {
		asked[v]++
		return v != 2
	})
	if d := cmp.Diff(map[vxlan.VNI]int{1: 1, 2: 1, 3: 1}, asked); d != "" {
		t.Errorf("asked: (-want +got)\n%s", d)
	}
	want(t, tr, []metrics.VNITotal{{VNI: 1, VNICount: count(1, 1)}, {VNI: 3, VNICount: count(1, 1)}},
		count(2, 2), []metrics.SenderTotal{sender(1, "10.0.0.1", 1, 1, 0, 1), sender(3, "10.0.0.3", 1, 1, 0, 3)})
	// The rows are there for others.
	y.Add(4, []metrics.Delta{delta(2, "10.0.0.2", 7), delta(4, "10.0.0.4", 8)})
	want(t, tr, []metrics.VNITotal{
		{VNI: 1, VNICount: count(1, 1)}, {VNI: 2, VNICount: count(1, 7)},
		{VNI: 3, VNICount: count(1, 1)}, {VNI: 4, VNICount: count(1, 8)},
	}, count(2, 2), []metrics.SenderTotal{
		sender(1, "10.0.0.1", 1, 1, 0, 1), sender(2, "10.0.0.2", 1, 7, 0, 4),
		sender(3, "10.0.0.3", 1, 1, 0, 3), sender(4, "10.0.0.4", 1, 8, 0, 4),
	})
}

func TestLowerLimits(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 4, Senders: 4})
	y := tr.Tally()
	y.Add(1, []metrics.Delta{delta(1, "10.0.0.1", 1)})
	y.Add(2, []metrics.Delta{delta(2, "10.0.0.2", 1), delta(2, "10.0.0.2", 1)})
	y.Add(3, []metrics.Delta{delta(3, "10.0.0.3", 1), delta(3, "10.0.0.4", 1)})
	tr.Configure(metrics.TrafficLimits{VNIs: 2, Senders: 2})
	want(t, tr, []metrics.VNITotal{{VNI: 2, VNICount: count(2, 2)}, {VNI: 3, VNICount: count(2, 2)}},
		count(1, 1), []metrics.SenderTotal{sender(3, "10.0.0.3", 1, 1, 0, 3), sender(3, "10.0.0.4", 1, 1, 0, 3)})

	tr.Configure(metrics.TrafficLimits{})
	if y.On() {
		t.Error("counts without rows")
	}
	y.Add(4, []metrics.Delta{delta(3, "10.0.0.3", 1)})
	want(t, tr, nil, count(5, 5), nil)

	tr.Configure(metrics.TrafficLimits{VNIs: 1})
	y.Add(5, []metrics.Delta{delta(3, "10.0.0.3", 1)})
	want(t, tr, []metrics.VNITotal{{VNI: 3, VNICount: count(1, 1)}}, count(5, 5), nil)
}

func TestIdleSendersMakeRoom(t *testing.T) {
	const room = 16
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1, Senders: room})
	y := tr.Tally()
	addr := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i>>8, i&255) }
	// Half of the rows' worth of senders go on while thousands come once.
	for i := range 5000 {
		for j := range room / 2 {
			y.Add(int64(i), []metrics.Delta{delta(77, addr(j), 1)})
		}
		y.Add(int64(i), []metrics.Delta{delta(77, addr(1000+i), 1)})
	}
	got := tr.Senders(nil, netip.Addr{}, nil)
	if len(got) != room {
		t.Fatalf("got %d senders, want %d", len(got), room)
	}
	for j := range room / 2 {
		if d := cmp.Diff(sender(77, addr(j), 5000, 5000, 0, 4999), got[j], diffAddrs); d != "" {
			t.Errorf("one that goes on: (-want +got)\n%s", d)
		}
	}
	// What went with a row of a sender is still in its VNI.
	if got, want := tr.VNI(77), count(5000*(room/2+1), 5000*(room/2+1)); got != want {
		t.Errorf("VNI: got %+v, want %+v", got, want)
	}
}

func TestNoTrafficCountsNothing(t *testing.T) {
	var none *metrics.Traffic
	y := none.Tally()
	y.Add(1, []metrics.Delta{delta(1, "10.0.0.1", 1)})
	y.Flush(1)
	y.Close(1)
	if y.On() {
		t.Error("a nil Tally is on")
	}
}

// Workers count at random while others read, forget and change limits; what all
// counted is what a plain sum says.
func TestTrafficAddsUpWhileOthersRead(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 20, Senders: 50})
	const workers, turns = 4, 2000
	var sums [workers]metrics.VNICount
	var workersDone, readersDone sync.WaitGroup
	done := make(chan struct{})
	for w := range workers {
		workersDone.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			y := tr.Tally()
			var ds []metrics.Delta
			for now := range int64(turns) {
				ds = ds[:0]
				for range rnd.IntN(8) {
					d := delta(vxlan.VNI(rnd.IntN(30)), fmt.Sprintf("10.0.0.%d", rnd.IntN(10)), rnd.Uint32N(5))
					if rnd.IntN(3) == 0 {
						d.Drop(metrics.Drop(1 + rnd.IntN(int(metrics.NumDrops)-1)))
					}
					d.Known = rnd.IntN(10) > 0
					ds = append(ds, d)
					c := metrics.VNICount{Packets: 1, Bytes: 100, Copies: uint64(d.Copies), CopyBytes: d.CopyBytes}
					for i, n := range d.Drops {
						c.Drops[i] += uint64(n)
					}
					sums[w] = sums[w].Plus(c)
				}
				y.Add(now, ds)
				switch rnd.IntN(300) {
				case 0:
					y.Close(now)
					y = tr.Tally()
				case 1:
					y.Flush(now)
				}
			}
			y.Close(turns)
		})
	}
	var last metrics.VNICount // seen by the first reader
	for i := range 3 {
		readersDone.Go(func() {
			rnd := rand.New(rand.NewPCG(2, uint64(i)))
			for {
				select {
				case <-done:
					return
				default:
				}
				all := sum(tr.Load(nil))
				if i == 0 {
					if all.Packets < last.Packets || all.Copies < last.Copies || all.TotalDrops() < last.TotalDrops() {
						t.Errorf("the sum of all ran backwards: %+v, then %+v", last, all)
						return
					}
					last = all
				}
				tr.Senders(nil, netip.Addr{}, nil)
				tr.VNI(3)
				tr.Keep(func(v vxlan.VNI) bool { return rnd.IntN(10) > 0 })
				tr.Configure(metrics.TrafficLimits{VNIs: 10 + rnd.IntN(20), Senders: rnd.IntN(60)})
			}
		})
	}
	workersDone.Wait()
	close(done)
	readersDone.Wait()
	var want metrics.VNICount
	for _, c := range sums {
		want = want.Plus(c)
	}
	if d := cmp.Diff(want, sum(tr.Load(nil))); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func sum(vnis []metrics.VNITotal, all metrics.VNICount) metrics.VNICount {
	for _, v := range vnis {
		all = all.Plus(v.VNICount)
	}
	return all
}

func TestCountingDoesNotAllocate(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1000, Senders: 10000})
	y := tr.Tally()
	var ds []metrics.Delta
	for i := range 64 {
		ds = append(ds, delta(vxlan.VNI(i%32), fmt.Sprintf("10.0.0.%d", i), 3, metrics.DropFamily))
	}
	y.Add(1, ds)
	if got := testing.AllocsPerRun(100, func() { y.Add(2, ds) }); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func BenchmarkTally(b *testing.B) {
	for _, n := range []int{1, 64, 1000, 20000} {
		b.Run(fmt.Sprintf("senders=%d", n), func(b *testing.B) {
			tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1000, Senders: 65536})
			y := tr.Tally()
			ds := make([]metrics.Delta, 0, n)
			for i := range n {
				ds = append(ds, delta(vxlan.VNI(i%1000), fmt.Sprintf("10.0.%d.%d", i>>8, i&255), 3))
			}
			rand.Shuffle(n, func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				if n <= 64 {
					for i := 0; i < 64; i += n {
						y.Add(1, ds)
					}
					continue
				}
				if at+64 > n {
					at = 0
				}
				y.Add(1, ds[at:at+64])
				at += 64
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/packet")
		})
	}
}

func TestVNIsWithoutRoomAreNotCounted(t *testing.T) {
	tr := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 1, Senders: 1})
	y := tr.Tally()
	defer y.Close(0)
	counts := func(five, six bool) {
		t.Helper()
		if got5, got6 := tr.Counts(5), tr.Counts(6); got5 != five || got6 != six {
			t.Errorf("got %t and %t, want %t and %t", got5, got6, five, six)
		}
	}
	counts(true, true)
	y.Add(1, []metrics.Delta{delta(5, "192.0.2.1", 1)})
	counts(true, false)
	tr.Configure(metrics.TrafficLimits{})
	counts(false, false)
}
