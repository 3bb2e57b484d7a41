// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// someResults are figures as one would like them.
func someResults() results {
	rs := results{}
	for i, c := range contenders {
		for _, n := range []int{1, 64, 4000} {
			for _, k := range []kind{small, half} {
				rs[key{table{members: n, vnis: 1}, c.name, k}] = []figure{
					{rate: float64(i+1) * 1e5, cpu: 1 / float64(i+1), own: 1, missing: 0.25, delays: []time.Duration{time.Millisecond}, exactness: 10},
					{rate: float64(i+1) * 2e5, cpu: 1 / float64(i+1), own: 1, missing: 0.25, exactness: 10},
				}
			}
		}
	}
	rs[key{table{members: 64, vnis: 1, workers: 1}, "raw", small}] = []figure{{rate: 2e5}, {rate: 2e5}}
	rs[key{table{members: 64, vnis: 1, workers: 2}, "raw", small}] = []figure{{rate: 3e5, user: 1, busy: 50}, {rate: 3e5, user: 1, busy: 50}}
	rs[key{table{members: 8, vnis: 1}, "raw", churned}] = []figure{{rate: 1e5}}
	rs[key{table{members: 8, vnis: 1}, "tc", churned}] = []figure{{rate: 1e6, kernel: 0.998,
		changes: []time.Duration{time.Millisecond, 2 * time.Millisecond, 7 * time.Millisecond}}}
	return rs
}

func TestReportReplacesItsPart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	p := &plan{report: dir, time: time.Second}
	if err := os.WriteFile(file, []byte("before\n"+reportBegin+"\nold\n"+reportEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.writeReport(someResults(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "\nafter\n") || strings.Contains(got, "\nold\n") {
		t.Errorf("got %q, want what was there before and after, and nothing old", got)
	}
	for _, want := range []string{
		"| vxsnd, engine tc | 750 (25 %) | 750 (25 %) | 750 (25 %) |",
		"| engine tc / kernel head-end replication | 1.25 | 1.25 | 1.25 |",
		"| vxsnd, engine raw | 1000 / 1000 / 1000 |",
		"| 2 workers / 1 | 1.50 |",
		"| user time of engine raw |  | 2.0 % |  |",
		"it is 2.0 % of 100 s",
		"| vxsnd, engine tc: changes in force | 2.0 / 7.0 |",
		"| flooded in the kernel | 99.8 % |",
		"Each copy of 600 packets was looked at",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("got %d lines with %q, want 1, in\n%s", strings.Count(got, want), want, got)
		}
	}
}

func TestReportNeedsItsPlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "performance.md"), []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&plan{report: dir}).writeReport(someResults(), time.Minute); err == nil {
		t.Error("got no error without a place for the report, want one")
	}
}

// The document has the place.
func TestDocumentHasAPlaceForTheReport(t *testing.T) {
	b, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if i, j := bytes.Index(b, []byte(reportBegin)), bytes.Index(b, []byte(reportEnd)); i < 0 || j < i {
		t.Errorf("got marks at %d and %d, want both in this order", i, j)
	}
}

func TestPlotIsXML(t *testing.T) {
	for _, g := range someResults().plots() {
		svg := g.svg()
		circles := 0
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", g.file, err)
			}
			if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "circle" {
				circles++
			}
		}
		// Two panels of three numbers of members, and the legend.
		if want := len(contenders) * (2*3 + 1); circles != want {
			t.Errorf("%s: got %d points, want %d", g.file, circles, want)
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s: a coordinate is no number", g.file)
		}
	}
}

func TestTicks(t *testing.T) {
	got := axis{lo: 15, hi: 600}.ticks()
	want := []float64{20, 50, 100, 200, 500}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
