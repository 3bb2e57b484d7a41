// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A withdrawal that the kernel does not take is tried again, for as long as
// somebody may hold the registration, and at the stop.
func TestWithdrawsAgain(t *testing.T) {
	unreachable := func(netip.AddrPort) error { return errUnreachable }
	a, b := device("a", 1, ""), device("b", 2, "")
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), a, b)
		h.start()
		h.conn.refuse(unreachable)
		h.change(b)
		h.sleep(20 * time.Second)
		h.heard()
		h.conn.refuse(nil)
		h.sleep(2 * time.Second)
		if got := h.heard(); !strings.Contains(got, "-100/1[1]") {
			t.Errorf("when it can: got %q, want the withdrawal", got)
		}
		h.sleep(5 * time.Second)
		if got := h.heard(); strings.Contains(got, "-") {
			t.Errorf("after it: got %q, want no withdrawal", got)
		}

		h.conn.refuse(unreachable)
		h.change()
		h.change(b)
		h.sleep(5 * time.Second)
		h.conn.refuse(nil)
		h.sleep(2 * time.Second)
		if got := h.heard(); strings.Contains(got, "-") {
			t.Errorf("registered again meanwhile: got %q, want no withdrawal", got)
		}

		h.conn.refuse(unreachable)
		h.change()
		h.sleep(100 * time.Second)
		h.conn.refuse(nil)
		h.sleep(2 * time.Second)
		h.expect("when nobody holds it any more", h.heard(), "")

		h.change(b)
		h.conn.refuse(unreachable)
		h.change()
		h.sleep(1100 * time.Millisecond)
		h.conn.refuse(nil)
		h.heard()
		h.end(nil)
		h.expect("at the stop", h.heard(), "-100/1[2] -100/1[2]")
	})
}
