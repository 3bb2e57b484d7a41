// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxsnd/internal/config"
)

const (
	oneText      = "service node silent"
	neverText    = "service node has never answered"
	oneAgainText = "service node answers again"
	noneText     = "no service node has answered"
)

// warned compares the warnings of show.
func (h *harness) warned(what string, want ...string) {
	h.t.Helper()
	if got := h.show().Warnings; !slices.Equal(got, want) {
		h.t.Errorf("%s: got warnings %q, want %q", what, got, want)
	}
}

// answers has service nodes answer every 30 seconds.
func (h *harness) answers(times int, text string, from ...string) {
	h.t.Helper()
	for range times {
		h.sleep(30 * time.Second)
		for _, a := range from {
			h.answer(a, text)
		}
	}
}

func TestOneServiceNodeIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const a, b, c = "10.0.0.100", "10.0.0.101", "10.0.0.102"
		h := newHarness(t, testConfig(a, b, c), device("a", 1, ""))
		h.start()
		h.answers(3, "1 1 2", a, b)
		h.warned("one that never answered", "service node "+c+" has never answered")
		h.answers(4, "1 1 2", a)
		h.warned("another one", "service node "+b+" has not answered for 2m0s", "service node "+c+" has never answered")
		if got := []int{h.logged(neverText), h.logged(oneText), h.logged(oneAgainText)}; !slices.Equal(got, []int{1, 1, 0}) {
			t.Errorf("got %v lines in the log, want 1, 1, 0", got)
		}
		h.answer(b, "1 1 2")
		h.warned("it answers again", "service node "+c+" has never answered")
		if got := h.logged(oneAgainText); got != 1 {
			t.Errorf("got %d lines that it answers again, want 1", got)
		}

		h.sleep(10 * time.Minute)
		h.warned("all", "the service nodes have been silent for 10m0s: flood lists are kept, and may be out of date")
		h.answer(a, "1 1 2")
		h.warned("each gets its time to come back")
		h.answers(1, "1 1 2", a, b)
		h.answers(2, "1 1 2", a)
		h.warned("one does not come back", "service node "+c+" has never answered")
	})
}

// A service node that answers from another address cannot be told from others.
func TestServiceNodesAnswerFromAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100", "10.0.0.101"), device("a", 1, ""))
		h.start()
		h.answers(10, "1 1 2", "10.0.0.201", "10.0.0.202")
		h.warned("both")
		h.answers(10, "1 1 2", "10.0.0.100", "10.0.0.202")
		h.warned("one of both")
		h.answers(10, "1 1 2", "10.0.0.100")
		h.warned("one is silent", "service node 10.0.0.101 has never answered")
	})
}

func TestWhatIsSaidOfSilence(t *testing.T) {
	tests := []struct {
		name   string
		answer string
		stale  time.Duration // stale_time
		log    string
		want   string
	}{
		{"nobody ever answers", "", 0, noneText, "no service node has answered: flood lists are empty"},
		{"lists", "1 1 2; 2 1", 0, silentText, "the service nodes have been silent for 5m0s: flood lists are kept, and may be out of date"},
		{"lists without members", "1 1; 2 1", 0, "service nodes silent", "the service nodes have been silent for 5m0s: flood lists are empty"},
		{"emptied", "1 1 2; 2 1", 2 * time.Minute, silentText, "the service nodes have been silent for 5m0s: flood lists are empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testConfig("10.0.0.100")
				c.StaleTime = tt.stale
				h := newHarness(t, c, device("a", 1, ""), device("b", 2, ""))
				h.start()
				if tt.answer != "" {
					h.answer("10.0.0.100", tt.answer)
				}
				h.sleep(5 * time.Minute)
				h.warned("silent", tt.want)
				if h.logged(tt.log) != 1 {
					t.Errorf("got no line %q", tt.log)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig(), device("a", 1, "10.0.0.100"), device("b", 2, "10.0.0.101"))
		h.start()
		h.answer("10.0.0.100", "1 1 2")
		h.answers(5, "2 1 3", "10.0.0.101")
		h.warned("some", "the service nodes are silent about 1 of 2 VNIs: their flood lists are kept, and may be out of date",
			"service node 10.0.0.100 has not answered for 2m30s",
			"a (VNI 1): "+flawTexts[flawTwice]+"; the same holds for 1 more")
	})
}

// Who was not believed is told of for as long as that is so, and not for ever.
func TestStrangersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.AnswerFrom = config.AnswerFrom{Service: true}
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		h.answer("10.0.0.201", "1 1 2")
		h.answer("10.0.0.202", "1 1 2")
		h.sleep(5 * time.Second)
		second := "10.0.0.202 sent 1 message that answer_from does not believe, the last 5s ago"
		h.warned("strangers", "10.0.0.201 sent 1 message that answer_from does not believe, the last 5s ago", second)
		c.SvcnodePeers = []config.Peer{{Host: "10.0.0.201", Addr: addr("10.0.0.201")}}
		ch, err := h.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		ch.Commit()
		synctest.Wait()
		h.warned("one is believed", second)
		h.answers(130, "1 1 2", "10.0.0.100")
		h.warned("the other is long ago")
	})
}
