// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// A living is a node whose clock runs, and on which time weighs more than
// elsewhere: it asks a peer after a tenth of a second of silence.
type living struct {
	*peer.Group
	o peer.Options
}

// live returns a node on a loopback address, which has yet to be run.
func live(tb testing.TB, at netip.AddrPort, holdtime time.Duration, peers ...netip.AddrPort) *living {
	tb.Helper()
	o := options(table(holdtime), clock(), peers...)
	o.Source, o.Port, o.Holdtime = at.Addr(), at.Port(), holdtime
	o.Allowed = func(netip.Addr) bool { return true }
	n := &living{peer.New(o), o}
	n.Limit(peer.Limits{Again: 20 * time.Millisecond})
	n.SetReady()
	if err := n.Listen(context.Background()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = n.Close() })
	return n
}

// is waits until a node knows that its peer is there, or is not.
func (n *living) is(tb testing.TB, up bool) {
	tb.Helper()
	eventually(tb, "the state of a peer", func() bool {
		s := state(n.Group)
		return s.Reachable == up && (s.Err == nil) == up
	})
}

// A peer that is dead is known to be so although nothing is told to it, and
// known to be back.
func TestDeadPeerIsNoticed(t *testing.T) {
	const holdtime = 300 * time.Millisecond
	b := live(t, netip.AddrPortFrom(host(42), 0), holdtime)
	a := live(t, netip.AddrPortFrom(host(41), 0), holdtime, b.Local())
	stop := run(t, b.Group)
	run(t, a.Group)
	a.is(t, true)
	eventually(t, "a knows b's kind", func() bool { return state(a.Group).Ours })
	at := b.Local()
	for range 2 {
		stop()
		a.is(t, false)
		b = live(t, at, holdtime)
		stop = run(t, b.Group)
		a.is(t, true)
	}
	if s := state(a.Group); s.RelayErrors != 0 || s.Loss != nil {
		t.Errorf("got %d messages lost, %v, want none", s.RelayErrors, s.Loss)
	}
}

// A message that came back is counted, and has the peer asked at once.
func TestMessageThatCameBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(n *living, to netip.AddrPort)
	}{
		{"came back", func(n *living, to netip.AddrPort) { n.Refused(to, syscall.ECONNREFUSED) }},
		{"not taken", func(n *living, to netip.AddrPort) {
			n.Relay(&vxfld.Refresh{Holdtime: 90, VNIs: []vxfld.VNIMembers{{VNI: 7, Addrs: []netip.Addr{vtep(1)}}}})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := live(t, netip.AddrPortFrom(host(42), 0), time.Minute)
			o := options(table(time.Minute), clock(), b.Local())
			o.Send = func([]byte, netip.AddrPort) error { return syscall.ECONNREFUSED }
			a := &living{peer.New(o), o}
			a.Limit(peer.Limits{Again: time.Hour}) // silence alone has no consequence
			stop := run(t, b.Group)
			run(t, a.Group)
			a.is(t, true)

			a.Refused(netip.AddrPortFrom(b.Local().Addr(), 1), syscall.ECONNREFUSED) // of no peer's
			if s := state(a.Group); s.RelayErrors != 0 || s.Loss != nil {
				t.Errorf("got %d messages lost, %v, want none", s.RelayErrors, s.Loss)
			}
			stop()
			tt.lose(a, b.Local())
			a.is(t, false)
			if s := state(a.Group); s.RelayErrors != 1 || s.Relayed != 0 || !errors.Is(s.Loss, syscall.ECONNREFUSED) {
				t.Errorf("got %d messages lost, %d relayed, %v, want 1, none and %v", s.RelayErrors, s.Relayed, s.Loss, syscall.ECONNREFUSED)
			}
		})
	}
}

// Each question costs a node of another kind a connection. It is asked when
// there is doubt, and more and more seldom while it turns out to be well.
func TestOthersAreAskedWhenThereIsDoubt(t *testing.T) {
	t.Parallel()
	other := answering(t, 43, vector(t, "sync_reply_empty_fdb"))
	ours := answering(t, 44, one(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}))
	o := options(table(time.Minute), clock(), other.addr, ours.addr)
	o.Holdtime, o.SyncTargets = 300*time.Millisecond, 2
	n := &living{peer.New(o), o}
	n.Limit(peer.Limits{Again: 50 * time.Millisecond})
	run(t, n.Group)
	<-n.Synced()
	eventually(t, "both are met", func() bool { s := n.States(); return s[0].Reachable && s[1].Reachable && s[1].Ours })
	ours.next(t)
	before := len(other.questions)
	for range 3 {
		ours.next(t)
	}
	if got := len(other.questions); got > before {
		t.Errorf("got another node asked %d times, want never", got-before)
	}
	for range before {
		other.next(t)
	}
	n.Refused(other.addr, syscall.EHOSTUNREACH)
	if q := other.next(t); q.Response != vxfld.ResponseNone || q.VNIs != nil || q.Node != 0 {
		t.Errorf("got %+v, want an update that says nothing", q)
	}
}

func TestDoubtDoesNotFloodAPeer(t *testing.T) {
	t.Parallel()
	other := answering(t, 45, vector(t, "sync_reply_empty_fdb"))
	o := options(table(time.Minute), clock(), other.addr)
	n := &living{peer.New(o), o}
	n.Limit(peer.Limits{Again: time.Hour})
	run(t, n.Group)
	<-n.Synced()
	begin, asked := time.Now(), 0
	eventually(t, "questions", func() bool {
		n.Refused(other.addr, syscall.ECONNREFUSED)
		for len(other.questions) > 0 {
			if other.next(t).Response == vxfld.ResponseNone {
				asked++
			}
		}
		return asked >= 3
	})
	// One second lies between the first two, two between the next, a quarter off.
	if got, want := time.Since(begin), 2250*time.Millisecond; got < want {
		t.Errorf("got 3 questions within %v, want %v between the first and the last", got, want)
	}
	if s := state(n.Group); !s.Reachable || s.Err != nil || s.RelayErrors < 3 || s.Loss == nil {
		t.Errorf("got %+v, want a peer that is there, and messages lost", s)
	}
}

func TestOtherIsKnownToBeBack(t *testing.T) {
	d := listen(t, netip.AddrPortFrom(host(46), 0))
	n := live(t, netip.AddrPortFrom(host(47), 0), time.Minute, d.addr)
	run(t, n.Group)
	n.is(t, true)
	d.stop()
	n.Refused(d.addr, syscall.ECONNREFUSED)
	n.is(t, false)
	listen(t, d.addr)
	n.is(t, true)
}

// A node of another kind may leave its end of a greeting open for long.
func TestSilenceOfAnotherIsNoFailure(t *testing.T) {
	mute := answering(t, 48, nil)
	o := options(table(time.Minute), clock(), mute.addr)
	n := &living{peer.New(o), o}
	n.Limit(peer.Limits{Idle: 50 * time.Millisecond})
	if err := n.Greet(t.Context(), mute.addr); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if s := state(n.Group); !s.Reachable || s.Err != nil || s.Ours {
		t.Errorf("got %+v, want another node that is there", s)
	}
	// One of ours would have answered.
	mute.say(sync3(t, vxfld.Sync{Node: vxfld.SyncNode, Complete: true}))
	if err := n.Greet(t.Context(), mute.addr); err != nil || !state(n.Group).Ours {
		t.Fatalf("got %v, want a node of ours", err)
	}
	mute.say(nil)
	if err := n.Greet(t.Context(), mute.addr); err == nil {
		t.Error("got an answer, want none")
	}
	if s := state(n.Group); s.Reachable || s.Err == nil {
		t.Errorf("got %+v, want a peer that is gone", s)
	}
}
