// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns two connected sockets.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		out[i] = c.(*net.UnixConn)
	}
	return out[0], out[1]
}

// Whatever a client says, requests, uploads and streams end with it, and all
// that it is answered are answers.
func FuzzConversation(f *testing.F) {
	load := `{"version":1,"command":"load"}` + "\n"
	for _, seed := range []string{
		`{"version":1,"command":"echo","args":["a"]}` + "\n" + `{"version":1,"command":"echo"}` + "\n",
		load + `{"version":1,"data":[1]}` + "\n" + `{"version":1,"end":true}` + "\n" + load,
		load + `{"version":1,"data":[1]}` + "\n" + load,
		load + `{"version":1,"data":null}` + "\n" + `{"version":1,"da`,
		load + `{"version":1,"error":{}}` + "\n",
		`{"version":1,"command":"follow"}` + "\n",
		`{"version":1,"command":"follow"}` + "\n" + load,
		"", "\n", "null\n", "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := New(Options{Commands: []Command{
		{Name: "echo", Run: func(_ context.Context, call *Call) error { return call.Send(call.Args) }},
		{Name: "follow", Stream: true, Run: func(ctx context.Context, _ *Call) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		{Name: "load", Upload: true, Run: func(_ context.Context, call *Call) error {
			for {
				if _, err := call.Receive(); errors.Is(err, io.EOF) {
					return call.Send("whole")
				} else if err != nil {
					return err
				}
			}
		}},
	}})
	f.Fuzz(func(t *testing.T, said []byte) {
		client, server := pair(t)
		c := newConn(s, server)
		if !s.admit(c) {
			t.Fatal("got no place, want one")
		}
		var running sync.WaitGroup
		running.Go(func() { c.serve(t.Context()) })
		running.Go(func() {
			_, _ = client.Write(said) // it may be let go before the end
			_ = client.CloseWrite()
		})
		r := bufio.NewReader(client)
		for {
			line, err := readLine(r, nil, maxAnswer)
			if err != nil {
				break
			}
			if _, err := parseAnswer(line, "the answer"); err != nil {
				t.Errorf("got %q: %v", line, err)
			}
		}
		running.Wait()
		if s.streams != 0 || len(s.clients) != 0 {
			t.Errorf("got %d streams and %d clients, want none", s.streams, len(s.clients))
		}
	})
}
