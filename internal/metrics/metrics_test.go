// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"regexp"
	"sync"
	"testing"

	"vxsnd/internal/metrics"
)

func TestDropNames(t *testing.T) {
	seen := make(map[string]metrics.Drop)
	name := regexp.MustCompile(`^[a-z][a-z_]*$`)
	for d := range metrics.NumDrops {
		s := d.String()
		if !name.MatchString(s) {
			t.Errorf("reason %d: got name %q, want lower case with underscores", d, s)
		}
		if other, ok := seen[s]; ok {
			t.Errorf("reasons %d and %d: both are named %q", other, d, s)
		}
		seen[s] = d
	}
	if metrics.DropKernel.PerCopy() || !metrics.DropFamily.PerCopy() || !metrics.DropSend.PerCopy() {
		t.Error("the reasons of packets and of copies are mixed up")
	}
}

func TestFloodAddsUp(t *testing.T) {
	var f metrics.Flood
	one := metrics.FloodCount{VNICount: metrics.VNICount{Packets: 1, Bytes: 2, Copies: 3, CopyBytes: 4}, Fragmented: 5, Learned: 6, Loops: 7}
	for i := range one.Drops {
		one.Drops[i] = uint64(10 + i)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				f.Add(&one)
				f.Load()
			}
		})
	}
	wg.Wait()
	var want metrics.FloodCount
	for range 400 {
		want = want.Plus(one)
	}
	if got := f.Load(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
