// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"vxsnd/internal/config"
)

// optionLine is a line of the example file that sets an option but for its
// comment sign.
var optionLine = regexp.MustCompile(`(?m)^#([a-z_]+) = (.*)$`)

func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExampleFileIsTheDefault(t *testing.T) {
	text := readDocument(t, "../../etc/vxsnd.conf")
	r, err := parse(text)
	if err != nil || len(r.Warnings) > 0 {
		t.Fatalf("got %v and warnings %v, want none", err, r.Warnings)
	}
	if diff := diffConfig(config.Default(), r.Config); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestExampleFileNamesEachOptionWithItsDefault(t *testing.T) {
	text := readDocument(t, "../../etc/vxsnd.conf")
	r, err := parse(optionLine.ReplaceAllString(text, "$1 = $2"))
	if err != nil || len(r.Warnings) > 0 {
		t.Fatalf("with every option uncommented: got %v and warnings %v, want none", err, r.Warnings)
	}
	if diff := diffConfig(config.Default(), r.Config); diff != "" {
		t.Errorf("with every option uncommented: (-want +got)\n%s", diff)
	}
	var got []string
	for _, m := range optionLine.FindAllStringSubmatch(text, -1) {
		got = append(got, m[1]+" = "+m[2])
	}
	var want []string
	for _, o := range config.Options() {
		if !o.Obsolete {
			want = append(want, o.Name+" = "+o.DefaultFor(config.Vxsnd))
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got the options\n%s\nwant\n%s", g, w)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > 80 {
			t.Errorf("got a line of %d bytes, want at most 80: %s", len(line), line)
		}
	}
}

// TestManualNamesEachOption checks that vxsnd.conf(5) has an item for each
// option, which tells its older names, its default, whether a reload brings it
// into effect, and whether it waits for a later version.
func TestManualNamesEachOption(t *testing.T) {
	items := map[string]string{}
	for _, item := range strings.Split(readDocument(t, "../../docs/vxsnd.conf.5"), "\n.It Ic ")[1:] {
		head, body, _ := strings.Cut(item, "\n")
		body, _, _ = strings.Cut(body, "\n.El")
		items[strings.Fields(head)[0]] = body + "\n"
	}
	for _, o := range config.Options() {
		body, ok := items[o.Name]
		if !ok {
			t.Errorf("%s: got no item", o.Name)
			continue
		}
		delete(items, o.Name)
		if o.Obsolete {
			continue
		}
		effect := "needs a restart"
		if o.Reload {
			effect = "takes effect on reload"
		}
		def := ".Pq default : Cm " + o.DefaultFor(config.Vxsnd)
		short := ".Pq " + effect // where the text tells the default
		if def += " ; No " + effect; o.Programs&config.Vxsnd == 0 {
			def = strings.TrimSuffix(def, " ; No "+effect)
		}
		if !strings.Contains(body, def+"\n") && (o.DefaultNote == "" || !strings.Contains(body, short+"\n")) {
			t.Errorf("%s: got no line %q", o.Name, def)
		}
		for _, a := range o.Aliases {
			if !strings.Contains(body, ".Ic "+a) {
				t.Errorf("%s: got no older name %s", o.Name, a)
			}
		}
		if later := strings.Contains(strings.Join(strings.Fields(body), " "), "in this version"); later != o.Later {
			t.Errorf("%s: says that it waits for a later version: got %t, want %t", o.Name, later, o.Later)
		}
	}
	for name := range items {
		t.Errorf("%s: got an item, but there is no such option", name)
	}
}

func TestExamplesOfTheManualLoad(t *testing.T) {
	text := readDocument(t, "../../docs/vxsnd.conf.5")
	examples := regexp.MustCompile(`(?s)\.Bd -literal[^\n]*\n(.*?)\.Ed\n`).FindAllStringSubmatch(text, -1)
	if len(examples) == 0 {
		t.Fatal("got no examples")
	}
	for _, m := range examples {
		if _, err := parse(m[1]); err != nil {
			t.Errorf("got %v for\n%s", err, m[1])
		}
	}
}
