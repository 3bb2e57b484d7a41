// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What a packet costs the program, and a copy of it with what the kernel does to
// send it into a veth whose other end drops it.
func BenchmarkProgram(b *testing.B) {
	for _, n := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			r := newRig(b)
			check(b, r.far.SetDown("eth0"))
			members := []programMember{to(sender, good)}
			a := netip.MustParseAddr("203.0.113.0")
			for range n {
				a = a.Next()
				members = append(members, to(a, good))
			}
			s, _ := r.vni(100, 1500, members...)
			in := frame(100, 64)
			var each []time.Duration
			check(b, r.node.Do(func() error {
				for b.Loop() {
					// A run leaves the packet changed: each has its own.
					verdict, d, err := r.objects.Flood.Benchmark(in, 1, nil)
					if err != nil || verdict != done {
						return fmt.Errorf("got verdict %d, %w, want %d", int32(verdict), err, done)
					}
					each = append(each, d)
				}
				return nil
			}))
			if s.Copies+s.Drops[slotBlocked] != uint64(b.N*n) {
				b.Fatalf("got %+v, want %d copies", s, b.N*n)
			}
			slices.Sort(each)
			median := float64(each[len(each)/2])
			b.ReportMetric(median, "ns/packet")
			b.ReportMetric(median/float64(n), "ns/copy")
			b.ReportMetric(0, "ns/op") // most of it is the system call
		})
	}
}
