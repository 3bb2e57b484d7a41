// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

func down(d *underlay.Device) { d.Up = false }

func keyOf(d underlay.Device) headend.Key {
	return headend.Key{Device: d.Name, Index: d.Index, VNI: d.VNIs[0].VNI}
}

// What is wrong for a while with a device or an address empties no flood list:
// only an answer does, and service nodes may be silent.
func TestListsWait(t *testing.T) {
	a, b := device("a", 1, ""), device("b", 2, "")
	const all = "a/1[2 3] b/2[4]"
	addresses := func(as ...string) func(*harness) {
		return func(h *harness) {
			h.addresses.updates <- addrs(as...)
			synctest.Wait()
		}
	}
	devices := func(ds ...underlay.Device) func(*harness) { return func(h *harness) { h.change(ds...) } }
	tests := []struct {
		name      string
		off, on   func(*harness)
		withdrawn string
		meanwhile string // lists while it is off
		after     string // and when it is on again
	}{
		{"a device goes down", devices(with(a, down), b), devices(a, b), "-100/1[1]", all, all},
		{"the local address goes", addresses("10.0.0.9"), addresses("10.0.0.1", "10.0.0.9"), "-100/1[1 2]*", all, all},
		{
			"the route goes", devices(with(a, func(d *underlay.Device) { d.Local = netip.Addr{} }), b), devices(a, b),
			"-100/1[1]", all, all,
		},
		{
			"a device gets another name meanwhile", devices(with(a, down), b),
			devices(with(a, func(d *underlay.Device) { d.Name = "z" }), b), "-100/1[1]", all, "z/1[2 3] b/2[4]",
		},
		{
			"another device gets the vni meanwhile", devices(with(a, down), b, with(device("c", 1, ""), down)),
			devices(with(a, down), b, device("c", 1, "")), "-100/1[1]", all, "c/1[2 3] b/2[4]",
		},
		{"a device goes for good", devices(b), devices(a, b), "-100/1[1]", "b/2[4]", "b/2[4]"},
		{
			"a device has another port", devices(with(a, func(d *underlay.Device) { d.Port = 8472 }), b), devices(a, b),
			"-100/1[1]", "b/2[4]", "b/2[4]",
		},
		{
			"a device is made anew", devices(with(a, func(d *underlay.Device) { d.Index, d.Up = 77, false }), b), devices(a, b),
			"-100/1[1]", "b/2[4]", "b/2[4]",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, testConfig("10.0.0.100"), a, b)
				h.devices.noRoute.Store(true)
				h.start()
				h.answer("10.0.0.100", "1 1 2 3; 2 1 4")
				h.expect("answered", h.lists.text(), all)
				h.sleep(settled)
				h.heard()
				tt.off(h)
				h.expect("withdrawn", h.heard(), tt.withdrawn)
				h.expect("off", h.lists.text(), tt.meanwhile)
				h.answer("10.0.0.100", "1 1 66")
				h.sleep(10 * time.Minute)
				h.expect("off for long", h.lists.text(), tt.meanwhile)
				silences := h.logged(silentText) + h.logged(someText)
				tt.on(h)
				h.expect("on again", h.lists.text(), tt.after)
				if got := h.logged(silentText) + h.logged(someText); got != silences {
					t.Errorf("got %d warnings of silence at once", got-silences)
				}
			})
		})
	}
}

// A list that waits goes when stale_time wants that, too.
func TestWaitingListsTurnStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.StaleTime = 300 * time.Second
		a, b := device("a", 1, ""), device("b", 2, "")
		h := newHarness(t, c, a, b)
		h.start()
		h.answer("10.0.0.100", "1 1 2; 2 1 4")
		h.change(with(a, down), b)
		h.sleep(299 * time.Second)
		h.expect("before", h.lists.text(), "a/1[2] b/2[4]")
		h.answer("10.0.0.100", "2 1 4")
		h.sleep(2 * time.Second)
		h.expect("after", h.lists.text(), "a/1[] b/2[4]")
	})
}

func TestAdoptsListsOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := device("a", 1, ""), device("b", 2, ""), device("c", 3, "")
		h := newHarness(t, testConfig("10.0.0.100"), a, b, with(c, down))
		h.lists.adopted = map[headend.Key][]netip.Addr{
			keyOf(a): addrs("10.0.0.2", "10.0.0.3", "10.0.0.9"), keyOf(device("gone", 7, "")): addrs("10.0.0.2"),
			keyOf(c): addrs("10.0.0.6"),
		}
		h.start()
		h.expect("at the start", h.lists.text(), "a/1[2 3] c/3[6]")
		if h.lists.kept != 1 {
			t.Errorf("got %d calls of Keep, want 1", h.lists.kept)
		}
		h.sleep(10 * time.Minute)
		h.expect("silence", h.lists.text(), "a/1[2 3] c/3[6]")
		h.answer("10.0.0.100", "1 1 3 4")
		h.expect("answered", h.lists.text(), "a/1[3 4] c/3[6]")
		h.change(a, b, c)
		h.expect("it comes up", h.lists.text(), "a/1[3 4] c/3[6]")
		h.change(a, b)
		h.expect("it goes", h.lists.text(), "a/1[3 4]")
	})
}

// After a crash in between, a list may be noted for two devices.
func TestAdoptsOneListOfAVNI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := device("a", 1, ""), with(device("b", 1, ""), func(d *underlay.Device) { d.Index = 5 })
		h := newHarness(t, testConfig("10.0.0.100"), with(a, down), b)
		h.lists.adopted = map[headend.Key][]netip.Addr{keyOf(a): addrs("10.0.0.2"), keyOf(b): addrs("10.0.0.3")}
		h.start()
		h.expect("at the start", h.lists.text(), "b/1[2 3]")
	})
}
