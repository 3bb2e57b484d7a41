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

// What is set wins over files and flags, and is checked along with them; what has
// become of the files since does not matter.
func TestSetValuesWin(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "holdtime = 60\nsvcnode_peers = 192.0.2.1\nloglevel = error\nvtep_membership = 192.0.2.7 1\n")
	write(file+config.OverrideSuffix, "holdtime = 61\n")
	first, err := config.Load(config.Input{
		File: file, RuntimeDir: "/run/x",
		Flags: []config.Flag{
			{Name: "--svcnode-peers", Option: "svcnode_peers", Value: "192.0.2.2"}, {Name: "--address", Option: "svcnode_ip", Value: "192.0.2.9"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(file, "nonsense\n")
	set := func(ss ...string) (fs []config.Flag) {
		for _, s := range ss {
			name, value, _ := strings.Cut(s, "=")
			fs = append(fs, config.Flag{Name: name, Option: name, Value: value})
		}
		return fs
	}
	tests := []struct {
		name string
		set  []config.Flag
		want string // what changes, warnings, problems
	}{
		{"nothing", nil, ""},
		{"over the override file", set("holdtime=5"), "holdtime 61 5\n"},
		{"the same", set("holdtime=61s"), ""},
		{"the last one", set("holdtime=5", "holdtime=6"), "holdtime 61 6\n"},
		{"a list is replaced", set("svcnode_peers=192.0.2.3 192.0.2.4"), "svcnode_peers 192.0.2.2:10001 192.0.2.3:10001 192.0.2.4:10001\n"},
		{"a list is emptied", set("svcnode_peers=none"), "svcnode_peers 192.0.2.2:10001 none\n"},
		{"an older name", set("servers=192.0.2.3"), "svcnode_peers 192.0.2.2:10001 192.0.2.3:10001\n"},
		{"against what an address of the command line has done", set("install_svcnode_ip=no"), "install_svcnode_ip true false\n"},
		{"several", set("loglevel=info", "holdtime=7"), "loglevel error info\nholdtime 61 7\n"},
		{"out of range", set("holdtime=0"), "error: holdtime: 0 is out of range 1..65535; hint: the default is 90\n"},
		{"all that is wrong", set("holdtime=0", "loglevel=x"),
			"error: holdtime: 0 is out of range 1..65535; hint: the default is 90\n" +
				"error: loglevel: \"x\" is none of debug, info, warning, error, critical; hint: the default is info\n"},
		{"unknown", set("holdtme=1"), "error: holdtme: not a known option; hint: \n"},
		{"together with the rest", set("vxfld_proxy_servers=192.0.2.5"),
			"warning: vxfld_proxy_servers: nothing is handed to proxies in this version; their addresses get no copies\n" +
				"error: vxfld_proxy_servers: needs area to be set; hint: set area to the number of this node's area\n"},
		{"what a file says beside it", set("peer_allow=192.0.2.0/24", "svcnode_peers=192.0.2.7"),
			"warning: " + file + ":4: vtep_membership: 192.0.2.7 gets no copies, since it is a peer (svcnode_peers): change one of the two\n" +
				"svcnode_peers 192.0.2.2:10001 192.0.2.7:10001\npeer_allow none 192.0.2.0/24\n"},
		{"a file of another's", set("metrics_listen=/run/x/vxsnd.sock"),
			"error: metrics_listen: /run/x/vxsnd.sock is the file of udsfile, too; hint: name another file\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := first.With(tt.set)
			var got strings.Builder
			for _, w := range r.Warnings {
				got.WriteString("warning: " + w.Error() + "\n")
			}
			if err == nil {
				for _, c := range config.Diff(config.Vxsnd, &first.Config, &r.Config) {
					got.WriteString(c.Option + " " + c.Old + " " + c.New + "\n")
				}
			} else {
				for _, p := range err.(config.Problems) {
					got.WriteString("error: " + p.Error() + "; hint: " + p.Hint + "\n")
				}
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
