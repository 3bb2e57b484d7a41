// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// flowEnd is how long a flow follows at most, in nanoseconds.
const flowEnd = uint64(time.Second)

// flowOf is the flow of frames from a port.
func flowOf(port uint16) flood.Flow {
	return flood.Flow{Source: netip.AddrPortFrom(sender, port), VNI: narrow}
}

// from has a frame be one of another flow.
func from(port uint16) func(*netlab.Datagram) {
	return func(d *netlab.Datagram) { d.Src = netip.AddrPortFrom(sender, port) }
}

// goes runs a packet that the program can flood, and tells what it does with it:
// upForeign where it takes it.
func (r *rig) goes(port uint16) (why up, verdict uint32) {
	r.Helper()
	before, err := r.handedUp()
	check(r, err)
	verdict, _ = r.runOn(frame(narrow, 64, from(port)), nil)
	return r.reason(before), verdict
}

// A packet that raw is to replicate takes its flow along, so that none of it
// overtakes the packet.
func TestFlowFollowsWhatWentUp(t *testing.T) {
	r := newParserRig(t)
	large := frame(narrow, 400)
	tests := []struct {
		name    string
		done    int    // packets of two that raw is done with
		own     uint64 // how long ago one went up that had to
		overrun uint32
		want    up
		lost    uint64 // packets that are dropped
	}{
		{"raw has done nothing", 0, 0, 1, upOrder, 0},
		{"raw is not done", 1, flowEnd / 2, 1, upOrder, 0},
		{"raw is done", 2, 0, 1, upForeign, 0},
		{"raw is done late", 2, flowEnd, 1, upForeign, 0},
		{"raw is overrun", 1, flowEnd, 1, upForeign, 1},
		{"raw keeps pace", 1, flowEnd, 0, upOrder, 0},
		{"a time of another CPU", 1, ^uint64(0) - 1e6, 1, upOrder, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			clear(r.flows)
			r.settings.Overrun = tt.overrun
			f := flows{memory: r.flows}
			of := flowOf(sentPort)
			for i := range 2 {
				if verdict, _ := r.runOn(large, &skb{Tstamp: uint64(10 + i)}); verdict != wentUp {
					t.Fatalf("got verdict %d, want the packet to go up", int32(verdict))
				}
			}
			for i := range tt.done {
				of.Received = int64(10 + i)
				f.done([]flood.Flow{of})
			}
			f.flow(flowHash(&of)).Own -= tt.own
			slot := r.slotOf(narrow)
			before := countersOf(slot)
			why, verdict := r.goes(sentPort)
			after := countersOf(slot)
			if lost := after.Drops[slotOverrun] - before.Drops[slotOverrun]; why != tt.want || (verdict == done) != (tt.want == upForeign) || lost != tt.lost {
				t.Errorf("got verdict %d, %v, %d dropped, want %v, %d", int32(verdict), why, lost, tt.want, tt.lost)
			}
			if got, want := after.Packets-before.Packets, uint64(0); tt.lost > 0 && got != want {
				t.Errorf("got %d packets flooded, want none", got)
			}
		})
	}
	t.Run("others", func(t *testing.T) {
		r.TB = t
		r.run(large, nil)
		if why, _ := r.goes(sentPort + 1); why != upForeign {
			t.Errorf("got %v, want packets of another port to be flooded", why)
		}
		before, err := r.handedUp()
		check(t, err)
		r.runOn(frame(replicated, 64), nil)
		if got := r.reason(before); got != upForeign {
			t.Errorf("got %v, want packets of another VNI to be flooded", got)
		}
	})
}

// slotOf returns the slot of a VNI of newParserRig, which makes them in order.
func (r *rig) slotOf(v vxlan.VNI) *programSlot { return &r.kernel.slots[v-replicated] }

// Packets that raw never sees do not keep their flow, nor does it come back too early
// for them.
func TestFlowsWithLosses(t *testing.T) {
	r := newParserRig(t)
	mine := flowOf(sentPort)
	hash := flowHash(&mine)
	// A flow that has the same place.
	near := mine
	for port := uint16(1); ; port++ {
		near = flowOf(port)
		if flowHash(&near)>>16%uint32(len(r.flows)) == hash>>16%uint32(len(r.flows)) {
			break
		}
	}
	type step struct {
		of    flood.Flow
		stamp int64
		does  string
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  up
		ups   uint64
	}{
		{"none", []step{{mine, 10, "up"}, {mine, 20, "up"}, {mine, 10, "done"}, {mine, 20, "done"}}, upForeign, 2},
		{"the first", []step{{mine, 10, "up"}, {mine, 20, "up"}, {mine, 30, "up"}, {mine, 20, "done"}, {mine, 30, "done"}}, upForeign, 3},
		{"all but the last", []step{{mine, 10, "up"}, {mine, 20, "up"}, {mine, 30, "up"}, {mine, 30, "done"}}, upForeign, 3},
		{"the last", []step{{mine, 10, "up"}, {mine, 20, "up"}, {mine, 10, "done"}}, upOrder, 2},
		{"one of two flows", []step{{near, 10, "up"}, {mine, 20, "up"}, {mine, 20, "done"}}, upOrder, 2},
		{"none of two flows", []step{{near, 10, "up"}, {mine, 20, "up"}, {mine, 20, "done"}, {near, 10, "done"}}, upOrder, 2},
		{"none of two flows that take turns", []step{
			{near, 10, "up"}, {near, 10, "done"}, {mine, 20, "up"}, {mine, 20, "done"}, {near, 30, "up"}, {near, 30, "done"},
		}, upForeign, 3},
		{"that of another flow", []step{{mine, 10, "up"}, {near, 20, "done"}}, upOrder, 1},
		{"none, by the hooks of two devices", []step{{mine, 10, "up"}, {mine, 10, "up"}, {mine, 10, "done"}}, upForeign, 1},
		{"none, without stamps", []step{{mine, 0, "up"}, {mine, 10, "done"}}, upOrder, 1},
		{"none, in segments", []step{{mine, 10, "up in segments"}, {mine, 10, "done"}}, upOrder, 1},
		{"none, before the clock was put back", []step{{mine, 100, "up"}, {mine, 100, "done"}, {mine, 50, "up"}, {mine, 50, "done"}}, upForeign, 2},
		{"one, since the clock was put back", []step{{mine, 100, "up"}, {mine, 100, "done"}, {mine, 50, "up"}}, upOrder, 2},
		{"none, and some of another device", []step{{mine, 9, "done"}, {mine, 10, "up"}, {mine, 10, "done"}, {mine, 11, "done"}}, upForeign, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			clear(r.flows)
			f := flows{memory: r.flows}
			before, err := r.handedUp()
			check(t, err)
			for _, s := range tt.steps {
				if s.does == "done" {
					s.of.Received = s.stamp
					f.done([]flood.Flow{s.of})
					continue
				}
				context := &skb{Tstamp: uint64(s.stamp)}
				if s.does == "up in segments" {
					context.GSOSize, context.GSOSegs = 100, 3
				}
				if verdict, _ := r.runOn(frame(narrow, 400, from(s.of.Source.Port())), context); verdict != wentUp {
					t.Fatalf("got verdict %d, want the packet to go up", int32(verdict))
				}
			}
			after, err := r.handedUp()
			check(t, err)
			if got := after[upLength] - before[upLength] + after[upHeader] - before[upHeader]; got != tt.ups {
				t.Errorf("got %d packets counted, want %d", got, tt.ups)
			}
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("got %v, want %v", why, tt.want)
			}
		})
	}
}

// What raw has not seen when it is done with all that came later was lost. Where the
// stamps do not tell, raw has to be done with all that came before somebody looked.
func TestForget(t *testing.T) {
	r := newParserRig(t)
	of := flowOf(sentPort)
	const looked = fdb.Time(1000 * time.Hour)
	clock := func() fdb.Time { return looked }
	for _, tt := range []struct {
		name  string
		segs  uint32
		until time.Duration // behind the last packet or, where they do not tell, the look
		want  up
	}{
		{"long ago", 0, -time.Second, upOrder},
		{"just now", 0, onItsWay - 1, upOrder},
		{"since", 0, onItsWay + 1, upForeign},
		{"segments, just now", 3, onItsWay, upOrder},
		{"segments, since", 3, onItsWay + 1, upForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			clear(r.flows)
			f := flows{memory: r.flows}
			context := &skb{Tstamp: 10}
			if tt.segs > 0 {
				context.GSOSize, context.GSOSegs = 100, tt.segs
			}
			r.runOn(frame(narrow, 400), context)
			until := fdb.Time(f.flow(flowHash(&of)).Last).Add(tt.until)
			if tt.segs > 0 {
				until = looked.Add(tt.until)
				f.forget(clock, until)
			}
			f.forget(clock, until)
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("got %v, want %v", why, tt.want)
			}
		})
	}
}

// Raw is overrun where what it does is old, or its sockets have dropped something
// lately.
func TestOverrun(t *testing.T) {
	const now = fdb.Time(1000 * time.Hour)
	var s programSetting
	f := flows{setting: &s}
	for _, tt := range []struct {
		name    string
		at      time.Duration
		behind  time.Duration
		dropped uint64
		want    uint32
	}{
		{"keeps pace", 0, overrunBy, 0, 0},
		{"is behind", 0, overrunBy + 1, 0, 1},
		{"keeps pace again", 1, 0, 0, 0},
		{"drops", 2, 0, 1, 1},
		{"has dropped", 1 + overrunFor, 0, 1, 1},
		{"has dropped long ago", 2 + overrunFor, 0, 1, 0},
	} {
		at := now.Add(tt.at)
		f.judge(at, at.Add(-tt.behind), tt.dropped)
		if s.Overrun != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, s.Overrun, tt.want)
		}
	}
}
