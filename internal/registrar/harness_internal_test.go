// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxfld"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A harness is a registrar with everything around it.
type harness struct {
	*Registrar
	t         *testing.T
	conn      *fakeConn
	devices   fakeDevices
	addresses *source[[]netip.Addr]
	lists     *fakeLists
	fdb       *fakeFDB
	hook      *logtest.Hook
	stop      context.CancelCauseFunc
	ended     chan error
}

// newHarness returns a registrar that does not run yet, of a machine with
// 10.0.0.1 and 10.0.0.9.
func newHarness(t *testing.T, c config.Config, ds ...underlay.Device) *harness {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	r, err := New(c, log)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{
		Registrar: r, t: t, hook: hook, conn: newFakeConn(), fdb: &fakeFDB{},
		devices:   fakeDevices{newSource(ds), new(atomic.Bool), make(chan struct{})},
		addresses: newSource(addrs("10.0.0.1", "10.0.0.9")),
		lists:     &fakeLists{lists: make(map[headend.Key][]netip.Addr)},
		ended:     make(chan error, 1),
	}
	r.machine = func() string { return "machine" }
	r.conn, r.devices, r.addresses, r.fdb = h.conn, h.devices, h.addresses, h.fdb
	if c.HeadRep {
		r.lists = h.lists
	}
	return h
}

// start runs the registrar and returns once everything that can happen has.
func (h *harness) start() {
	h.t.Helper()
	h.run()
	synctest.Wait()
	select {
	case <-h.Ready():
	default:
		h.t.Fatal("not ready")
	}
}

// run runs the registrar.
func (h *harness) run() {
	h.t.Helper()
	if h.Registrar.lists != nil {
		maps.Copy(h.lists.lists, h.lists.adopted)
		h.adopted = h.lists.Adopted()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	h.stop = cancel
	go func() { h.ended <- h.Run(ctx) }()
	h.t.Cleanup(func() { h.end(nil) })
}

// end stops the registrar for a cause, if it still runs.
func (h *harness) end(cause error) {
	h.t.Helper()
	if h.stop == nil {
		return
	}
	h.stop(cause)
	h.stop = nil
	if err := <-h.ended; err != nil {
		h.t.Errorf("Run: got %v", err)
	}
	if err := h.Close(); err != nil {
		h.t.Errorf("Close: got %v", err)
	}
}

// sleep lets time pass, that of the bubble of synctest which a harness lives in.
func (h *harness) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// change tells of other devices.
func (h *harness) change(ds ...underlay.Device) {
	h.devices.updates <- ds
	synctest.Wait()
}

// heard returns what was sent since the last call, one text for a message:
// "+NODE/LOCAL[VNIs]" for a registration, with "?" in front where it asks, and
// "-NODE/LOCAL[VNIs]" for a withdrawal, with "*" behind it where it is sent from
// whatever address the route has.
func (h *harness) heard() string {
	h.t.Helper()
	var out []string
	for _, d := range h.sent() {
		r := h.refresh(d)
		text := "+"
		switch {
		case r.Holdtime == 0:
			text = "-"
		case r.Response == vxfld.ResponseRequested:
			text = "?"
		}
		var vnis []string
		local := netip.Addr{}
		for _, v := range r.VNIs {
			vnis = append(vnis, v.VNI.String())
			if len(v.Addrs) != 1 || local.IsValid() && v.Addrs[0] != local {
				h.t.Errorf("got addresses %v, want one", v.Addrs)
			}
			local = v.Addrs[0]
		}
		if d.self != local && (text != "-" || d.self.IsValid()) {
			h.t.Errorf("sent from %s, want %s", d.self, local)
		}
		out = append(out, fmt.Sprintf("%s%d/%d%v", text, d.peer.Addr().As4()[3], local.As4()[3], vnis))
		if !d.self.IsValid() {
			out[len(out)-1] += "*"
		}
	}
	return strings.Join(out, " ")
}

// sent returns what was sent since the last call.
func (h *harness) sent() []datagram {
	h.conn.mu.Lock()
	defer h.conn.mu.Unlock()
	out := h.conn.out
	h.conn.out = nil
	return out
}

// refresh reads a message that was sent, and checks what all have in common.
func (h *harness) refresh(d datagram) *vxfld.Refresh {
	h.t.Helper()
	m, err := vxfld.Parse(d.b)
	if err != nil {
		h.t.Fatal(err)
	}
	r, ok := m.Body.(*vxfld.Refresh)
	if !ok || m.Version != vxfld.V3 || !r.Originator || d.peer.Port() != 10001 {
		h.t.Fatalf("got %+v to %s, want a registration of version 3", m, d.peer)
	}
	if r.Identifier == 0 || r.Identifier>>48 != 0 {
		h.t.Errorf("got identifier %#x, want 48 bits", r.Identifier)
	}
	return r
}

// answer sends an answer that names members of VNIs as "VNI N N N; ...", with the
// last numbers of 10.0.0.N.
func (h *harness) answer(from, text string) {
	h.t.Helper()
	h.send(from, encode(h.t, vxfld.V3, &vxfld.Refresh{Holdtime: 90, VNIs: records(text)}))
}

func records(text string) []vxfld.VNIMembers {
	var out []vxfld.VNIMembers
	for _, r := range regs(text) {
		m := vxfld.VNIMembers{VNI: r.VNI}
		if r.Local != addr("10.0.0.0") { // 0 stands for nobody
			m.Addrs = append([]netip.Addr{r.Local}, r.Nodes...)
		}
		out = append(out, m)
	}
	return out
}

func encode(tb testing.TB, v vxfld.Version, b vxfld.Body) []byte {
	tb.Helper()
	out, err := vxfld.Message{Version: v, Body: b}.Append(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// send sends any datagram.
func (h *harness) send(from string, b []byte) {
	h.conn.in <- datagram{b: b, peer: netip.AddrPortFrom(addr(from), 10001)}
	synctest.Wait()
}

// expect compares and goes on.
func (h *harness) expect(what, got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// logged counts the lines of a message.
func (h *harness) logged(message string) int {
	n := 0
	for _, e := range h.hook.AllEntries() {
		if e.Message == message {
			n++
		}
	}
	return n
}

var errUnreachable = errors.New("network is unreachable")
