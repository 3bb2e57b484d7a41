// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxlan"
)

// scales are shapes of a million members.
var scales = []struct{ vnis, members, most int }{
	{40_000, 25, 256}, {4000, 250, 256}, {1000, 1000, 1000}, {250, 4000, 4000},
}

// cpu returns the CPU time of the calling process.
func cpu() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fillTable registers members VTEPs in each of vnis VNIs.
func (x *runner) fillTable(vnis, members int) {
	us := make([]fdb.Update, 0, vnis)
	for i := range members {
		us = us[:0]
		for v := range vnis {
			us = append(us, x.register(vxlan.VNI(v), i, time.Hour))
		}
		x.tab.Apply(x.clock(), us)
	}
}

func (x *runner) register(v vxlan.VNI, vtep int, hold time.Duration) fdb.Update {
	return fdb.Update{VNI: v, Addr: farVTEP(vtep), Identifier: uint64(vtep + 1), Source: fdb.Registration, Holdtime: hold}
}

func farVTEP(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}) }

// has tells whether the program floods a VNI to a member.
func (x *runner) has(r *reader, v vxlan.VNI, vtep int) bool {
	l := r.list(x.clock(), v)
	return slices.Contains(l.addrs(), farVTEP(vtep))
}

// BenchmarkMirror tells of a million members: how long they take into the maps, how
// long a full comparison takes, how much of a CPU a thousand changes a second do,
// and after which time a change is in the maps.
func BenchmarkMirror(b *testing.B) {
	for _, s := range scales {
		b.Run(fmt.Sprintf("%dx%d", s.vnis, s.members), func(b *testing.B) {
			for b.Loop() {
				benchMirror(b, s.vnis, s.members, s.most)
			}
		})
	}
}

func benchMirror(b *testing.B, vnis, members, most int) {
	x := startMirror(b, fdb.Options{}, most, 65536, maxDests)
	began := time.Now()
	x.fillTable(vnis, members)
	b.ReportMetric(time.Since(began).Seconds(), "table-s")
	until(b, "all members", func() bool {
		s := x.m.status()
		return s.KernelVNIs == vnis && s.Members == vnis*members
	})
	b.ReportMetric(time.Since(began).Seconds(), "filled-s")
	b.ReportMetric(float64(x.m.status().Bytes)/(1<<20), "MiB")

	// A reading of all, as after a loss.
	synced, spent := x.m.status().Synced, cpu()
	began = time.Now()
	x.m.configure(mirrorSettings{most: most})
	until(b, "a reading", func() bool { return x.m.status().Synced > synced })
	b.ReportMetric(time.Since(began).Seconds(), "read-s")
	b.ReportMetric((cpu() - spent).Seconds(), "read-cpu-s")
	x.churn(b, vnis, members)
	if n := x.m.status().Differences; n > 0 {
		b.Errorf("got %d differences, want none", n)
	}
}

// churn has members come and go for some seconds.
func (x *runner) churn(b *testing.B, vnis, members int) {
	const rate, seconds = 1000, 5
	r := x.k.reader()
	var delays []time.Duration
	spent, began := cpu(), time.Now()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	us := make([]fdb.Update, 1)
	var looking time.Duration
	for i := range rate * seconds {
		<-tick.C
		v, who := vxlan.VNI(i*7919%vnis), i/2*31%members
		us[0] = x.register(v, who, time.Hour)
		if i%2 == 0 {
			us[0].Holdtime = 0
		} else {
			us[0].VNI = vxlan.VNI((i - 1) * 7919 % vnis)
		}
		x.tab.Apply(x.clock(), us)
		if i%50 == 49 {
			at, before := time.Now(), cpu()
			for !x.has(r, us[0].VNI, who) {
				runtime.Gosched()
			}
			delays = append(delays, time.Since(at))
			looking += cpu() - before
		}
	}
	busy := (cpu() - spent - looking).Seconds() / time.Since(began).Seconds()
	slices.Sort(delays)
	b.ReportMetric(100*busy, "churn-%cpu")
	b.ReportMetric(delays[len(delays)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(delays[len(delays)-1].Seconds()*1e3, "max-ms")
}

// TestManyMembersFit has them in the maps, in the room that they are to take, and
// one more change. BenchmarkMirror does so with a million.
func TestManyMembersFit(t *testing.T) {
	const vnis, members = 400, 250
	x := startMirror(t, fdb.Options{}, 256, vnis, 1024)
	x.fillTable(vnis, members)
	until(t, "all members", func() bool {
		s := x.m.status()
		return s.KernelVNIs == vnis && s.Members == vnis*members
	})
	if s := x.m.status(); s.Bytes > 8<<20 {
		t.Errorf("got %d MiB, want 8 at most", s.Bytes>>20)
	}
	x.tab.Apply(x.clock(), []fdb.Update{x.register(vnis/2, 600, time.Hour), x.register(vnis/2, 3, 0)})
	r := x.k.reader()
	until(t, "a change", func() bool { return x.has(r, vnis/2, 600) && !x.has(r, vnis/2, 3) })
	if lease := atomic.LoadUint64(&x.k.settings.Lease); lease <= uint64(x.clock()) {
		t.Error("the maps do not hold")
	}
}
