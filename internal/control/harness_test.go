// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what will certainly happen.
const patience = time.Minute

// commands are what the servers of tests know.
func commands() []control.Command {
	return []control.Command{
		{Name: "echo", Run: func(_ context.Context, call *control.Call) error {
			return call.Send(call.Args)
		}},
		{Name: "count", Run: func(_ context.Context, call *control.Call) error {
			var a struct{ To int }
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			for i := range a.To {
				if err := call.Send(i); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "refuse", Run: func(context.Context, *control.Call) error {
			return &control.Error{Code: control.CodeBadArgument, Text: "no", Hint: "yes"}
		}},
		{Name: "fail", Run: func(context.Context, *control.Call) error {
			return errors.New("broken")
		}},
		{Name: "long", Run: func(_ context.Context, call *control.Call) error {
			return call.Send(string(make([]byte, control.MaxAnswer)))
		}},
		{Name: "flood", Run: func(_ context.Context, call *control.Call) error {
			for {
				if err := call.Send("water"); err != nil {
					return err
				}
			}
		}},
		{Name: "wait", Run: func(ctx context.Context, call *control.Call) error {
			if err := call.Send("waits"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}},
	}
}

// A harness is a server that runs.
type harness struct {
	path string
	stop func() // ends the server and waits for it
}

// start runs a server until the test ends, after change has seen it.
func start(t *testing.T, o control.Options, change func(*control.Server)) *harness {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "s")
	}
	if o.Commands == nil {
		o.Commands = commands()
	}
	s := control.New(o)
	if change != nil {
		change(s)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	h := &harness{o.Path, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	}}
	t.Cleanup(h.stop)
	return h
}

// client returns a client of the server.
func (h *harness) client(t *testing.T) *control.Client {
	t.Helper()
	c, err := control.Dial(context.Background(), h.path)
	if err != nil {
		t.Fatal(err)
	}
	c.Silence = patience
	t.Cleanup(func() { c.Close() })
	return c
}

// A raw is a client that says what it likes.
type raw struct {
	*net.UnixConn
	*bufio.Reader
}

func (r raw) Read(b []byte) (int, error) { return r.Reader.Read(b) }

func (h *harness) raw(t *testing.T) raw {
	t.Helper()
	c, err := net.Dial("unix", h.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return raw{c.(*net.UnixConn), bufio.NewReader(c)}
}

func (r raw) say(t *testing.T, text string) {
	t.Helper()
	if _, err := r.UnixConn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// want reads one line.
func (r raw) want(t *testing.T, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("got %q and %v, want %q", got, err, want)
	}
}

// wantCode reads one line, which is an error with a code.
func (r raw) wantCode(t *testing.T, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var a struct {
		Version int
		Error   control.Error
	}
	if err := json.Unmarshal([]byte(line), &a); err != nil || a.Error.Code != want || a.Error.Text == "" || a.Version != 1 {
		t.Fatalf("got %q, want an error with code %s", line, want)
	}
}

// wantEnd waits until the server closes the connection.
func (r raw) wantEnd(t *testing.T) {
	t.Helper()
	if b, err := r.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %q and %v, want a closed connection", b, err)
	}
}

// errorCode returns the code of an Error, "" for nil.
func errorCode(t *testing.T, err error) string {
	t.Helper()
	var e *control.Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &e):
		t.Fatalf("got %v, want an Error", err)
	}
	return e.Code
}
