// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

func TestStaticMemberThatGetsNoCopiesEarnsAWarning(t *testing.T) {
	warning := func(place, addr, what string) string {
		return "warning: " + place + ": " + addr + " gets no copies, since it is " + what + ": change one of the two\n"
	}
	tests := []struct {
		name, text string
		flags      []config.Flag
		want       string
	}{
		{"service address", "[vxsnd]\nvtep_membership = 192.0.2.1 1 192.0.2.9 1 ::ffff:192.0.2.9 2\nsvcnode_ip = 192.0.2.9\n", nil,
			warning("f:2: [vxsnd] vtep_membership", "192.0.2.9", "svcnode_ip")},
		{"own address, in the line that names it", "src_ip = 2001:db8::9\nvtep_membership = 192.0.2.1 1\nvtep_membership = 2001:DB8::9 1\n", nil,
			warning("f:3: vtep_membership", "2001:db8::9", "src_ip")},
		{"flags", "", []config.Flag{{Name: "--address", Option: "svcnode_ip", Value: "192.0.2.9"},
			{Name: "--vtep-membership", Option: "vtep_membership", Value: "192.0.2.1 5"},
			{Name: "--vtep-membership", Option: "vtep_membership", Value: "192.0.2.9 5"}},
			warning("--vtep-membership", "192.0.2.9", "svcnode_ip")},
		{"peer and proxy", "svcnode_peers = sn1 192.0.2.2:5\narea = 1\nvxfld_proxy_servers = 192.0.2.3\nvtep_membership = 192.0.2.3 1\n 192.0.2.2 1\n", nil,
			warning("f:4: vtep_membership", "192.0.2.3", "a proxy (vxfld_proxy_servers)") +
				warning("f:4: vtep_membership", "192.0.2.2", "a peer (svcnode_peers)")},
		{"nobody's address", "svcnode_ip = 192.0.2.9\nsrc_ip = 192.0.2.8\nvtep_membership = 192.0.2.1 1\nvtep_membership = none\n", nil, ""},
		{"all addresses", "svcnode_ip = ::\nvtep_membership = 2001:db8::1 1\n", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parse(tt.text, tt.flags...)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, w := range r.Warnings {
				if strings.Contains(w.Text, "no copies, since") {
					got.WriteString("warning: " + w.Error() + "\n")
				}
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestStaticMembersOfAFamilyThatIsNotServed(t *testing.T) {
	const six = "warning: f:1: vtep_membership: 2001:db8::9 gets no copies, since neither svcnode_ip nor src_ip is an address of its family\n"
	tests := []struct{ name, text, want string }{
		{"default", "", six},
		{"IPv6", "svcnode_ip = ::\n", strings.ReplaceAll(six, "2001:db8::9", "192.0.2.9")},
		{"both", "svcnode_ip = 192.0.2.1\nsrc_ip = 2001:db8::1\n", ""},
		{"several", "vtep_membership = 2001:db8::8 1 2001:db8::9 6\n", strings.TrimSuffix(six, "\n") + "; the same goes for 1 more\n"},
		{"any source", "svcnode_ip = 192.0.2.1\nsrc_ip = ::\n", six},
		{"registrations alone", "no_flood = yes\n", ""},
		{"no address yet", "svcnode_ip = x\n", ""},
	}
	file := filepath.Join(t.TempDir(), "f")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte("vtep_membership = 192.0.2.9 5 2001:db8::9 5\n"+tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r, _ := config.Load(config.Input{File: file})
			got := ""
			for _, w := range r.Warnings {
				got += "warning: " + strings.TrimPrefix(w.Error(), filepath.Dir(file)+"/") + "\n"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
