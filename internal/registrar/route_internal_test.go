// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"vxsnd/internal/underlay"
)

// A device without a local address is registered as soon as there is a route, and
// from where the route says.
func TestRoutesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noLocal := with(device("a", 1, ""), func(d *underlay.Device) { d.Local = netip.Addr{} })
		h := newHarness(t, testConfig("10.0.0.100"), noLocal)
		h.devices.noRoute.Store(true)
		h.start()
		h.expect("without a route", h.heard(), "")
		route := func(there bool) {
			h.devices.noRoute.Store(!there)
			h.devices.routes <- struct{}{}
			synctest.Wait()
		}
		route(true)
		h.expect("the route comes", h.heard(), "?100/9[1]")
		route(false)
		h.expect("the route goes", h.heard(), "-100/9[1]")
		h.sleep(settled)
		h.heard()
		route(true)
		h.expect("it is back", h.heard(), "?100/9[1]")

		h.change(device("a", 1, ""))
		h.heard()
		before := h.current()
		route(false)
		if h.current() != before {
			t.Error("got another plan, want none where no device depends on routes")
		}
	})
}
