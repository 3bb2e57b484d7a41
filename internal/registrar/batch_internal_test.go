// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/vxlan"
)

// regs reads "VNI LOCAL NODE NODE; ..." with the last numbers of 10.0.0.N.
func regs(s string) []registration {
	var out []registration
	for line := range strings.SplitSeq(s, ";") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		vni, err := vxlan.ParseVNI(f[0])
		if err != nil {
			panic(err)
		}
		r := registration{VNI: vni, Local: addr("10.0.0." + f[1])}
		for _, n := range f[2:] {
			r.Nodes = append(r.Nodes, addr("10.0.0."+n))
		}
		out = append(out, r)
	}
	return out
}

// text is a batch as "+NODE/LOCAL [VNIs]", withdrawals with "-".
func (b *batch) text() string {
	var out []string
	for _, half := range []struct {
		sign string
		m    map[route][]vxlan.VNI
	}{{"-", b.Withdraw}, {"+", b.Register}} {
		for _, at := range slices.SortedFunc(maps.Keys(half.m), route.compare) {
			out = append(out, fmt.Sprintf("%s%d/%d%v", half.sign, at.Node.As4()[3], at.Local.As4()[3], half.m[at]))
		}
	}
	return strings.Join(out, " ")
}

func TestChanges(t *testing.T) {
	tests := []struct{ name, old, now, want string }{
		{"nothing", "", "", ""},
		{"all the same", "1 1 100; 2 1 100", "1 1 100; 2 1 100", ""},
		{"the first", "", "1 1 100; 2 1 100 101", "+100/1[1 2] +101/1[2]"},
		{"the last", "1 1 100; 2 1 100 101", "", "-100/1[1 2] -101/1[2]"},
		{"one more", "1 1 100; 3 1 100", "1 1 100; 2 1 100; 3 1 100; 4 2 100", "+100/1[2] +100/2[4]"},
		{"one less", "1 1 100; 2 1 100; 3 1 100", "1 1 100; 3 1 100", "-100/1[2]"},
		{"another local address replaces", "1 1 100", "1 2 100", "+100/2[1]"},
		{"another service node", "1 1 100", "1 1 101", "-100/1[1] +101/1[1]"},
		{"a service node more", "1 1 100", "1 1 100 101", "+101/1[1]"},
		{"a service node less", "1 1 100 101", "1 1 101", "-100/1[1]"},
		{"both", "1 1 100 101", "1 2 101 102", "-100/1[1] +101/2[1] +102/2[1]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := changes(regs(tt.old), regs(tt.now))
			if got := b.text(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got, want := b.empty(), tt.want == ""; got != want {
				t.Errorf("got empty %v, want %v", got, want)
			}
		})
	}
	if got, want := everything(regs("1 1 100 101; 2 2 100")).text(), "+100/1[1] +100/2[2] +101/1[1]"; got != want {
		t.Errorf("everything: got %q, want %q", got, want)
	}
}

// What is said once more must be true still.
func TestRepeats(t *testing.T) {
	tests := []struct{ name, old, now, later, want string }{
		{"nothing has changed since", "2 1 100", "1 1 100 101", "1 1 100 101", "-100/1[2] +100/1[1] +101/1[1]"},
		{"gone since", "", "1 1 100", "", ""},
		{"back since", "1 1 100", "", "1 1 100", ""},
		{"back since from another address", "1 1 100", "", "1 2 100", ""},
		{"back since at another service node", "1 1 100", "", "1 1 101", "-100/1[1]"},
		{"another address since", "", "1 1 100", "1 2 100", ""},
		{"another service node since", "", "1 1 100 101", "1 1 101", "+101/1[1]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			later := regs(tt.later)
			got := changes(regs(tt.old), regs(tt.now)).still(func(v vxlan.VNI) *registration {
				for i := range later {
					if later[i].VNI == v {
						return &later[i]
					}
				}
				return nil
			})
			if got.text() != tt.want {
				t.Errorf("got %q, want %q", got.text(), tt.want)
			}
		})
	}
}
