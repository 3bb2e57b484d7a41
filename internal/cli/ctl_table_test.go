// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/control"
)

func TestGridKeepsToTheWidth(t *testing.T) {
	const text = "some words that do not fit"
	tests := []struct {
		name  string
		width int
		tight bool
		want  string
	}{
		{"no terminal", 0, false, `
Name      Number    Kind    Text
====      ======    ====    ====
ab             1    odd     some words that do not fit
cdefgh         2
`},
		{"a terminal with room", 54, false, `
Name      Number    Kind    Text
====      ======    ====    ====
ab             1    odd     some words that do not fit
cdefgh         2
`},
		{"tight in any case", 0, true, `
Name    Number  Kind  Text
====    ======  ====  ====
ab           1  odd   some words that do not fit
cdefgh       2
`},
		{"narrower gaps", 53, false, `
Name    Number  Kind  Text
====    ======  ====  ====
ab           1  odd   some words that do not fit
cdefgh       2
`},
		{"one column less", 46, false, `
Name    Number  Text
====    ======  ====
ab           1  some words that do not fit
cdefgh       2
(no room for Kind)
`},
		{"two columns less", 38, false, `
Name    Text
====    ====
ab      some words that do not fit
cdefgh
(no room for Number, Kind)
`},
		{"more lines", 30, false, `
Name    Text
====    ====
ab      some words that do not
        fit
cdefgh
(no room for Number, Kind)
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &screen{terminal: terminal{on: tt.width > 0, width: tt.width}}
			g := newGrid(b.terminal, gridColumn{head: "Name", width: 3}, gridColumn{head: "Number", right: true, spare: 1},
				gridColumn{head: "Kind", spare: 2}, gridColumn{head: "Text"})
			g.tight = tt.tight
			g.row(plainCells("ab", "1", "odd", text)...)
			g.row(plainCells("cdefgh", "2")...)
			g.end(b)
			if diff := cmp.Diff(tt.want[1:], b.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestGridGrowsFromPartToPart(t *testing.T) {
	b := &screen{}
	g := newGrid(b.terminal, gridColumn{head: "A"}, gridColumn{head: "B"})
	g.row(plainCells("1", "2")...)
	g.flush(b)
	g.row(plainCells("1000", "2")...)
	g.end(b)
	want := "A    B\n=    =\n1    2\n1000    2\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNothingInATableSteersATerminal(t *testing.T) {
	b := &screen{terminal: terminal{on: true, width: 80}}
	g := newGrid(b.terminal, gridColumn{head: "A"})
	g.row(plainCells("dev\x1b[2J\r\nice\u009b")...)
	g.end(b)
	if want := "A\n=\ndev?[2J??ice?\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// screens are what each command that looks prints on a terminal.
func screens(t *testing.T, on terminal) map[string]string {
	t.Helper()
	made := make(map[string]string)
	paint := func(name string, fill func(b *screen)) {
		b := &screen{terminal: on}
		fill(b)
		made[name] = b.String()
	}
	s, peers := cannedStatus(), cannedPeers()
	s.Anycast.Problem, s.EngineReason = "the loopback interface is down, and nothing can be put on it", "the kernel lacks what it takes"
	explanation, destinations := cannedExplanation()
	paint("show", func(b *screen) { summaryText(b, &s, peers) })
	paint("show detail", func(b *screen) { showDetail(b, &s) })
	paint("peers", func(b *screen) { peersText(b, &peers) })
	paint("vtep", func(b *screen) { vtepText(b, "10.2.1.2", cannedVTEP()) })
	paint("explain", func(b *screen) { explainText(b, &explanation, destinations) })
	paint("stats", func(b *screen) {
		before, now := &trafficSample{}, &trafficSample{}
		before.stats, before.vnis = cannedStats(false)
		now.stats, now.vnis = cannedStats(true)
		statsText(b, nil, newStatReport(ratesBetween(before, now), now))
	})
	paint("fdb", func(b *screen) {
		p := newFDBText(&ctlCall{terminal: on, out: b})
		data, err := json.Marshal(cannedFDB())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.piece(data); err != nil {
			t.Fatal(err)
		}
		if err := p.end(); err != nil {
			t.Fatal(err)
		}
	})
	return made
}

func TestScreensFitATerminal(t *testing.T) {
	for _, width := range []int{80, 100, 200} {
		for name, text := range screens(t, terminal{on: true, width: width, colour: true}) {
			for line := range strings.SplitSeq(text, "\n") {
				if columns(line) > width {
					t.Errorf("%s: got a line of %d columns, want at most %d: %s", name, columns(line), width, line)
				}
			}
		}
	}
}

func TestColoursAddNothingButColours(t *testing.T) {
	coloured := screens(t, terminal{on: true, width: 80, colour: true})
	for name, want := range screens(t, terminal{on: true, width: 80}) {
		if diff := cmp.Diff(want, sgr.ReplaceAllString(coloured[name], "")); diff != "" {
			t.Errorf("%s: (-plain +coloured)\n%s", name, diff)
		}
		if !strings.Contains(coloured[name], "\x1b[") {
			t.Errorf("%s: got no colours", name)
		}
	}
}

// What is wrong has the colour of that.
func TestStyleOfStates(t *testing.T) {
	on := terminal{colour: true}
	text := screens(t, on)
	for name, want := range map[string][]string{
		"peers":   {on.paint(good, "up"), on.paint(bad, "unreachable"), on.paint(bad, "unresolved")},
		"show":    {on.paint(good, "yes"), on.paint(warning, "raw"), on.paint(good, "1 up"), on.paint(good, "installed by vxsnd")},
		"explain": {on.paint(warning, "unresolved"), on.paint(faint, "sender")},
		"vtep":    {on.paint(warning, "no member"), on.paint(warning, "3")},
		"stats":   {on.paint(warning, "2.0"), on.paint(faint, "pkt/s")},
	} {
		for _, w := range want {
			if !strings.Contains(text[name], w) {
				t.Errorf("%s: got %s, want %q in it", name, text[name], w)
			}
		}
	}
}

func TestEntriesArePrintedInParts(t *testing.T) {
	out := &countingWriter{}
	p := newFDBText(&ctlCall{out: out})
	part := make(control.FDBPart, 0, 3)
	for i := range 2 * control.MaxPart {
		part = append(part, cannedFDB()[0])
		part[len(part)-1].VNI = uint32(i)
		if len(part) < cap(part) {
			continue
		}
		data, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.piece(data); err != nil {
			t.Fatal(err)
		}
		if held := len(p.g.rows); held >= control.MaxPart+cap(part) {
			t.Fatalf("got %d rows held back, want at most %d", held, control.MaxPart)
		}
		part = part[:0]
	}
	if out.writes == 0 {
		t.Error("got nothing printed before the end, want parts")
	}
}

// A countingWriter counts writes.
type countingWriter struct{ writes int }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	return len(b), nil
}
