// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// holdIn is the environment variable by which a test has its program run again,
// with some capabilities alone.
const holdIn = "VXSND_TEST_HOLD"

// TestChildHolds is no test where no other runs it.
func TestChildHolds(t *testing.T) {
	names, ok := os.LookupEnv(holdIn)
	if !ok {
		return
	}
	var index int
	_, err := fmt.Sscan(names, &index)
	check(t, err)
	s := cap.NewSet()
	for _, n := range strings.Fields(names)[1:] {
		v, err := cap.FromName(n)
		check(t, err)
		check(t, s.SetFlag(cap.Permitted, true, v))
		check(t, s.SetFlag(cap.Effective, true, v))
	}
	check(t, s.SetProc())
	fmt.Printf("\nresult %v\n", attachOnce(index))
}

// attachOnce loads and attaches the program in both ways.
func attachOnce(index int) error {
	k, err := load(16)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		a, err := h.attach(k, index)
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		if err := a.detach(); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	if _, err := k.grow(); err != nil {
		return err
	}
	if err := k.setVNI(1, 1); err != nil {
		return err
	}
	if _, err := k.handedUp(); err != nil {
		return err
	}
	return grace()
}

func TestCapabilities(t *testing.T) {
	for _, tt := range []struct{ holds, want string }{
		{"cap_bpf cap_net_admin", "<nil>"},
		{"cap_bpf cap_net_admin cap_perfmon", "<nil>"},
		{"cap_sys_admin cap_net_admin", "<nil>"}, // that of old, which the others were split from
		{"cap_net_admin", "without CAP_BPF"},
		{"cap_bpf", "without CAP_NET_ADMIN"},
		{"cap_net_raw", "without CAP_BPF and CAP_NET_ADMIN"},
	} {
		t.Run(tt.holds, func(t *testing.T) {
			r := newRig(t)
			exe, err := os.Executable()
			check(t, err)
			cmd := exec.Command(exe, "-test.run=^TestChildHolds$", "-test.v")
			cmd.Env = append(os.Environ(), holdIn+"="+strconv.Itoa(r.eth0.Index)+" "+tt.holds)
			p, err := r.node.Start(cmd)
			check(t, err)
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			got, err := p.WaitLine(ctx, func(l string) bool { return strings.HasPrefix(l, "result ") })
			if err != nil {
				t.Fatalf("%v: %s", err, p.Output())
			}
			if !strings.Contains(got, tt.want) || tt.want != "<nil>" && !strings.HasSuffix(got, "operation not permitted") {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
