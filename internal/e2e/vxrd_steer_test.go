// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vxsnd/internal/control"
)

// A monitor of vxrd tells of VNIs that are registered and of members of flood
// lists as they come and go; what is set holds until a reload.
func TestVxrdMonitorsAndSteers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(2, []*node{n}, "head_rep = yes")
	a, b := vs[0], vs[1]
	a.waitFloods("vxlan100", b.addr)
	e := a.stream(control.CommandMonitor, control.VNIArgs{})
	text := a.runCtl(exec.Command(vxrdName(t, "vxrdctl"), "-u", a.file("vxsnd.sock"), "monitor"))
	a.waitFor("the head of the monitor", func() bool { return strings.Contains(text.Output(), "VNI") })

	happened := func(event string, address string) func([]json.RawMessage) bool {
		return func(ps []json.RawMessage) bool {
			for _, m := range all[control.RegistrarEvent](t, ps) {
				if m.Event == event && m.VNI == 110 && m.Device == "vxlan110" && m.Address.String() == address {
					return true
				}
			}
			return false
		}
	}
	a.vxlan(110, nowhere)
	e.wait("the registration", happened(control.EventRegistered, a.addr.String()))
	b.vxlan(110, nowhere)
	e.wait("the member", happened(control.EventMemberAdded, b.addr.String()))
	check(t, b.DeleteLink("vxlan110"))
	e.wait("the member to go", happened(control.EventMemberRemoved, b.addr.String()))
	check(t, a.DeleteLink("vxlan110"))
	e.wait("the registration to go", happened(control.EventUnregistered, a.addr.String()))
	check(t, text.Signal(os.Interrupt))
	if got := text.printed(); !strings.Contains(got, "vxlan110") {
		t.Errorf("got %q, want what happened to vxlan110", got)
	}

	if got, want := a.ctl("set", "config", "config_check_rate", "7"), "config_check_rate: 60 -> 7\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := a.ctl("reload"), "config_check_rate: 7 -> 60\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	refused := a.runCtl(exec.Command(vxrdName(t, "vxrdctl"), "-u", a.file("vxsnd.sock"), "set", "config", "vxfld_port", "1"))
	if status := must(refused.Wait(within(t)))(t); status != 1 || !strings.Contains(refused.stderr.String(), "restart") {
		t.Errorf("got status %d and %q, want 1 and that it takes a restart", status, refused.stderr)
	}
}
