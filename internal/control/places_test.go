// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
)

// A hall is a server whose clients can be held in the middle of a request.
type hall struct {
	*harness
	server  *control.Server
	release chan struct{}
}

// newHall starts a server with a socket that every user may connect to.
func newHall(t *testing.T, places int) *hall {
	t.Helper()
	h := &hall{release: make(chan struct{})}
	hold := control.Command{Name: "hold", Run: func(ctx context.Context, call *control.Call) error {
		if err := call.Send("held"); err != nil {
			return err
		}
		select {
		case <-h.release:
		case <-ctx.Done():
		}
		return nil
	}}
	follow := hold
	follow.Name, follow.Stream = "follow", true
	o := control.Options{Path: filepath.Join(mkdir(t), "s"), Commands: append(commands(), hold, follow), MaxClients: places}
	h.harness = start(t, o, func(s *control.Server) { h.server = s })
	if err := os.Chmod(h.path, 0o666); err != nil {
		t.Fatal(err)
	}
	return h
}

// held returns a client that has a request under way.
func (h *hall) held(t *testing.T) raw {
	t.Helper()
	r := h.raw(t)
	r.say(t, `{"version":1,"command":"hold"}`+"\n")
	r.want(t, `{"version":1,"data":"held"}`)
	return r
}

// served tells whether the daemon answers r.
func (r raw) served(t *testing.T) {
	t.Helper()
	r.say(t, `{"version":1,"command":"count"}`+"\n")
	r.want(t, end)
}

// waitIdle waits until so many clients have no request under way, by the
// server's own book: that is a moment after they have the answer.
func (h *hall) waitIdle(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); h.server.Idle() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("got %d idle clients, want %d", h.server.Idle(), want)
		}
	}
}

// own is how many clients of the test's own user have a place.
func own(places int) int {
	if os.Getuid() == 0 {
		return places + control.RootClients
	}
	return places
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		netlab.Lacks(t, "root", os.ErrPermission)
	}
}

func TestAHundredClientsAreServedAndNoMore(t *testing.T) {
	h := newHall(t, 0)
	var clients []raw
	for range own(control.DefaultClients) {
		clients = append(clients, h.held(t))
	}
	for range 2 {
		r := h.raw(t)
		r.wantCode(t, control.CodeBusy)
		r.wantEnd(t)
	}
	close(h.release)
	for _, r := range clients {
		r.want(t, end)
		r.served(t)
	}
	h.waitIdle(t, len(clients))
	clients[0].Close()
	h.waitIdle(t, len(clients)-1)
	h.raw(t).served(t)
	clients[1].served(t)
}

func TestTheLongestIdleMakesRoom(t *testing.T) {
	h := newHall(t, 3)
	h.held(t) // for longer than all others
	var clients []raw
	for i := range own(3) - 1 {
		clients = append(clients, h.raw(t))
		clients[i].served(t)
		h.waitIdle(t, i+1)
	}
	clients[0].served(t)
	h.waitIdle(t, len(clients))
	added := h.raw(t)
	added.served(t)
	clients[1].wantEnd(t)
	clients[0].served(t)
	added.served(t)
}

func TestRootIsServedWhereOthersTookAllPlaces(t *testing.T) {
	needRoot(t)
	h := newHall(t, 2)
	asNobody(t, func() {
		for range 2 {
			h.held(t)
		}
		h.raw(t).wantCode(t, control.CodeBusy)
	})
	for range control.RootClients {
		h.held(t)
	}
	h.raw(t).wantCode(t, control.CodeBusy)
	asNobody(t, func() { h.raw(t).wantCode(t, control.CodeBusy) })
}

func TestRootTakesThePlaceOfAnIdleClientAndKeepsItsOwn(t *testing.T) {
	needRoot(t)
	h := newHall(t, 1)
	root := h.raw(t)
	root.served(t)
	asNobody(t, func() { h.raw(t).wantCode(t, control.CodeBusy) })
	root.served(t)
	h.waitIdle(t, 1)
	root.Close()
	h.waitIdle(t, 0)
	var nobody raw
	asNobody(t, func() { nobody = h.raw(t) })
	nobody.served(t)
	for range control.RootClients {
		h.held(t)
	}
	nobody.served(t)
	h.waitIdle(t, 1)
	h.held(t)
	nobody.wantEnd(t)
}
