// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os"
	"path/filepath"
	"testing"

	"vxsnd/internal/netlab"
)

// fakeProc makes files below a directory that stands for /proc: for settings
// that no network namespace has for itself.
func fakeProc(t *testing.T, files map[string]string) proc {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proc(dir)
}

func TestNeighbours(t *testing.T) {
	const key4, key6 = "net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3"
	p := fakeProc(t, map[string]string{"sys/net/ipv4/neigh/default/gc_thresh3": "1024", "sys/net/ipv6/neigh/default/gc_thresh3": "1024"})
	values := key4 + " = 1024, " + key6 + " = 1024"
	tests := []struct {
		name             string
		p                proc
		want4, want6     int
		state, value, to string
	}{
		{"none", p, 0, 0, "ok", values, ""},
		{"few", p, 896, 3, "ok", values, ""},
		{"many", p, 897, 0, "warn", values,
			"sysctl -w " + key4 + "=4096 net.ipv4.neigh.default.gc_thresh2=2048"},
		{"many of both", p, 2000, 900, "warn", values,
			"sysctl -w " + key4 + "=8192 net.ipv4.neigh.default.gc_thresh2=4096 " + key6 + "=4096 net.ipv6.neigh.default.gc_thresh2=2048"},
		{"not shown", fakeProc(t, nil), 1, 0, "unknown", key4 + " cannot be read", ""},
		{"not shown and not needed", fakeProc(t, nil), 0, 0, "ok", key4 + " is not shown here", ""},
		{"no number", fakeProc(t, map[string]string{"sys/net/ipv6/neigh/default/gc_thresh3": "x"}), 0, 1, "unknown", key6 + " cannot be read", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.p.neighbours(tt.want4, tt.want6)
			if f.State() != tt.state || f.Value != tt.value || f.Fix != tt.to {
				t.Errorf("got %+v, want %s, %q and fix %q", f, tt.state, tt.value, tt.to)
			}
		})
	}
}

// TestLegacyTables lets an empty set of rules meet tables of iptables-legacy,
// whose rules cannot be seen.
func TestLegacyTables(t *testing.T) {
	ns, err := netlab.Test(t).Namespace("node")
	if err != nil {
		t.Fatal(err)
	}
	const count, names = "sys/net/netfilter/nf_conntrack_count", "thread-self/net/ip_tables_names"
	tests := []struct {
		name       string
		files      map[string]string
		track, nat string
	}{
		{"no tracking in the kernel", nil, "ok", "ok"},
		{"no table", map[string]string{count: "0"}, "ok", "ok"},
		{"no table that can be read, but something is tracked", map[string]string{count: "3"}, "unknown", "ok"},
		{"filter", map[string]string{count: "0", names: "filter"}, "unknown", "ok"},
		{"nat without effect", map[string]string{count: "0", names: "nat"}, "unknown", "unknown"},
		{"nat", map[string]string{count: "3", names: "filter\nnat"}, "warn", "unknown"},
		{"raw, where the cure may be", map[string]string{count: "3", names: "raw\nnat"}, "unknown", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := fakeProc(t, tt.files)
			err := ns.Do(func() error {
				track, nat := p.firewall([]uint16{4789})
				if track.State() != tt.track || nat.State() != tt.nat {
					t.Errorf("got %s and %s, want %s and %s\n%+v\n%+v", track.State(), nat.State(), tt.track, tt.nat, track, nat)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNotrackRule(t *testing.T) {
	got := notrackRule([]uint16{8472, 4789, 8472})
	want := "nft 'table inet untracked { " +
		"chain prerouting { type filter hook prerouting priority raw; udp dport { 4789, 8472 } notrack; }; " +
		"chain output { type filter hook output priority raw; udp dport { 4789, 8472 } notrack; }; }'"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
