// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A request is either refused, with an error that a client can read, or is
// understood and reads the same when it is written anew.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"command":"fdb","args":{"vni":100}}`,
		`{"version":1,"command":"show"}`,
		`{"version":2,"command":{}}`,
		`{"version":1e999,"command":"show"}`,
		`{"version":1,"command":"\ud800","args":null,"more":[[[[]]]]}`,
		`{"VERSION":1,"version":1,"command":"a","command":"b"}`,
		"", "null", "[]", `"`, "\xff\xfe", strings.Repeat("[", 20000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		line = line[:min(len(line), maxRequest)]
		r, bad := parseRequest(line)
		if bad != nil {
			wantReadable(t, bad)
			return
		}
		if r.Version != Version || r.Command == "" {
			t.Fatalf("got %+v, want a request of version %d with a command", r, Version)
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > 8*maxRequest {
			t.Errorf("got %d bytes out of %d, want no such growth", len(again), len(line))
		}
		if r2, bad := parseRequest(again); bad != nil || r2.Command != r.Command || !sameJSON(r.Args, r2.Args) {
			t.Errorf("got %+v and %v, want %+v", r2, bad, r)
		}
		var a FDBArgs
		if err := DecodeArgs(r.Args, &a); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeBadArgument {
				t.Fatalf("got %v, want an Error with code %s", err, CodeBadArgument)
			}
			wantReadable(t, e)
		}
	})
}

// wantReadable tells that an error goes to a client and arrives.
func wantReadable(t *testing.T, e *Error) {
	t.Helper()
	line, err := encode(answer{Version: Version, Error: e})
	if err != nil || len(line) > maxAnswer {
		t.Fatalf("got %d bytes and %v, want an answer within the bound", len(line), err)
	}
	a, err := parseAnswer(line, "x")
	if err != nil || a.Error == nil || a.Error.Code != e.Code || a.Error.Text == "" {
		t.Fatalf("got %+v and %v, want %+v", a.Error, err, e)
	}
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	// What a decoder refuses for its value alone, 1e999 say, compares as nothing.
	_ = json.Unmarshal(a, &x)
	_ = json.Unmarshal(b, &y)
	return reflect.DeepEqual(x, y)
}

// Whatever a daemon says, a call ends, and data that it gave is JSON.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"data":[{"vni":1}]}` + "\n" + `{"version":1,"end":true}` + "\n",
		`{"version":1,"error":{"code":"busy","text":"x","hint":"y"}}` + "\n",
		`{"version":1,"data":null}` + "\n" + `{"version":1,"data":1}` + "\n",
		`{"version":1,"error":null,"end":true}` + "\n",
		`{"version":1,"error":{},"data":{}}` + "\n",
		`{"version":7,"end":"soon"}` + "\n", "\n\n", "", "\x00\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answers []byte) {
		c := &Client{socket: deaf{}, reader: bufio.NewReader(bytes.NewReader(answers))}
		err := c.Call(context.Background(), "x", nil, func(data json.RawMessage) error {
			if !json.Valid(data) {
				t.Errorf("got data %q, want JSON", data)
			}
			return nil
		})
		if err == nil && !bytes.Contains(answers, []byte("\n")) {
			t.Errorf("got no error out of %q, want one", answers)
		}
	})
}

// A deaf is a connection that takes everything; it is not read from.
type deaf struct{ net.Conn }

func (deaf) Write(b []byte) (int, error) { return len(b), nil }
func (deaf) SetDeadline(time.Time) error { return nil }
