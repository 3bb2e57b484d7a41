// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/control"
)

// freePort returns a port that nobody listens at, at any address. It is below those
// that outgoing connections get (ip_local_port_range), which come at any time.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		l, err := net.Listen("tcp", ":"+port)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		return port
	}
}

// get asks an address, or a Unix socket, for a path and returns the status and
// the body, or "refused" where nobody listens.
func get(t *testing.T, address, path string) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}}
	r, err := client.Get("http://vxsnd" + path)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return "refused"
		}
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r.StatusCode, " ", strings.TrimSpace(string(body)))
}

func TestMetricsAreServed(t *testing.T) {
	at := "127.0.0.1:" + freePort(t)
	s := newSteered(t, "run", "logdest = stdout\nmetrics_max_vnis = 7\nmetrics_listen = "+at+"\n")
	if !waitFor(func() bool { return get(t, at, "/readyz") == "200 ok" }) {
		t.Fatalf("got %q, want a daemon that is ready", get(t, at, "/readyz"))
	}
	s.expect("metrics", get(t, at, "/metrics"), "200 ready true, alive true, clients 0, vnis 7")
	s.expect("health", get(t, at, "/healthz"), "200 ok")
	s.ending.Store(true)
	s.expect("stopping", get(t, at, "/readyz"), "503 about to stop")
	s.expect("stopping, alive", get(t, at, "/healthz"), "200 ok")
	s.ending.Store(false)
	s.stop()
	s.expect("stopped", get(t, at, "/readyz"), "refused")
}

func TestNotReadyYet(t *testing.T) {
	at := filepath.Join(t.TempDir(), "m")
	s := newSteered(t, "unready", "logdest = stdout\nmetrics_listen = "+at+"\n")
	s.expect("readyz", get(t, at, "/readyz"), "503 not ready yet: waits for the table of a peer, for sync_timeout at most")
	s.expect("healthz", get(t, at, "/healthz"), "200 ok")
	s.stop()
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no socket file after the end", err)
	}
}

func TestMetricsMove(t *testing.T) {
	const yes = "200 ok"
	a, b, file := freePort(t), freePort(t), filepath.Join(t.TempDir(), "m")
	s := newSteered(t, "run", "logdest = stdout\n")
	move := func(to, want string) {
		t.Helper()
		s.write("logdest = stdout\nmetrics_listen = " + to + "\n")
		s.expect("to "+to, s.reloads(), want)
	}
	one, all, other := "127.0.0.1:"+a, ":"+a, "127.0.0.1:"+b
	move(one, "+ metrics_listen none "+one+"\n")
	s.expect("one", get(t, one, "/healthz"), yes)
	move(one, "")
	s.expect("one again", get(t, one, "/healthz"), yes)
	move(all, "+ metrics_listen "+one+" "+all+"\n")
	s.expect("all, of the same port", get(t, one, "/healthz"), yes)
	s.expect("set", s.set("metrics_listen", "LOCALHOST:"+a), "+ metrics_listen "+all+" localhost:"+a+"\n")
	s.expect("localhost, of the same port", get(t, one, "/healthz"), yes)
	move(other, "+ metrics_listen localhost:"+a+" "+other+"\n")
	s.expect("other", get(t, other, "/healthz"), yes)
	s.expect("one, left", get(t, one, "/healthz"), "refused")
	move(file, "+ metrics_listen "+other+" "+file+"\n")
	s.expect("file", get(t, file, "/healthz"), yes)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v and %v, want mode 0660", info.Mode(), err)
	}
	move("none", "+ metrics_listen "+file+" none\n")
	s.expect("file, left", get(t, file, "/healthz"), "refused")
	s.logs("metrics are not served any more")
}

// An address that is not to be had changes nothing.
func TestMetricsThatCannotMove(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	at := "127.0.0.1:" + port
	s := newSteered(t, "run", "logdest = stdout\nmetrics_listen = "+at+"\n")
	const inUse = " (name another address or file (metrics_listen), or end what uses this one)\n"
	for _, tt := range []struct{ to, want string }{
		{"127.0.0.2:" + port, "error: listen 127.0.0.2:" + port + ": address already in use" + inUse},
		{"192.0.2.1:" + port, "error: listen 192.0.2.1:" + port + ": cannot assign requested address (name an address of this machine (metrics_listen), or leave it out for all: :PORT)\n"},
		// The one in use is given up for this one, and taken again.
		{"0.0.0.0:" + port, "error: listen 0.0.0.0:" + port + ": address already in use" + inUse},
		{"/proc/none/m", "error: listen /proc/none/m: no such file or directory (name a file in a directory that there is (metrics_listen))\n"},
	} {
		s.write("logdest = stdout\nholdtime = 5\nmetrics_listen = " + tt.to + "\n")
		s.expect(tt.to, s.reloads(), tt.want)
		s.expect(tt.to+" set", s.set("metrics_listen", tt.to), tt.want)
		s.expect("where it was", get(t, at, "/healthz"), "200 ok")
		s.logs("fake stays")
	}
	s.expect("holdtime", s.value("holdtime"), "90")
	s.expect("metrics_listen", s.value("metrics_listen"), at)
}

// A listener that moves while the daemon ends leaves nothing behind.
func TestMetricsThatMoveTooLate(t *testing.T) {
	at := filepath.Join(t.TempDir(), "m")
	m := newMetricsListener(control.HTTPOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Run(ctx)
	c, err := m.Prepare(at)
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
	if got := get(t, at, "/healthz"); got != "refused" {
		t.Errorf("got %s, want nobody there", got)
	}
}
