// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/flood"
	"vxsnd/internal/netlab"
)

// flowEnd is how long a flow follows at most, in nanoseconds.
const flowEnd = uint64(5 * time.Second)

// A packet that raw is to replicate takes its flow along, so that none of it
// overtakes the packet.
func TestFlowFollowsWhatWentUp(t *testing.T) {
	r := newParserRig(t)
	large := frame(narrow, 400)
	of := flood.Flow{Source: netip.AddrPortFrom(sender, sentPort), VNI: narrow}
	tests := []struct {
		name string
		done int    // packets of two that raw is done with
		own  uint64 // how long ago one went up that had to
		want up
	}{
		{"raw has done nothing", 0, 0, upOrder},
		{"raw is not done", 1, flowEnd / 2, upOrder},
		{"raw is done", 2, 0, upForeign},
		{"raw is never done", 1, 2 * flowEnd, upForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.TB = t
			f := flows{memory: r.flows}
			if verdict, _ := r.run(large, nil); verdict != wentUp {
				t.Fatalf("got verdict %d, want the packet to go up", int32(verdict))
			}
			r.runOn(large, nil)
			for range tt.done {
				f.done([]flood.Flow{of})
			}
			r.flows[flowIndex(&of)%uint32(len(r.flows))].Own -= tt.own
			before, err := r.handedUp()
			check(t, err)
			verdict, _ := r.runOn(frame(narrow, 64), nil)
			if got := r.reason(before); got != tt.want || (verdict == done) != (tt.want == upForeign) {
				t.Errorf("got verdict %d, %v, want %v", int32(verdict), got, tt.want)
			}
		})
	}
	t.Run("others", func(t *testing.T) {
		r.TB = t
		r.run(large, nil)
		before, err := r.handedUp()
		check(t, err)
		r.runOn(frame(narrow, 64, func(d *netlab.Datagram) { d.Src = netip.AddrPortFrom(sender, sentPort+1) }), nil)
		r.runOn(frame(replicated, 64), nil)
		if got := r.reason(before); got != upForeign {
			t.Errorf("got %v, want packets of other flows to be flooded", got)
		}
	})
}
