// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vxsnd/internal/config"
)

// deployed lists the options as files in the field know them: name, older
// names, default, and R where a reload may change it.
const deployed = `
loglevel - info R
logdest - syslog R
logfilesize - 512000 R
logbackupcount - 14 R
pidfile - /var/run/vxsnd.pid -
udsfile - /var/run/vxsnd.sock -
vxfld_port - 10001 -
svcnode_ip address 0.0.0.0 -
src_ip - 0.0.0.0 -
svcnode_peers servers none R
install_svcnode_ip install_addr false R
holdtime - 90 R
age_check - 90 R
node_id - auto -
max_packet_size - 1500 R
vxlan_port - 4789 -
vxlan_listen_port - 4789 -
vxlan_dest_port - 4789 -
enable_vxlan_listen - true -
no_flood no_replicate false R
receive_queue - 8388608 -
udp_checksum enable_udp_chksum zero R
vtep_membership - none R
sync_targets - 1 R
sync_timeout - 30 R
resync_interval - 300 R
peer_allow - none R
anycast_lifetime - 3 R
metrics_listen - none R
metrics_max_vnis - 1000 R
capture_rate - 1000 R
drain_time - 2 R
area - none R
proxy_id - none R
vxfld_proxy_servers - none R
proxy_local_only - true R
enable_flooding - true R
refresh_proxy_servers - false R
sync_from_proxy - false R
head_rep selfrep true -
refresh_rate - 3 R
config_check_rate - 60 R
local_addr - none R
svcnode - none R
statefile - /var/run/vxrd.state -
withdraw_on_exit - true R
answer_from - any R
stale_time - 0 R
hrep_devices - none R
learning - any R
oversize - fragment R
workers - auto -
engine - auto -
interfaces - none R
tc_max_members - 256 R
vrf - none -
max_vnis - 65536 R
max_members - 16384 R
max_entries - 2000000 R
max_learned - 250000 R
max_holdtime - 65535 R
log_format - text R
user - auto -
group - auto -
concurrency - - -
eventlet_backdoor_port - - -
monitor - - -
debug - - -
`

func TestTableHasWhatIsDeployed(t *testing.T) {
	var got []string
	for _, o := range config.Options() {
		or := func(s string) string {
			if s == "" {
				return "-"
			}
			return s
		}
		reload := ""
		if o.Reload {
			reload = "R"
		}
		got = append(got, fmt.Sprintf("%s %s %s %s", o.Name, or(strings.Join(o.Aliases, ",")), or(o.DefaultFor(config.Vxsnd)), or(reload)))
	}
	want := strings.Split(strings.TrimSpace(deployed), "\n")
	slices.Sort(got)
	slices.Sort(want)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("not in the table: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("not wanted in the table: %s", g)
		}
	}
}

func TestTableIsComplete(t *testing.T) {
	for _, p := range []config.Program{config.Vxsnd, config.Vxrd} {
		t.Run(p.String(), func(t *testing.T) { checkTable(t, p) })
	}
}

func checkTable(t *testing.T, p config.Program) {
	seen, groups := map[string]bool{}, []string{}
	for _, o := range config.OptionsFor(p) {
		if n := len(groups); n == 0 || groups[n-1] != o.Group {
			if slices.Contains(groups, o.Group) {
				t.Errorf("%s: group %s is in the table twice", o.Name, o.Group)
			}
			groups = append(groups, o.Group)
		}
		for _, n := range append([]string{o.Name}, o.Aliases...) {
			if seen[n] {
				t.Errorf("%s: is in the table twice", n)
			}
			seen[n] = true
			if n != strings.ToLower(n) || strings.Contains(n, "-") {
				t.Errorf("%s: got a name with capitals or hyphens", n)
			}
			if found, ok := config.Lookup(strings.ToUpper(n)); !ok || found.Name != o.Name {
				t.Errorf("%s: Lookup finds %q", n, found.Name)
			}
		}
		if o.Shorthand != "" && seen["-"+o.Shorthand] {
			t.Errorf("-%s: is in the table twice", o.Shorthand)
		}
		seen["-"+o.Shorthand] = true
		if !o.Obsolete && (o.Doc == "" || o.Group == "" || strings.HasSuffix(o.Doc, ".")) {
			t.Errorf("%s: got doc %q in group %q, want both and no full stop", o.Name, o.Doc, o.Group)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"holdtime", "max_holdtime", "no_flood", "area"}
	tests := []struct{ name, s, want string }{
		{"one letter off", "holdtme", "holdtime"},
		{"capitals and hyphens", "NO-FLOOD", "no_flood"},
		{"short", "ara", "area"},
		{"nothing like it", "xyz", ""},
		{"one letter of three", "ore", ""},
		{"nothing at all", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := config.Nearest(tt.s, names); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDumpReadsBack makes random configurations out of values that are known
// to be fine, and reads what Dump makes of them.
func TestDumpReadsBack(t *testing.T) {
	values := map[string][]string{
		"logdest":         {"stdout", "/var/log/a #b;c", "vxsnd.log"},
		"svcnode_peers":   {"none", "sn1 [2001:db8::1]:5,192.0.2.1"},
		"peer_allow":      {"none", "192.0.2.1,198.51.100.0/24 2001:db8::/32 2001:db8::1"},
		"vtep_membership": {"none", "192.0.2.1 1 2, 2001:db8::1 3"},
		"area":            {"none", "0", "4294967295"},
		"node_id":         {"auto", "0x123456789abc"},
		"vrf":             {"none", "vrf#1", "#1"},
		"holdtime":        {"2m", "65535"},
		"udp_checksum":    {"yes", "zero"},
		"local_addr":      {"none", "::ffff:192.0.2.1"},
		"no_flood":        {"on", "off"},
		"vxlan_port":      {"8472", "4789"},
		"answer_from":     {"any", "Service", "192.0.2.1", "192.0.2.0/24,service 2001:db8::/32"},
		"interfaces":      {"none", "eth0,eth1.100 bond0"},
		"engine":          {"auto", "RAW"}, // tc does not go with checksums
		"hrep_devices":    {"none", "vx1,vx2 vx#3"},
		"stale_time":      {"0", "1h"},
		"metrics_listen":  {"none", ":9108", "localhost:1", "[::1]:2", "/run/a b#.sock"},
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b strings.Builder
		for name, vs := range values {
			if r.IntN(2) == 0 {
				v := vs[r.IntN(len(vs))]
				fmt.Fprintf(&b, "%s = \"%s\"\n", name, v)
			}
		}
		if !checkDump(t, b.String()) {
			t.Fatalf("%q: got an error, want none", b.String())
		}
	}
}

// checkDump checks that what text gives is the same after Dump, and returns
// whether text was taken.
func checkDump(t *testing.T, text string) bool {
	t.Helper()
	first, err := parse(text)
	if err != nil {
		return false
	}
	dump := first.Config.Dump()
	second, err := parse(dump)
	if err != nil {
		t.Fatalf("%q: got an error for its dump\n%s\n%v", text, dump, err)
	}
	if diff := diffConfig(first.Config, second.Config); diff != "" {
		t.Fatalf("%q: (-first +dumped)\n%s", text, diff)
	}
	return true
}
