// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/control"
)

func ignore(json.RawMessage) error { return nil }

// daemon answers the first request of one client with text.
func daemon(t *testing.T, text string, hold bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	release, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = c.Write([]byte(text))
		if hold {
			<-release
		}
	}()
	t.Cleanup(func() {
		l.Close()
		close(release)
		<-done
	})
	return path
}

func TestCallGivesTheData(t *testing.T) {
	c := start(t, control.Options{}, nil).client(t)
	for range 2 {
		var got []string
		err := c.Call(context.Background(), "count", map[string]int{"to": 3}, func(data json.RawMessage) error {
			got = append(got, string(data))
			return nil
		})
		if err != nil || strings.Join(got, " ") != "0 1 2" {
			t.Errorf("got %q and %v, want 0 1 2", got, err)
		}
	}
	var e *control.Error
	if err := c.Call(context.Background(), "refuse", nil, ignore); !errors.As(err, &e) || *e != (control.Error{Code: "bad_argument", Text: "no", Hint: "yes"}) {
		t.Errorf("got %v, want the error of the command", err)
	}
}

func TestCallSaysWhatIsWrongWithAnAnswer(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"nothing", "", "the daemon closed the connection before the answer ended: EOF"},
		{"cut off", `{"version":1,"end":true}`, "the daemon closed the connection before the answer ended: unexpected EOF"},
		{"no end", `{"version":1,"data":1}` + "\n", "the daemon closed the connection before the answer ended: EOF"},
		{"no json", "Hello\n", "the answer is not understood: invalid character 'H' looking for beginning of value"},
		{"another version", `{"version":2,"end":1}` + "\n", "the answer is of version 2, 1 is spoken"},
		{"no version", `{"end":true}` + "\n", "the answer names no version, 1 is spoken"},
		{"empty", `{"version":1}` + "\n", "the answer is not understood: not exactly one of data, end and error"},
		{"two at once", `{"version":1,"data":1,"end":true}` + "\n", "the answer is not understood: not exactly one of data, end and error"},
		{"long line", strings.Repeat(" ", control.MaxAnswer) + "\n", "the answer has a line of more than 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := control.Dial(context.Background(), daemon(t, tt.answer, false))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Call(context.Background(), "x", nil, ignore); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestCallDoesNotWaitForEver(t *testing.T) {
	c, err := control.Dial(context.Background(), daemon(t, "", true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Silence = 50 * time.Millisecond
	if got := errorCode(t, c.Call(context.Background(), "x", nil, ignore)); got != control.CodeUnreachable {
		t.Errorf("got code %q, want %q", got, control.CodeUnreachable)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	for _, silence := range []time.Duration{0, patience} {
		c := start(t, control.Options{}, nil).client(t)
		c.Silence = silence
		ctx, cancel := context.WithCancel(context.Background())
		err := c.Call(ctx, "wait", nil, func(json.RawMessage) error {
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	}
}

func TestDialTakesTheFirstThatListens(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	stale(t, gone)
	h := start(t, control.Options{}, nil)
	c, err := control.Dial(context.Background(), filepath.Join(dir, "none"), gone, h.path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	none, gone := filepath.Join(dir, "none"), filepath.Join(dir, "gone")
	stale(t, gone)
	tests := []struct {
		name  string
		paths []string
		want  control.Error
	}{
		{"none", []string{none, none + "2"}, control.Error{Code: control.CodeUnreachable,
			Text: "no daemon at " + none + " or " + none + "2", Hint: "start it, or name the socket that it has"}},
		{"stale", []string{none, gone}, control.Error{Code: control.CodeUnreachable,
			Text: "connect " + gone + ": connection refused", Hint: "nobody listens there: start the daemon, or name the socket that it has"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := control.Dial(context.Background(), tt.paths...)
			var e *control.Error
			if !errors.As(err, &e) || *e != tt.want {
				t.Errorf("got %+v, want %+v", err, tt.want)
			}
		})
	}
}

func TestDialNamesTheGroupThatMayConnect(t *testing.T) {
	h := start(t, control.Options{Path: filepath.Join(mkdir(t), "s")}, nil)
	if err := os.Chmod(h.path, 0); err != nil {
		t.Fatal(err)
	}
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 23456 // has no name
		if err := os.Lchown(h.path, 0, group); err != nil {
			t.Fatal(err)
		}
	}
	name := strconv.Itoa(group)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	want := control.Error{Code: control.CodePermission, Text: "connect " + h.path + ": permission denied",
		Hint: "be in group " + name + ", or use sudo"}
	asNobody(t, func() {
		_, err := control.Dial(context.Background(), h.path)
		var e *control.Error
		if !errors.As(err, &e) || *e != want {
			t.Errorf("got %+v, want %+v", err, want)
		}
	})
}
