// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// What is exported is in the reference, and nothing else is: -update writes its
// table.
func TestReference(t *testing.T) {
	const file, head = root + "docs/metrics.md", "| metric | type | labels | meaning |\n|---|---|---|---|\n"
	f := full()
	c := collector(&f, 10)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, m := range families {
		var labels []string
		for _, l := range m.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.GetName(), strings.ToLower(m.GetType().String()), strings.Join(labels, ", "), m.GetHelp())
	}

	descs := make(chan *prometheus.Desc, 1000)
	c.Describe(descs)
	if len(descs) != len(families) {
		t.Errorf("got %d metrics of figures that have all, want the %d that there can be", len(families), len(descs))
	}

	text, got, _ := strings.Cut(read(t, file), head)
	if *update {
		got = table.String()
		if err := os.WriteFile(file, []byte(text+head+got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(table.String(), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
