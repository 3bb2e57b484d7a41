// SPDX-License-Identifier: Apache-2.0

package e2e

// Which engine floods, and that a node says so.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const choiceVNI vxlan.VNI = 520

// Capabilities are asked for by the one engine or the other; with auto the node
// takes what it may have, and says why where that is less.
func TestEngineByPrivilege(t *testing.T) {
	t.Parallel()
	bpf := []uintptr{unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_NET_ADMIN}
	tests := []struct {
		name   string
		caps   []uintptr
		choice string
		engine string // "" where the node does not start
		says   []string
	}{
		{name: "auto with all that it takes", caps: bpf, choice: "auto", engine: "tc", says: []string{"eth0"}},
		{name: "auto without CAP_BPF", caps: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}, choice: "auto", engine: "raw", says: []string{"CAP_BPF"}},
		{name: "auto without CAP_NET_ADMIN", caps: []uintptr{unix.CAP_NET_RAW, unix.CAP_BPF}, choice: "auto", engine: "raw", says: []string{"CAP_NET_ADMIN"}},
		{name: "auto with CAP_NET_RAW alone", caps: []uintptr{unix.CAP_NET_RAW}, choice: "auto", engine: "raw", says: []string{"CAP_BPF"}},
		{name: "tc with all that it takes", caps: bpf, choice: "tc", engine: "tc", says: []string{"eth0"}},
		{name: "tc without CAP_BPF", caps: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}, choice: "tc", says: []string{"CAP_BPF", "tc.conf"}},
		{name: "tc with CAP_NET_RAW alone", caps: []uintptr{unix.CAP_NET_RAW}, choice: "tc", says: []string{"CAP_BPF", "CAP_NET_ADMIN", "engine = auto"}},
		{name: "raw with more than it takes", caps: bpf, choice: "raw", engine: "raw"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := engineTC.lab(t, 0)
			l.engine = engine(tt.choice)
			vs := l.vteps(3)
			n := l.idle()
			config := []string{"workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{choiceVNI}, vs...)}
			if tt.engine == "" {
				wantRefusal(t, n.launch(asNobody(t, tt.caps...), config...), tt.says...)
				return
			}
			n.startAs(asNobody(t, tt.caps...), config...)
			l.engine = engine(tt.engine)
			wantMember(t, n, vs[0], vs[1], choiceVNI, true)
			if got := n.status().Engine; got != tt.engine {
				t.Errorf("got engine %q, want %s", got, tt.engine)
			}
			n.wantKernel(1)
			if why := "engine = " + tt.choice; tt.engine == "tc" && !strings.Contains(n.proc.Output(), why) {
				t.Errorf("got a log that does not say %q:\n%s", why, n.proc.Output())
			}
			line := ""
			for s := range strings.Lines(n.ctl("show").printed()) {
				if strings.HasPrefix(strings.TrimSpace(s), "Engine:") {
					line = s
				}
			}
			for _, word := range append(tt.says, tt.engine) {
				if !strings.Contains(line, word) {
					t.Errorf("got %q shown, want it to say %q", line, word)
				}
			}
			if tt.engine == "tc" {
				n.wantPrivileges(unbounded(t, confined(nobody, nobody, "", netRawAdmin|1<<unix.CAP_BPF)))
			} else {
				n.wantPrivileges(unbounded(t, confined(nobody, nobody, "", netRaw)))
			}
		})
	}
}

// What the kernel cannot do for any packet is refused where it was asked for.
func TestEngineRefusesChecksums(t *testing.T) {
	t.Parallel()
	l := engineTC.lab(t, 0)
	n := l.idle()
	p := n.launch(exec.Command(program(t)), "udp_checksum = compute")
	if status := must(p.Wait(within(t)))(t); status != exitConfig || !strings.Contains(p.Output(), "udp_checksum") {
		t.Errorf("got status %d, want %d and the option named; output:\n%s", status, exitConfig, p.Output())
	}
}

// rawVNIs returns how many VNIs raw has for a reason.
func (n *node) rawVNIs(reason string) int {
	n.lab.t.Helper()
	k := n.status().Kernel
	if k == nil {
		n.lab.t.Fatal("got no status of the kernel")
	}
	return k.RawVNIs[reason]
}

// many returns configuration that makes so many addresses without a way to them
// members of a VNI.
func many(vni vxlan.VNI, count int) string {
	var b strings.Builder
	a := netip.MustParseAddr("10.20.0.1")
	for range count {
		fmt.Fprintf(&b, "vtep_membership = %s %s\n", a, vni)
		a = a.Next()
	}
	return b.String()
}

// A VNI with more members than the cap is flooded by raw as a whole, and the cap
// may change.
func TestMembersBeyondTheCap(t *testing.T) {
	t.Parallel()
	l := engineTC.lab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	check(t, n.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.20.0.0/16"), Kind: netlab.Blackhole}))
	base := []string{"workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{choiceVNI}, vs...), many(choiceVNI, 4000)}
	n.start(base...)
	for _, step := range []struct {
		cap    string
		config []string
		raw    int
	}{
		{"the default", base, 1},
		{"enough", append(base[:len(base):len(base)], "tc_max_members = 4003"), 0},
		{"one too few", append(base[:len(base):len(base)], "tc_max_members = 4002"), 1},
		{"the most", append(base[:len(base):len(base)], "tc_max_members = 4095"), 0},
		{"the default again", base, 1},
	} {
		n.reload(step.config...)
		check(t, netlab.Wait(within(t), "the cap to be in force", func() bool { return n.rawVNIs("too_many_members") == step.raw }))
		before := n.status().Kernel.Packets
		for range 5 {
			wantMember(t, n, vs[0], vs[2], choiceVNI, true)
		}
		if step.raw == 0 {
			n.wantKernel(int(before) + 1)
		}
		if t.Failed() {
			t.Fatalf("with %s", step.cap)
		}
	}
	if got := n.status().Drops["unreachable"]; got != 5*5*4000 {
		t.Logf("got %d copies without a way counted so far", got)
	}
	n.stop().wantDrops("unreachable", 5*5*4000)
}
