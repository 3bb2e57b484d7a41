// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
	"vxsnd/internal/metrics"
)

// manual returns a section of the manual of a program, or what is below a heading
// in one, up to the next of the same kind or a higher one.
func manual(t *testing.T, p config.Program, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + p.String() + ".8")
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("got no line %q in the manual", heading)
	}
	if strings.HasPrefix(heading, ".Ss") {
		body, _, _ = strings.Cut(body, "\n.Ss ")
	}
	body, _, _ = strings.Cut(body, "\n.Sh ")
	return body
}

func TestManualTellsEachDropReason(t *testing.T) {
	packets, copies, ok := strings.Cut(manual(t, config.Vxsnd, ".Ss Drop reasons"), "\n.El\n")
	if !ok {
		t.Fatal("got one list, want one of packets and one of copies")
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\S+)$`).FindAllStringSubmatch(packets, -1) {
		got = append(got, "packet "+m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\S+)$`).FindAllStringSubmatch(copies, -1) {
		got = append(got, "copy "+m[1])
	}
	var want []string
	for d := metrics.DropNone + 1; d < metrics.NumDrops; d++ {
		if d.PerCopy() {
			want = append(want, "copy "+d.String())
		} else {
			want = append(want, "packet "+d.String())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-metrics +manual)\n%s", diff)
	}
}

func TestManualTellsWarningsThatExist(t *testing.T) {
	dirs := map[config.Program][]string{
		config.Vxsnd: {"node", "flood", "register", "peer", "anycast", "cli", "logging", "process", "control"},
		config.Vxrd:  {"registrar", "headend", "underlay"},
	}
	for _, p := range daemons {
		var source strings.Builder
		for _, dir := range dirs[p] {
			source.WriteString(readSource(t, dir))
		}
		warnings := regexp.MustCompile(`(?m)^\.It Ql (.+)$`).FindAllStringSubmatch(manual(t, p, ".Ss Warnings"), -1)
		if len(warnings) == 0 {
			t.Fatalf("%s: got no warnings", p)
		}
		for _, m := range warnings {
			if !strings.Contains(source.String(), `"`+m[1]+`"`) {
				t.Errorf("%s: got the warning %q in the manual, but nothing logs it", p, m[1])
			}
		}
	}
}

// readSource returns the source of a package, without its tests.
func readSource(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob("../" + dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: got %d files and %v, want some", dir, len(files), err)
	}
	var source strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	return source.String()
}

// The words of a registration daemon are in its source alone.
func TestManualTellsEachReasonAndVerdict(t *testing.T) {
	source := readSource(t, "registrar")
	for heading, pattern := range map[string]string{
		".Ss Reasons":  `(?m)^\treason\w+: +\{"(\w+)", `,
		".Ss Verdicts": `(?m)^\tverdict\w+: +"(\w+)",$`,
	} {
		words := func(pattern, text string) (words []string) {
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
				words = append(words, m[1])
			}
			return words
		}
		want := words(pattern, source)
		if len(want) == 0 {
			t.Fatalf("%s: got no words in the source", heading)
		}
		if diff := cmp.Diff(want, words(`(?m)^\.It Cm (\S+)$`, manual(t, config.Vxrd, heading))); diff != "" {
			t.Errorf("%s: (-registrar +manual)\n%s", heading, diff)
		}
	}
}
