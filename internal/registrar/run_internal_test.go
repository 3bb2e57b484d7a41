// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/config"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// settled is after the start and what is said once more then.
const settled = 2 * time.Second

func TestRegistersInRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""), device("b", 2, ""))
		h.start()
		h.expect("at the start", h.heard(), "?100/1[1 2]")
		h.sleep(time.Second)
		h.expect("once more", h.heard(), "?100/1[1 2]")

		last, gaps := time.Now().Add(-time.Second), map[time.Duration]bool{}
		for len(gaps) < 3 {
			h.sleep(time.Second)
			for _, d := range h.sent() {
				gap := d.at.Sub(last)
				if gap < 27*time.Second || gap > 33*time.Second {
					t.Fatalf("got a round after %v, want 27 to 33 s", gap)
				}
				if r := h.refresh(d); r.Holdtime != 90 || len(r.VNIs) != 2 {
					t.Fatalf("got %+v, want all, for 90 s", r)
				}
				last, gaps[gap] = d.at, true
			}
		}
	})
}

func TestNobodyAsksWithoutHeadEndReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.HeadRep, c.Holdtime = false, config.HoldtimeStatic
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		out := h.sent()
		if len(out) != 1 {
			t.Fatalf("got %d messages, want 1", len(out))
		}
		if r := h.refresh(out[0]); r.Response != vxfld.ResponseNone || r.Holdtime != vxfld.HoldtimeStatic {
			t.Errorf("got %+v, want no question, and static", r)
		}
		h.answer("10.0.0.100", "1 1 2")
		h.expect("verdict", h.counted(), "not_asked=1")
		h.sleep(settled)
		h.sent()
		h.sleep(35 * time.Second)
		h.expect("a round of what never ages", h.heard(), "+100/1[1]")
	})
}

// counted shows the verdicts that there were.
func (h *harness) counted() string {
	text := ""
	for v := range numVerdicts {
		if n := h.verdicts[v].Load(); n > 0 {
			text += fmt.Sprintf(" %s=%d", v, n)
		}
	}
	if text == "" {
		return ""
	}
	return text[1:]
}

func TestSaysWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := device("a", 1, ""), device("b", 2, "")
		h := newHarness(t, testConfig("10.0.0.100", "10.0.0.101"), a)
		h.start()
		h.expect("at the start", h.heard(), "?100/1[1] ?101/1[1]")
		h.sleep(settled)
		h.heard()

		h.change(a, b)
		h.expect("a device comes", h.heard(), "?100/1[2] ?101/1[2]")
		if got := h.logged("vni to register"); got != 4 {
			t.Errorf("got %d lines about a vni, want one for each and service node", got)
		}
		h.sleep(time.Second)
		h.expect("once more", h.heard(), "?100/1[2] ?101/1[2]")

		h.change(a, with(b, func(d *underlay.Device) { d.Up = false }))
		h.expect("it goes down", h.heard(), "-100/1[2] -101/1[2]")
		if got := h.logged("vni to withdraw")*10 + h.logged("vni skipped"); got != 21 {
			t.Errorf("got %d, want two lines of withdrawal and one of why", got)
		}
		h.sleep(time.Second / 2)
		h.change(a, b)
		h.expect("and up", h.heard(), "?100/1[2] ?101/1[2]")
		h.sleep(time.Second / 2)
		h.expect("its withdrawal once more", h.heard(), "")
		h.sleep(time.Second / 2)
		h.expect("its registration once more", h.heard(), "?100/1[2] ?101/1[2]")

		h.change(a, with(b, func(d *underlay.Device) { d.Local = addr("10.0.0.9") }))
		h.expect("another local address", h.heard(), "?100/9[2] ?101/9[2]")
		h.sleep(time.Second)
		h.heard()

		h.addresses.updates <- addrs("10.0.0.1")
		synctest.Wait()
		h.expect("the address goes", h.heard(), "-100/9[2]* -101/9[2]*")
		h.sleep(time.Second)
		h.heard()
		h.addresses.updates <- addrs("10.0.0.1", "10.0.0.9")
		synctest.Wait()
		h.expect("and comes back", h.heard(), "?100/9[2] ?101/9[2]")
		h.sleep(time.Second)
		h.heard()

		h.change(a)
		h.expect("the device goes", h.heard(), "-100/9[2] -101/9[2]")
		h.change()
		h.expect("and the other one", h.heard(), "-100/1[1] -101/1[1]")
		h.sleep(time.Second)
		h.expect("both once more", h.heard(), "-100/9[2] -101/9[2] -100/1[1] -101/1[1]")
		h.sleep(10 * time.Minute)
		h.expect("then silence", h.heard(), "")
	})
}

func TestIdentifierStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"))
		h.start()
		if h.identifier() != 0 || h.heard() != "" {
			t.Errorf("got identifier %#x with nothing to register", h.identifier())
		}
		nine := with(device("b", 2, ""), func(d *underlay.Device) { d.Local = addr("10.0.0.9") })
		h.change(nine)
		want := nodeID("machine", addr("10.0.0.9"))
		h.change(device("a", 1, ""), nine)
		out := h.sent()
		if len(out) != 2 {
			t.Fatalf("got %d messages, want 2", len(out))
		}
		for _, d := range out {
			if got := h.refresh(d).Identifier; got != want {
				t.Errorf("got identifier %#x, want %#x", got, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.NodeID = 4711
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		if got := h.refresh(h.sent()[0]).Identifier; got != 4711 {
			t.Errorf("got identifier %d, want that of the configuration", got)
		}
	})
}

func TestEnds(t *testing.T) {
	tests := []struct {
		name     string
		cause    error
		withdraw bool
		want     string
	}{
		{"for good", nil, true, "-100/1[1 2] -100/1[1 2]"},
		{"for a restart", ErrRestart, true, ""},
		{"for good, but everything stays", nil, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig("10.0.0.100")
				c.WithdrawOnExit = tt.withdraw
				h := newHarness(t, c, device("a", 1, ""), device("b", 2, ""))
				h.start()
				h.answer("10.0.0.100", "1 1 2; 2 1 3")
				h.heard()
				h.end(tt.cause)
				h.expect("at the end", h.heard(), tt.want)
				if want := tt.want != ""; h.lists.flushed != want {
					t.Errorf("got flushed %v, want %v", h.lists.flushed, want)
				}
				if !h.lists.closed {
					t.Error("flood lists not closed")
				}
			})
		})
	}
}

// A part that fails ends the others, and withdraws nothing: it is started again.
func TestFailureKeepsEverything(t *testing.T) {
	tests := []struct {
		name string
		fail func(h *harness)
	}{
		{"the socket", func(h *harness) { h.conn.Close() }},
		{"the devices", func(h *harness) { h.devices.errs <- errUnreachable }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""))
				h.start()
				h.heard()
				tt.fail(h)
				if err := <-h.ended; err == nil {
					t.Error("got no error")
				}
				h.stop = nil
				if h.heard() != "" || h.lists.flushed {
					t.Error("got a withdrawal")
				}
			})
		})
	}
}

// A message that the kernel does not take is tried again soon, and not more and
// more often.
func TestSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100", "10.0.0.101"), device("a", 1, ""))
		h.conn.refuse(func(to netip.AddrPort) error {
			if to.Addr() == addr("10.0.0.100") {
				return errUnreachable
			}
			return nil
		})
		h.start()
		h.expect("at the start", h.heard(), "?101/1[1]")
		h.sleep(10 * time.Minute)
		if got := h.sendErrors.Load(); got > 350 {
			t.Errorf("got %d attempts in ten minutes", got)
		}
		if got := h.logged("registration not sent"); got > 11 {
			t.Errorf("got %d warnings in ten minutes", got)
		}
		h.heard()
		h.conn.refuse(nil)
		h.sleep(2 * time.Second)
		if got := h.heard(); !strings.HasPrefix(got, "?100/1[1]") {
			t.Errorf("when it can: got %q, want what was missing", got)
		}
	})
}

// Many VNIs go out in bursts, and nobody waits for that to take in answers.
func TestPacesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds []underlay.Device
		for vni := range vxlan.VNI(10_000) {
			ds = append(ds, device(fmt.Sprintf("d%05d", vni), vni, ""))
		}
		h := newHarness(t, testConfig("10.0.0.100"), ds...)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.conn.in <- datagram{b: []byte{9}, peer: netip.MustParseAddrPort("10.0.0.100:10001")}
		}()
		h.run()
		<-h.Ready()
		<-ended
		out := h.sent()
		vnis, burst := 0, 0
		for i, d := range out {
			if len(d.b)+vxfld.Overhead > 1500 {
				t.Fatalf("got a message of %d bytes", len(d.b))
			}
			if i > 0 && !d.at.Equal(out[i-1].at) {
				burst = 0
			}
			if burst++; burst > 32 {
				t.Fatal("got more than 32 messages at once")
			}
			vnis += len(h.refresh(d).VNIs)
		}
		if vnis != 10_000 {
			t.Errorf("got %d vnis, want 10000", vnis)
		}
		h.expect("verdicts", h.counted(), "malformed=1")
	})
}

func TestSendsFromTheConfiguredAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.SrcIP, c.VxfldPort = addr("10.0.0.9"), 20001
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		out := h.sent()
		if len(out) != 1 || out[0].self != c.SrcIP || out[0].peer != netip.MustParseAddrPort("10.0.0.100:20001") {
			t.Errorf("got %+v, want one message from %s", out, c.SrcIP)
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""))
		h.start()
		h.sleep(settled)
		h.heard()
		c := testConfig("10.0.0.200")
		c.Holdtime, c.RefreshRate, c.HrepDevices, c.HeadRep = 30*time.Second, 10, []string{"a"}, false
		ch, err := h.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		ch.Discard()
		synctest.Wait()
		h.expect("discarded", h.heard(), "")
		if ch, err = h.Prepare(c); err != nil {
			t.Fatal(err)
		}
		ch.Commit()
		synctest.Wait()
		out := h.sent()
		if len(out) != 1 || out[0].peer.Addr() != addr("10.0.0.100") {
			t.Fatalf("got %d messages, want one to the service node of the start", len(out))
		}
		if r := h.refresh(out[0]); r.Holdtime != 30 || r.Response != vxfld.ResponseRequested {
			t.Errorf("got %+v, want holdtime 30 and a question", r)
		}
		if got := h.lists.settings.Devices; len(got) != 1 {
			t.Errorf("got hrep_devices %v, want a", got)
		}
		h.sleep(4 * time.Second)
		h.expect("the next round", h.heard(), "?100/1[1]")
	})
}

func TestFloodLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := device("a", 1, ""), device("b", 2, "")
		h := newHarness(t, testConfig("10.0.0.100"), a, b)
		h.start()
		h.expect("at the start", h.lists.text(), "")
		h.answer("10.0.0.100", "1 1 2 3; 2 1 9")
		h.expect("answered", h.lists.text(), "a/1[2 3]") // 9 is this machine, too
		n := h.lists.changed()
		h.answer("10.0.0.100", "1 3 2 1; 2 1 9")
		if h.lists.changed() != n {
			t.Error("the same answer changes something")
		}
		h.answer("10.0.0.100", "2 1 4; 2 5")
		h.expect("one vni of both", h.lists.text(), "a/1[2 3] b/2[4 5]")
		h.answer("10.0.0.100", "1 0")
		h.expect("nobody", h.lists.text(), "a/1[] b/2[4 5]")
		h.answer("10.0.0.100", "1 1 2")
		h.addresses.updates <- addrs("10.0.0.1", "10.0.0.9", "10.0.0.5")
		synctest.Wait()
		h.expect("an address of this machine", h.lists.text(), "a/1[2] b/2[4]")
		h.change(with(a, func(d *underlay.Device) { d.Up = false }), device("c", 2, ""))
		h.expect("another device has the vni", h.lists.text(), "a/1[2] c/2[4]")
		h.change()
		h.expect("all gone", h.lists.text(), "")
	})
}
