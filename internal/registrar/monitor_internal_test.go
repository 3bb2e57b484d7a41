// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// An audience is a client that listens to events.
type audience struct {
	mu     sync.Mutex
	pieces int
	events []control.RegistrarEvent
	stuck  chan struct{} // nil, or what the client waits for before it reads on
	err    error         // of each piece
}

func (a *audience) send(v any) error {
	es, _ := v.([]control.RegistrarEvent)
	lost, _ := v.([]control.Lost)
	for _, l := range lost {
		es = append(es, control.RegistrarEvent{Time: l.Time, Event: l.Event, Count: int(l.Count)})
	}
	a.mu.Lock()
	a.pieces++
	a.events = append(a.events, es...)
	stuck, err := a.stuck, a.err
	a.mu.Unlock()
	if stuck != nil && len(es) > 0 {
		<-stuck
	}
	return err
}

// heard returns what was told since the last call, as "EVENT VNI DEVICE ADDRESS
// (REASON)", one a line.
func (a *audience) heard() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, e := range a.events {
		fmt.Fprintf(&b, "%s %d %s %s (%s)\n", e.Event, e.VNI, e.Device, e.Address, e.Reason)
	}
	a.events = nil
	return b.String()
}

// listens has a client listen until the test ends or leave is called.
func (h *harness) listens(a *audience, args string) (leave func() error) {
	h.t.Helper()
	cmds := h.Commands(func() control.Process { return control.Process{} })
	i := slices.IndexFunc(cmds, func(c control.Command) bool { return c.Name == control.CommandMonitor })
	if !cmds[i].Stream || cmds[i].Changes {
		h.t.Errorf("got a monitor that is no stream, or for the owner alone")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- cmds[i].Run(ctx, control.NewCall(json.RawMessage(args), a.send, nil)) }()
	leave = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	h.t.Cleanup(func() { _ = leave() })
	synctest.Wait()
	return leave
}

func TestMonitorTellsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := device("a", 1, ""), device("b", 2, "")
		down := func(d *underlay.Device) { d.Up = false }
		c := testConfig("10.0.0.100", "10.0.0.101")
		c.StaleTime = 300 * time.Second
		h := newHarness(t, c, a)
		h.conn.refuse(func(to netip.AddrPort) error {
			if to.Addr() == addr("10.0.0.100") {
				return errUnreachable
			}
			return nil
		})
		h.start()
		all, one := &audience{}, &audience{}
		h.listens(all, "")
		h.listens(one, `{"vni":2}`)
		if all.pieces != 1 || len(all.events) > 0 {
			t.Errorf("got %d pieces with %d events at the start, want an empty one", all.pieces, len(all.events))
		}
		h.sleep(settled)
		h.expect("nothing happens", all.heard(), "")

		h.conn.refuse(func(netip.AddrPort) error { return errUnreachable })
		h.change(a, b)
		h.expect("nobody can be told", all.heard(), "skipped 2 b 10.0.0.1 (unsent: network is unreachable)\n")
		h.conn.refuse(nil)
		h.sleep(retryAfter)
		h.expect("a device comes", all.heard(), "registered 2 b 10.0.0.1 ()\n")
		h.answer("10.0.0.100", "1 1 2 3; 2 1 4")
		h.expect("members come", all.heard(),
			"member added 1 a 10.0.0.2 (answer of 10.0.0.100)\n"+
				"member added 1 a 10.0.0.3 (answer of 10.0.0.100)\n"+
				"member added 2 b 10.0.0.4 (answer of 10.0.0.100)\n")
		h.answer("10.0.0.100", "1 1 3 5; 2 1 4")
		h.expect("one goes, one comes", all.heard(),
			"member removed 1 a 10.0.0.2 (answer of 10.0.0.100)\n"+
				"member added 1 a 10.0.0.5 (answer of 10.0.0.100)\n")
		h.answer("10.0.0.101", "2 1 4")
		h.expect("another says the same", all.heard(), "")

		h.addresses.updates <- addrs("10.0.0.1", "10.0.0.5", "10.0.0.9")
		synctest.Wait()
		h.expect("this machine gets an address", all.heard(), "member removed 1 a 10.0.0.5 (the address is one of this machine)\n")

		h.change(a, with(b, down))
		h.expect("it goes down", all.heard(), "unregistered 2 b 10.0.0.1 (down: the device is down)\n")
		h.change(a, with(b, func(d *underlay.Device) { d.Up, d.Port = false, 1 }))
		h.expect("still for the same reason", all.heard(), "")
		h.change(a, b)
		h.expect("and up", all.heard(), "registered 2 b 10.0.0.1 ()\n")
		h.change(a, with(b, func(d *underlay.Device) { d.Local = addr("10.0.0.9") }))
		h.expect("another local address", all.heard(),
			"unregistered 2 b 10.0.0.1 (the local address is another one: 10.0.0.9)\nregistered 2 b 10.0.0.9 ()\n")
		h.change(a, with(b, func(d *underlay.Device) { d.Port = 1 }))
		h.expect("another port", all.heard(), "unregistered 2 b 10.0.0.9 (port: the device sends to port 1, vxlan_port is 4789)\n"+
			"member removed 2 b 10.0.0.4 (the VNI is not registered any more)\n")
		h.change(a, with(b, func(d *underlay.Device) { d.Port = 2 }))
		h.expect("and yet another", all.heard(), "skipped 2 b 10.0.0.1 (port: the device sends to port 2, vxlan_port is 4789)\n")
		h.change(a)
		h.expect("the device goes", all.heard(), "")
		h.change(with(a, func(d *underlay.Device) { d.Name, d.Index = "c", 7 }))
		h.expect("another device gets the VNI", all.heard(),
			"unregistered 1 a 10.0.0.1 (another device has the VNI: c)\n"+
				"registered 1 c 10.0.0.1 ()\n"+
				"member removed 1 a 10.0.0.3 (another device has the VNI: c)\n"+
				"member added 1 c 10.0.0.3 (the device has the VNI now)\n")
		h.sleep(301 * time.Second)
		h.expect("service nodes silent", all.heard(), "member removed 1 c 10.0.0.3 (the service nodes are silent for stale_time)\n")
		h.end(nil)
		h.expect("stop", all.heard(), "unregistered 1 c 10.0.0.1 (vxrd stops)\n")

		got := one.heard()
		if n := strings.Count(got, "\n"); n != 10 || strings.Count(got, " 2 b ") != n {
			t.Errorf("one VNI: got %q, want the 10 events of VNI 2", got)
		}
	})
}

func TestMonitorTellsOfDevicesWithoutVNI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"))
		h.start()
		all, one := &audience{}, &audience{}
		h.listens(all, "{}")
		h.listens(one, `{"vni":5}`)
		h.change(with(device("a", 1, ""), func(d *underlay.Device) { d.VNIs = nil }), device("b", 5, ""), device("c", 5, ""))
		const twice = "skipped 5 c 10.0.0.1 (twice: the device b registers this VNI)\n"
		h.expect("all", all.heard(), "skipped 0 a 10.0.0.1 (no_vni: the device carries no VNI)\n"+twice+"registered 5 b 10.0.0.1 ()\n")
		h.expect("one", one.heard(), twice+"registered 5 b 10.0.0.1 ()\n")
	})
}

func TestMonitorTakesNoWrongArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"))
		for _, args := range []string{`{"vni":16777216}`, `{"refreshed":true}`, `[]`} {
			var e *control.Error
			if err := h.listens(&audience{}, args)(); !errors.As(err, &e) || e.Code != control.CodeBadArgument {
				t.Errorf("%s: got %v, want %s", args, err, control.CodeBadArgument)
			}
		}
	})
}

// A client that does not read costs nobody anything: what it misses is counted.
func TestMonitorLosesWhatAClientIsTooSlowFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""))
		h.start()
		slow, swift := &audience{stuck: make(chan struct{})}, &audience{}
		h.listens(slow, "")
		h.listens(swift, "")
		reg := &registration{VNI: 1, Device: headend.Key{Device: "a", Index: 1001, VNI: 1}, Local: addr("10.0.0.1")}
		const surplus = 7
		for range 1 + maxEvents + surplus {
			h.tellVNI(control.EventRegistered, reg, "")
			synctest.Wait()
		}
		swift.mu.Lock()
		if n := len(swift.events); n != 1+maxEvents+surplus {
			t.Errorf("got %d events, want all %d of a client that reads", n, 1+maxEvents+surplus)
		}
		swift.mu.Unlock()

		close(slow.stuck)
		synctest.Wait()
		slow.mu.Lock()
		last := slow.events[len(slow.events)-1]
		if len(slow.events) != 1+maxEvents+1 || last.Event != control.EventLost || last.Count != surplus || last.Time.IsZero() {
			t.Errorf("got %d events and last %+v, want %d of which the last counts %d lost", len(slow.events), last, 1+maxEvents+1, surplus)
		}
		if n := slow.pieces; n != 1+1+(maxEvents+control.MaxPart-1)/control.MaxPart+1 {
			t.Errorf("got %d pieces, want them of at most %d events", n, control.MaxPart)
		}
		slow.events = nil
		slow.mu.Unlock()
		h.tellVNI(control.EventRegistered, reg, "")
		synctest.Wait()
		h.expect("after that", slow.heard(), "registered 1 a 10.0.0.1 ()\n")
	})
}

func TestMonitorEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""))
		h.start()
		broken := &audience{err: errUnreachable}
		if err := h.listens(broken, "")(); !errors.Is(err, errUnreachable) {
			t.Errorf("a client that is gone: got %v, want %v", err, errUnreachable)
		}
		if err := h.listens(&audience{}, "")(); err != nil {
			t.Errorf("a client that leaves: got %v", err)
		}
		if h.monitors.any() {
			t.Error("got somebody who listens, want nobody")
		}
	})
}

// The list of a VNI that is not registered is not called stale: nobody is asked
// about it.
func TestListsOfWhatIsNotRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := device("a", 1, ""), device("b", 2, "")
		h := newHarness(t, testConfig("10.0.0.100"), a, b)
		h.conn.refuse(func(netip.AddrPort) error { return errUnreachable })
		h.start()
		show := func() (out string) {
			h.t.Helper()
			for _, l := range h.shownLists(func(vxlan.VNI) bool { return true }, time.Now()) {
				out += fmt.Sprintf("%d unregistered %t stale %t; ", l.VNI, l.Unregistered, l.Stale)
			}
			return out
		}
		h.sleep(100 * time.Second)
		h.expect("never sent", show(), "1 unregistered true stale false; 2 unregistered true stale false; ")
		h.conn.refuse(nil)
		h.sleep(retryAfter)
		h.answer("10.0.0.100", "1 1 2; 2 1 2")
		h.expect("answered", show(), "1 unregistered false stale false; 2 unregistered false stale false; ")
		h.change(a, with(b, func(d *underlay.Device) { d.Up = false }))
		h.sleep(100 * time.Second)
		h.expect("silent and down", show(), "1 unregistered false stale true; 2 unregistered true stale false; ")
	})
}
