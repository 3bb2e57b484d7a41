// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"vxsnd/internal/control"
)

// TestManualsOfControlProgramsAreComplete checks that the manual of each control
// program and its help name each flag, command and socket, and that the manual
// names each member of the JSON that --json prints.
func TestManualsOfControlProgramsAreComplete(t *testing.T) {
	values := map[*ctlProgram][]any{
		vxsndctl: {cannedStatus(), cannedStatus().Anycast, askedPeer(), control.Status{Waiting: "x", Asking: true}, control.Anycast{Problem: "x"}, control.ConfigValue{}},
		vxrdctl:  {cannedRegistrar(), control.ConfigValue{}},
	}
	for _, p := range cannedPeers() {
		values[vxsndctl] = append(values[vxsndctl], p, p.LastDump)
	}
	explanation, destinations := cannedExplanation()
	values[vxsndctl] = append(values[vxsndctl], explanation, statReport{}, statRow{VNIStat: control.VNIStat{Drops: map[string]uint64{"ttl": 1}}})
	for _, d := range destinations {
		values[vxsndctl] = append(values[vxsndctl], d)
	}
	for _, m := range cannedVTEP() {
		values[vxsndctl] = append(values[vxsndctl], m)
	}
	for _, e := range cannedFDB() {
		values[vxsndctl] = append(values[vxsndctl], e)
	}
	for _, v := range cannedVXLANs() {
		values[vxrdctl] = append(values[vxrdctl], v)
	}
	for _, l := range cannedLists() {
		values[vxrdctl] = append(values[vxrdctl], l)
	}
	for p, values := range values {
		t.Run(p.name, func(t *testing.T) { checkCtlManual(t, p, values) })
	}
}

func checkCtlManual(t *testing.T, p *ctlProgram, values []any) {
	text, err := os.ReadFile("../../docs/" + p.name + ".8")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(text)
	has := func(pattern string) {
		t.Helper()
		if !regexp.MustCompile(`(?m)` + pattern).MatchString(manual) {
			t.Errorf("got no line that matches %s", pattern)
		}
	}
	var b bytes.Buffer
	if err := p.help(&b); err != nil {
		t.Fatal(err)
	}
	help := b.String()
	newCtlFlags(p.name, nil).VisitAll(func(f *pflag.Flag) {
		name := `-` + f.Name
		switch {
		case f.Name == f.Shorthand:
			has(`^\.It Fl ` + f.Shorthand + `$`)
			name = f.Shorthand
		case f.Shorthand != "":
			has(`^\.It Fl ` + f.Shorthand + ` , -` + f.Name + `( Ar |$)`)
		default:
			has(`^\.It Fl -` + f.Name + `( Ar |$)`)
		}
		if !strings.Contains(help, " -"+name) {
			t.Errorf("-%s is not in the help", name)
		}
	})
	for _, c := range p.commands {
		has(`^\.It Cm ` + c.name + `( |$)`)
		// What commands of one first word print may be told in one place.
		family, _, _ := strings.Cut(c.name, " ")
		if c.group != others {
			has(`^\.Ss (.*, )?(` + c.name + `|` + family + `)(, .*)?$`)
		}
		if c.flags != nil {
			own := pflag.NewFlagSet("", pflag.ContinueOnError)
			c.flags(own)
			own.VisitAll(func(f *pflag.Flag) {
				name := f.Shorthand
				if name == "" {
					name = "-" + f.Name
				}
				has(`\bFl ` + name + `\b`)
			})
		}
		if !strings.Contains(help, "\n  "+c.synopsis()) {
			t.Errorf("%s is not in the help", c.name)
		}
	}
	for _, path := range p.sockets {
		has(`^\.It Pa ` + regexp.QuoteMeta(path) + `$`)
		if !strings.Contains(help, path) {
			t.Errorf("%s is not in the help", path)
		}
	}
	for _, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(b, &members); err != nil {
			t.Fatal(err)
		}
		for name := range members {
			has(`^\.It Cm (\S+ , )*` + name + `( , \S+)*$`)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > helpWidth+1 {
			t.Errorf("got help line %q, want at most %d bytes", line, helpWidth)
		}
	}
}

func TestManualTellsEachColumn(t *testing.T) {
	text, err := os.ReadFile("../../docs/vxsndctl.8")
	if err != nil {
		t.Fatal(err)
	}
	debug := newFDBText(&ctlCall{values: map[string]any{"debug": "debug"}})
	for name, columns := range map[string][]gridColumn{
		"fdb": debug.g.columns, "peers": peerColumns, "vtep": vtepColumns, "stats": statColumns, "explain": explainColumns,
	} {
		_, part, _ := strings.Cut(string(text), "\n.Ss "+name+"\n")
		part, _, _ = strings.Cut(part, "\n.Ss ")
		for _, c := range columns {
			if !regexp.MustCompile(`(?m)^\.It Cm (.* , )?` + regexp.QuoteMeta(c.head) + `( , .*)?$`).MatchString(part) {
				t.Errorf("%s: got no column %s in the manual", name, c.head)
			}
		}
	}
}
