// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// A connection that finds no place in time is turned away, so that its sender
// knows; those of others find theirs.
func TestBusyPeerIsTurnedAway(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: time.Hour, Whole: time.Hour, Place: 20 * time.Millisecond})
	run(t, n.Group)
	resets := make(chan error, 5)
	for range cap(resets) {
		c := n.dial(t, 20) // four of them have a place
		go func() {
			_, err := c.Read(make([]byte, 1))
			resets <- err
		}()
	}
	n.verdict(t, peer.VerdictBusy, 1)
	if err := <-resets; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v at the sender, want ECONNRESET", err)
	}
	n.say(t, 21, vector(t, "captured_sync_learned"))
	n.verdict(t, peer.VerdictUpdate, 1)
	if len(resets) > 0 {
		t.Errorf("got the end of another one: %v", <-resets)
	}
}

// However many slow peers there are up to a dozen, others are served.
func TestSlowPeersLeavePlaces(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: time.Hour, Whole: time.Hour, Place: time.Hour})
	run(t, n.Group)
	for i := range byte(12) {
		for range 5 {
			n.dial(t, 20+i)
		}
	}
	n.say(t, 50, vector(t, "captured_sync_learned"))
	n.verdict(t, peer.VerdictUpdate, 1)
}

// One peer holds no more than one large message, and two are all there may be.
func TestLargeMessagesAreShared(t *testing.T) {
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: time.Hour, Whole: time.Hour, Large: 1 << 10, Place: 20 * time.Millisecond})
	run(t, n.Group)
	var es []vxfld.SyncEntry
	for i := range 1000 {
		es = append(es, vxfld.SyncEntry{Addr: vtep(i), Holdtime: 90})
	}
	large := sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(7, es...)}})
	begin := func(i byte) *net.TCPConn {
		c := n.dial(t, i)
		if _, err := c.Write(large); err != nil {
			t.Fatal(err)
		}
		return c // says neither more nor that this was all
	}
	begin(20)
	begin(20)
	n.verdict(t, peer.VerdictBusy, 1)
	n.say(t, 21, large)
	n.verdict(t, peer.VerdictUpdate, 1)
	begin(21)
	begin(22)
	n.verdict(t, peer.VerdictBusy, 2)
	n.say(t, 23, vector(t, "captured_sync_learned"))
	n.verdict(t, peer.VerdictUpdate, 2)
}
