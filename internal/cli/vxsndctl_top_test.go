// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/control"
)

// sampleAt is a sample of VNIs after some seconds.
func sampleAt(seconds float64, vnis ...control.VNIStat) *trafficSample {
	s := &trafficSample{status: cannedStatus(), vnis: vnis}
	s.stats.Monotonic = int64(seconds * float64(time.Second))
	s.stats.At = time.Date(2026, 11, 22, 10, 30, int(seconds), 0, time.UTC)
	for _, v := range vnis {
		s.stats.Total.Packets += v.Packets
		s.stats.Total.Copies += v.Copies
	}
	return s
}

func TestRatesAreOfTheTimeBetween(t *testing.T) {
	before := sampleAt(10,
		control.VNIStat{VNI: 1, Packets: 100, Bytes: 1000, Copies: 200, CopyBytes: 2000, Drops: map[string]uint64{"ttl": 5}},
		control.VNIStat{VNI: 3, Packets: 7},
		control.VNIStat{VNI: 4, Packets: 100, Copies: 100},
	)
	now := sampleAt(12,
		control.VNIStat{VNI: 1, Members: 9, Packets: 110, Bytes: 1100, Copies: 260, CopyBytes: 2600, Drops: map[string]uint64{"ttl": 6, "own": 2}},
		control.VNIStat{VNI: 2, Packets: 8},
		control.VNIStat{VNI: 4, Packets: 10, Copies: 20},
	)
	now.stats.Other = control.VNIStat{Drops: map[string]uint64{"short": 4}}
	want := &trafficRates{
		Seconds: 2, Total: trafficRate{}, Other: trafficRate{Drops: 2, Reasons: map[string]float64{"short": 2}},
		VNIs: []trafficRate{
			{VNI: 1, Members: 9, Packets: 5, Bytes: 50, Copies: 30, CopyBytes: 300, Drops: 1.5, Reasons: map[string]float64{"ttl": 0.5, "own": 1}},
			{VNI: 2, Packets: 4},             // was not there before
			{VNI: 4, Packets: 5, Copies: 10}, // counts anew
		},
	}
	now.stats.Total, before.stats.Total = control.VNIStat{}, control.VNIStat{}
	if diff := cmp.Diff(want, ratesBetween(before, now)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := ratesBetween(nil, now); got.Seconds != 0 || got.VNIs[0].Packets != 0 {
		t.Errorf("got %+v of one sample, want no rates", got)
	}
}

func TestVNIsAreInTheOrderThatIsWanted(t *testing.T) {
	r := &trafficRates{VNIs: []trafficRate{
		{VNI: 1, Members: 1, Packets: 2, Copies: 1, Bytes: 2, CopyBytes: 1, Drops: 0},
		{VNI: 2, Members: 3, Packets: 1, Copies: 3, Bytes: 1, CopyBytes: 3, Drops: 0},
		{VNI: 3, Members: 2, Packets: 3, Copies: 2, Bytes: 3, CopyBytes: 2, Drops: 1},
	}}
	for order, want := range map[topOrder]string{
		byVNI: "1 2 3", byMembers: "2 3 1", byPackets: "3 1 2", byCopies: "2 3 1", byBytes: "3 1 2", byCopyBytes: "2 3 1", byDrops: "3 1 2",
	} {
		var got []string
		for _, v := range r.sorted(order) {
			got = append(got, fmt.Sprint(v.VNI))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("order %d: got %s, want %s", order, got, want)
		}
	}
}

func TestFiguresAreShort(t *testing.T) {
	for rate, want := range map[float64]string{0: "0", 0.01: "0.1", 0.5: "0.5", 12.34: "12.3", 99.94: "99.9", 99.96: "100", 1234567.8: "1234568"} {
		if got := figure(rate); got != want {
			t.Errorf("%v: got %s, want %s", rate, got, want)
		}
	}
}

// drawn returns the lines that a terminal shows after a frame, and checks that the
// frame erases nothing but what it writes over.
func drawn(t *testing.T, v *topView) []string {
	t.Helper()
	text, ok := strings.CutPrefix(v.frame(time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)), cursorHome)
	if !ok {
		t.Fatal("got no cursor home")
	}
	for _, s := range []string{eraseLine, reverse, normal} {
		text = strings.ReplaceAll(text, s, "")
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("got more control sequences: %q", text)
	}
	lines := strings.Split(text, "\r\n")
	if len(lines) != v.height {
		t.Errorf("got %d lines, want %d", len(lines), v.height)
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > v.width {
			t.Errorf("got %q, want at most %d columns", line, v.width)
		}
	}
	return lines
}

func TestFramesFitTheTerminal(t *testing.T) {
	vnis := make([]control.VNIStat, 50)
	for i := range vnis {
		vnis[i] = control.VNIStat{VNI: uint32(16777000 + i), Members: 128, Packets: math.MaxUint32, Copies: uint64(i)}
	}
	for _, size := range [][2]int{{80, 24}, {200, 50}, {200, 100}, {40, 10}, {20, 3}, {1, 1}} {
		for _, offset := range []int{0, 10, 1000, -5} {
			v := &topView{terminal: terminal{on: true, width: size[0], height: size[1]}, interval: 2 * time.Second, order: byCopies, offset: offset}
			v.look(sampleAt(1), sampleAt(2, vnis...))
			drawn(t, v)
			if v.offset < 0 || v.offset > len(vnis) {
				t.Errorf("%v: got offset %d of %d", size, v.offset, len(vnis))
			}
		}
	}
}

func TestTheBusiestComeFirstAndTheRestByScrolling(t *testing.T) {
	var vnis []control.VNIStat
	for i := range uint32(30) {
		vnis = append(vnis, control.VNIStat{VNI: 100 + i, Members: 2, Packets: 10, Copies: uint64(i)})
	}
	v := &topView{terminal: terminal{on: true, width: 80, height: 24}, interval: 2 * time.Second, order: byCopies}
	v.look(sampleAt(1), sampleAt(2, vnis...))
	lines := drawn(t, v)
	want := "     129        2        10.0        29.0           0           0           0"
	if lines[7] != want {
		t.Errorf("got first row %q, want %q", lines[7], want)
	}
	if want := "q quit  ← → sort by  ↑ ↓ scroll  1 to 16 of 30"; lines[23] != want {
		t.Errorf("got %q, want %q", lines[23], want)
	}
	v.press(keyDown)
	if lines = drawn(t, v); !strings.HasPrefix(lines[7], "     128 ") {
		t.Errorf("got first row %q, want that of 128", lines[7])
	}
	v.press(keyEnd)
	if lines = drawn(t, v); !strings.HasPrefix(lines[22], "     100 ") {
		t.Errorf("got last row %q, want that of 100", lines[22])
	}
	for range 3 {
		v.press(keyLeft)
	}
	if lines = drawn(t, v); v.order != byVNI || !strings.HasPrefix(lines[7], "     100 ") || !strings.Contains(lines[6], "*VNI") {
		t.Errorf("got %q and %q, want the order of VNIs", lines[6], lines[7])
	}
	v.press(keyLeft)
	if drawn(t, v); v.order != byDrops {
		t.Errorf("got order %d, want %d", v.order, byDrops)
	}
	// A column is there whole, or not at all; what they are sorted by always is.
	v.width = 50
	if lines = drawn(t, v); strings.TrimRight(lines[6], " ") != "     VNI  Members       pkt/s    *drops/s" {
		t.Errorf("got heads %q in 50 columns, want those that fit", lines[6])
	}
	v.width, v.height, v.offset, v.order = 40, 8, 0, byCopies
	if lines = drawn(t, v); !strings.Contains(lines[5], "*copies/s") || !strings.HasPrefix(lines[6], "     129 ") {
		t.Errorf("got %q in 8 lines, want a row of VNI 129", lines)
	}
}

func TestKeysAreTakenFromWhatATerminalSends(t *testing.T) {
	for _, tt := range []struct {
		name, sent string
		want       []key
		rest       string
	}{
		{"nothing", "", nil, ""},
		{"quit", "q", []key{keyQuit}, ""},
		{"interrupt", "\x03", []key{keyQuit}, ""},
		{"arrows", "\x1b[A\x1bOB\x1b[C\x1b[D", []key{keyUp, keyDown, keyRight, keyLeft}, ""},
		{"pages", "\x1b[5~\x1b[6~ ", []key{keyPageUp, keyPageDown, keyPageDown}, ""},
		{"in two parts", "\x1b[", nil, "\x1b["},
		{"first of two parts", "\x1b", nil, "\x1b"},
		{"unknown", "xq", []key{keyNone, keyQuit}, ""},
		{"unknown sequence", "\x1b[15~q", []key{keyNone, keyNone, keyNone, keyNone, keyNone, keyQuit}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rest := tt.sent
			var got []key
			for {
				k, left, ok := nextKey(rest)
				if rest = left; !ok {
					break
				}
				got = append(got, k)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || rest != tt.rest {
				t.Errorf("got rest %q, want %q; keys (-want +got)\n%s", rest, tt.rest, diff)
			}
		})
	}
}

// countingStats answers stats with figures that grow by each question.
func countingStats() control.Command {
	n := uint64(0)
	return control.Command{Name: control.CommandStats, Run: func(_ context.Context, call *control.Call) error {
		n++
		head := control.Stats{
			At: time.Date(2026, 11, 22, 10, 30, int(n), 0, time.UTC), Monotonic: int64(n) * int64(time.Second),
			Total: control.VNIStat{Packets: 30 * n, Bytes: 3e6 * n, Copies: 300 * n, CopyBytes: 30e6 * n, Drops: map[string]uint64{"ttl": 4 * n, "no_member": 40 * n}},
		}
		if err := call.Send(&head); err != nil {
			return err
		}
		return call.Send([]control.VNIStat{
			{VNI: 10, Members: 3, Packets: 20 * n, Bytes: 2e6 * n, Copies: 100 * n, CopyBytes: 10e6 * n, Drops: map[string]uint64{"ttl": 4 * n}},
			{VNI: 2000, Members: 12, Packets: 10 * n, Bytes: 1e6 * n, Copies: 200 * n, CopyBytes: 20e6 * n},
		})
	}}
}
