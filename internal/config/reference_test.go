// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// references are the documents of each program.
var references = []struct {
	program      config.Program
	file, manual string
}{
	{program: config.Vxsnd, file: "../../etc/vxsnd.conf", manual: "../../docs/vxsnd.conf.5"},
	{program: config.Vxrd, file: "../../etc/vxrd.conf", manual: "../../docs/vxrd.conf.5"},
}

func TestExampleFileIsTheDefault(t *testing.T) {
	for _, ref := range references {
		r, err := config.Parse(ref.program, "f", []byte(readDocument(t, ref.file)), nil)
		if err != nil || len(r.Warnings) > 0 {
			t.Fatalf("%s: got %v and warnings %v, want none", ref.file, err, r.Warnings)
		}
		if diff := diffConfig(config.DefaultFor(ref.program), r.Config); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", ref.file, diff)
		}
	}
}

func TestExampleFileNamesEachOptionWithItsDefault(t *testing.T) {
	for _, ref := range references {
		text := readDocument(t, ref.file)
		r, err := config.Parse(ref.program, "f", []byte(optionLine.ReplaceAllString(text, "$1 = $2")), nil)
		if err != nil || len(r.Warnings) > 0 {
			t.Fatalf("%s: with every option uncommented: got %v and warnings %v, want none", ref.file, err, r.Warnings)
		}
		if diff := diffConfig(config.DefaultFor(ref.program), r.Config); diff != "" {
			t.Errorf("%s: with every option uncommented: (-want +got)\n%s", ref.file, diff)
		}
		var got []string
		for _, m := range optionLine.FindAllStringSubmatch(text, -1) {
			got = append(got, m[1]+" = "+m[2])
		}
		var want []string
		for _, o := range config.OptionsFor(ref.program) {
			if !o.Obsolete && o.Programs&ref.program != 0 {
				want = append(want, o.Name+" = "+o.DefaultFor(ref.program))
			}
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("%s: got the options\n%s\nwant\n%s", ref.file, g, w)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if len(line) > 80 {
				t.Errorf("%s: got a line of %d bytes, want at most 80: %s", ref.file, len(line), line)
			}
		}
	}
}

// TestManualNamesEachOption checks that the manual has an item for each option
// of its program, which tells its older names, its default, whether a reload
// brings it into effect, and whether it waits for a later version.
func TestManualNamesEachOption(t *testing.T) {
	for _, ref := range references {
		t.Run(ref.program.String(), func(t *testing.T) {
			var names []string
			items := map[string]string{}
			for _, item := range strings.Split(readDocument(t, ref.manual), "\n.It Ic ")[1:] {
				head, body, _ := strings.Cut(item, "\n")
				body, _, _ = strings.Cut(body, "\n.El")
				name := strings.Fields(head)[0]
				names, items[name] = append(names, name), body+"\n"
			}
			var want []string
			for _, o := range config.OptionsFor(ref.program) {
				if o.Programs&ref.program == 0 {
					continue
				}
				want = append(want, o.Name)
				if body, ok := items[o.Name]; ok && !o.Obsolete {
					checkItem(t, o, ref.program, body)
				}
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// checkItem checks what the manual of program p says of option o.
func checkItem(t *testing.T, o config.Option, p config.Program, body string) {
	t.Helper()
	effect := "needs a restart"
	if o.Reload {
		effect = "takes effect on reload"
	}
	def := ".Pq default : Cm " + o.DefaultFor(p) + " ; No " + effect
	short := ".Pq " + effect // where the text tells the default
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

func TestExamplesOfTheManualLoad(t *testing.T) {
	for _, ref := range references {
		examples := regexp.MustCompile(`(?s)\.Bd -literal[^\n]*\n(.*?)\.Ed\n`).FindAllStringSubmatch(readDocument(t, ref.manual), -1)
		if len(examples) == 0 {
			t.Fatalf("%s: got no examples", ref.manual)
		}
		for _, m := range examples {
			if _, err := config.Parse(ref.program, "f", []byte(m[1]), nil); err != nil {
				t.Errorf("%s: got %v for\n%s", ref.manual, err, m[1])
			}
		}
	}
}
