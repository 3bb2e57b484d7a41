// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// However many addresses take all they get, there is a connection left for one
// that has none; alone, an address has half of them.
func TestConnectionsAreShared(t *testing.T) {
	s := &server{sources: make(map[netip.Addr]*source)}
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	held := make(map[int][]*source)
	for i := range 100 {
		for src := s.source(at(i)); src != nil; src = s.source(at(i)) {
			held[i] = append(held[i], src)
		}
		// They come in turn: each leaves half of what was left.
		switch got := len(held[i]); {
		case i == 0 && got != maxAccepted/2:
			t.Errorf("got %d connections of the first address, want %d", got, maxAccepted/2)
		case i < 7 && got == 0:
			t.Errorf("got none for address %d", i)
		}
	}
	// Who has fewer than are left gets one more.
	s.forget(at(0), held[0][0])
	if s.source(at(1)) != nil {
		t.Error("got one more for an address with many")
	}
	if s.source(at(200)) == nil {
		t.Error("got none for an address without any")
	}
	if s.accepted > maxAccepted {
		t.Errorf("got %d connections, want at most %d", s.accepted, maxAccepted)
	}
}

// A place is waited for, but not for ever, and nothing is kept by who gave up.
func TestWaitForAPlaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits{place: 5 * time.Second}
		mine, all := make(chan struct{}, 2), make(chan struct{}, 1)
		first, err := l.enter(t.Context(), mine, all)
		if err != nil || len(mine) != 1 || len(all) != 1 {
			t.Fatalf("got %v with %d and %d places taken, want one of each", err, len(mine), len(all))
		}
		begin := time.Now()
		leave, err := l.enter(t.Context(), mine, all)
		if took := time.Since(begin); !errors.Is(err, errBusy) || took != l.place {
			t.Errorf("got %v after %v, want %v after %v", err, took, errBusy, l.place)
		}
		leave()
		if len(mine) != 1 || len(all) != 1 {
			t.Errorf("got %d and %d places taken after that, want one of each", len(mine), len(all))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := l.enter(ctx, mine, all); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		time.AfterFunc(time.Second, first)
		if _, err := l.enter(t.Context(), mine, all); err != nil || len(mine) != 1 || len(all) != 1 {
			t.Errorf("got %v with %d and %d places taken, want one of each", err, len(mine), len(all))
		}
	})
}
