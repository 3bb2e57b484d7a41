// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/config"
)

const (
	silentText = "service nodes silent, flood lists kept"
	someText   = "service nodes silent about some vnis, their flood lists kept"
	againText  = "service nodes answer again"
	emptyText  = "service nodes silent, their members removed"
)

// isSilent tells whether it was said that the service nodes are silent.
func (h *harness) isSilent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"), device("a", 1, ""), device("b", 2, ""))
		h.start()
		h.answer("10.0.0.100", "1 1 2; 2 1 3")
		h.sleep(89 * time.Second)
		if h.isSilent() || h.logged(silentText) > 0 {
			t.Error("silent too early")
		}
		h.sleep(2 * time.Second)
		h.expect("silent", h.lists.text(), "a/1[2] b/2[3]")
		if !h.isSilent() || h.logged(silentText) != 1 {
			t.Error("silence not said")
		}
		h.send("10.0.0.100", []byte("junk"))
		h.sleep(24 * time.Hour)
		h.expect("silent for long", h.lists.text(), "a/1[2] b/2[3]")
		if got := h.logged(silentText); got != 1 || h.logged(emptyText) > 0 {
			t.Errorf("said %d times that service nodes are silent, want 1", got)
		}
		h.answer("10.0.0.100", "1 1 4; 2 1 3")
		h.expect("answered again", h.lists.text(), "a/1[4] b/2[3]")
		if h.isSilent() || h.logged(againText) != 1 {
			t.Error("end of silence not said")
		}
		for range 4 {
			h.sleep(30 * time.Second)
			h.answer("10.0.0.100", "1 1 4")
		}
		if h.logged(someText) != 1 || h.logged(silentText) != 1 {
			t.Error("silence about one vni not said")
		}
	})
}

func TestStaleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.StaleTime = 300 * time.Second
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		h.answer("10.0.0.100", "1 1 2")
		h.sleep(299 * time.Second)
		h.expect("before", h.lists.text(), "a/1[2]")
		h.sleep(2 * time.Second)
		h.expect("after", h.lists.text(), "a/1[]")
		h.sleep(time.Hour)
		if got := h.logged(emptyText); got != 1 {
			t.Errorf("said %d times that lists are emptied, want 1", got)
		}
		h.answer("10.0.0.100", "1 1 2")
		h.expect("answered again", h.lists.text(), "a/1[2]")
	})
}

// A list is not emptied between two rounds, however short stale_time is.
func TestStaleTimeWaitsForRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.StaleTime = time.Second
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		h.answer("10.0.0.100", "1 1 2")
		h.sleep(89 * time.Second)
		h.expect("while an answer counts", h.lists.text(), "a/1[2]")
		h.sleep(2 * time.Second)
		h.expect("after", h.lists.text(), "a/1[]")
	})
}

func TestPatience(t *testing.T) {
	tests := []struct{ holdtime, want time.Duration }{
		{time.Second, time.Second}, {90 * time.Second, 90 * time.Second}, {config.HoldtimeStatic, 90 * time.Second},
	}
	for _, tt := range tests {
		if got := patience(&config.Config{Dynamic: config.Dynamic{Holdtime: tt.holdtime}}); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.holdtime, got, tt.want)
		}
	}
}

func TestRoundTime(t *testing.T) {
	tests := []struct {
		name        string
		holdtime    time.Duration
		rate        int
		least, most time.Duration
	}{
		{"default", 90 * time.Second, 3, 27 * time.Second, 33 * time.Second},
		{"one a holdtime", 90 * time.Second, 1, 81 * time.Second, 81 * time.Second},
		{"static", config.HoldtimeStatic, 3, 27 * time.Second, 33 * time.Second},
		{"as fast as can be", time.Second, 65535, leastRound, leastRound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Config{Dynamic: config.Dynamic{Holdtime: tt.holdtime, RefreshRate: tt.rate}}
			for range 100 {
				if got := roundTime(&c); got < tt.least || got > tt.most {
					t.Fatalf("got %v, want %v to %v", got, tt.least, tt.most)
				}
			}
		})
	}
}

// names are host names with one address each; others do not resolve.
type names struct{ sync.Map }

func (n *names) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if a, ok := n.Load(host); ok {
		return addrs(a.(string)), nil
	}
	return nil, &net.DNSError{Name: host, IsNotFound: true}
}

func TestResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.AnswerFrom = config.AnswerFrom{Service: true}
		c.SvcnodePeers = []config.Peer{{Host: "a.example"}, {Host: "b.example"}}
		h := newHarness(t, c, device("a", 1, ""))
		var n names
		n.Store("a.example", "10.0.0.201")
		h.peers.lookup = n.lookup
		h.start()
		has := func(what, yes, no string) {
			t.Helper()
			if !h.peers.has(addr(yes)) || h.peers.has(addr(no)) {
				t.Errorf("%s: got %v, want %s and not %s", what, *h.peers.addrs.Load(), yes, no)
			}
		}
		has("at the start", "10.0.0.201", "10.0.0.202")
		h.sleep(10 * time.Minute)
		if got := h.logged("peer name does not resolve, trying again"); got != 1 {
			t.Errorf("got %d warnings, want 1", got)
		}
		n.Store("b.example", "10.0.0.202")
		n.Delete("a.example")
		h.sleep(time.Minute)
		has("a name that did not resolve", "10.0.0.202", "10.0.0.203")
		has("a name that does not resolve any more", "10.0.0.201", "10.0.0.203")
		c.SvcnodePeers = c.SvcnodePeers[1:]
		ch, err := h.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		ch.Commit()
		synctest.Wait()
		has("after a reload", "10.0.0.202", "10.0.0.201")
	})
}

// What needs no name server counts at once, and a name that takes long keeps none
// of the others waiting. Who is believed only then is asked again.
func TestResolverWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.AnswerFrom = config.AnswerFrom{Service: true}
		c.SvcnodePeers = []config.Peer{{Host: "slow.example"}, {Host: "fast.example"}, {Addr: addr("10.0.0.203")}}
		h := newHarness(t, c, device("a", 1, ""))
		h.peers.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			if host == "fast.example" {
				time.Sleep(time.Second / 2)
				return addrs("10.0.0.202"), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		h.start()
		h.answer("10.0.0.203", "1 1 2")
		h.expect("at once", h.lists.text(), "a/1[2]")
		h.heard()
		h.sleep(time.Second / 2)
		h.expect("asked again", h.heard(), "?100/1[1]")
		h.answer("10.0.0.202", "1 1 3")
		h.expect("without the slow one", h.lists.text(), "a/1[3]")
		h.sleep(settled)
		h.heard()
		h.sleep(20 * time.Second)
		h.expect("not again and again", h.heard(), "")
		h.expect("verdicts", h.counted(), "answer=2")
	})
}

// With nothing to ask for, nobody answers again, and the silence that goes on is
// not said twice.
func TestSilenceWithNothingRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := device("a", 1, "")
		h := newHarness(t, testConfig("10.0.0.100"), d)
		h.start()
		h.answer("10.0.0.100", "1 1 2")
		h.sleep(91 * time.Second)
		down := d
		down.Up = false
		h.change(down)
		h.sleep(91 * time.Second)
		h.change(d)
		h.sleep(91 * time.Second)
		if again, silent := h.logged(againText), h.logged(silentText); again != 0 || silent != 1 || !h.isSilent() {
			t.Errorf("said %d times that they answer again and %d times that they are silent, want 0 and 1", again, silent)
		}
		h.answer("10.0.0.100", "1 1 2")
		h.sleep(time.Second)
		if got := h.logged(againText); got != 1 {
			t.Errorf("said %d times that they answer again, want 1", got)
		}
	})
}
