// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

// others has a line for each option that gives it another value than the
// default.
const others = `
loglevel = debug
logdest = stdout
log_format = json
logfilesize = 1
logbackupcount = 1
pidfile = /a.pid
udsfile = /a.sock
statefile = /a.state
user = a
group = a
vxfld_port = 1
svcnode_ip = 192.0.2.1
src_ip = 192.0.2.1
install_svcnode_ip = yes
anycast_lifetime = 2
drain_time = 1
max_packet_size = 1000
enable_vxlan_listen = no
no_flood = yes
vxlan_port = 1
vxlan_listen_port = 1
vxlan_dest_port = 1
receive_queue = 10000
udp_checksum = compute
oversize = drop
engine = raw
interfaces = a
tc_max_members = 1
workers = 1
vrf = a
holdtime = 1
age_check = 1
learning = off
vtep_membership = 192.0.2.1 1
max_vnis = 1
max_members = 1
max_entries = 1
max_learned = 1
max_holdtime = 1
svcnode_peers = 192.0.2.1:1
peer_allow = 192.0.2.0/24
sync_targets = 2
sync_timeout = 1
resync_interval = 1
metrics_listen = :1
metrics_max_vnis = 1
capture_rate = 1
area = 1
proxy_id = 192.0.2.1
vxfld_proxy_servers = 192.0.2.1:1
proxy_local_only = no
enable_flooding = no
refresh_proxy_servers = yes
sync_from_proxy = yes
node_id = 1
refresh_rate = 1
withdraw_on_exit = no
local_addr = 192.0.2.1
svcnode = 192.0.2.1
head_rep = no
config_check_rate = 1
hrep_devices = a
answer_from = service
stale_time = 1
`

func mustParse(t *testing.T, text string) config.Config {
	t.Helper()
	r, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r.Config
}

// TestReloadIsWhatTheConfigKeepsApart changes one option after the other: the
// change is in that part of the Config that its Reload says.
func TestReloadIsWhatTheConfigKeepsApart(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(others), "\n")
	def := config.Default()
	for _, o := range config.Options() {
		if o.Obsolete {
			continue
		}
		line := lines[0]
		lines = lines[1:]
		if !strings.HasPrefix(line, o.Name+" = ") {
			t.Fatalf("got line %q, want one for %s", line, o.Name)
		}
		text := line + "\n"
		switch o.Name {
		case "vxlan_port": // the others follow it
			text += "vxlan_listen_port = 4789\nvxlan_dest_port = 4789\n"
		case "install_svcnode_ip":
			text += "svcnode_ip = 192.0.2.1\n"
			def = mustParse(t, "svcnode_ip = 192.0.2.1")
		case "vxfld_proxy_servers":
			text += "area = 1\n"
			def = mustParse(t, "area = 1")
		}
		c := mustParse(t, text)
		static := !reflect.DeepEqual(def.Static, c.Static)
		dynamic := !reflect.DeepEqual(def.Dynamic, c.Dynamic)
		if static == o.Reload || dynamic != o.Reload {
			t.Errorf("%s: got a change of the static part %t and of the dynamic part %t, want Reload %t", o.Name, static, dynamic, o.Reload)
		}

		got := append(config.Diff(config.Vxsnd, &def, &c), config.Diff(config.Vxrd, &def, &c)...)
		change := config.Change{Option: o.Name, Old: o.Value(&def), New: o.Value(&c), Reload: o.Reload}
		var want []config.Change
		for _, p := range []config.Program{config.Vxsnd, config.Vxrd} {
			if o.Programs&p != 0 {
				want = append(want, change)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", o.Name, diff)
		}

		if kept := c.WithStatic(&def); !reflect.DeepEqual(kept.Static, def.Static) || !reflect.DeepEqual(kept.Dynamic, c.Dynamic) {
			t.Errorf("%s: got neither the static part that runs nor the new dynamic part", o.Name)
		}
		def = config.Default()
	}
}

func TestDiff(t *testing.T) {
	var many, more strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "vtep_membership = 192.0.2.%d %d\n", 1+i%200, i)
	}
	more.WriteString(many.String() + "vtep_membership = 192.0.2.201 7 8\n")
	long := strings.Repeat("é", 300)
	tests := []struct{ name, old, now, want string }{
		{"nothing", "holdtime = 90\n", "holdtime = 1m30s\nloglevel = Info\n", ""},
		{"in the order of the table", "holdtime = 1\n", "vxfld_port = 2\nloglevel = debug\n",
			"loglevel info debug true\nvxfld_port 10001 2 false\nholdtime 1 90 true\n"},
		{"ports that follow", "", "vxlan_port = 5\n",
			"vxlan_port 4789 5 false\nvxlan_listen_port 4789 5 false\nvxlan_dest_port 4789 5 false\n"},
		{"members in another order", "vtep_membership = 192.0.2.1 1 2 192.0.2.2 3\n",
			"vtep_membership = 192.0.2.2 3\nvtep_membership = 192.0.2.1 2\nvtep_membership = 192.0.2.1 1 2\n", ""},
		{"another member", "vtep_membership = 192.0.2.1 1\n", "vtep_membership = 192.0.2.1 2\n",
			"vtep_membership 192.0.2.1 1 192.0.2.1 2 true\n"},
		{"peers in another order are asked in another order", "svcnode_peers = a:1 b:1\n", "svcnode_peers = b:1 a:1\n",
			"svcnode_peers a:1 b:1 b:1 a:1 true\n"},
		{"one member more than many", many.String(), more.String(),
			"vtep_membership … 999 … 999 192.0.2.201 7 8 true\n"},
		{"a long value", "logdest = /a" + long, "logdest = /b" + long,
			"logdest /a" + long[:198] + "… /b" + long[:198] + "… true\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, now := mustParse(t, tt.old), mustParse(t, tt.now)
			var got strings.Builder
			for _, c := range config.Diff(config.Vxsnd, &old, &now) {
				fmt.Fprintf(&got, "%s %s %s %t\n", c.Option, c.Old, c.New, c.Reload)
				if len(c.Old) > 210 || len(c.New) > 210 || !utf8.ValidString(c.Old+c.New) {
					t.Errorf("%s: got values of %d and %d bytes, want about 200 at most, and text", c.Option, len(c.Old), len(c.New))
				}
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
