// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/control"
)

const load = `{"version":1,"command":"load"}` + "\n"

// A depot is a server with a command that counts the elements of an upload.
type depot struct {
	*harness
	failed chan error // what Receive returned but for io.EOF
}

func newDepot(t *testing.T, change func(*control.Server)) *depot {
	t.Helper()
	d := &depot{failed: make(chan error, 100)}
	load := control.Command{Name: "load", Upload: true, Run: func(_ context.Context, call *control.Call) error {
		n := 0
		for {
			b, err := call.Receive()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				d.failed <- err
				if _, again := call.Receive(); again == nil || errors.Is(again, io.EOF) {
					t.Errorf("receive after an error: got %v, want an error", again)
				}
				return err
			}
			var part []string
			if err := json.Unmarshal(b, &part); err != nil {
				return &control.Error{Code: control.CodeBadArgument, Text: err.Error()}
			}
			for i, s := range part {
				if s == "bad" {
					item := n + i
					return &control.Error{Code: control.CodeBadArgument, Text: "bad", Item: &item}
				}
			}
			n += len(part)
		}
		if _, err := call.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("receive after the end: got %v, want %v", err, io.EOF)
		}
		return call.Send(n)
	}}
	d.harness = start(t, control.Options{Commands: append(commands(), load)}, change)
	return d
}

// pieces returns the pieces of an upload, one by one.
func pieces(all ...[]string) func() (any, error) {
	return func() (any, error) {
		if len(all) == 0 {
			return nil, io.EOF
		}
		next := all[0]
		all = all[1:]
		return next, nil
	}
}

func (d *depot) wantFailed(t *testing.T) {
	t.Helper()
	select {
	case <-d.failed:
	case <-time.After(patience):
		t.Fatal("got an upload that goes on, want an error")
	}
}

func TestAnUploadArrives(t *testing.T) {
	c := newDepot(t, nil).client(t)
	long := make([]string, 1000)
	for range 2 { // the connection is as good as before
		for _, tt := range []struct {
			name string
			next func() (any, error)
			want string
		}{
			{"nothing", pieces(), "0"},
			{"some", pieces([]string{"a", "b"}, nil, []string{"c"}), "3"},
			{"many", func() func() (any, error) {
				n := 0
				return func() (any, error) {
					if n++; n > 300 {
						return nil, io.EOF
					}
					return long, nil
				}
			}(), "300000"},
		} {
			var got string
			err := c.Upload(context.Background(), "load", nil, tt.next, func(data json.RawMessage) error {
				got += string(data)
				return nil
			})
			if err != nil || got != tt.want {
				t.Errorf("%s: got %q and %v, want %s", tt.name, got, err, tt.want)
			}
		}
	}
	if err := c.Call(context.Background(), "count", nil, nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestABadUploadIsToldWhatIsWrongAndChangesNothing(t *testing.T) {
	d := newDepot(t, func(s *control.Server) { s.SetTimes(50*time.Millisecond, patience, patience) })
	tests := []struct{ name, lines, code string }{
		{"too long", `{"version":1,"data":[]` + strings.Repeat(" ", control.MaxRequest) + "}\n", control.CodeBadRequest},
		{"no json", "[]]\n", control.CodeBadRequest},
		{"another version", `{"version":2,"data":[]}` + "\n", control.CodeVersion},
		{"another request", load, control.CodeBadRequest},
		{"data and end", `{"version":1,"data":[],"end":true}` + "\n", control.CodeBadRequest},
		{"error", `{"version":1,"error":{"code":"x","text":"y"}}` + "\n", control.CodeBadRequest},
		{"stopped between pieces", `{"version":1,"data":[]}` + "\n", control.CodeBadRequest},
		{"stopped within a piece", `{"version":1,`, control.CodeBadRequest},
		{"never begun", "", control.CodeBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := d.raw(t)
			r.say(t, load+tt.lines)
			r.wantCode(t, tt.code)
			r.wantEnd(t)
			d.wantFailed(t)
		})
	}
}

func TestAnUploadMayTakeLongerThanAPiece(t *testing.T) {
	const piece = 2 * time.Second
	d := newDepot(t, func(s *control.Server) { s.SetTimes(piece, 10*time.Millisecond, patience) })
	r := d.raw(t)
	r.say(t, load)
	for begun := time.Now(); time.Since(begun) < piece+piece/4; {
		r.say(t, `{"version":1,"data":[]}`+"\n")
		d.raw(t).wantEnd(t) // which takes the time of an idle client
	}
	r.say(t, end+"\n")
	r.want(t, `{"version":1,"data":0}`)
	r.want(t, end)
}

func TestAnUploadEndsWithItsClient(t *testing.T) {
	d := newDepot(t, nil)
	for _, lines := range []string{"", `{"version":1,"data":["a"]}` + "\n", `{"version":1,"da`} {
		r := d.raw(t)
		r.say(t, load+lines)
		r.Close()
		d.wantFailed(t)
	}
}

func TestTheEndOfAnUploadMayBeThatOfTheConnection(t *testing.T) {
	r := newDepot(t, nil).raw(t)
	r.say(t, load+`{"version":1,"end":true}`)
	if err := r.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.want(t, `{"version":1,"data":0}`)
	r.want(t, end)
}

func TestStopEndsAnUpload(t *testing.T) {
	d := newDepot(t, nil)
	r := d.raw(t)
	r.say(t, load+`{"version":1,"data":["a"]}`+"\n")
	d.client(t) // accepted after the other
	for range 2 {
		if err := d.client(t).Call(context.Background(), "count", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	r.wantCode(t, control.CodeStopping)
	r.wantEnd(t)
}

func TestARefusedUploadSaysWhy(t *testing.T) {
	d := newDepot(t, nil)
	sent := 0
	err := d.client(t).Upload(context.Background(), "load", nil, func() (any, error) {
		sent++
		if sent == 2 {
			return []string{"c", "bad"}, nil
		}
		if sent > 100_000 {
			return nil, io.EOF
		}
		return []string{"a", "b"}, nil
	}, ignore)
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeBadArgument || e.Item == nil || *e.Item != 3 {
		t.Errorf("got %+v, want item 3", err)
	}
	if sent > 100_000 {
		t.Error("got all of it sent, want no more after it was refused")
	}
	for _, tt := range []struct{ command, code string }{{"unheard_of", control.CodeUnknownCommand}, {"refuse", control.CodeBadArgument}} {
		err := d.client(t).Upload(context.Background(), tt.command, nil, pieces([]string{"a"}), ignore)
		if got := errorCode(t, err); got != tt.code {
			t.Errorf("%s: got code %q, want %q", tt.command, got, tt.code)
		}
	}
}

func TestAClientGivesAnUploadUp(t *testing.T) {
	d := newDepot(t, nil)
	no := errors.New("no")
	c := d.client(t)
	if err := c.Upload(context.Background(), "load", nil, func() (any, error) { return nil, no }, ignore); !errors.Is(err, no) {
		t.Errorf("got %v, want %v", err, no)
	}
	c.Close()
	d.wantFailed(t)

	c = d.client(t)
	err := c.Upload(context.Background(), "load", nil, pieces([]string{strings.Repeat("x", control.MaxRequest)}), ignore)
	if want := "a line of 65562 bytes is longer than 65536"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c.Close()
	d.wantFailed(t)

	ctx, cancel := context.WithCancel(context.Background())
	c = d.client(t)
	err = c.Upload(ctx, "load", nil, func() (any, error) {
		cancel()
		return []string{}, nil
	}, ignore)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	c.Close()
	d.wantFailed(t)
}

func TestAnUploadDoesNotWaitForEver(t *testing.T) {
	c, err := control.Dial(context.Background(), daemon(t, "", true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Silence = 50 * time.Millisecond
	big := []string{strings.Repeat("x", control.MaxRequest/2)}
	err = c.Upload(context.Background(), "x", nil, func() (any, error) { return big, nil }, ignore)
	if got := errorCode(t, err); got != control.CodeUnreachable {
		t.Errorf("got code %q, want %q", got, control.CodeUnreachable)
	}
}
