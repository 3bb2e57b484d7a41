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
		name string
		done int    // packets of two that raw is done with
		own  uint64 // how long ago one went up that had to
		want up
		lost uint64 // packets that are dropped
	}{
		{"raw has done nothing", 0, 0, upOrder, 0},
		{"raw is not done", 1, flowEnd / 2, upOrder, 0},
		{"raw is done", 2, 0, upForeign, 0},
		{"raw is overrun", 1, flowEnd, upForeign, 1},
		{"a time of another CPU", 1, ^uint64(0) - 1e6, upOrder, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			f := flows{memory: r.flows}
			if verdict, _ := r.run(large, nil); verdict != wentUp {
				t.Fatalf("got verdict %d, want the packet to go up", int32(verdict))
			}
			r.runOn(large, nil)
			of := flowOf(sentPort)
			for range tt.done {
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
	type packet struct {
		of    flood.Flow
		stamp uint64
		segs  uint32
	}
	at := func(f flood.Flow, stamp int64) flood.Flow { f.Received = stamp; return f }
	for _, tt := range []struct {
		name string
		ups  []packet
		done []flood.Flow
		want up
	}{
		{"none", []packet{{mine, 10, 0}, {mine, 20, 0}}, []flood.Flow{at(mine, 10), at(mine, 20)}, upForeign},
		{"the first", []packet{{mine, 10, 0}, {mine, 20, 0}, {mine, 30, 0}}, []flood.Flow{at(mine, 20), at(mine, 30)}, upForeign},
		{"all but the last", []packet{{mine, 10, 0}, {mine, 20, 0}, {mine, 30, 0}}, []flood.Flow{at(mine, 30)}, upForeign},
		{"the last", []packet{{mine, 10, 0}, {mine, 20, 0}, {mine, 30, 0}}, []flood.Flow{at(mine, 10), at(mine, 20)}, upOrder},
		{"one of two flows", []packet{{near, 10, 0}, {mine, 20, 0}}, []flood.Flow{at(mine, 20)}, upOrder},
		{"one of two flows, later", []packet{{mine, 10, 0}, {near, 20, 0}, {mine, 30, 0}}, []flood.Flow{at(mine, 10), at(mine, 30)}, upOrder},
		{"none of two flows", []packet{{near, 10, 0}, {mine, 20, 0}}, []flood.Flow{at(mine, 20), at(near, 10)}, upForeign},
		{"equal stamps", []packet{{mine, 10, 0}, {mine, 10, 0}}, []flood.Flow{at(mine, 10)}, upOrder},
		{"no stamps", []packet{{mine, 0, 0}, {mine, 0, 0}}, []flood.Flow{at(mine, 0)}, upOrder},
		{"segments, not all", []packet{{mine, 10, 3}, {mine, 20, 0}}, []flood.Flow{at(mine, 10), at(mine, 10), at(mine, 10)}, upOrder},
		{"segments", []packet{{mine, 10, 3}}, []flood.Flow{at(mine, 11), at(mine, 11), at(mine, 11)}, upForeign},
		{"more than went up", []packet{{mine, 10, 0}}, []flood.Flow{at(mine, 9), at(mine, 10), at(mine, 11)}, upForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			clear(r.flows)
			for _, p := range tt.ups {
				context := &skb{Tstamp: p.stamp}
				if p.segs > 0 {
					context.GSOSize, context.GSOSegs = 100, p.segs
				}
				if verdict, _ := r.runOn(frame(narrow, 400, from(p.of.Source.Port())), context); verdict != wentUp {
					t.Fatalf("got verdict %d, want the packet to go up", int32(verdict))
				}
			}
			f := flows{memory: r.flows}
			f.done(tt.done)
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("got %v, want %v", why, tt.want)
			}
		})
	}
}

// What raw has not seen when it is done with all that came later was lost.
func TestForget(t *testing.T) {
	r := newParserRig(t)
	f := flows{memory: r.flows}
	for _, tt := range []struct {
		name  string
		until time.Duration // behind the last packet
		want  up
	}{
		{"long ago", -time.Second, upOrder},
		{"just now", onItsWay - 1, upOrder},
		{"since", onItsWay + 1, upForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			r.run(frame(narrow, 400), nil)
			r.runOn(frame(narrow, 64), nil)
			of := flowOf(sentPort)
			f.forget(fdb.Time(f.flow(flowHash(&of)).Last).Add(tt.until))
			if why, _ := r.goes(sentPort); why != tt.want {
				t.Errorf("got %v, want %v", why, tt.want)
			}
		})
	}
}
