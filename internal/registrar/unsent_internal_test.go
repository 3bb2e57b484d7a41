// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/underlay"
)

// show returns the answer to show.
func (h *harness) show() *control.Registrar {
	h.t.Helper()
	s, err := call[*control.Registrar](h, control.CommandShow, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return s[0]
}

// What could not be sent is not registered, wherever one looks.
func TestUnsentIsNotRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig(),
			device("a", 1, "10.0.0.100"), device("b", 2, "10.0.0.101"), device("c", 3, "10.0.0.101"), device("d", 4, ""))
		breaks := func(node string) {
			h.conn.refuse(func(to netip.AddrPort) error {
				if to.Addr() == addr(node) {
					return errUnreachable
				}
				return nil
			})
		}
		breaks("10.0.0.101")
		h.start()
		look := func(what string, registered int, reason string, warnings ...string) {
			t.Helper()
			s := h.show()
			if s.Registered != registered || s.Skipped != 4-registered || !slices.Equal(s.Warnings, warnings) {
				t.Errorf("%s: got %d registered, %d skipped, warnings %q, want %d, %d, %q",
					what, s.Registered, s.Skipped, s.Warnings, registered, 4-registered, warnings)
			}
			vxlans, err := call[[]control.VXLAN](h, control.CommandVXLANs, "")
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, v := range vxlans[0] {
				if v.Registered {
					n++
				}
			}
			if n != registered || vxlans[0][2].Reason != reason {
				t.Errorf("%s: got %d registered, reason %q, want %d, %q", what, n, vxlans[0][2].Reason, registered, reason)
			}
			if got, want := h.Status(), fmt.Sprintf("registered %s of 4 devices", counted(registered, "VNI")); !strings.HasPrefix(got, want) {
				t.Errorf("%s: got status %q, want %q", what, got, want)
			}
		}
		look("at the start", 1, "unsent: network is unreachable", "2 VNIs cannot be registered with 10.0.0.101: network is unreachable")
		h.Summary()
		if got := h.logged("vxlans: registered")*100 + h.logged("vxlans: unsent")*10 + h.logged("vxlans: skipped"); got != 121 {
			t.Errorf("summary: got %d, want 1 registered, 2 unsent, 1 skipped", got)
		}

		breaks("10.0.0.100")
		h.sleep(3 * time.Second)
		look("another service node", 3, "", "1 VNI cannot be registered with 10.0.0.100: network is unreachable")
		h.change(device("b", 2, "10.0.0.101"), device("c", 3, "10.0.0.101"), device("d", 4, ""), device("e", 5, ""))
		look("without its device", 2, "no_service_node: no service node: the device has no remote address, and neither svcnode_ip nor svcnode is set")
	})
}

// That nothing at all is registered is worth a warning, unless nothing is up.
func TestWarnsWhereNothingIsRegistered(t *testing.T) {
	const text = "no vni is registered"
	down := func(d *underlay.Device) { d.Up = false }
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig(), with(device("a", 1, ""), down))
		h.start()
		if got := h.show().Warnings; len(got)+h.logged(text) > 0 {
			t.Errorf("nothing is up: got warnings %q, want none", got)
		}
		for range 2 {
			h.change(with(device("a", 1, ""), down), device("b", 2, ""))
			h.change(with(device("a", 1, ""), down), device("b", 2, ""), device("c", 3, ""))
		}
		want := []string{"no VNI is registered: b: no_service_node: no service node: the device has no remote address, and neither svcnode_ip nor svcnode is set"}
		if got := h.show().Warnings; !slices.Equal(got, want) {
			t.Errorf("got warnings %q, want %q", got, want)
		}
		if got := h.logged(text); got != 1 {
			t.Errorf("got %d lines in the log, want 1", got)
		}
		h.change(device("a", 1, "10.0.0.100"), device("b", 2, ""))
		if got := h.show().Warnings; len(got) > 0 {
			t.Errorf("one is registered: got warnings %q, want none", got)
		}
	})
}
