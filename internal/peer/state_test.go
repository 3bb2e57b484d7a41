// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
)

// A peer whose answer cannot be used is there all the same, and said to be at
// fault until it gives a better one, or is gone.
func TestFaultyPeer(t *testing.T) {
	ours := vxfld.Sync{Node: vxfld.SyncNode}
	ours.Complete = true
	good := sync3(t, ours)
	tests := []struct {
		name   string
		answer []byte
		want   error // nil: any
	}{
		{"malformed", vector(t, "bad_sync_ip_empty"), vxfld.ErrAddress},
		{"not SYNC", vector(t, "v3_refresh_vxrd_snd_mode"), vxfld.ErrType},
		{"cut off", sync3(t, vxfld.Sync{Node: vxfld.SyncNode}), nil},
		{"too large", append(good, make([]byte, 2<<10)...), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := answering(t, 20, good)
			n := serving(t, 10)
			n.Limit(peer.Limits{Body: 1 << 10})
			n.meet(p.addr)
			if err := n.Greet(t.Context(), p.addr); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				p.say(tt.answer)
				err := n.Greet(t.Context(), p.addr)
				if s := state(n.Group); err == nil || tt.want != nil && !errors.Is(err, tt.want) || !s.Reachable || s.Err != nil || !errors.Is(s.Fault, err) || s.Silent {
					t.Errorf("got %v and %+v, want a peer at fault for that", err, s)
				}
				p.say(good)
				err = n.Greet(t.Context(), p.addr)
				if s := state(n.Group); err != nil || !s.Reachable || s.Fault != nil {
					t.Errorf("got %v and %+v, want a peer that is well", err, s)
				}
			}
			p.say(tt.answer)
			_ = n.Greet(t.Context(), p.addr)
			p.close()
			err := n.Greet(t.Context(), p.addr)
			if s := state(n.Group); !errors.Is(err, syscall.ECONNREFUSED) || s.Reachable || s.Fault != nil || !errors.Is(s.Err, err) {
				t.Errorf("got %v and %+v, want a peer that is gone", err, s)
			}
		})
	}
}

// That there is no room for an answer here says nothing against the peer.
func TestNoRoomForAnAnswer(t *testing.T) {
	p := answering(t, 20, vector(t, "captured_sync_reply_full"))
	n := serving(t, 10)
	n.Limit(peer.Limits{Large: 10, Place: time.Millisecond})
	n.TakeRoom()
	n.meet(p.addr)
	err := n.Greet(t.Context(), p.addr)
	if s := state(n.Group); err == nil || !s.Reachable || s.Err != nil || s.Fault != nil {
		t.Errorf("got %v and %+v, want an error and a peer that is well", err, s)
	}
}

// A connection alone does not show that a peer is at work: its end does.
func TestPeerThatDidNothingYet(t *testing.T) {
	p := answering(t, 20, nil)
	n := serving(t, 10)
	n.Limit(peer.Limits{Idle: 50 * time.Millisecond})
	n.meet(p.addr)
	if s := state(n.Group); s.Reachable || s.Silent {
		t.Errorf("got %+v, want nothing known", s)
	}
	if err := n.Greet(t.Context(), p.addr); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if s := state(n.Group); !s.Reachable || !s.Silent {
		t.Errorf("got %+v, want a peer that did nothing yet", s)
	}
	p.say([]byte{})
	_ = n.Greet(t.Context(), p.addr)
	if s := state(n.Group); !s.Reachable || s.Silent || s.LastHeard != 0 {
		t.Errorf("got %+v, want a peer at work that said nothing", s)
	}
}
