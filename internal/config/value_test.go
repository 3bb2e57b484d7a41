// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"strings"
	"testing"

	"vxsnd/internal/config"
)

// parse reads text as the file named "f" for vxsnd.
func parse(text string, flags ...config.Flag) (config.Result, error) {
	return config.Parse(config.Vxsnd, "f", []byte(text), flags)
}

func TestValuesThatAreTaken(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"level in capitals", "loglevel = CRITICAL", "critical"},
		{"level in capitals of the key", "LOGLEVEL = Warning", "warning"},
		{"log to a relative file", "logdest = vxsnd.log", "vxsnd.log"},
		{"log to a file named like a keyword", "logdest = ./stdout", "./stdout"},
		{"log keyword in capitals", "logdest = STDOUT", "stdout"},
		{"log keyword in any case", "logdest = Stdout", "stdout"},
		{"the other log keyword in any case", "logdest = sysLog", "syslog"},
		{"log format in capitals", "log_format = JSON", "json"},
		{"user by name", "user = vx.snd-1$", "vx.snd-1$"},
		{"user by number", "user = 4294967294", "4294967294"},
		{"group automatic", "group = AUTO", "auto"},
		{"file size 0", "logfilesize = 0", "0"},
		{"boolean 1", "no_flood = 1", "true"},
		{"boolean Yes", "no_flood = Yes", "true"},
		{"boolean ON", "no_flood = ON", "true"},
		{"boolean 0", "enable_vxlan_listen = 0", "false"},
		{"boolean no", "enable_vxlan_listen = no", "false"},
		{"boolean off", "enable_vxlan_listen = off", "false"},
		{"boolean False", "enable_vxlan_listen = False", "false"},
		{"seconds", "holdtime = 1", "1"},
		{"seconds with unit", "holdtime = 90s", "90"},
		{"minutes and seconds", "holdtime = 1m30s", "90"},
		{"longest holdtime", "holdtime = 65535", "65535"},
		{"longest holdtime of a registration", "max_holdtime = 4294967295", "4294967295"},
		{"address of IPv4 in IPv6", "src_ip = ::ffff:192.0.2.1", "192.0.2.1"},
		{"address of IPv6", "src_ip = 2001:DB8::1", "2001:db8::1"},
		{"wildcard of IPv6", "svcnode_ip = ::", "::"},
		{"loopback service address", "svcnode_ip = 127.0.0.1", "127.0.0.1"},
		{"no peers", "svcnode_peers =", "none"},
		{"no peers in words", "svcnode_peers = None", "none"},
		{"peers of all kinds", "svcnode_peers = 192.0.2.1,192.0.2.2:7 2001:db8::1\t[2001:db8::2]:8 [2001:db8::3] sn1 SN2.example.net.:9",
			"192.0.2.1:10001 192.0.2.2:7 [2001:db8::1]:10001 [2001:db8::2]:8 [2001:db8::3]:10001 sn1:10001 sn2.example.net.:9"},
		{"peer named twice", "svcnode_peers = 192.0.2.1 192.0.2.1", "192.0.2.1:10001"},
		{"peer as IPv4 in IPv6", "svcnode_peers = [::ffff:192.0.2.1]:5", "192.0.2.1:5"},
		{"host with digits in front", "svcnode_peers = 10.0.0.1a", "10.0.0.1a:10001"},
		{"nobody else believed", "peer_allow = None", "none"},
		{"prefixes of both families", "peer_allow = 192.0.2.0/24,2001:DB8::/32\t0.0.0.0/0 ::/0", "192.0.2.0/24 2001:db8::/32 0.0.0.0/0 ::/0"},
		{"addresses as prefixes", "peer_allow = 192.0.2.1 2001:db8::1", "192.0.2.1/32 2001:db8::1/128"},
		{"prefixes as IPv4 in IPv6", "peer_allow = ::ffff:192.0.2.0/120 ::ffff:198.51.100.1", "192.0.2.0/24 198.51.100.1/32"},
		{"prefix named twice", "peer_allow = 192.0.2.1 ::ffff:192.0.2.1/128 192.0.2.1/32", "192.0.2.1/32"},
		{"no metrics", "metrics_listen = None", "none"},
		{"metrics on all addresses", "metrics_listen = :9108", ":9108"},
		{"metrics on one address", "metrics_listen = 192.0.2.1:9108", "192.0.2.1:9108"},
		{"metrics on an IPv6 address", "metrics_listen = [2001:DB8::1]:9108", "[2001:db8::1]:9108"},
		{"metrics on the wildcard", "metrics_listen = [::]:9108", "[::]:9108"},
		{"metrics on a link-local address", "metrics_listen = [fe80::1%eth0]:9108", "[fe80::1%eth0]:9108"},
		{"metrics as IPv4 in IPv6", "metrics_listen = [::ffff:192.0.2.1]:9108", "192.0.2.1:9108"},
		{"metrics on the one name", "metrics_listen = LocalHost:9108", "localhost:9108"},
		{"metrics on a Unix socket", "metrics_listen = /run//vxsnd/../metrics.sock", "/run/metrics.sock"},
		{"no figures of single VNIs", "metrics_max_vnis = 0", "0"},
		{"shortest lifetime of an address", "anycast_lifetime = 2", "2"},
		{"longest lifetime of an address", "anycast_lifetime = 1h", "3600"},
		{"no drain", "drain_time = 0", "0"},
		{"longest drain", "drain_time = 5m", "300"},
		{"no comparison", "resync_interval = 0", "0"},
		{"checksum as a boolean", "udp_checksum = true", "compute"},
		{"checksum by the older name", "enable_udp_chksum = no", "zero"},
		{"static member", "vtep_membership = 192.0.2.1 0 16777215", "192.0.2.1 0 16777215"},
		{"static members in one value", "vtep_membership = 192.0.2.1 5, 2001:db8::1 5 6", "192.0.2.1 5 2001:db8::1 5 6"},
		{"workers automatic", "workers = auto", "auto"},
		{"engine", "engine = TC", "tc"},
		{"no interfaces", "interfaces = none", "none"},
		{"interfaces", "interfaces = eth0, eth1.100", "eth0 eth1.100"},
		{"most members of tc", "tc_max_members = 4095", "4095"},
		{"workers 0", "workers = 0", "auto"},
		{"no VRF", "vrf =", "none"},
		{"area 0", "area = 0", "0"},
		{"identifier in hexadecimal", "node_id = 0xffffffffffffffff", "18446744073709551615"},
		{"identifier automatic", "node_id = auto", "auto"},
		{"vxrd's option without section", "refresh_rate = 5", "5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parse(tt.line)
			if err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			name, _, _ := strings.Cut(tt.line, " ")
			o, ok := config.Lookup(name)
			if !ok {
				t.Fatalf("got no option %q", name)
			}
			if got := o.Value(&r.Config); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestValuesThatAreRefused(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"level", "loglevel = warn", `"warn" is none of debug, info, warning, error, critical`},
		{"level empty", "loglevel =", `"" is none of debug, info, warning, error, critical`},
		{"misspelt destination", "logdest = sylog", `"sylog" is none of stdout, syslog or a file name (a file of that name is ./sylog)`},
		{"standard error", "logdest = stderr", `"stderr" is none of stdout, syslog or a file name (a file of that name is ./stderr)`},
		{"destination empty", "logdest =", "a value is missing (stdout, syslog or a file name)"},
		{"log format", "log_format = xml", `"xml" is none of text, json`},
		{"user empty", "user =", "a name or number is missing"},
		{"user number", "user = 4294967295", "4294967295 is out of range 0..4294967294"},
		{"user and group", "user = vxsnd:vxsnd", `"vxsnd:vxsnd" is not a name or number (up to 255 bytes, no blank, slash, colon, comma or quote, no hyphen in front)`},
		{"group number below 0", "group = -1", `"-1" is not a name or number (up to 255 bytes, no blank, slash, colon, comma or quote, no hyphen in front)`},
		{"port of metrics alone", "metrics_listen = 9108",
			`"9108" is none of ADDRESS:PORT, localhost:PORT, :PORT, the name of a Unix socket with a slash in front, or none (a port alone is :9108)`},
		{"IPv6 address of metrics without brackets", "metrics_listen = 2001:db8::1:9108",
			`"2001:db8::1:9108" is none of ADDRESS:PORT, localhost:PORT, :PORT, the name of a Unix socket with a slash in front, or none (an IPv6 address stands in brackets)`},
		{"relative socket of metrics", "metrics_listen = metrics.sock",
			`"metrics.sock" is none of ADDRESS:PORT, localhost:PORT, :PORT, the name of a Unix socket with a slash in front, or none`},
		{"any port of metrics", "metrics_listen = :0", `":0": port 0 is out of range 1..65535`},
		{"port of metrics by name", "metrics_listen = :http", `":http": port "http" is not a whole number (1..65535)`},
		{"host name of metrics", "metrics_listen = sn1:9108",
			`"sn1:9108" is none of ADDRESS:PORT, localhost:PORT, :PORT, the name of a Unix socket with a slash in front, or none`},
		{"metrics on a group", "metrics_listen = 224.0.0.1:9108", `"224.0.0.1:9108": 224.0.0.1 is neither a unicast address nor the wildcard`},
		{"captures of nothing", "capture_rate = 0", "0 is out of range 1..100000"},
		{"file name empty", "pidfile =", "a file name is missing"},
		{"file name with a quote", "pidfile = /run/a'b", `"/run/a'b" has a quote in it`},
		{"long socket name", "udsfile = /" + strings.Repeat("x", 107), `"/` + strings.Repeat("x", 107) + `" is longer than 107 bytes`},
		{"boolean", "no_flood = maybe", `"maybe" is none of yes, no, true, false, on, off, 1, 0`},
		{"boolean empty", "no_flood =", `"" is none of yes, no, true, false, on, off, 1, 0`},
		{"number", "receive_queue = 8M", `"8M" is not a whole number (2048..1073741823)`},
		{"number too small", "receive_queue = 8", "8 is out of range 2048..1073741823"},
		{"number too large for a machine word", "receive_queue = 99999999999999999999", "99999999999999999999 is out of range 2048..1073741823"},
		{"port 0", "vxlan_port = 0", "0 is out of range 1..65535"},
		{"port too large", "vxfld_port = 65536", "65536 is out of range 1..65535"},
		{"holdtime 0", "holdtime = 0", "0 is out of range 1..65535"},
		{"holdtime 65536", "holdtime = 65536", "65536 is out of range 1..65535"},
		{"holdtime in hours", "holdtime = 20h", "20h is out of range 1..65535"},
		{"holdtime beyond a machine word", "holdtime = 99999999999999999999", "99999999999999999999 is out of range 1..65535"},
		{"holdtime with a fraction", "holdtime = 1.5s", `"1.5s" is not a number of whole seconds (1..65535)`},
		{"holdtime of words", "holdtime = long", `"long" is not a number of whole seconds (1..65535)`},
		{"address", "src_ip = 10.0.0.256", `"10.0.0.256" is not an IPv4 or IPv6 address`},
		{"address as a name", "src_ip = localhost", `"localhost" is not an IPv4 or IPv6 address`},
		{"address with a zone", "src_ip = fe80::1%eth0", `"fe80::1%eth0" has a zone, which is not allowed here`},
		{"address of a group", "svcnode_ip = 239.1.1.1", "239.1.1.1 is neither a unicast address nor the wildcard"},
		{"address of broadcast", "svcnode_ip = 255.255.255.255", "255.255.255.255 is neither a unicast address nor the wildcard"},
		{"address empty", "svcnode_ip =", "an address is missing"},
		{"address list", "svcnode_ip = 192.0.2.1 192.0.2.2",
			`"192.0.2.1 192.0.2.2" is a list, but vxsnd takes one address (peers go into svcnode_peers)`},
		{"peer address", "svcnode_peers = 10.0.0.256", `"10.0.0.256" is not an IPv4 or IPv6 address`},
		{"peer wildcard", "svcnode_peers = 0.0.0.0", "0.0.0.0 is not a unicast address"},
		{"peer group", "svcnode_peers = ff02::1", "ff02::1 is not a unicast address"},
		{"peer port", "svcnode_peers = 192.0.2.1:0", `"192.0.2.1:0": port 0 is out of range 1..65535`},
		{"peer port of words", "svcnode_peers = sn:http", `"sn:http": port "http" is not a whole number (1..65535)`},
		{"peer with a slash", "svcnode_peers = 192.0.2.0/24", `"192.0.2.0/24" is neither an address nor a host name`},
		{"peer brackets open", "svcnode_peers = [2001:db8::1", `"[2001:db8::1" is not [IPV6-ADDRESS]:PORT`},
		{"peer brackets around IPv4", "svcnode_peers = [192.0.2.1]:5", `"[192.0.2.1]:5" is not [IPV6-ADDRESS]:PORT`},
		{"peer label", "svcnode_peers = -sn", `"-sn" is neither an address nor a host name`},
		{"peer zone", "svcnode_peers = fe80::1%eth0", `"fe80::1%eth0" has a zone, which is not allowed here`},
		{"prefix with bits behind", "peer_allow = 192.0.2.1/24", `"192.0.2.1/24" has bits set behind its length, 192.0.2.0/24 has not`},
		{"prefix of IPv6 with bits behind", "peer_allow = 2001:db8::1/64", `"2001:db8::1/64" has bits set behind its length, 2001:db8::/64 has not`},
		{"prefix of IPv4 in IPv6 with bits behind", "peer_allow = ::ffff:192.0.2.1/120", `"::ffff:192.0.2.1/120" has bits set behind its length, 192.0.2.0/24 has not`},
		{"prefix of all IPv4 in IPv6 and more", "peer_allow = ::ffff:0:0/95", `"::ffff:0:0/95" has bits set behind its length, ::fffe:0:0/95 has not`},
		{"prefix length", "peer_allow = 192.0.2.0/33", `"192.0.2.0/33" is not a prefix (ADDRESS/LENGTH) or an address`},
		{"prefix without length", "peer_allow = 192.0.2.0/", `"192.0.2.0/" is not a prefix (ADDRESS/LENGTH) or an address`},
		{"prefix with a zone", "peer_allow = fe80::%eth0/64", `"fe80::%eth0/64" is not a prefix (ADDRESS/LENGTH) or an address`},
		{"prefix as a mask", "peer_allow = 192.0.2.0/255.255.255.0", `"192.0.2.0/255.255.255.0" is not a prefix (ADDRESS/LENGTH) or an address`},
		{"name as a prefix", "peer_allow = 192.0.2.1 sn1", `"sn1" is not an IPv4 or IPv6 address`},
		{"wildcard as a prefix", "peer_allow = 0.0.0.0", "0.0.0.0 is not a unicast address"},
		{"lifetime too short to renew", "anycast_lifetime = 1", "1 is out of range 2..3600"},
		{"lifetime too long", "anycast_lifetime = 3601", "3601 is out of range 2..3600"},
		{"long drain", "drain_time = 301", "301 is out of range 0..300"},
		{"wait for a table", "sync_timeout = 0", "0 is out of range 1..3600"},
		{"comparison", "resync_interval = 86401", "86401 is out of range 0..86400"},
		{"member without VNI", "vtep_membership = 192.0.2.1", "192.0.2.1 has no VNI (ADDRESS VNI [VNI …])"},
		{"member between without VNI", "vtep_membership = 192.0.2.1 192.0.2.2 5", "192.0.2.1 has no VNI (ADDRESS VNI [VNI …])"},
		{"member without address", "vtep_membership = 5 6", `"5" is not an IPv4 or IPv6 address (ADDRESS VNI [VNI …])`},
		{"member VNI", "vtep_membership = 192.0.2.1 16777216", `"16777216" is not a VNI (0 to 16777215)`},
		{"member group", "vtep_membership = 224.0.0.1 5", "224.0.0.1 is not a unicast address"},
		{"member loopback", "vtep_membership = 127.0.0.1 5", "127.0.0.1 is a loopback address, which no VTEP has"},
		{"checksum", "udp_checksum = half", `"half" is none of zero, compute`},
		{"learning", "learning = all", `"all" is none of off, known, any`},
		{"engine", "engine = xdp", `"xdp" is none of auto, tc, raw`},
		{"interface", "interfaces = eth/0", `"eth/0" is not the name of a network device (up to 15 bytes, no blank, slash, colon, comma or quote)`},
		{"members of tc", "tc_max_members = 4096", "4096 is out of range 1..4095"},
		{"oversize", "oversize = truncate", `"truncate" is none of fragment, drop`},
		{"device", "vrf = much-too-long-name", `"much-too-long-name" is not the name of a network device (up to 15 bytes, no blank, slash, colon, comma or quote)`},
		{"area", "area = -1", "-1 is out of range 0..4294967295"},
		{"identifier", "node_id = 0x", `"0x" is not an identifier (a number of up to 64 bits, decimal or 0x…, or auto)`},
		{"vxrd's option without section", "refresh_rate = 0", "0 is out of range 1..65535"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parse(tt.line)
			if err == nil {
				t.Fatalf("got %s, want an error", r.Config.Dump())
			}
			key, _, _ := strings.Cut(tt.line, " ")
			if got, want := err.Error(), "f:1: "+key+": "+tt.want; got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
		})
	}
}
