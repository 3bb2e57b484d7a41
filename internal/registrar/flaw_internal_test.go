// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/underlay"
)

func TestFlaws(t *testing.T) {
	external := with(device("x", 7, "10.0.0.100"), func(d *underlay.Device) { d.External = true })
	entry := func(index int, dst string) underlay.FloodEntry {
		return underlay.FloodEntry{Index: index, Dst: addr(dst)}
	}
	one := func(ds ...underlay.Device) []underlay.Device { return ds }
	tests := []struct {
		name    string
		headRep bool
		devices []underlay.Device
		answer  string
		entries []underlay.FloodEntry
		flaw    flaw
		want    string // the warning in front of the text; "" for none
		more    string // behind it
	}{
		{name: "head-end replication, and a service node", headRep: true, answer: "1 1 2; 2 1 2; 3 1 2",
			devices: one(device("a", 1, ""), device("b", 2, "10.0.0.100"), device("c", 3, "10.0.0.100")),
			flaw:    flawTwice, want: "b (VNI 2): ", more: "; the same holds for 1 more"},
		{name: "head-end replication, and a service node, but nobody else", headRep: true, answer: "2 1",
			devices: one(device("b", 2, "10.0.0.100"))},
		{name: "head-end replication, and a group", headRep: true, answer: "2 1 2",
			devices: one(device("b", 2, "239.0.0.1")), flaw: flawGroup, want: "b (VNI 2): "},
		{name: "head-end replication alone", headRep: true, answer: "1 1 2; 2 1 2", devices: one(device("a", 1, ""), device("b", 2, "10.0.0.66"))},
		{name: "no list", devices: one(device("b", 2, "10.0.0.100")), entries: []underlay.FloodEntry{entry(1002, "10.0.0.100"), entry(1005, "10.0.0.3")}},
		{name: "a list", devices: one(device("b", 2, "10.0.0.100")), entries: []underlay.FloodEntry{entry(1002, "10.0.0.100"), entry(1002, "10.0.0.3")},
			flaw: flawTwice, want: "b (VNI 2): "},
		{name: "a list of another vni", devices: one(external), entries: []underlay.FloodEntry{{Index: 1007, VNI: 8, Dst: addr("10.0.0.3")}}},
		{name: "a list of this vni", devices: one(external), entries: []underlay.FloodEntry{{Index: 1007, VNI: 7, Dst: addr("10.0.0.3")}},
			flaw: flawTwice, want: "x (VNI 7): "},
		{name: "no destination", devices: one(device("a", 1, "")), flaw: flawPast, want: "a (VNI 1): "},
		{name: "another destination", devices: one(device("a", 1, "10.0.0.66")), entries: []underlay.FloodEntry{entry(1001, "10.0.0.66")},
			flaw: flawPast, want: "a (VNI 1): "},
		{name: "a group", devices: one(device("a", 1, "239.0.0.1")), entries: []underlay.FloodEntry{entry(1001, "239.0.0.1")},
			flaw: flawPast, want: "a (VNI 1): "},
		{name: "a service node by an operator's hand", devices: one(device("a", 1, "")), entries: []underlay.FloodEntry{entry(1001, "10.0.0.100")}},
		{name: "a list by an operator's hand", devices: one(device("a", 1, "")), entries: []underlay.FloodEntry{entry(1001, "10.0.0.2")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig("10.0.0.100")
				c.HeadRep = tt.headRep
				h := newHarness(t, c, tt.devices...)
				h.fdb.entries = tt.entries
				h.start()
				var want []string
				if tt.want != "" {
					want = []string{tt.want + flawTexts[tt.flaw] + tt.more}
				}
				if tt.answer != "" {
					h.answer("10.0.0.100", tt.answer)
				}
				for range 5 { // at once, and then for as long as it is so
					s, err := call[*control.Registrar](h, control.CommandShow, "")
					if err != nil || !slices.Equal(s[0].Warnings, want) {
						t.Fatalf("got warnings %q, %v, want %q", s[0].Warnings, err, want)
					}
					h.sleep(time.Minute)
					if tt.answer != "" {
						h.answer("10.0.0.100", tt.answer)
					}
				}
				logged := 0
				for _, text := range flawTexts {
					logged += h.logged(text)
				}
				if logged != len(want) {
					t.Errorf("got %d lines in the log, want %d", logged, len(want))
				}
			})
		})
	}
}
