// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/metrics"
)

// manual returns a section of vxsnd(8), or what is below a heading in one, up
// to the next of the same kind or a higher one.
func manual(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/vxsnd.8")
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
	packets, copies, ok := strings.Cut(manual(t, ".Ss Drop reasons"), "\n.El\n")
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
	var source strings.Builder
	for _, dir := range []string{".", "../node", "../flood", "../register", "../logging", "../process", "../control", "../peer", "../anycast"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %d files and %v, want some", dir, len(files), err)
		}
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
	}
	warnings := regexp.MustCompile(`(?m)^\.It Ql (.+)$`).FindAllStringSubmatch(manual(t, ".Ss Warnings"), -1)
	if len(warnings) == 0 {
		t.Fatal("got no warnings")
	}
	for _, m := range warnings {
		if !strings.Contains(source.String(), `"`+m[1]+`"`) {
			t.Errorf("got the warning %q in the manual, but nothing logs it", m[1])
		}
	}
}
