// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
)

func TestCandidatesFitTheCommandLine(t *testing.T) {
	tests := []struct {
		name    string
		program *ctlProgram
		line    string // its words; the last is being written
		want    []string
		not     []string
	}{
		{"command", vxsndctl, "", []string{"show", "fdb", "get", "set", "completion", "help"}, []string{"get config", "detail"}},
		{"of the other program", vxrdctl, "vx", []string{"vxlans"}, []string{"show"}},
		{"behind flags", vxsndctl, "--json -u /run/x f", []string{"fdb"}, []string{"show"}},
		{"second word", vxsndctl, "get ", []string{"config"}, []string{"show"}},
		{"word and operand", vxsndctl, "fdb ", []string{"add", "del", "file", "debug"}, nil},
		{"operand behind operand", vxsndctl, "fdb 10 ", []string{"debug"}, []string{"add"}},
		{"no operand", vxsndctl, "fdb 10 debug ", nil, []string{"debug", "add"}},
		{"only a word", vxsndctl, "show d", []string{"detail"}, nil},
		{"words of an operand", vxsndctl, "set debug o", []string{"on", "off"}, nil},
		{"shells", vxrdctl, "completion ", []string{"bash", "zsh", "fish"}, nil},
		{"options", vxsndctl, "get config hold", []string{"holdtime"}, []string{"config_check_period"}},
		{"options of the other program", vxrdctl, "get config ", []string{"head_rep"}, []string{"no_flood", "install_svcnode_ip"}},
		{"only the name of an option", vxsndctl, "set config holdtime ", nil, []string{"holdtime"}},
		{"file", vxsndctl, "fdb file /tm", []string{fileCandidate}, nil},
		{"flags", vxsndctl, "--", []string{"--json", "--udsfile", "--help"}, []string{"--source"}},
		{"flags of a command", vxsndctl, "fdb -", []string{"--json", "-j", "-u", "--source", "--vtep"}, []string{"--ttl"}},
		{"value of a flag", vxsndctl, "fdb --source ", []string{"data", "registration", "operator", "configuration", "peer"}, []string{"debug"}},
		{"value of a flag before its command", vxsndctl, "--source re", []string{"registration"}, nil},
		{"value behind an equals sign", vxsndctl, "fdb --source=da", []string{"--source=data"}, []string{"data"}},
		{"file of a flag", vxsndctl, "show -u ", []string{fileCandidate}, []string{"detail"}},
		{"file of letters", vxsndctl, "show -ju ", []string{fileCandidate}, nil},
		{"value of no known words", vxsndctl, "fdb --vtep ", nil, []string{"debug", fileCandidate}},
		{"behind a value", vxsndctl, "fdb --source data d", []string{"debug", "del"}, nil},
		{"behind two hyphens", vxsndctl, "-- fdb ", []string{"add"}, nil},
		{"no flags behind two hyphens", vxsndctl, "-- fdb -", nil, []string{"--json"}},
		{"help", vxsndctl, "help f", []string{"fdb"}, []string{"show"}},
		{"help on two words", vxsndctl, "help set ", []string{"config", "debug"}, nil},
		{"nonsense", vxsndctl, "nonsense ", nil, []string{"show"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.program.candidates(strings.Split(tt.line, " "), &b); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(b.String(), "\n")
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("got %q, want %q among them", got, w)
				}
			}
			for _, w := range tt.not {
				if slices.Contains(got, w) {
					t.Errorf("got %q, want no %q", got, w)
				}
			}
		})
	}
}

// What is no flag is found before it is known whose flags these are.
func TestFlagsOfOneNameAllTakeAValueOrNoneDoes(t *testing.T) {
	for _, p := range []*ctlProgram{vxsndctl, vxrdctl} {
		takes := make(map[string]bool)
		for i := range p.commands {
			newCtlFlags(p.name, &p.commands[i]).VisitAll(func(f *pflag.Flag) {
				for _, name := range []string{"--" + f.Name, "-" + f.Shorthand} {
					if was, known := takes[name]; known && name != "-" && was != (f.NoOptDefVal == "") {
						t.Errorf("%s: %s takes a value in some commands and none in others", p.name, name)
					}
					takes[name] = f.NoOptDefVal == ""
				}
			})
		}
	}
}

func TestCompletionKnowsAllOptionsOfADaemon(t *testing.T) {
	for _, p := range daemons {
		names := optionNames(p, false)
		for _, o := range config.OptionsFor(p) {
			if want := !o.Obsolete && o.Programs&p != 0; slices.Contains(names, o.Name) != want {
				t.Errorf("%s: %s: got it %t, want %t", p, o.Name, !want, want)
			}
		}
	}
}
