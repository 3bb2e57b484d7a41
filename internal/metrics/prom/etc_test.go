// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood/tc"
	"vxsnd/internal/metrics"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/netlab"
)

const (
	root      = "../../../"
	dashboard = root + "etc/grafana/vxsnd.json"
	rules     = root + "etc/prometheus/vxsnd.rules.yml"
	ruleTests = root + "etc/prometheus/vxsnd.rules.test.yml"
	manual    = root + "docs/operations.md"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// promtool runs the program that the Makefile gets, and returns what it says.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		if tool, err = filepath.Abs(root + "bin/promtool"); err == nil {
			_, err = os.Stat(tool)
		}
	}
	if err != nil {
		netlab.Lacks(t, "promtool", err)
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Each alert goes off when it should, and only then.
func TestRules(t *testing.T) {
	promtool(t, "check", "rules", "--lint-fatal", rules)
	promtool(t, "test", "rules", ruleTests)
	tests := read(t, ruleTests)
	for _, alert := range names(read(t, rules), `- alert: (\w+)`) {
		if strings.Count(tests, "alertname: "+alert+"\n")+strings.Count(tests, "alertname: "+alert+",") != 2 {
			t.Errorf("got no two tests of %s, one in which it is silent and one in which it fires", alert)
		}
	}
}

// names returns what the first group of a pattern matches, each once, in order.
func names(text, pattern string) []string {
	var out []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Whatever operators are told to look at is there.
func TestNamesExist(t *testing.T) {
	f := full()
	s := httptest.NewServer(prom.Handler(collector(&f, 10)))
	defer s.Close()
	there := map[string]bool{}
	for _, l := range lines(scrape(t, s.URL), "# TYPE ") {
		word := strings.Fields(l)
		there[word[2]] = true
		if word[3] == "histogram" {
			there[word[2]+"_bucket"], there[word[2]+"_sum"], there[word[2]+"_count"] = true, true, true
		}
	}
	for _, file := range []string{dashboard, rules, ruleTests, manual} {
		used := names(read(t, file), `\b((?:vxsnd|process|go)_[a-z0-9_]+)`)
		if len(used) == 0 {
			t.Errorf("%s: got no metrics", file)
		}
		for _, name := range used {
			if !there[name] {
				t.Errorf("%s: %s is no metric", file, name)
			}
		}
	}
	alerts := names(read(t, rules), `- alert: (\w+)`)
	for _, name := range names(read(t, manual), `\b(Vxsnd\w+)`) {
		if !slices.Contains(alerts, name) {
			t.Errorf("%s: %s is no alert", manual, name)
		}
	}
}

// A reason that is misspelt would match nothing, in silence.
func TestReasonsExist(t *testing.T) {
	known := []string{"failure", "privilege"} // of tc.Status.Why
	for d := range metrics.NumDrops {
		known = append(known, d.String())
	}
	for r := range fdb.Refusal(fdb.NumRefusals) {
		known = append(known, r.String())
	}
	s := tc.New(tc.Config{}).Status()
	known = slices.AppendSeq(slices.AppendSeq(known, maps.Keys(s.HandedUp)), maps.Keys(s.RawVNIs))
	for _, file := range []string{dashboard, rules, ruleTests, manual} {
		for _, list := range names(read(t, file), `reason=~?\\?"([a-z_|]+)`) {
			for reason := range strings.SplitSeq(list, "|") {
				if !slices.Contains(known, reason) {
					t.Errorf("%s: %s is no reason", file, reason)
				}
			}
		}
	}
}

// A panel of the dashboard, as far as the test looks.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ RefID, Expr string }
}

// The dashboard can be drawn: its questions can be asked and its panels have
// each a place to themselves.
func TestDashboard(t *testing.T) {
	var board struct {
		UID         string
		Panels      []panel
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || len(board.Panels) == 0 {
		t.Errorf("got uid %q and %d panels", board.UID, len(board.Panels))
	}
	var file strings.Builder
	file.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	rule := func(name, expr string) {
		b, err := json.Marshal(strings.ReplaceAll(expr, "$__rate_interval", "5m"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&file, "      - {record: %q, expr: %s}\n", name, b)
	}
	taken := map[[2]int]string{}
	ids := map[int]string{}
	for _, p := range board.Panels {
		if other, ok := ids[p.ID]; ok {
			t.Errorf("%s has the id of %s", p.Title, other)
		}
		ids[p.ID] = p.Title
		if p.Type != "row" && len(p.Targets) == 0 || p.Title == "" {
			t.Errorf("panel %d %q shows nothing", p.ID, p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("%s is drawn over %q or the border", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, q := range p.Targets {
			rule(fmt.Sprintf("panel_%d:%s", p.ID, q.RefID), q.Expr)
		}
	}
	for i, a := range board.Annotations.List {
		if a.Expr != "" {
			rule(fmt.Sprintf("annotation_%d", i), a.Expr)
		}
	}
	name := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(name, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", name)
}
