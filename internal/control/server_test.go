// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/control"
)

const end = `{"version":1,"end":true}`

func TestRequestsAreAnsweredInTurn(t *testing.T) {
	r := start(t, control.Options{}, nil).raw(t)
	r.say(t, `{"version":1,"command":"count","args":{"to":2}}`+"\n"+`{"version":1,"command":"echo","args":["a"]}`+"\n")
	for _, line := range []string{`{"version":1,"data":0}`, `{"version":1,"data":1}`, end, `{"version":1,"data":["a"]}`, end} {
		r.want(t, line)
	}
}

func TestARequestMayEndWithTheConnection(t *testing.T) {
	r := start(t, control.Options{}, nil).raw(t)
	r.say(t, `{"version":1,"command":"count"}`)
	if err := r.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.want(t, end)
	r.wantEnd(t)
}

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	r := start(t, control.Options{}, nil).raw(t)
	tests := []struct{ name, line, want string }{
		{"empty line", "", control.CodeBadRequest},
		{"no json", "fdb", control.CodeBadRequest},
		{"cut off", `{"version":1,"command":"co`, control.CodeBadRequest},
		{"two objects", `{"version":1}{}`, control.CodeBadRequest},
		{"list", `[]`, control.CodeBadRequest},
		{"null", `null`, control.CodeVersion},
		{"no version", `{"command":"count"}`, control.CodeVersion},
		{"version 0", `{"version":0,"command":"count"}`, control.CodeVersion},
		{"version 2", `{"version":2,"command":["of","another","shape"]}`, control.CodeVersion},
		{"version as text", `{"version":"1","command":"count"}`, control.CodeBadRequest},
		{"huge version", `{"version":1e999,"command":"count"}`, control.CodeBadRequest},
		{"version of many digits", `{"version":` + strings.Repeat("9", 60000) + `,"command":"count"}`, control.CodeBadRequest},
		{"no command", `{"version":1}`, control.CodeBadRequest},
		{"command as number", `{"version":1,"command":7}`, control.CodeBadRequest},
		{"unknown command", `{"version":1,"command":"counts"}`, control.CodeUnknownCommand},
		{"long unknown command", `{"version":1,"command":"` + strings.Repeat(`\n`, 30000) + `"}`, control.CodeUnknownCommand},
		{"deep", `{"version":1,"command":"count","args":` + strings.Repeat("[", 60000) + `}`, control.CodeBadRequest},
		{"unknown argument", `{"version":1,"command":"count","args":{"from":1}}`, control.CodeBadArgument},
		{"argument of another type", `{"version":1,"command":"count","args":{"to":"x"}}`, control.CodeBadArgument},
		{"huge argument", `{"version":1,"command":"count","args":{"to":1e99}}`, control.CodeBadArgument},
		{"arguments as list", `{"version":1,"command":"count","args":[1]}`, control.CodeBadArgument},
		{"refused", `{"version":1,"command":"refuse"}`, control.CodeBadArgument},
		{"failed", `{"version":1,"command":"fail"}`, control.CodeFailed},
		{"answer too long", `{"version":1,"command":"long"}`, control.CodeFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.say(t, tt.line+"\n")
			r.wantCode(t, tt.want)
			// The connection is as good as before.
			r.say(t, `{"version":1,"command":"count","surplus":true,"args":null}`+"\n")
			r.want(t, end)
		})
	}
}

// Who writes requests by hand is told what is wrong with them in terms of JSON.
func TestRequestsOfWrongTypesAreToldPlainly(t *testing.T) {
	r := start(t, control.Options{}, nil).raw(t)
	for line, want := range map[string]string{
		`[1]`:                        `"bad_request","text":"the request is not an object"`,
		`"x"`:                        `"bad_request","text":"the request is not an object"`,
		`{"version":"1"}`:            `"bad_request","text":"the request is not understood: version takes no string"`,
		`{"version":1,"command":[]}`: `"bad_request","text":"the request is not understood: command takes no array"`,
		`{"version":1,"command":"count","args":3}`:        `"bad_argument","text":"args is not an object"`,
		`{"version":1,"command":"count","args":{"tu":1}}`: `"bad_argument","text":"args is not understood: unknown field \"tu\""`,
	} {
		r.say(t, line+"\n")
		r.want(t, `{"version":1,"error":{"code":`+want+`}}`)
	}
}

func TestErrorsArriveAsTheCommandReturnedThem(t *testing.T) {
	r := start(t, control.Options{}, nil).raw(t)
	r.say(t, `{"version":1,"command":"refuse"}`+"\n")
	r.want(t, `{"version":1,"error":{"code":"bad_argument","text":"no","hint":"yes"}}`)
	r.say(t, `{"version":1,"command":"fail"}`+"\n")
	r.want(t, `{"version":1,"error":{"code":"failed","text":"broken"}}`)
	r.say(t, `{"version":1,"command":"x"}`+"\n")
	r.want(t, `{"version":1,"error":{"code":"unknown_command","text":"unknown command \"x\"",`+
		`"hint":"the daemon knows count, echo, fail, flood, long, refuse, wait"}}`)
}

func TestALongRequestEndsTheConnection(t *testing.T) {
	h := start(t, control.Options{}, nil)
	request := `{"version":1,"command":"count","args":{"to":0}}`
	fits := request + strings.Repeat(" ", control.MaxRequest-len(request)-1) + "\n"
	r := h.raw(t)
	r.say(t, fits)
	r.want(t, end)
	r.say(t, " "+fits)
	r.wantCode(t, control.CodeBadRequest)
	r.wantEnd(t)
}

func TestAStartedRequestHasToEnd(t *testing.T) {
	r := start(t, control.Options{}, func(s *control.Server) {
		s.SetTimes(50*time.Millisecond, patience, patience)
	}).raw(t)
	r.say(t, `{"version":1,"comm`)
	r.wantCode(t, control.CodeBadRequest)
	r.wantEnd(t)
}

func TestAnIdleClientIsLetGo(t *testing.T) {
	r := start(t, control.Options{}, func(s *control.Server) {
		s.SetTimes(patience, 50*time.Millisecond, patience)
	}).raw(t)
	r.wantEnd(t)
}

func TestAClientThatDoesNotReadCostsOnlyItsConnection(t *testing.T) {
	ended := make(chan error, 1)
	flood := commands()
	for i, c := range flood {
		if c.Name == "flood" {
			flood[i].Run = func(ctx context.Context, call *control.Call) error {
				err := c.Run(ctx, call)
				ended <- err
				return err
			}
		}
	}
	h := start(t, control.Options{Commands: flood}, func(s *control.Server) {
		s.SetTimes(patience, patience, 100*time.Millisecond)
	})
	hung := h.raw(t)
	hung.say(t, `{"version":1,"command":"flood"}`+"\n")
	if err := h.client(t).Call(context.Background(), "count", nil, nil); err != nil {
		t.Errorf("another client: got %v, want nil", err)
	}
	if err := <-ended; err == nil {
		t.Error("got no error from send, want one")
	}
	// What it was sent is still there, up to the end of the connection.
	for {
		if _, err := hung.ReadString('\n'); err != nil {
			break
		}
	}
}

func TestAClientThatLeavesEndsItsCommand(t *testing.T) {
	h := start(t, control.Options{MaxClients: 1}, nil)
	r := h.raw(t)
	r.say(t, `{"version":1,"command":"flood"}`+"\n")
	r.want(t, `{"version":1,"data":"water"}`)
	r.Close()
	// Its place is free once its command has returned.
	for deadline := time.Now().Add(patience); ; {
		err := h.client(t).Call(context.Background(), "count", nil, nil)
		if err == nil {
			break
		}
		if errorCode(t, err) != control.CodeBusy || time.Now().After(deadline) {
			t.Fatalf("got %v, want a free place", err)
		}
	}
}

func TestStopEndsAnswersAndConnections(t *testing.T) {
	h := start(t, control.Options{}, nil)
	idle, hung, waiting := h.raw(t), h.raw(t), h.raw(t)
	hung.say(t, `{"version":1,"command":"flood"}`+"\n")
	hung.want(t, `{"version":1,"data":"water"}`)
	waiting.say(t, `{"version":1,"command":"wait"}`+"\n")
	waiting.want(t, `{"version":1,"data":"waits"}`)
	h.stop()
	idle.wantCode(t, control.CodeStopping)
	idle.wantEnd(t)
	waiting.wantCode(t, control.CodeStopping)
	waiting.wantEnd(t)
	_, err := control.Dial(context.Background(), h.path)
	if got := errorCode(t, err); got != control.CodeUnreachable {
		t.Errorf("got code %q, want %q", got, control.CodeUnreachable)
	}
}

func TestArgumentsAreStrict(t *testing.T) {
	five := uint32(5)
	tests := []struct {
		name, args, code string
		want             *uint32
	}{
		{"none", "", "", nil},
		{"null", "null", "", nil},
		{"empty", "{}", "", nil},
		{"one", `{"vni":5}`, "", &five},
		{"unknown", `{"vnis":5}`, control.CodeBadArgument, nil},
		{"negative", `{"vni":-5}`, control.CodeBadArgument, nil},
		{"not whole", `{"vni":5.5}`, control.CodeBadArgument, nil},
		{"text", `"vni"`, control.CodeBadArgument, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a control.FDBArgs
			if got := errorCode(t, control.DecodeArgs(json.RawMessage(tt.args), &a)); got != tt.code {
				t.Fatalf("got code %q, want %q", got, tt.code)
			}
			if tt.code == "" && fmt.Sprint(a.VNI == nil) != fmt.Sprint(tt.want == nil) {
				t.Errorf("got %v, want %v", a.VNI, tt.want)
			}
			if tt.want != nil && *a.VNI != *tt.want {
				t.Errorf("got %d, want %d", *a.VNI, *tt.want)
			}
		})
	}
}

func TestEachCanEndACall(t *testing.T) {
	c := start(t, control.Options{}, nil).client(t)
	enough := errors.New("enough")
	if err := c.Call(context.Background(), "flood", nil, func(json.RawMessage) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}
