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

func TestWhatVxrdCannotDoWith(t *testing.T) {
	const six = " is an IPv6 address, but registrations carry IPv4 alone\n"
	tests := []struct {
		name, text string
		want       string // errors, then warnings
	}{
		{"IPv4", "svcnode_ip = 192.0.2.1, ::ffff:192.0.2.2\nsrc_ip = 192.0.2.3\nlocal_addr = 192.0.2.4\n", ""},
		{"no service node", "svcnode_ip = ::\n", ""},
		{"IPv6", "svcnode_ip = 192.0.2.1, ::1\nsrc_ip = ::\nlocal_addr = 2001:db8::1\nsvcnode = 2001:db8::2\n",
			"f:1: svcnode_ip: ::1" + six + "f:2: src_ip: ::" + six + "f:3: local_addr: 2001:db8::1" + six + "f:4: svcnode: 2001:db8::2" + six +
				"warning: f:4: svcnode: has no effect, since svcnode_ip is set\n"},
		{"sender", "answer_from = service 2001:db8::/32 192.0.2.0/24\n",
			"warning: f:1: answer_from: 2001:db8::/32 holds no sender, since answers come from IPv4 addresses\n"},
		{"either service node", "svcnode = 192.0.2.1\n[vxrd]\nsvcnode_ip = 192.0.2.2\n",
			"warning: f:1: svcnode: has no effect, since svcnode_ip is set\n"},
		{"service node of devices", "svcnode = 192.0.2.1\nsvcnode_ip = 0.0.0.0\n", ""},
		{"as often as can be", "holdtime = 2\nrefresh_rate = 20\n", ""},
		{"too often", "holdtime = 2\nrefresh_rate = 21\n",
			"warning: f:2: refresh_rate: 21 in a holdtime of 2s is too often: registrations are renewed ten times a second\n"},
		{"in a holdtime without end", "holdtime = 65535\nrefresh_rate = 65535\n", ""},
		{"identifier", "node_id = 0x0\n", "warning: f:1: node_id: 0 stands for no machine, and is taken for auto\n"},
		{"default identifier", "node_id = AUTO\n", ""},
		{"wrong itself", "svcnode_ip = x\nsvcnode = 192.0.2.1\nholdtime = 0\nrefresh_rate = 65535\n",
			"f:1: svcnode_ip: \"x\" is not an IPv4 or IPv6 address\nf:3: holdtime: 0 is out of range 1..65535\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := config.Load(config.Input{Program: config.Vxrd, File: file})
			got := ""
			if err != nil {
				got = err.Error() + "\n"
			}
			for _, w := range r.Warnings {
				got += "warning: " + w.Error() + "\n"
			}
			if diff := cmp.Diff(tt.want, strings.ReplaceAll(got, file, "f")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if r, err := config.Load(config.Input{Program: config.Vxsnd, File: file}); tt.name == "identifier" && (err != nil || len(r.Warnings) > 0) {
				t.Errorf("vxsnd: got error %v and warnings %v, want none", err, r.Warnings)
			}
		})
	}
}
