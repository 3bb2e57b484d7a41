// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/control"
)

// cannedVTEP is a VTEP that is a member by several entries, one that only sends,
// and one that gets no copies.
func cannedVTEP() []control.VTEPMember {
	fdb, last, older := cannedFDB(), 0.25, 3725.0
	return []control.VTEPMember{
		{VNI: 10, Sources: fdb[1:4], Packets: 1000, Bytes: 123456, Copies: 2000, CopyBytes: 246912, Drops: 3, LastPacket: &last},
		{VNI: 11, Packets: 7, Bytes: 700, LastPacket: &older},
		{VNI: 16777215, Sources: fdb[5:6], Excluded: "a service node: peer sn1.example"},
	}
}

// cannedExplanation is what would happen to a packet in VNI 10.
func cannedExplanation() (control.Explanation, []control.ExplainedDestination) {
	source, gateway := netip.MustParseAddr("10.2.1.1"), netip.MustParseAddr("10.0.0.254")
	to := func(addr, rule, text string) control.ExplainedDestination {
		d := control.ExplainedDestination{
			Address: netip.MustParseAddr(addr), Copy: rule == "copy", Rule: rule, Text: text, Sources: []string{"registration"},
		}
		if d.Copy {
			d.Device = "eth0"
		}
		return d
	}
	routed := to("10.2.1.4", "copy", "in fragments: 1560 bytes are more than the 1500 of eth0")
	routed.Gateway, routed.Sources = gateway, []string{"data", "peer"}
	return control.Explanation{
			VNI: 10, Source: source, Flooded: true, Rule: "flooded", Text: "2 copies for 4 other members",
			LearnText: "10.2.1.1 is a member already, by registration", Copies: 2,
		}, []control.ExplainedDestination{
			to("10.0.0.12", "service_node", "it is the peer 10.0.0.12"),
			to("10.2.1.1", "sender", "the packet comes from it"),
			to("10.2.1.2", "unresolved", "the link-layer address of 10.2.1.2 does not resolve"),
			to("10.2.1.3", "copy", ""),
			routed,
		}
}

// cannedStats are the figures of a daemon at one moment and two seconds later.
func cannedStats(later bool) (control.Stats, []control.VNIStat) {
	stat := func(vni uint32, members int, n uint64, drops map[string]uint64) control.VNIStat {
		return control.VNIStat{
			VNI: vni, Members: members, Packets: n, Bytes: 1000 * n, Copies: 10 * n, CopyBytes: 10000 * n, Drops: drops,
		}
	}
	s := control.Stats{
		At: time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC), Monotonic: 1e9,
		Total: stat(0, 15, 1100, map[string]uint64{"ttl": 5, "no_member": 40}), Other: stat(0, 0, 90, map[string]uint64{"no_member": 40}),
	}
	vnis := []control.VNIStat{stat(10, 5, 1000, map[string]uint64{"ttl": 5}), stat(2000, 10, 10, nil)}
	if later {
		s.At, s.Monotonic = s.At.Add(2*time.Second), 3e9
		s.Total = stat(0, 15, 3301, map[string]uint64{"ttl": 9, "no_member": 40})
		vnis[0] = stat(10, 5, 3200, map[string]uint64{"ttl": 9})
		vnis[1] = stat(2000, 10, 11, nil)
	}
	return s, vnis
}

// cannedTraffic answers what is asked about packets. Each second answer to stats is
// the later one.
func cannedTraffic() []control.Command {
	var asked atomic.Uint64
	return []control.Command{
		{Name: control.CommandVTEP, Run: func(_ context.Context, call *control.Call) error {
			var a control.VTEPArgs
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			if a.Address != netip.MustParseAddr("10.2.1.2") {
				return nil
			}
			for part := range slices.Chunk(cannedVTEP(), 2) {
				if err := call.Send(part); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: control.CommandExplain, Run: func(_ context.Context, call *control.Call) error {
			var a control.ExplainArgs
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			e, destinations := cannedExplanation()
			switch {
			case a.TTL != nil && *a.TTL == 1:
				e.Flooded, e.Rule, e.Text, e.Copies = false, "ttl", "it arrives with TTL 1, so that a copy would have none left", 0
				e.LearnText, destinations = "", nil
			case a.Length != nil:
				e.Text, e.Copies, e.Learned, e.LearnText = "0 copies for 1 other member", 0, true, "10.2.1.1 becomes a member by this packet"
				destinations = destinations[2:3]
			}
			if err := call.Send(&e); err != nil {
				return err
			}
			for part := range slices.Chunk(destinations, 2) {
				if err := call.Send(part); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: control.CommandStats, Run: func(_ context.Context, call *control.Call) error {
			var a control.StatsArgs
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			s, vnis := cannedStats(asked.Add(1)%2 == 0)
			if a.VNI != nil {
				vnis = slices.DeleteFunc(vnis, func(v control.VNIStat) bool { return v.VNI != *a.VNI })
			}
			if err := call.Send(&s); err != nil {
				return err
			}
			for part := range slices.Chunk(vnis, 1) {
				if err := call.Send(part); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

// TestStatsOf80ColumnsHaveDrops leaves out what matters less.
func TestStatsOf80ColumnsHaveDrops(t *testing.T) {
	b := &screen{terminal: terminal{on: true, width: 80}}
	before, now := sampleAt(1), sampleAt(2)
	now.stats, now.vnis = cannedStats(true)
	statsText(b, nil, newStatReport(ratesBetween(before, now), now))
	if heads := strings.Fields(strings.SplitN(b.String(), "\n", 2)[0]); heads[len(heads)-1] != "drops" {
		t.Errorf("got\n%s, want drops", b)
	}
}

// A long address moves what is behind it in its own row alone, where there is no
// room for a wider column.
func TestALongRowOfEventsStaysAlone(t *testing.T) {
	var out bytes.Buffer
	c := &ctlCall{out: &out, terminal: terminal{on: true, width: 80}}
	data, err := json.Marshal(cannedEvents())
	if err != nil {
		t.Fatal(err)
	}
	if err := newEventTable(c, memberColumns, memberCells).piece(data); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if long, next := lines[4], lines[5]; !strings.Contains(long, "2001:db8::aaaa:bbbb:cccc:1  operator") ||
		strings.Index(next, " data") != strings.Index(lines[3], " data") {
		t.Errorf("got\n%s, want columns of one width", &out)
	}
}

func TestVNIsAreNamedUpToSome(t *testing.T) {
	for want, vnis := range map[string][]uint32{
		"VNI 7": {7}, "VNIs 7, 8": {7, 8}, "VNIs 1, 2, 3, 4, 5, 6, 7, 8 and 2 more": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
	} {
		if got := someVNIs(vnis); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What has no figures is not said to be 0.
func TestFiguresThatAreNotThereAreNotZero(t *testing.T) {
	now := sampleAt(2, control.VNIStat{VNI: 10, Packets: 7}, control.VNIStat{VNI: 11, Members: 3, Uncounted: true})
	report := newStatReport(ratesBetween(sampleAt(1), now), now)
	b := &screen{}
	statsText(b, nil, report)
	vtepText(b, "10.2.1.1", []control.VTEPMember{{VNI: 11, Uncounted: true}})
	for _, want := range []string{"11 3 - - - - - - - -\n", "11 no member - - - - - - - -\n", "\ncounted among other, since metrics_max_vnis has no more figures: VNI 11\n"} {
		if text := regexp.MustCompile(` +`).ReplaceAllString(b.String(), " "); !strings.Contains(text, want) {
			t.Errorf("got\n%s, want %q", text, want)
		}
	}
	v := &topView{order: byCopies}
	v.look(sampleAt(1), now)
	if rows := v.rows(); !slices.ContainsFunc(rows, func(r string) bool { return strings.Join(strings.Fields(r), " ") == "11 3 - - - - -" }) {
		t.Errorf("got %q, want one without figures", rows)
	}
	for _, v := range []any{report.VNIs[1], control.VTEPMember{VNI: 11, Uncounted: true}} {
		got, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(got), `"packets":null`) || strings.Contains(string(got), ":0,") || !strings.Contains(string(got), `"uncounted":true`) {
			t.Errorf("got %s, %v, want null for figures", got, err)
		}
	}
	var back control.VTEPMember
	if err := json.Unmarshal([]byte(`{"vni":11,"packets":null,"uncounted":true}`), &back); err != nil || !back.Uncounted || back.VNI != 11 {
		t.Errorf("got %+v, %v, want it back", back, err)
	}
}
