// SPDX-License-Identifier: Apache-2.0

package fdb_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// Two shapes of a million entries.
var shapes = []struct{ vnis, vteps int }{{1000, 1000}, {10000, 100}}

func vtep(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
	return netip.AddrFrom4(b)
}

var benchOptions = fdb.Options{
	Limits:        fdb.Limits{VNIs: 100_000, Members: 16384, Entries: 4_000_000, Learned: 2_000_000},
	Learning:      fdb.LearnAny,
	LearnHoldtime: 90 * time.Second,
}

// fill registers vteps VTEPs in each of vnis VNIs as their daemons do: each
// with an identifier of its own, in messages of 100 VNIs.
func fill(tab *fdb.Table, now fdb.Time, vnis, vteps int, hold time.Duration) {
	us := make([]fdb.Update, 0, 100)
	for first := 0; first < vnis; first += 100 {
		for v := range vteps {
			us = us[:0]
			for vni := first; vni < min(first+100, vnis); vni++ {
				us = append(us, fdb.Update{VNI: vxlan.VNI(vni), Addr: vtep(v), Identifier: uint64(v + 1),
					Source: fdb.Registration, Holdtime: hold})
			}
			tab.Apply(now, us)
		}
	}
}

func filled(b *testing.B, vnis, vteps int, hold time.Duration) *fdb.Table {
	b.Helper()
	tab := fdb.New(benchOptions)
	fill(tab, 0, vnis, vteps, hold)
	if n := tab.Stats().Entries; n != vnis*vteps {
		b.Fatalf("got %d entries, want %d", n, vnis*vteps)
	}
	runtime.GC()
	return tab
}

// BenchmarkMemory reports what an entry costs on the heap, everything included.
func BenchmarkMemory(b *testing.B) {
	for _, sh := range shapes {
		b.Run(fmt.Sprintf("%dx%d", sh.vnis, sh.vteps), func(b *testing.B) {
			for range b.N {
				before := heap()
				tab := fdb.New(benchOptions)
				fill(tab, 0, sh.vnis, sh.vteps, 90*time.Second)
				b.ReportMetric(float64(heap()-before)/float64(sh.vnis*sh.vteps), "B/entry")
				runtime.KeepAlive(tab)
			}
		})
	}
}

// BenchmarkLookup looks packets up in batches of 64 and reports the time for
// one: of random members among all, which are in no cache, and of 64 busy ones.
func BenchmarkLookup(b *testing.B) {
	for _, sh := range shapes {
		tab := filled(b, sh.vnis, sh.vteps, 90*time.Second)
		r := rand.New(rand.NewPCG(1, 2))
		batches := make([][]fdb.Lookup, 256)
		for i := range batches {
			batches[i] = make([]fdb.Lookup, 64)
			for j := range batches[i] {
				batches[i][j] = fdb.Lookup{VNI: vxlan.VNI(r.IntN(sh.vnis)), Source: vtep(r.IntN(sh.vteps))}
			}
		}
		for _, tt := range []struct {
			name    string
			batches int
		}{{"random", len(batches)}, {"busy", 1}} {
			b.Run(fmt.Sprintf("%s/%dx%d", tt.name, sh.vnis, sh.vteps), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					tab.LookupBatch(1, batches[i%tt.batches])
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/64, "ns/packet")
			})
		}
	}
}

// BenchmarkRefresh refreshes random existing entries, in messages of 100 VNIs,
// and reports the time for one entry.
func BenchmarkRefresh(b *testing.B) {
	for _, sh := range shapes {
		tab := filled(b, sh.vnis, sh.vteps, 90*time.Second)
		r := rand.New(rand.NewPCG(1, 2))
		us := make([]fdb.Update, 100)
		b.Run(fmt.Sprintf("%dx%d", sh.vnis, sh.vteps), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v, first := r.IntN(sh.vteps), r.IntN(sh.vnis-99)
				for j := range us {
					us[j] = fdb.Update{VNI: vxlan.VNI(first + j), Addr: vtep(v), Identifier: uint64(v + 1),
						Source: fdb.Registration, Holdtime: 90 * time.Second}
				}
				tab.Apply(fdb.Time(i), us)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/100, "ns/entry")
		})
	}
}

// BenchmarkRegister registers new VTEPs, each in 100 VNIs by one message.
func BenchmarkRegister(b *testing.B) {
	b.ReportAllocs()
	tab := fdb.New(benchOptions)
	us := make([]fdb.Update, 100)
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			tab = fdb.New(benchOptions)
		}
		for j := range us {
			us[j] = fdb.Update{VNI: vxlan.VNI(j), Addr: vtep(i % 1000), Identifier: uint64(i%1000 + 1),
				Source: fdb.Registration, Holdtime: 90 * time.Second}
		}
		tab.Apply(0, us)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/100, "ns/entry")
}

// BenchmarkLearn learns new VTEPs in batches of 64 and reports the time for one.
func BenchmarkLearn(b *testing.B) {
	b.ReportAllocs()
	tab := fdb.New(benchOptions)
	ls := make([]fdb.Learned, 64)
	n := 0
	for b.Loop() {
		if n >= 1_000_000 {
			tab, n = fdb.New(benchOptions), 0
		}
		for j := range ls {
			ls[j] = fdb.Learned{VNI: vxlan.VNI(n % 1000), Addr: vtep(n / 1000)}
			n++
		}
		tab.Learn(0, ls)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/64, "ns/entry")
}

// BenchmarkSweepIdle sweeps a million entries of which none is due.
func BenchmarkSweepIdle(b *testing.B) {
	for _, sh := range shapes {
		tab := filled(b, sh.vnis, sh.vteps, 90*time.Second)
		b.Run(fmt.Sprintf("%dx%d", sh.vnis, sh.vteps), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tab.Sweep(1)
			}
		})
	}
}

// waits looks batches of 64 up, one after the other, until stop is closed, and
// returns how long each took.
func waits(tab *fdb.Table, vnis int, stop <-chan struct{}) []time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	took := make([]time.Duration, 0, 1<<22)
	ls := make([]fdb.Lookup, 64)
	for {
		select {
		case <-stop:
			return took
		default:
		}
		for j := range ls {
			ls[j] = fdb.Lookup{VNI: vxlan.VNI(r.IntN(vnis)), Source: vtep(r.IntN(100))}
		}
		start := time.Now()
		tab.LookupBatch(1, ls)
		if d := time.Since(start); len(took) < cap(took) {
			took = append(took, d)
		}
	}
}

// underLookups runs work while one goroutine looks batches of 64 up, and
// reports how long these took at worst.
func underLookups(b *testing.B, tab *fdb.Table, vnis int, work func()) {
	var took []time.Duration
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { took = waits(tab, vnis, stop) })
	start := time.Now()
	work()
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/work")
	close(stop)
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*999/1000]), "ns-p99.9")
	b.ReportMetric(float64(took[len(took)-1]), "ns-max")
}

// BenchmarkWait reports the longest time that a lookup of 64 packets takes, the
// waiting for the lock included, while a sweep expires nine tenths of a million
// entries, while an update brings 200,000 members, while another withdraws them
// one VTEP at a time, and while nothing else goes on.
func BenchmarkWait(b *testing.B) {
	for _, sh := range shapes {
		name := fmt.Sprintf("%dx%d", sh.vnis, sh.vteps)
		us := make([]fdb.Update, 0, 200_000)
		for i := range cap(us) {
			v := sh.vteps + i/sh.vnis
			us = append(us, fdb.Update{VNI: vxlan.VNI(i % sh.vnis), Addr: vtep(v), Identifier: uint64(v + 1),
				Source: fdb.Peer, Holdtime: 90 * time.Second})
		}
		b.Run("sweep/"+name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				tab := filled(b, sh.vnis, sh.vteps/10, 90*time.Second)
				fill(tab, 0, sh.vnis, sh.vteps, 30*time.Second)
				fill(tab, 0, sh.vnis, sh.vteps/10, 90*time.Second)
				b.StartTimer()
				underLookups(b, tab, sh.vnis, func() { tab.Sweep(fdb.Time(60 * time.Second)) })
				if n := tab.Stats().Entries; n != sh.vnis*sh.vteps/10 {
					b.Fatalf("got %d entries, want %d", n, sh.vnis*sh.vteps/10)
				}
			}
		})
		tab := filled(b, sh.vnis, sh.vteps, 90*time.Second)
		b.Run("update/"+name, func(b *testing.B) {
			for range b.N {
				underLookups(b, tab, sh.vnis, func() { tab.Apply(1, us) })
			}
		})
		b.Run("withdraw/"+name, func(b *testing.B) {
			for i := range us {
				us[i].Holdtime = 0
			}
			for range b.N {
				underLookups(b, tab, sh.vnis, func() { tab.Apply(1, us) })
			}
		})
		// What the machine adds by itself; the time is real, as that of lookups is.
		b.Run("idle/"+name, func(b *testing.B) {
			for range b.N {
				underLookups(b, tab, sh.vnis, func() { time.Sleep(300 * time.Millisecond) })
			}
		})
	}
}
