// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The pause after an answer that was no use doubles, up to a bound, and ends with
// one that was of use.
func TestPauseAfterUselessAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(netip.MustParseAddrPort("192.0.2.1:10001"))
		for _, want := range []time.Duration{20, 40, 80, 160, 300, 300} {
			if !p.trusted() {
				t.Fatal("got a peer that is not to be asked")
			}
			p.useful(false)
			begin := time.Now()
			for !p.trusted() {
				Pass(time.Second)
			}
			if got := time.Since(begin); got != want*time.Second {
				t.Errorf("got a pause of %v, want %v", got, want*time.Second)
			}
		}
		p.useful(false)
		p.useful(true)
		if !p.trusted() {
			t.Error("got a pause after an answer that was of use")
		}
		p.useful(false)
		Pass(minDistrust)
		if !p.trusted() {
			t.Error("got a longer pause than the first after an answer that was of use")
		}
	})
}
