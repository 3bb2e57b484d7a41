// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
)

// Who waits for packets to be flooded is told of each, dropped ones too, and when
// all copies of the batch have been sent.
func TestDoneTellsOfAllPackets(t *testing.T) {
	r := newWorkerRig(t, "10.0.0.1", "10.0.0.2")
	var got []Flow
	tell := func(fs []Flow) {
		if len(r.to()) != 1 {
			t.Errorf("got %v sent when told, want the one copy", r.to())
		}
		got = append(got, fs...)
	}
	r.w.done.Store(&tell)
	r.packet("10.0.0.1:1", 77, 1) // dropped: its TTL
	r.packet("10.0.0.1:2", 77, 64)
	r.packet("10.0.0.1:3", 78, 64) // dropped: nobody else is there
	for i := range r.rd.Queue {
		r.rd.Queue[i].Received = int64(11 + i)
	}
	r.run()
	want := []Flow{
		{netip.MustParseAddrPort("10.0.0.1:1"), 77, 11}, {netip.MustParseAddrPort("10.0.0.1:2"), 77, 12}, {netip.MustParseAddrPort("10.0.0.1:3"), 78, 13},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// How far a worker is: behind a full batch more may wait, which came after the last
// packet of it; behind another there was nothing when it was read.
func TestDoneUntil(t *testing.T) {
	const begin = fdb.Time(1000 * time.Hour)
	for _, tt := range []struct {
		name    string
		queued  int
		age     time.Duration // of the last one
		unknown bool          // to the kernel
		alone   bool          // nobody wants to know
		late    uint64        // dropped, since they waited too long
		want    time.Duration // behind begin, in the end
	}{
		{name: "nothing", want: 0},
		{name: "a few", queued: 3, age: time.Second, want: 0},
		{name: "a full batch, late", queued: receiveBatch, age: lateAfter + 1, late: receiveBatch, want: -lateAfter - 1},
		{name: "a few, late", queued: 3, age: lateAfter + 1, want: 0},
		{name: "late, alone", queued: receiveBatch, age: lateAfter + 1, alone: true, want: -time.Hour},
		{name: "a full batch", queued: receiveBatch, age: time.Second, want: -time.Second},
		{name: "without stamps", queued: receiveBatch, unknown: true, want: -time.Hour},
		{name: "a few without stamps", queued: 1, unknown: true, want: 0},
		{name: "clock was put back", queued: receiveBatch, age: -time.Second, want: -time.Hour},
		{name: "alone", queued: 3, age: time.Second, alone: true, want: -time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newWorkerRig(t, "10.0.0.2")
				r.w.clock = func() fdb.Time { return begin }
				r.w.until.Store(int64(begin.Add(-time.Hour)))
				if !tt.alone {
					tell := func([]Flow) {}
					r.w.done.Store(&tell)
				}
				for range tt.queued {
					r.packet("10.0.0.1:1", 77, 64)
					if !tt.unknown {
						r.rd.Queue[len(r.rd.Queue)-1].Received = time.Now().Add(-tt.age).UnixNano()
					}
				}
				turns := 0
				r.w.run(func() bool { turns++; return turns > 1 })
				if got := r.w.stats.Load().Drops[metrics.DropKernel]; got != tt.late {
					t.Errorf("got %d dropped, want %d", got, tt.late)
				}
				raw := &Raw{workers: []*worker{r.w}}
				if got := raw.DoneUntil().Sub(begin); got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
	slow, fast := new(worker), new(worker)
	slow.reached(5)
	fast.reached(9)
	fast.reached(7)
	if got := (&Raw{workers: []*worker{fast, slow}}).DoneUntil(); got != 5 {
		t.Errorf("got %d, want that of the slowest, 5", got)
	}
	if got := fast.until.Load(); got != 9 {
		t.Errorf("got %d, want 9: it never goes back", got)
	}
}
