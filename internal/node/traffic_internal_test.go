// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

// count counts a packet of 100 bytes of src in a VNI, with two copies and one
// that was dropped.
func count(n *Node, vni vxlan.VNI, src netip.Addr, now fdb.Time) {
	y := n.traffic.Tally()
	d := metrics.Delta{VNI: vni, Known: true, Sender: true, Source: src.As16(), Packets: 1, Bytes: 100, Copies: 2, CopyBytes: 200}
	d.Drop(metrics.DropFamily)
	y.Add(int64(now), []metrics.Delta{d})
	y.Close(int64(now))
}

func TestStats(t *testing.T) {
	n := newNode(t)
	put(t, n, fdb.Operator, 5, host(1), host(2), host(3))
	put(t, n, fdb.Operator, 6, host(1))
	n.guard.setOwn([]netip.Addr{host(3)})
	count(n, 5, host(1), clock())
	count(n, 5, host(2), clock())
	count(n, 8, host(1), clock()) // which has no member any more
	n.flooding.past = metrics.FloodCount{VNICount: metrics.VNICount{Packets: 10, Copies: 20}}
	n.flooding.past.Drops[metrics.DropShort] = 7
	row5 := control.VNIStat{VNI: 5, Members: 2, Packets: 2, Bytes: 200, Copies: 4, CopyBytes: 400, Drops: map[string]uint64{"family": 2}}
	row8 := control.VNIStat{VNI: 8, Packets: 1, Bytes: 100, Copies: 2, CopyBytes: 200, Drops: map[string]uint64{"family": 1}}
	total := control.VNIStat{Members: 3, Packets: 10, Copies: 20, Drops: map[string]uint64{"short": 7}}
	tests := []struct {
		name string
		args object
		want []control.VNIStat
	}{
		{"all", object{}, []control.VNIStat{row5, {VNI: 6, Members: 1}, row8}},
		{"one", object{"vni": 5}, []control.VNIStat{row5}},
		{"one that nobody knows", object{"vni": 77}, []control.VNIStat{{VNI: 77}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			head, rows := stats(t, n, tt.args)
			if diff := cmp.Diff(tt.want, rows); diff != "" {
				t.Errorf("VNIs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(control.Stats{Total: total}, head, cmpopts.IgnoreFields(control.Stats{}, "At", "Monotonic")); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
			if head.At.IsZero() || head.Monotonic == 0 {
				t.Errorf("got head %+v, want it to say when", head)
			}
		})
	}

	// What is forgotten is not lost.
	n.forgetVNIs()
	head, rows := stats(t, n, object{})
	if len(rows) != 2 || head.Other.Packets != 1 {
		t.Errorf("got %d VNIs and %d packets of others, want 2 and 1", len(rows), head.Other.Packets)
	}

	// Without figures per VNI all is of others.
	n.mu.Lock()
	n.cfg.MetricsMaxVNIs = 0
	n.mu.Unlock()
	if head, _ := stats(t, n, object{}); head.Other.Packets != 10 {
		t.Errorf("got %d packets of others where nothing is counted by itself, want all 10", head.Other.Packets)
	}
}

// stats asks for figures.
func stats(t *testing.T, n *Node, args object) (head control.Stats, rows []control.VNIStat) {
	t.Helper()
	first := true
	check(t, give(t.Context(), t, n, control.CommandStats, args, func(v any) error {
		if first {
			head, first = decoded[control.Stats](t, v), false
		} else {
			rows = append(rows, decoded[[]control.VNIStat](t, v)...)
		}
		return nil
	}, nil))
	return head, rows
}

// Answers of any length come in parts.
func TestStatsOfManyVNIs(t *testing.T) {
	n := newNode(t)
	const vnis = 2*control.MaxPart + 1
	for i := range vxlan.VNI(vnis) {
		put(t, n, fdb.Operator, i, host(1))
	}
	_, rows := stats(t, n, object{})
	if len(rows) != vnis || rows[vnis-1].VNI != vnis-1 {
		t.Errorf("got %d VNIs, want %d in order", len(rows), vnis)
	}
}

func TestLimitsOfFigures(t *testing.T) {
	for vnis, want := range map[int]metrics.TrafficLimits{
		0: {}, 1000: {VNIs: 1000, Senders: 16000}, 65536: {VNIs: 65536, Senders: maxSenders},
	} {
		c := config.Default()
		c.MetricsMaxVNIs = vnis
		if got := trafficLimits(&c); got != want {
			t.Errorf("%d VNIs: got %+v, want %+v", vnis, got, want)
		}
	}
}

// A VNI without figures of its own is told from one that nothing came in.
func TestVNIsBeyondTheBoundAreNotCounted(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.MetricsMaxVNIs = 1 })
	put(t, n, fdb.Operator, 5, host(1))
	put(t, n, fdb.Operator, 6, host(1))
	uncounted := func() (got []bool) {
		t.Helper()
		_, rows := stats(t, n, object{})
		parts, err := ask[[]control.VTEPMember](t, n, control.CommandVTEP, object{"address": host(1)})
		check(t, err)
		for i, m := range slices.Concat(parts...) {
			got = append(got, rows[i].Uncounted, m.Uncounted)
		}
		return got
	}
	if diff := cmp.Diff([]bool{false, false, false, false}, uncounted()); diff != "" {
		t.Errorf("with room (-want +got):\n%s", diff)
	}
	count(n, 5, host(1), clock())
	if diff := cmp.Diff([]bool{false, false, true, true}, uncounted()); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
}

// A member of a family that the node has no address of gets no copies.
func TestVTEPOfAnotherFamily(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.SvcnodeIP = host(100) })
	a := netip.MustParseAddr("2001:db8::1")
	put(t, n, fdb.Operator, 5, a)
	parts, err := ask[[]control.VTEPMember](t, n, control.CommandVTEP, object{"address": a})
	check(t, err)
	if got := parts[0][0].Excluded; !strings.Contains(got, "family") {
		t.Errorf("got %q, want its family", got)
	}
}

func TestVTEP(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.SvcnodeIP = host(100) })
	put(t, n, fdb.Configuration, 5, host(1), host(2), host(100))
	put(t, n, fdb.Operator, 5, host(1))
	put(t, n, fdb.Operator, 7, host(1), host(100))
	ago := clock()
	for _, vni := range []vxlan.VNI{4, 5, 6, 8} {
		count(n, vni, host(1), ago)
	}
	count(n, 5, host(2), ago)
	type row struct {
		VNI, Sources, Packets int
		Heard                 bool
		Excluded              string
	}
	tests := []struct {
		name string
		a    netip.Addr
		want []row
	}{
		{"member and sender", host(1), []row{{4, 0, 1, true, ""}, {5, 2, 1, true, ""}, {6, 0, 1, true, ""}, {7, 1, 0, false, ""}, {8, 0, 1, true, ""}}},
		{"mapped", netip.MustParseAddr("::ffff:192.0.2.2"), []row{{5, 1, 1, true, ""}}},
		{"excluded", host(100), []row{{5, 1, 0, false, "the address of this service node"}, {7, 1, 0, false, "the address of this service node"}}},
		{"unknown", host(9), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts, err := ask[[]control.VTEPMember](t, n, control.CommandVTEP, object{"address": tt.a})
			check(t, err)
			var got []row
			for _, part := range parts {
				for _, m := range part {
					got = append(got, row{int(m.VNI), len(m.Sources), int(m.Packets), m.LastPacket != nil, m.Excluded})
					if m.Packets == 1 && (m.Bytes != 100 || m.Copies != 2 || m.CopyBytes != 200 || m.Drops != 1) {
						t.Errorf("got figures %+v", m)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("VNIs (-want +got):\n%s", diff)
			}
		})
	}
}

// The entries of a VTEP are told in parts that are not too long.
func TestVTEPInManyVNIs(t *testing.T) {
	n := newNode(t)
	const vnis = 2000
	for i := range vxlan.VNI(vnis) {
		put(t, n, fdb.Operator, i, host(1), host(2))
		put(t, n, fdb.Configuration, i, host(1))
	}
	parts, err := ask[[]control.VTEPMember](t, n, control.CommandVTEP, object{"address": host(1)})
	check(t, err)
	got := 0
	for _, part := range parts {
		if len(part) > maxVTEPMembers {
			t.Errorf("got a part of %d VNIs, want %d at most", len(part), maxVTEPMembers)
		}
		for _, m := range part {
			if int(m.VNI) != got || len(m.Sources) != 2 {
				t.Fatalf("got VNI %d with %d entries, want %d with 2", m.VNI, len(m.Sources), got)
			}
			got++
		}
	}
	if got != vnis {
		t.Errorf("got %d VNIs, want %d", got, vnis)
	}
}
