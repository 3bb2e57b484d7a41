// SPDX-License-Identifier: Apache-2.0

package headend_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// A memory is a kernel that knows entries and nothing else.
type memory map[underlay.FloodEntry]struct{}

func (m memory) Read(int) (underlay.FloodTable, error) {
	t := underlay.FloodTable{Entries: make([]underlay.FloodEntry, 0, len(m))}
	for e := range m {
		t.Entries = append(t.Entries, e)
	}
	return t, nil
}

func (m memory) Apply(changes []underlay.FloodChange) []error {
	for _, c := range changes {
		if c.Remove {
			delete(m, c.FloodEntry)
		} else {
			m[c.FloodEntry] = struct{}{}
		}
	}
	return nil
}

// BenchmarkLists measures 2,000 devices with 16 members each, beside what the
// kernel needs.
func BenchmarkLists(b *testing.B) {
	const devices, members = 2000, 16
	kernel := make(memory, devices*members)
	o := headend.Options{StateFile: filepath.Join(b.TempDir(), "state"), Namespace: "ns", BootID: "boot", Kernel: kernel}
	open := func(b *testing.B) *headend.Lists {
		l, err := headend.Open(o)
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	lists := map[headend.Key][]netip.Addr{}
	for i := 1; i <= devices; i++ {
		lists[headend.Key{Device: fmt.Sprintf("vxlan%d", i), Index: i, VNI: 1}] = someAddrs(members)
	}
	l := open(b)
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Set(lists)
			l.Pass(false)
			if err := l.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	})
	before := heap()
	l.Set(lists)
	l.Pass(true)
	perEntry := float64(heap()-before) / (devices * members)
	for _, compare := range []bool{false, true} {
		b.Run(fmt.Sprintf("same/compare=%v", compare), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Set(lists)
				l.Pass(compare)
			}
			b.ReportMetric(perEntry, "B/entry")
		})
	}
	_ = l.Close()
	b.Run("restart", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if l := open(b); l.Close() != nil {
				b.Fatal("close")
			}
		}
	})
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
