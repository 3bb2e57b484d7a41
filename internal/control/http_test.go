// SPDX-License-Identifier: Apache-2.0

package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/control"
)

// figures answers /metrics in tests.
var figures = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/figures")
	fmt.Fprintln(w, "vxsnd_figures 1")
})

// A site is an HTTP that runs.
type site struct {
	*control.HTTP
	network string
	stop    func()
}

// serveHTTP runs an HTTP until the test ends, after change has seen it.
func serveHTTP(t *testing.T, o control.HTTPOptions, change func(*control.HTTP)) *site {
	t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Metrics == nil {
		o.Metrics = figures
	}
	h := control.NewHTTP(o)
	if change != nil {
		change(h)
	}
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	stopped := false
	s := &site{HTTP: h, network: "tcp", stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	}}
	if o.Address[0] == '/' {
		s.network = "unix"
	}
	t.Cleanup(s.stop)
	return s
}

// A visitor is a client that says what it likes.
type visitor struct {
	net.Conn
	*bufio.Reader
}

func (v visitor) Read(b []byte) (int, error) { return v.Reader.Read(b) }

func (s *site) visit(t *testing.T) visitor {
	t.Helper()
	c, err := net.Dial(s.network, s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return visitor{c, bufio.NewReader(c)}
}

// get does one request and returns the answer.
func (v visitor) get(t *testing.T, method, path string) (*http.Response, string) {
	t.Helper()
	if _, err := fmt.Fprintf(v.Conn, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(v.Reader, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b)
}

func (v visitor) served(t *testing.T) {
	t.Helper()
	if r, body := v.get(t, "GET", "/metrics"); r.StatusCode != http.StatusOK || body != "vxsnd_figures 1\n" {
		t.Fatalf("got %s and %q, want the figures", r.Status, body)
	}
}

// wantEnd waits until the server closes the connection.
func (v visitor) wantEnd(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, v.Reader); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("got an open connection, want a closed one")
	}
}

func (s *site) waitClients(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.Clients() != want; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("got %d clients, want %d", s.Clients(), want)
		}
	}
}

func TestPages(t *testing.T) {
	var ill error
	well := func() error { return ill }
	v := serveHTTP(t, control.HTTPOptions{Healthy: well, Ready: well}, nil).visit(t)
	tests := []struct {
		method, path string
		ill          error
		code         int
		body         string
	}{
		{"GET", "/metrics", nil, 200, "vxsnd_figures 1\n"},
		{"GET", "/metrics?x=y", nil, 200, "vxsnd_figures 1\n"},
		{"GET", "/healthz", nil, 200, "ok\n"},
		{"GET", "/readyz", nil, 200, "ok\n"},
		{"GET", "/healthz", errors.New("dead"), 503, "dead\n"},
		{"GET", "/readyz", errors.New("waits"), 503, "waits\n"},
		{"GET", "/metrics/", nil, 404, "there is no such path, / has a list\n"},
		{"GET", "/debug/pprof/", nil, 404, "there is no such path, / has a list\n"},
		{"POST", "/metrics", nil, 405, "only GET and HEAD are served\n"},
		{"DELETE", "/", nil, 405, "only GET and HEAD are served\n"},
		{"OPTIONS", "*", nil, 405, "only GET and HEAD are served\n"},
		{"BREW", "/healthz", nil, 405, "only GET and HEAD are served\n"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			ill = tt.ill
			r, body := v.get(t, tt.method, tt.path)
			if r.StatusCode != tt.code || body != tt.body {
				t.Errorf("got %d and %q, want %d and %q", r.StatusCode, body, tt.code, tt.body)
			}
			if got := r.Header.Get("Allow"); (got == "GET, HEAD") != (tt.code == 405) {
				t.Errorf("got Allow %q with status %d", got, tt.code)
			}
			if tt.method != "GET" {
				return
			}
			head, body := v.get(t, "HEAD", tt.path)
			if head.StatusCode != tt.code || body != "" || head.ContentLength != int64(len(tt.body)) || head.Header.Get("Content-Type") != r.Header.Get("Content-Type") {
				t.Errorf("HEAD: got %v and %q, want what GET has", head, body)
			}
		})
	}
	_, list := v.get(t, "GET", "/")
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if !strings.Contains(list, path+" ") {
			t.Errorf("got %q, want it to name %s", list, path)
		}
	}
	if _, body := serveHTTP(t, control.HTTPOptions{}, nil).visit(t).get(t, "GET", "/readyz"); body != "ok\n" {
		t.Errorf("nobody to ask: got %q, want ok", body)
	}
}

func TestASlowRequestIsLetGo(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{}, func(h *control.HTTP) { h.SetTimes(50*time.Millisecond, patience, patience) })
	for _, said := range []string{"", "G", "GET /metrics HTTP/1.1\r\nHost: x\r\n"} {
		v := s.visit(t)
		if _, err := v.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		v.wantEnd(t)
	}
}

func TestAnIdleScraperIsLetGo(t *testing.T) {
	v := serveHTTP(t, control.HTTPOptions{}, func(h *control.HTTP) { h.SetTimes(patience, 50*time.Millisecond, patience) }).visit(t)
	v.served(t)
	v.wantEnd(t)
}

func TestALongHeaderIsRefused(t *testing.T) {
	v := serveHTTP(t, control.HTTPOptions{}, nil).visit(t)
	if _, err := fmt.Fprintf(v.Conn, "GET / HTTP/1.1\r\nX: %s", strings.Repeat("x", 32<<10)); err != nil {
		t.Fatal(err)
	}
	if line, err := v.ReadString('\n'); err != nil || !strings.Contains(line, " 431 ") {
		t.Errorf("got %q and %v, want status 431", line, err)
	}
	v.wantEnd(t)
}

// big is more than the buffers of a connection hold.
var big = strings.Repeat("x", 16<<20)

func TestASlowReaderHoldsNothing(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "big" {
			_, _ = io.WriteString(w, big)
			return
		}
		figures(w, r)
	})}, nil)
	slow := make([]visitor, control.MaxHTTPRequests+1)
	for i := range slow {
		slow[i] = s.visit(t)
		if _, err := slow[i].Write([]byte("GET /metrics?big HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := slow[i].ReadString('\n'); err != nil { // it is being answered
			t.Fatal(err)
		}
	}
	s.visit(t).served(t)
	// They make room for others, and stop does not wait for them.
	for range control.MaxHTTPClients {
		s.visit(t).served(t)
	}
	if got := s.Clients(); got > control.MaxHTTPClients {
		t.Errorf("got %d clients, want at most %d", got, control.MaxHTTPClients)
	}
	slow[0].wantEnd(t)
}

func TestAnAnswerHasToBeRead(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, big)
	})}, func(h *control.HTTP) { h.SetTimes(patience, patience, 50*time.Millisecond) })
	v := s.visit(t)
	if _, err := v.Write([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Peek(1); err != nil {
		t.Fatal(err)
	}
	s.waitClients(t, 0)
}

func TestStopDoesNotWaitForHungScrapers(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, big)
	})}, nil)
	for _, said := range []string{"", "GET", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"} {
		if _, err := s.visit(t).Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
	}
	s.waitClients(t, 3)
	s.stop()
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("got a connection, want none")
	}
}

func TestIdleScrapersMakeRoom(t *testing.T) {
	s := serveHTTP(t, control.HTTPOptions{}, nil)
	var all []visitor
	for range control.MaxHTTPClients {
		v := s.visit(t)
		v.served(t)
		all = append(all, v)
	}
	all[0].served(t)
	added := s.visit(t)
	added.served(t)
	all[1].wantEnd(t)
	all[0].served(t)
	added.served(t)
	s.waitClients(t, control.MaxHTTPClients)
}

func TestScrapesTakeTurns(t *testing.T) {
	begun, release := make(chan struct{}, 100), make(chan struct{})
	s := serveHTTP(t, control.HTTPOptions{Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-release
		figures(w, r)
	})}, func(h *control.HTTP) { h.SetTimes(200*time.Millisecond, patience, patience) })
	ask := func() visitor {
		v := s.visit(t)
		if _, err := v.Write([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return v
	}
	var busy []visitor
	for range control.MaxHTTPRequests {
		busy = append(busy, ask())
		<-begun
	}
	if line, err := ask().ReadString('\n'); err != nil || !strings.Contains(line, " 503 ") {
		t.Errorf("got %q and %v, want status 503", line, err)
	}
	if r, _ := s.visit(t).get(t, "GET", "/healthz"); r.StatusCode != http.StatusOK {
		t.Errorf("health: got %s, want 200", r.Status)
	}
	if len(begun) > 0 {
		t.Errorf("got %d more requests under way, want none", len(begun))
	}
	close(release)
	for _, v := range busy {
		if line, err := v.ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Errorf("got %q and %v, want status 200", line, err)
		}
	}
}

func TestAPanicOfAHandlerIsLogged(t *testing.T) {
	log, logs := logtest.NewNullLogger()
	s := serveHTTP(t, control.HTTPOptions{Log: log, Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			panic("oh")
		}
		figures(w, r)
	})}, nil)
	for range control.MaxHTTPClients + 1 {
		v := s.visit(t)
		if _, err := v.Write([]byte("GET /metrics?panic HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		v.wantEnd(t)
	}
	s.visit(t).served(t)
	if e := logs.LastEntry(); e == nil || e.Level != logrus.WarnLevel || !strings.Contains(fmt.Sprint(e.Data[logrus.ErrorKey]), "oh") {
		t.Errorf("got %v, want a warning", e)
	}
}
