// SPDX-License-Identifier: Apache-2.0

package preflight_test

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/preflight"
)

// runIn runs the checks in a namespace.
func runIn(t *testing.T, ns *netlab.Namespace, in preflight.Input) (fs []preflight.Finding) {
	t.Helper()
	err := ns.Do(func() error {
		fs = preflight.Run(in)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestNothingIsWrongWithNothingToDo(t *testing.T) {
	var names []string
	for _, f := range preflight.Run(preflight.Input{}) {
		names = append(names, f.Name)
		if !f.OK && f.Name != "rp_filter" || f.Value == "" || f.Text == "" || f.Explanation == "" || f.OK && f.Fix != "" {
			t.Errorf("got %+v, want ok and all about it", f)
		}
	}
	want := []string{"rmem_max", "gc_thresh3", "conntrack", "nat", "rp_filter", "ip_forward"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// withoutNetAdmin runs f on a thread that lacks CAP_NET_ADMIN, as a daemon of
// an ordinary user does.
func withoutNetAdmin(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	lacks := had
	lacks[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &lacks[0]); err != nil {
		t.Fatal(err)
	}
	f()
	// A thread that keeps the lack stays locked, and ends with the test.
	if err := unix.Capset(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
}

func rmemMax(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReceiveBuffer(t *testing.T) {
	limit := rmemMax(t)
	want := preflight.Input{ReceiveBuffer: limit + 4096}
	withoutNetAdmin(t, func() {
		f := find(t, preflight.Run(want), "rmem_max")
		if fix := "sysctl -w net.core.rmem_max=" + strconv.Itoa(limit+4096); f.State() != "warn" || f.Fix != fix {
			t.Errorf("more than the limit: got %+v, want a warning and %s", f, fix)
		}
		if f := find(t, preflight.Run(preflight.Input{ReceiveBuffer: limit}), "rmem_max"); f.State() != "ok" || f.Fix != "" {
			t.Errorf("as much as the limit: got %+v, want ok", f)
		}
	})
	if os.Geteuid() != 0 {
		netlab.Lacks(t, "privilege", errors.New("not root"))
	}
	f := find(t, preflight.Run(want), "rmem_max")
	if f.State() != "ok" || !strings.Contains(f.Text, "CAP_NET_ADMIN") {
		t.Errorf("more than the limit with privilege: got %+v, want ok because of it", f)
	}
}

func TestFirewallIsUnknownWithoutPrivilege(t *testing.T) {
	ns, err := netlab.Test(t).Namespace("node")
	if err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		f := firewall{Conn: c}
		f.stateful(inet) // the kernel loads connection tracking for it
		if err := c.Flush(); err != nil {
			return err
		}
		withoutNetAdmin(t, func() {
			fs := preflight.Run(preflight.Input{Ports: []uint16{dataPort}})
			for _, name := range []string{"conntrack", "nat"} {
				f := find(t, fs, name)
				if f.State() != "unknown" || f.Fix != "" || !strings.Contains(f.Text, "CAP_NET_ADMIN") {
					t.Errorf("got %+v, want unknown for want of CAP_NET_ADMIN", f)
				}
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReversePath(t *testing.T) {
	l := netlab.Test(t)
	ns := make([]*netlab.Namespace, 2)
	for i := range ns {
		var err error
		if ns[i], err = l.Namespace("node"); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// One interface has a dot in its name, where sysctl wants a slash.
	for _, dev := range []string{"eth0", "eth1.5", "eth2", "eth3"} {
		must(netlab.Veth(ns[0], dev, ns[1], dev, 1500))
	}
	// A bridge stands for the VRF device: what matters is whose master it is.
	must(ns[0].AddBridge("red", 1500))
	must(ns[0].SetMaster("eth2", "red"))
	must(ns[0].SetMaster("eth3", "red"))

	const all, eth0, eth1, eth2 = "conf/all", "conf/eth0", "conf/eth1.5", "conf/eth2"
	tests := []struct {
		name    string
		set     map[string]string
		down    string
		vrf     string
		want    string
		strict  string
		unknown bool
	}{
		{name: "off", want: "ok"},
		{name: "one of several", set: map[string]string{eth1: "1"}, want: "warn", strict: "; strict on eth1.5"},
		{name: "all", set: map[string]string{all: "1"}, want: "warn", strict: "; strict on eth0, eth1.5, red"},
		{name: "loose for all", set: map[string]string{all: "2", eth0: "1"}, want: "ok"},
		{name: "all, and one is loose", set: map[string]string{all: "1", eth0: "2"}, want: "warn", strict: "; strict on eth1.5, red"},
		{name: "one that is in a VRF", set: map[string]string{eth2: "1"}, want: "ok"},
		{name: "one of the VRF", set: map[string]string{eth2: "1"}, vrf: "red", want: "warn", strict: "; strict on eth2"},
		{name: "one outside of the VRF", set: map[string]string{eth0: "1"}, vrf: "red", want: "ok"},
		{name: "a VRF that is not there", vrf: "blue", want: "unknown"},
		{name: "one that is down", set: map[string]string{eth0: "1"}, down: "eth0", want: "ok"},
		{name: "the only one of the VRF", set: map[string]string{eth2: "1"}, vrf: "red", down: "eth3", want: "ok", strict: "; strict on eth2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, conf := range []string{all, eth0, eth1, eth2, "conf/eth3", "conf/red"} {
				value := "0"
				if v, ok := tt.set[conf]; ok {
					value = v
				}
				must(ns[0].SetSysctl("net/ipv4/"+conf+"/rp_filter", value))
			}
			if tt.down != "" {
				must(ns[0].SetDown(tt.down))
				defer func() { must(ns[0].SetUp(tt.down)) }()
			}
			f := find(t, runIn(t, ns[0], preflight.Input{VRF: tt.vrf}), "rp_filter")
			value := "net.ipv4.conf.all.rp_filter = 0"
			if v, ok := tt.set[all]; ok {
				value = strings.TrimSuffix(value, "0") + v
			}
			if f.State() != tt.want || f.Value != value+tt.strict || (f.Fix != "") != (tt.want == "warn") {
				t.Errorf("got %+v, want %s and %q", f, tt.want, value+tt.strict)
			}
		})
	}
}

func TestForwarding(t *testing.T) {
	ns, err := netlab.Test(t).Namespace("node")
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.AddBridge("eth0", 1500); err != nil {
		t.Fatal(err)
	}
	for dev, addrs := range map[string][]string{
		"eth0": {"192.0.2.1/24", "2001:db8::1/64", "192.0.2.32/32"}, "lo": {"198.51.100.1/24", "198.51.100.2/32"},
	} {
		for _, a := range addrs {
			if err := ns.AddAddr(dev, netip.MustParsePrefix(a)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const key4, key6 = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
	tests := []struct{ name, on, anycast, want, value, fix string }{
		{"neither", "", "", "ok", key4 + " = 0", ""},
		{"forwarding alone", key4, "", "ok", key4 + " = 1", ""},
		{"anycast alone", "", "192.0.2.10", "ok", key4 + " = 0", ""},
		{"both", key4, "192.0.2.10", "warn", key4 + " = 1", "sysctl -w " + key4 + "=0"},
		{"both for IPv6", key6, "2001:db8::10", "warn", key6 + " = 1", "sysctl -w " + key6 + "=0"},
		{"an address of a link", key4, "192.0.2.1", "ok", key4 + " = 1", ""},
		{"an IPv6 address of a link", key6, "2001:db8::1", "ok", key6 + " = 1", ""},
		{"one that is alone on a link", key4, "192.0.2.32", "warn", key4 + " = 1", "sysctl -w " + key4 + "=0"},
		{"one on lo", key4, "198.51.100.2", "warn", key4 + " = 1", "sysctl -w " + key4 + "=0"},
		{"a network on lo", key4, "198.51.100.1", "warn", key4 + " = 1", "sysctl -w " + key4 + "=0"},
		{"each for another family", key4, "2001:db8::10", "ok", key6 + " = 0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, key := range []string{key4, key6} {
				value := "0"
				if key == tt.on {
					value = "1"
				}
				if err := ns.SetSysctl(key, value); err != nil {
					t.Fatal(err)
				}
			}
			var in preflight.Input
			if tt.anycast != "" {
				in.Anycast = netip.MustParseAddr(tt.anycast)
			}
			f := find(t, runIn(t, ns, in), "ip_forward")
			if f.State() != tt.want || f.Value != tt.value || f.Fix != tt.fix {
				t.Errorf("got %+v, want %s, %q and fix %q", f, tt.want, tt.value, tt.fix)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	err := preflight.Print(&b, []preflight.Finding{
		{Name: "rmem_max", OK: true, Value: "net.core.rmem_max = 8388608", Text: "enough", Explanation: strings.Repeat("packets wait ", 10)},
		{Name: "conntrack", Unknown: true, Value: "v", Text: "look as root"},
		{Name: "ip_forward", Value: "net.ipv4.ip_forward = 1", Text: "packets circle", Fix: "sysctl -w " + strings.Repeat("x", 80) + "=0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `ok       rmem_max    net.core.rmem_max = 8388608
         enough
         packets wait packets wait packets wait packets wait packets wait
         packets wait packets wait packets wait packets wait packets wait

unknown  conntrack   v
         look as root

warn     ip_forward  net.ipv4.ip_forward = 1
         packets circle
         fix: sysctl -w ` + strings.Repeat("x", 80) + `=0
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := preflight.Print(full, preflight.Run(preflight.Input{})); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want that the disk is full", err)
	}
}
