// SPDX-License-Identifier: Apache-2.0

package e2e

// Metrics and states over HTTP: while packets are copied, at a Unix socket, and
// before and after a node is ready.
//
//	node 192.0.2.254, asked from itself
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const metricsAddr = "127.0.0.1:9789"

// get asks for a path at an address of the node, or at a Unix socket, and returns
// the status, 0 where nobody answers, and what came.
func (n *node) get(address, path string) (status int, body string) {
	n.lab.t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	var c net.Conn
	// A client of package http would connect from another thread, and so from
	// another namespace.
	if err := n.Do(func() (err error) { c, err = net.Dial(network, address); return err }); err != nil {
		return 0, err.Error()
	}
	defer c.Close()
	check(n.lab.t, c.SetDeadline(time.Now().Add(patience)))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n", path)
	r := must(http.ReadResponse(bufio.NewReader(c), nil))(n.lab.t)
	defer r.Body.Close()
	return r.StatusCode, string(must(io.ReadAll(r.Body))(n.lab.t))
}

// scrape returns the values of metrics, each with its labels as they are printed.
func (n *node) scrape(address string) map[string]float64 {
	n.lab.t.Helper()
	status, body := n.get(address, "/metrics")
	if status != http.StatusOK {
		n.lab.t.Fatalf("got status %d and %q, want metrics", status, body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			values[name] = must(strconv.ParseFloat(value, 64))(n.lab.t)
		}
	}
	return values
}

// Scrapes while packets are copied cost none of them, never go back, and in the
// end have what show has.
func TestSeeMetrics(t *testing.T) {
	t.Parallel()
	const burst, rounds = 40, 30
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", "metrics_listen = "+metricsAddr, "metrics_max_vnis = 2", markerConfig(vs...),
		memberConfig([]vxlan.VNI{seeVNI}, vs...), memberConfig([]vxlan.VNI{seeVNI + 1}, vs[:2]...))
	packets := 0
	before := n.scrape(metricsAddr)
	for range rounds {
		var fs [][]byte
		for range burst {
			fs = append(fs, frame(netlab.Broadcast, packets, 200))
			packets++
		}
		vs[0].flood(n, seeVNI, fs...)
		now := n.scrape(metricsAddr)
		for name, v := range before {
			if strings.HasSuffix(strings.Split(name, "{")[0], "_total") && now[name] < v {
				t.Errorf("%s: got %v after %v", name, now[name], v)
			}
		}
		before = now
		vs[0].flush(n, vs...)
	}
	vs[1].flood(n, seeVNI+1, frame(netlab.Broadcast, 1, 64))
	vs[1].flood(n, seeVNI+2, frame(netlab.Broadcast, 1, 64))
	vs[0].flush(n, vs...)
	if got := len(vs[1].got()); got != packets {
		t.Errorf("got %d copies, want %d", got, packets)
	}

	s, m := n.status(), n.scrape(metricsAddr)
	for name, want := range map[string]uint64{
		"vxsnd_received_packets_total": s.Packets, "vxsnd_received_bytes_total": s.Bytes,
		"vxsnd_copies_total": s.Copies, "vxsnd_copy_bytes_total": s.CopyBytes,
		"vxsnd_table_vnis": uint64(s.VNIs), "vxsnd_table_members": uint64(s.Members),
		`vxsnd_table_entries{source="configuration"}`:     uint64(s.BySource["configuration"]),
		`vxsnd_dropped_packets_total{reason="no_member"}`: 1,
		`vxsnd_dropped_packets_total{reason="kernel"}`:    0,
		"vxsnd_ready": 1, "vxsnd_alive": 1,
	} {
		if got, ok := m[name]; !ok || got != float64(want) {
			t.Errorf("%s: got %v, want %d, as show has it", name, got, want)
		}
	}
	// The busiest VNIs have figures of their own, the rest is summed up, and
	// nothing is counted twice or lost.
	var vnis, sum float64
	for name, v := range m {
		if strings.HasPrefix(name, "vxsnd_vni_received_packets_total{") {
			vnis, sum = vnis+1, sum+v
		}
	}
	if vnis != 3 || sum != float64(s.Packets) {
		t.Errorf("got %v series with %v packets, want 2 and other with %d", vnis, sum, s.Packets)
	}
	if got := m[`vxsnd_vni_received_packets_total{vni="20"}`]; got != float64(packets) {
		t.Errorf("got %v packets of VNI 20, want %d", got, packets)
	}

	// A reload moves the listener, to a Unix socket for one.
	socket := n.file("metrics.sock")
	n.reload("workers = 1", "learning = off", "metrics_listen = "+socket, markerConfig(vs...))
	if status, body := n.get(metricsAddr, "/metrics"); status != 0 {
		t.Errorf("got status %d and %q at the old address, want nobody there", status, body)
	}
	if got := n.scrape(socket)["vxsnd_copies_total"]; got != float64(s.Copies) {
		t.Errorf("got %v copies at the socket, want %d", got, s.Copies)
	}
	if mode := must(os.Stat(socket))(t).Mode().Perm(); mode != 0o660 {
		t.Errorf("got mode %v of the socket, want 0660", mode)
	}
	n.ctl("set", "config", "metrics_listen", "none").printed()
	if _, err := os.Stat(socket); err == nil {
		t.Error("got a socket that stays, want none")
	}
}

// A node is alive at once, and ready when it has the table of its peer.
func TestSeeStates(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	d, open := l.slow(vs[1].addr)
	n := l.snode(1)
	cmd := exec.Command(program(t))
	n.proc = n.launch(cmd, n.grouped([]*machine{d.machine}, "sync_timeout = 3600", "metrics_listen = "+metricsAddr)...)
	n.waitFor("a question for the table", func() bool { return d.requests() == 1 })
	for _, tt := range []struct {
		path   string
		status int
		says   string
	}{
		{"/healthz", 200, ""}, {"/readyz", 503, "not ready"}, {"/metrics", 200, "vxsnd_ready 0\n"}, {"/nothing", 404, ""}, {"/", 200, "/readyz"},
	} {
		if status, body := n.get(metricsAddr, tt.path); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s: got %d and %.200q, want %d and %q", tt.path, status, body, tt.status, tt.says)
		}
	}
	open()
	n.ready()
	n.waitFor("a node that is ready", func() bool { status, _ := n.get(metricsAddr, "/readyz"); return status == 200 })
	if got := n.scrape(metricsAddr); got["vxsnd_ready"] != 1 || got[`vxsnd_table_entries{source="peer"}`] != 1 {
		t.Errorf("got ready %v and %v entries of peers, want 1 and 1", got["vxsnd_ready"], got[`vxsnd_table_entries{source="peer"}`])
	}
	if status := n.end(syscall.SIGTERM); status != 0 {
		t.Errorf("got status %d, want 0", status)
	}
}

// An address that cannot be had is a start that fails, and a reload that changes
// nothing.
func TestSeeMetricsAddressTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.idle()
	var taken net.Listener
	check(t, n.Do(func() (err error) { taken, err = net.Listen("tcp", metricsAddr); return err }))
	defer taken.Close()
	p := n.launch(exec.Command(program(t)), "metrics_listen = "+metricsAddr)
	if status := must(p.Wait(within(t)))(t); status != exitBind || !strings.Contains(p.Output(), metricsAddr) || !strings.Contains(p.Output(), "hint: ") {
		t.Errorf("got status %d and %q, want %d, the address and a hint", status, p.Output(), exitBind)
	}
	n.start("holdtime = 60", "metrics_listen = 127.0.0.1:9790")
	n.configure("holdtime = 70", "metrics_listen = "+metricsAddr)
	if why := n.refused(); len(why) == 0 || !strings.Contains(strings.Join(why, "\n"), metricsAddr) {
		t.Errorf("got %q, want a reload refused for the address", why)
	}
	if got := n.scrape("127.0.0.1:9790"); got["vxsnd_ready"] != 1 {
		t.Errorf("got ready %v at the old address, want 1", got["vxsnd_ready"])
	}
}
