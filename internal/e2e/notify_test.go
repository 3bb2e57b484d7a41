// SPDX-License-Identifier: Apache-2.0

package e2e

// What a service manager is told, by sd_notify(3): the test has the socket.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const notifyVNI vxlan.VNI = 70

// When a node says that it is ready, what is sent to it at once is served.
func TestNotifyReady(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.idle()
	a := vs[2].agent(n)
	for i := range 5 {
		m := newManager(t)
		n.proc = n.launch(m.command(0), "workers = 2", markerConfig(vs...), memberConfig([]vxlan.VNI{notifyVNI}, vs[1]))
		got := m.ready()
		// No other way to look would be as quick.
		in := frame(netlab.Broadcast, i, 64)
		vs[0].flood(n, notifyVNI, in)
		a.write([]byte("\x02\x01\x00\x01\x00\x5a\x00\x01\x00\x00\x00\x46\x00\x00")) // version 2, asks for VNI 70
		vs[1].await(1)
		if _, r := a.receive(); !slices.Contains(members(r)[notifyVNI], vs[1].addr) {
			t.Errorf("got %v, want %s in VNI %s", r.VNIs, vs[1].addr, notifyVNI)
		}
		wantCopies(t, vs[1], sent{src: vs[0].packet(n, notifyVNI, in).Src, ttl: 64, vni: notifyVNI, inner: in})
		if want := (status{members: 4, vnis: 2}); got != want {
			t.Errorf("got status %+v, want %+v", got, want)
		}
		n.stop()
		vs[1].forget()
	}
}

// The status that comes by itself has the members and rates of now.
func TestNotifyStatus(t *testing.T) {
	t.Parallel()
	const unknown = notifyVNI + 1
	l := engineRaw.lab(t, 0) // the kernel's figures come half a second later
	vs := l.vteps(3)
	n := l.idle()
	m := newManager(t)
	n.startAs(m.command(0), "workers = 1", "learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{notifyVNI}, vs[:2]...))
	if got, want := m.ready(), (status{members: 5, vnis: 2}); got != want {
		t.Errorf("got status %+v, want %+v", got, want)
	}
	vs[2].agent(n).register(notifyVNI, 90, 5)
	var got status
	check(t, netlab.Wait(within(t), "a status with rates", func() bool {
		vs[0].flood(n, notifyVNI, frame(netlab.Broadcast, 1, 64), frame(netlab.Broadcast, 2, 64))
		vs[0].flood(n, unknown, frame(netlab.Broadcast, 3, 64), frame(netlab.Broadcast, 4, 64))
		for _, msg := range m.rest() {
			if got = m.parse(msg); got.packets > 0 && got.copies > 0 && got.drops > 0 {
				return true
			}
		}
		return false
	}))
	if got.members != 6 || got.vnis != 2 {
		t.Errorf("got status %+v, want one with 6 members in 2 VNIs", got)
	}
	vs[0].flush(n, vs...)
	for range 2 { // the first has what was sent meanwhile
		n.signal(syscall.SIGHUP)
		m.next()
		got = m.ready()
	}
	if want := (status{members: 6, vnis: 2}); got != want {
		t.Errorf("got status %+v when nothing is sent, want %+v", got, want)
	}
}

// A node without flooding has no rates to tell.
func TestNotifyStatusWithoutFlooding(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	n := l.idle()
	m := newManager(t)
	n.startAs(m.command(0), "no_flood = true", markerConfig(vs...))
	want := told{"READY": "1", "STATUS": "2 members in 1 VNI, floods nothing"}
	if got := m.next(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano() / 1000
}

// A reload is told when it begins and, once it is in force or refused, ends.
func TestNotifyReload(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(2)
	base := []string{"workers = 1", markerConfig(vs...)}
	n := l.idle()
	n.mishaps = []string{msgKept}
	m := newManager(t)
	n.startAs(m.command(0), base...)
	m.ready()
	steps := []struct {
		name    string
		config  []string
		members []netip.Addr
	}{
		{"taken", []string{memberConfig([]vxlan.VNI{notifyVNI}, vs...)}, []netip.Addr{vs[0].addr, vs[1].addr}},
		{"refused", []string{"holdtime = 0"}, []netip.Addr{vs[0].addr, vs[1].addr}},
		{"taken back", nil, nil},
	}
	for _, s := range steps {
		n.configure(append(base, s.config...)...)
		before := monotonic(t)
		n.signal(syscall.SIGHUP)
		got := m.next()
		after := monotonic(t)
		if !got.only("RELOADING", "MONOTONIC_USEC") || got["RELOADING"] != "1" {
			t.Fatalf("%s: got %v, want RELOADING=1 with the time", s.name, got)
		}
		if at := must(strconv.ParseInt(got["MONOTONIC_USEC"], 10, 64))(t); at < before || at > after {
			t.Errorf("%s: got MONOTONIC_USEC=%d, want %d to %d", s.name, at, before, after)
		}
		st := m.ready()
		var members []netip.Addr
		for _, e := range n.entries(notifyVNI) {
			members = append(members, e.Address)
		}
		if !slices.Equal(members, s.members) || st.members != len(vs)+len(s.members) {
			t.Errorf("%s: got members %v, status %+v, want %v in force", s.name, members, st, s.members)
		}
	}
}

// A node that cannot start says why and with what status it ends, and never
// that it is ready.
func TestNotifyFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		occupy func(n *node)
		config []string
		status int
		words  []string
	}{
		{name: "registration port", occupy: func(n *node) { n.listen(ctlPort) }, status: exitBind, words: []string{"10001"}},
		{name: "data port", status: exitBind, words: []string{"4789", "VXLAN device"}, occupy: func(n *node) {
			check(n.lab.t, n.AddVXLAN("vxlan1", netlab.VXLAN{VNI: 1, Local: n.addr}))
		}},
		{name: "options", config: []string{"holdtime = 0", "no_such_option = 1"}, status: exitConfig, words: []string{"holdtime", "no_such_option"}},
		{name: "more than fits a message", config: slices.Repeat([]string{"no_such_option = " + strings.Repeat("x", 300)}, 30), status: exitConfig},
		{name: "user", config: []string{"user = no-such-user"}, status: exitConfig, words: []string{"no-such-user"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			n := l.idle()
			if tt.occupy != nil {
				tt.occupy(n)
			}
			m := newManager(t)
			p := n.launch(m.command(time.Minute), tt.config...)
			if status := must(p.Wait(within(t)))(t); status != tt.status {
				t.Errorf("got status %d, want %d", status, tt.status)
			}
			last, before := m.await("the end", func(msg told) bool { return msg["EXIT_STATUS"] != "" })
			if got := m.rest(); len(got) > 0 {
				t.Errorf("got %v after the end, want nothing", got)
			}
			if status := strconv.Itoa(tt.status); !last.only("STATUS", "EXIT_STATUS", "X_EXIT_STATUS") ||
				last["EXIT_STATUS"] != status || last["X_EXIT_STATUS"] != status {
				t.Errorf("got %v, want a status line and twice status %s", last, status)
			}
			var text string
			for _, msg := range before {
				if !msg.only("X_FAIL") {
					t.Errorf("got %v, want pieces of what is wrong", msg)
				}
				text += must(strconv.Unquote(msg["X_FAIL"]))(t)
			}
			if text == "" || !strings.Contains(p.Output(), text) {
				t.Errorf("got told %q, want what is written: %q", text, p.Output())
			}
			for _, w := range tt.words {
				if !strings.Contains(text, w) || !strings.Contains(last["STATUS"], w) {
					t.Errorf("got told %q and status %q, want %q in both", text, last["STATUS"], w)
				}
			}
		})
	}
}
