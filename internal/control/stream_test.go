// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"vxsnd/internal/control"
)

// A listening is a server with a stream that says "on" and then what it is told
// to.
type listening struct {
	*harness
	says  chan string // ends the stream where it is closed
	ended chan error  // what its command returned
}

func listen(t *testing.T, change func(*control.Server)) *listening {
	t.Helper()
	l := &listening{says: make(chan string), ended: make(chan error, 100)}
	stream := control.Command{Name: "listen", Stream: true, Run: func(ctx context.Context, call *control.Call) (err error) {
		defer func() { l.ended <- err }()
		if err := call.Send("on"); err != nil {
			return err
		}
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case s, ok := <-l.says:
				if !ok {
					return nil
				}
				if err := call.Send(s); err != nil {
					return err
				}
			}
		}
	}}
	pour := control.Command{Name: "pour", Stream: true, Run: func(ctx context.Context, call *control.Call) error {
		for {
			if err := call.Send("water"); err != nil {
				l.ended <- err
				return err
			}
		}
	}}
	l.harness = start(t, control.Options{Commands: append(commands(), stream, pour)}, change)
	return l
}

func (l *listening) stream(t *testing.T) raw {
	t.Helper()
	r := l.raw(t)
	r.say(t, `{"version":1,"command":"listen"}`+"\n")
	r.want(t, `{"version":1,"data":"on"}`)
	return r
}

func (l *listening) wantEnded(t *testing.T) {
	t.Helper()
	select {
	case err := <-l.ended:
		if err == nil {
			t.Error("got nil, want an error")
		}
	case <-time.After(patience):
		t.Fatal("got a stream that goes on, want its end")
	}
}

func TestAStreamEndsWithItsClientWhileNothingIsSent(t *testing.T) {
	l := listen(t, nil)
	tests := []struct {
		name  string
		leave func(raw) error
	}{
		{"close", func(r raw) error { return r.Close() }},
		{"no more to say", func(r raw) error { return r.CloseWrite() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := l.stream(t)
			if err := tt.leave(r); err != nil {
				t.Fatal(err)
			}
			l.wantEnded(t)
		})
	}
}

func TestAStreamHasNoLimitOfTime(t *testing.T) {
	l := listen(t, func(s *control.Server) { s.SetTimes(time.Millisecond, 20*time.Millisecond, patience) })
	r := l.stream(t)
	for range 3 {
		l.raw(t).wantEnd(t) // which takes the time of an idle client
	}
	l.says <- "again"
	r.want(t, `{"version":1,"data":"again"}`)
	r.Close()
	l.wantEnded(t)
}

func TestAStreamThatEndsLeavesTheConnectionAsItWas(t *testing.T) {
	l := listen(t, nil)
	r := l.stream(t)
	close(l.says)
	r.want(t, end)
	r.served(t)
	r.say(t, `{"version":1,"command":"listen"}`+"\n")
	r.want(t, `{"version":1,"data":"on"}`)
	r.want(t, end)
	r.served(t)
}

func TestNothingIsSaidDuringAStream(t *testing.T) {
	l := listen(t, nil)
	r := l.stream(t)
	r.say(t, "\n")
	r.wantCode(t, control.CodeBadRequest)
	r.wantEnd(t)
	l.wantEnded(t)
	both := l.raw(t)
	both.say(t, `{"version":1,"command":"listen"}`+"\n"+`{"version":1,"command":"count"}`+"\n")
	l.wantEnded(t)
}

func TestStopEndsStreams(t *testing.T) {
	l := listen(t, nil)
	r, hung := l.stream(t), l.raw(t)
	hung.say(t, `{"version":1,"command":"pour"}`+"\n")
	hung.want(t, `{"version":1,"data":"water"}`)
	l.stop()
	r.wantCode(t, control.CodeStopping)
	r.wantEnd(t)
	l.wantEnded(t)
	l.wantEnded(t)
}

func TestAStreamThatIsNotReadIsEnded(t *testing.T) {
	l := listen(t, func(s *control.Server) { s.SetTimes(patience, patience, 50*time.Millisecond) })
	r := l.raw(t)
	r.say(t, `{"version":1,"command":"pour"}`+"\n")
	l.wantEnded(t)
}

func TestStreamsLeavePlacesToOthers(t *testing.T) {
	l := listen(t, nil)
	most := control.MaxStreams
	if os.Getuid() == 0 {
		most += control.RootClients
	}
	var streams []raw
	for range most {
		streams = append(streams, l.stream(t))
	}
	more := l.raw(t)
	more.say(t, `{"version":1,"command":"listen"}`+"\n")
	more.wantCode(t, control.CodeBusy)
	more.served(t)
	// All other places are free.
	clients := []raw{more}
	for range own(control.DefaultClients) - most - 1 {
		clients = append(clients, l.raw(t))
	}
	for _, r := range clients {
		r.served(t)
	}
	for range 3 {
		streams[0].Close()
		l.wantEnded(t)
		streams = streams[1:]
	}
	// The place is free a moment after the command has ended.
	for deadline := time.Now().Add(patience); ; {
		more.say(t, `{"version":1,"command":"listen"}`+"\n")
		line, err := more.ReadString('\n')
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("got %q and %v, want a free place", line, err)
		}
		if line == `{"version":1,"data":"on"}`+"\n" {
			break
		}
	}
}

func TestRootHasStreamsOfItsOwn(t *testing.T) {
	needRoot(t)
	h := newHall(t, 0)
	open := func() raw {
		r := h.raw(t)
		r.say(t, `{"version":1,"command":"follow"}`+"\n")
		return r
	}
	asNobody(t, func() {
		for range control.MaxStreams {
			open().want(t, `{"version":1,"data":"held"}`)
		}
		open().wantCode(t, control.CodeBusy)
	})
	for range control.RootClients {
		open().want(t, `{"version":1,"data":"held"}`)
	}
	open().wantCode(t, control.CodeBusy)
}

func TestAClientWaitsForAStream(t *testing.T) {
	l := listen(t, nil)
	c := l.client(t)
	c.Silence = time.Nanosecond
	enough := errors.New("enough")
	err := c.Stream(context.Background(), "listen", nil, func(data json.RawMessage) error {
		if string(data) == `"on"` {
			go func() { l.says <- "more" }()
			return nil
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
	if c.Silence != time.Nanosecond {
		t.Errorf("got %v, want what it was", c.Silence)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = l.client(t).Stream(ctx, "listen", nil, func(json.RawMessage) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
