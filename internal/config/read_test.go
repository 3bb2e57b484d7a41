// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/config"
)

// outcome is what a text gives: errors, or the values that are not the default
// and the warnings.
func outcome(r config.Result, err error) string {
	if err != nil {
		return "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
	}
	return describe(config.Vxsnd, r, "")
}

func TestReadingRules(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"own section beats common beats none, in any order",
			"[vxsnd]\nholdtime = 3\n[common]\nholdtime = 2\nage_check = 2\n[vxrd]\nholdtime = 4\n", "holdtime = 3\nage_check = 2\n"},
		{"no section", "holdtime = 1\n[common]\n", "holdtime = 1\n"},
		{"common beats no section", "holdtime = 1\n[common]\nholdtime = 2\n", "holdtime = 2\n"},
		{"the last of repeated lines wins", "holdtime = 1\nage_check = 5\nHoldTime = 2\nholdtime = 3\n",
			"holdtime = 3\nage_check = 5\n" +
				"warning: f:3: HoldTime: set before in line 1: the last one counts\n" +
				"warning: f:4: holdtime: set before in line 3: the last one counts\n"},
		{"an older name repeats the newer", "no_flood = no\nno_replicate = yes\n",
			"no_flood = true\nwarning: f:2: no_replicate: set before in line 1: the last one counts\n"},
		{"one key in two sections is no repeat", "[common]\nholdtime = 1\n[vxsnd]\nholdtime = 2\n", "holdtime = 2\n"},
		{"a section that comes twice is one", "[common]\nholdtime = 1\n[vxsnd]\n[common]\nholdtime = 2\n",
			"holdtime = 2\nwarning: f:5: [common] holdtime: set before in line 2: the last one counts\n"},
		{"static members add up in all sections",
			"vtep_membership = 192.0.2.1 1\n[vxsnd]\nvtep_membership = 192.0.2.2 2\nvtep_membership = 192.0.2.1 3\n[common]\nvtep_membership=192.0.2.3 1\n",
			"vtep_membership = 192.0.2.1 1 192.0.2.2 2 192.0.2.1 3 192.0.2.3 1\n"},
		{"continuation", "vtep_membership = 192.0.2.1 1\n 2\n\t3\n", "vtep_membership = 192.0.2.1 1 2 3\n"},
		{"continuation past comments and empty lines", "vtep_membership =\n\n# one\n  # two\n 192.0.2.1 1 # three\n\n 2 ; four\n", "vtep_membership = 192.0.2.1 1 2\n"},
		{"continuation of a scalar is part of it", "holdtime = 9\n 0\n", "error: f:1: holdtime: \"9 0\" is not a number of whole seconds (1..65535)\n"},
		{"an indented key is a continuation", "holdtime = 9\n  age_check = 5\n",
			"error: f:1: holdtime: \"9 age_check = 5\" is not a number of whole seconds (1..65535)\n"},
		{"continuation of nothing", "  holdtime = 9\n[common]\n x\n",
			"error: f:1: a line that starts with a blank continues a value, but there is none before it\n" +
				"error: f:3: [common] a line that starts with a blank continues a value, but there is none before it\n"},
		{"comments", "# a\n; b\n  # c\nholdtime = 5 # d = e\nage_check = 6\t;f\nworkers = 7 ; g # h\n", "workers = 7\nholdtime = 5\nage_check = 6\n"},
		{"a mark that is no comment", "logdest = /var/log/a#b;c\n", "logdest = \"/var/log/a#b;c\"\n"},
		{"a mark in quotes", "logdest = '/var/log/a #b' # c\n", "logdest = \"/var/log/a #b\"\n"},
		{"a comment instead of a value", "svcnode_peers = # nobody\n", ""},
		{"no interpolation", "logdest = /var/log/%(value)s\n", "logdest = /var/log/%(value)s\n"},
		{"a backslash continues nothing", "logdest = /a\\\nholdtime = 5\n", "logdest = /a\\\nholdtime = 5\n"},
		{"a colon is a delimiter", "holdtime: 5\n", "holdtime = 5\n"},
		{"a value with delimiters", "logdest = /a=b:c\n", "logdest = /a=b:c\n"},
		{"no blanks", "holdtime=5", "holdtime = 5\n"},
		{"DOS line ends", "holdtime = 5\r\nworkers = 6\r\n", "workers = 6\nholdtime = 5\n"},
		{"the other program's values are not looked at", "[vxrd]\nholdtime = never\nsvcnode_ip = 1 2\nmonitor = x\nvtep_membership = x\n", ""},
		{"vxrd's option in vxsnd's section", "[vxsnd]\nhead_rep = no\n",
			"head_rep = false\nwarning: f:2: [vxsnd] head_rep: is an option of vxrd and has no effect here\n"},
		{"ports follow vxlan_port", "vxlan_port = 8472\n", "vxlan_port = 8472\nvxlan_listen_port = 8472\nvxlan_dest_port = 8472\n"},
		{"ports that are set do not", "vxlan_dest_port = 4789\nvxlan_port = 8472\n", "vxlan_port = 8472\nvxlan_listen_port = 8472\n"},
		{"peers follow vxfld_port", "svcnode_peers = a\nvxfld_port = 9\n",
			"vxfld_port = 9\nsvcnode_peers = a:9\n"},
		{"an empty value of what is to come is no cause for a word", "vxfld_proxy_servers =\narea = none\nproxy_id =\n", ""},
		{"a default of what is to come is no cause for a word", "logdest = Syslog\npidfile = /var/run/vxsnd.pid\nproxy_local_only = yes\n", ""},
		{"each option that is to come gets one word", "area = 2\n[common]\narea = 3\n",
			"area = 3\nwarning: f:3: [common] area: has no effect in this version\n"},
		{"one port for two", "vxlan_listen_port = 10001\n",
			"error: f:1: vxlan_listen_port: vxlan_listen_port and vxfld_port are both 10001, but each needs its own port\n"},
		{"checksums, by an engine that makes none", "udp_checksum = compute\nengine = tc\n",
			"error: f:1: udp_checksum: engine = tc makes no checksums, as udp_checksum = compute wants\n"},
		{"checksums, by any engine", "udp_checksum = compute\n", "udp_checksum = compute\n"},
		{"one port for two, but no data", "vxfld_port = 4789\nno_flood = yes\n", "vxfld_port = 4789\nno_flood = true\n"},
		{"options are compared where they are fine, whatever else is wrong", "vxfld_proxy_servers = 192.0.2.1\nholdtime = 0\nvxfld_port = x\nvxlan_port = 10001\n",
			"error: f:1: vxfld_proxy_servers: needs area to be set\n" +
				"error: f:2: holdtime: 0 is out of range 1..65535\n" +
				"error: f:3: vxfld_port: \"x\" is not a whole number (1..65535)\n"},
		{"a malformed value has one error", "logdest = \"a\n b\n \"c\nholdtime = 5\n", "error: f:1: logdest: a quote that begins the value does not end it\n"},
		{"a malformed continuation", "svcnode_peers = a\n \"b\n", "error: f:2: svcnode_peers: a quote that begins the value does not end it\n"},
		{"a malformed value of the other program", "[vxrd]\nlogdest = \"a\n", ""},
		{"proxies without area", "vxfld_proxy_servers = 192.0.2.1\n", "error: f:1: vxfld_proxy_servers: needs area to be set\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outcome(parse(tt.text))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestContinuationThatLooksLikeAnOptionEarnsAWarning(t *testing.T) {
	const taken = ": the line continues this value, since it starts with a blank: remove the blank if it is "
	tests := []struct{ name, text, want string }{
		{"option", "logdest = /tmp/x\n  svcnode_ip = 192.0.2.254\n",
			"logdest = /tmp/x svcnode_ip = 192.0.2.254\nwarning: f:2: logdest" + taken + "the option svcnode_ip\n"},
		{"older name, capitals, a colon and a comment", "[common]\nlogdest = /tmp/x\n\n\tServers: a # b\n",
			"logdest = /tmp/x Servers: a\nwarning: f:4: [common] logdest" + taken + "the option Servers\n"},
		{"colon without blanks", "logdest = /tmp/x\n holdtime:5\n",
			"logdest = /tmp/x holdtime:5\nwarning: f:2: logdest" + taken + "the option holdtime\n"},
		{"section", "logdest = /tmp/x\n [Vxsnd]\n",
			"logdest = /tmp/x [Vxsnd]\nwarning: f:2: logdest" + taken + "the section [vxsnd]\n"},
		{"each line", "logdest = /tmp/x\n area=1\n area=2\n", "logdest = /tmp/x area=1 area=2\n" +
			"warning: f:2: logdest" + taken + "the option area\nwarning: f:3: logdest" + taken + "the option area\n"},
		{"no option", "logdest = /tmp/x\n a = b\n = c\n [d]\n", "logdest = /tmp/x a = b = c [d]\n"},
		{"the other program's", "[vxrd]\nlogdest = /tmp/x\n area = 1\n", ""},
		{"hosts named like options", "vxfld_port = 9\nvxfld_proxy_servers = none\nsvcnode_peers =\n svcnode:10001\n [2001:db8::1]:5\n 2001:db8::2\n",
			"vxfld_port = 9\nsvcnode_peers = svcnode:10001 [2001:db8::1]:5 [2001:db8::2]:9\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outcome(parse(tt.text))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// An error that a continuation line may be the cause of points at it, and the
// warnings are there beside it.
func TestContinuationOfAValueThatIsWrong(t *testing.T) {
	const blank = " begins with a blank and continues this value: remove the blank if it is something else"
	tests := []struct {
		name, text, hint string
		warnings         int
	}{
		{"option", "holdtime = 9\n\n  age_check = 5\n", "line 3" + blank, 1},
		{"misspelt option", "holdtime = 9\n  age_chek = 5\n", "line 2" + blank, 0},
		{"option below a list", "svcnode_peers = a\n b\n area = 5\n", "line 3" + blank, 1},
		{"list", "vtep_membership = 192.0.2.1 5\n x\n", "", 0},
		{"none", "holdtime = 9 0\n", "remove the line to get the default, 90", 0},
	}
	file := filepath.Join(t.TempDir(), "f")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := config.Load(config.Input{File: file})
			var ps config.Problems
			if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Hint != tt.hint {
				t.Errorf("got %v, want one problem with the hint %q", err, tt.hint)
			}
			if len(r.Warnings) != tt.warnings {
				t.Errorf("got warnings %v, want %d", r.Warnings, tt.warnings)
			}
		})
	}
}

func TestAllErrorsAtOnceInOrder(t *testing.T) {
	text := `holdtime = 0
this line is nothing
= 5
[common]
vxfld_prt = 10001
svcnode_ip = nowhere
[vxsn]
anything = goes here
[vxrd]
refresh_rat = 5
loglevel = no
[vxsnd
[vxsnd]
logdest = "/var/log/vxsnd
holdtime = 7
holdtime = 65536
zzzzzzzzzzzzzzz = 1
[common] x
`
	want := `error: f:1: holdtime: 0 is out of range 1..65535
error: f:2: "this line is nothing" is neither KEY = VALUE nor [SECTION]
error: f:3: "= 5" has no key before the "="
error: f:5: [common] vxfld_prt: not a known option
error: f:6: [common] svcnode_ip: "nowhere" is not an IPv4 or IPv6 address
error: f:7: "[vxsn]" is not a known section
error: f:10: [vxrd] refresh_rat: not a known option
error: f:12: [vxrd] "[vxsnd" has no closing bracket
error: f:14: [vxsnd] logdest: a quote that begins the value does not end it
error: f:16: [vxsnd] holdtime: 65536 is out of range 1..65535
error: f:17: [vxsnd] zzzzzzzzzzzzzzz: not a known option
error: f:18: [vxsnd] "[common] x" has something behind the bracket
error: --loglevel: "no" is none of debug, info, warning, error, critical
error: -s: "a/b" is neither an address nor a host name
`
	_, err := parse(text, config.Flag{Name: "--loglevel", Option: "loglevel", Value: "no"},
		config.Flag{Name: "-s", Option: "svcnode_peers", Value: "a/b"})
	if diff := cmp.Diff(want, outcome(config.Result{}, err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var ps config.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %T, want Problems", err)
	}
	hints := map[int]string{
		1:  "remove the line to get the default, 90",
		5:  "did you mean vxfld_port?",
		7:  "did you mean [vxsnd]?",
		10: "did you mean refresh_rate?",
		17: "",
	}
	for _, p := range ps {
		if want, ok := hints[p.Line]; ok && p.Hint != want {
			t.Errorf("line %d: got hint %q, want %q", p.Line, p.Hint, want)
		}
	}
	if ps.Flags() {
		t.Error("got that all problems are flags, want not")
	}
}

func TestControlCharactersAreRefusedAndNeverPrinted(t *testing.T) {
	for _, text := range []string{"pidfile = /a\x1b[1mb", "pid\x1bfile = x", "[\x1b]", "\x1b", "holdtime = 5\n \x1b", "pidfile = \xff"} {
		_, err := parse(text)
		if err == nil || strings.Contains(err.Error(), "\x1b") || !utf8.ValidString(err.Error()) {
			t.Errorf("%q: got %q, want an error without the character", text, err)
		}
	}
}

func TestMessagesStayShort(t *testing.T) {
	long := strings.Repeat("é", 1<<16)
	for _, text := range []string{long, long + " = 1", "[" + long + "]", "[" + long, "holdtime = " + long, "src_ip = 1\n " + long, "svcnode_peers = " + long} {
		_, err := parse(text)
		if err == nil || len(err.Error()) > 700 || !utf8.ValidString(err.Error()) {
			t.Errorf("%.20q: got an error of %d bytes, want 700 at most, and text", text, len(fmt.Sprint(err)))
		}
	}
}

func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	file := write("a.conf", "[vxsnd]\nholdtime = 2\nage_check = 2\nworkers = 2\nvtep_membership = 192.0.2.1 1\nsvcnode_peers = a b\n")
	override := write("a.conf.override", "holdtime = 3\nworkers = 3\nvtep_membership = 192.0.2.1 2\n")
	flag := func(name, value string) config.Flag {
		return config.Flag{Name: "--" + name, Option: name, Value: value}
	}
	r, err := config.Load(config.Input{File: file, Required: true, Flags: []config.Flag{
		flag("workers", "4"), flag("workers", "5"), flag("vtep_membership", "192.0.2.1,3"), flag("vtep_membership", "192.0.2.2 4"),
		flag("svcnode_peers", "c"), flag("svcnode_peers", "d,e"),
	}})
	want := "workers = 5\nholdtime = 3\nage_check = 2\n" +
		"vtep_membership = 192.0.2.1 1 192.0.2.1 2 192.0.2.1 3 192.0.2.2 4\n" +
		"svcnode_peers = c:10001 d:10001 e:10001\n"
	if diff := cmp.Diff(want, outcome(r, err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{file, override}, r.Files); diff != "" {
		t.Errorf("files: (-want +got)\n%s", diff)
	}
}

func TestServiceAddressOnTheCommandLineIsInstalled(t *testing.T) {
	address := func(value string) config.Flag {
		return config.Flag{Name: "--svcnode-ip", Option: "svcnode_ip", Value: value}
	}
	install := config.Flag{Name: "--install-addr", Option: "install_svcnode_ip", Value: "true"}
	not := config.Flag{Name: "--install-svcnode-ip", Option: "install_svcnode_ip", Value: "no"}
	const installed = "svcnode_ip = 192.0.2.1\ninstall_svcnode_ip = true\n"
	const overruled = ": overruled: --svcnode-ip has the address installed, unless --install-svcnode-ip=no is given too\n"
	const both = ": 192.0.2.1 is svcnode_ip too, which is taken away when the node stops or is not healthy: " +
		"peers need another address of this node\n"
	const nothing = ": nothing is installed, since svcnode_ip is "
	tests := []struct {
		name, text string
		flags      []config.Flag
		want       string
	}{
		{"flag", "", []config.Flag{address("192.0.2.1")}, installed},
		{"flag, and the file says yes", "install_addr = yes\n", []config.Flag{address("192.0.2.1")}, installed},
		{"flag, but the file says no", "install_addr = no\n", []config.Flag{address("192.0.2.1")},
			installed + "warning: f:1: install_addr" + overruled},
		{"flag and address in the file, which says no", "svcnode_ip = 192.0.2.2\n[vxsnd]\ninstall_svcnode_ip = false\n",
			[]config.Flag{address("192.0.2.1")}, installed + "warning: f:3: [vxsnd] install_svcnode_ip" + overruled},
		{"two flags", "", []config.Flag{address("192.0.2.1"), install}, installed},
		{"flag that says no", "", []config.Flag{address("192.0.2.1"), not}, "svcnode_ip = 192.0.2.1\n"},
		{"flag that says no, but the file says yes", "install_svcnode_ip = yes\n", []config.Flag{not, address("192.0.2.1")},
			"svcnode_ip = 192.0.2.1\n"},
		{"flags and file say no", "install_svcnode_ip = no\n", []config.Flag{not, address("192.0.2.1")}, "svcnode_ip = 192.0.2.1\n"},
		{"file with the address, flag that says yes", "svcnode_ip = 192.0.2.1\ninstall_svcnode_ip = no\n", []config.Flag{install}, installed},
		{"file", "svcnode_ip = 192.0.2.1\n", nil, "svcnode_ip = 192.0.2.1\n"},
		{"file with both", "svcnode_ip = 2001:db8::1\n[vxsnd]\ninstall_svcnode_ip = 1\n", nil,
			"svcnode_ip = 2001:db8::1\ninstall_svcnode_ip = true\n"},
		{"file without an address", "install_svcnode_ip = yes\n", nil,
			"warning: f:1: install_svcnode_ip" + nothing + "0.0.0.0\n"},
		{"file with the wildcard", "svcnode_ip = ::\n[vxsnd]\ninstall_addr = yes\n", nil,
			"svcnode_ip = ::\nwarning: f:3: [vxsnd] install_addr" + nothing + "::\n"},
		{"file with one address for both", "src_ip = 192.0.2.1\nsvcnode_ip = 192.0.2.1\n[vxsnd]\ninstall_svcnode_ip = yes\n", nil,
			"svcnode_ip = 192.0.2.1\nsrc_ip = 192.0.2.1\ninstall_svcnode_ip = true\nwarning: f:1: src_ip" + both},
		{"file and flag with one address for both", "src_ip = ::ffff:192.0.2.1\n", []config.Flag{address("192.0.2.1")},
			"svcnode_ip = 192.0.2.1\nsrc_ip = 192.0.2.1\ninstall_svcnode_ip = true\nwarning: f:1: src_ip" + both},
		{"one address for both that is not installed", "src_ip = 192.0.2.1\n", []config.Flag{not, address("192.0.2.1")},
			"svcnode_ip = 192.0.2.1\nsrc_ip = 192.0.2.1\n"},
		{"the wildcard for both", "src_ip = ::\nsvcnode_ip = ::\ninstall_svcnode_ip = yes\n", nil,
			"svcnode_ip = ::\nsrc_ip = ::\nwarning: f:3: install_svcnode_ip" + nothing + "::\n"},
		{"flag without an address", "", []config.Flag{install}, "warning: --install-addr" + nothing + "0.0.0.0\n"},
		{"file without an address says no", "install_svcnode_ip = no\n", nil, ""},
		{"one of the two is wrong", "install_svcnode_ip = yes\nsvcnode_ip = nowhere\n", nil,
			"error: f:2: svcnode_ip: \"nowhere\" is not an IPv4 or IPv6 address\n"},
		{"flag with the wildcard", "install_svcnode_ip = no\n", []config.Flag{address("0.0.0.0")}, ""},
		{"flag twice", "", []config.Flag{address("192.0.2.1"), address("192.0.2.2")},
			"error: --svcnode-ip: \"192.0.2.1 192.0.2.2\" is a list, but vxsnd takes one address (peers go into svcnode_peers)\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outcome(parse(tt.text, tt.flags...))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestVxrdTakesAListOfServiceNodes(t *testing.T) {
	r, err := config.Parse(config.Vxrd, "f", []byte("svcnode_ip = 192.0.2.1, 192.0.2.2\n[vxsnd]\nholdtime = x\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Config.SvcnodeIPs) != 2 || r.Config.SvcnodeIP != r.Config.SvcnodeIPs[0] {
		t.Errorf("got %v and %v, want two addresses and the first", r.Config.SvcnodeIPs, r.Config.SvcnodeIP)
	}
	if got, want := r.Config.PIDFile, "/var/run/vxrd.pid"; got != want {
		t.Errorf("got pid file %s, want %s", got, want)
	}
}
