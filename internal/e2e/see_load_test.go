// SPDX-License-Identifier: Apache-2.0

package e2e

// Clients that hang in the middle of an answer or a stream, and many at once:
// nobody else notices.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// While clients leave the table, a monitor and a capture unread, packets are
// copied, each once and in order, members register, and others are answered.
func TestSeeClientsThatHang(t *testing.T) {
	t.Parallel()
	const burst, rounds = 40, 30
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", "capture_rate = 100000", markerConfig(vs...), memberConfig([]vxlan.VNI{seeVNI}, vs...), bigConfig())
	for _, request := range []string{
		`{"version":1,"command":"fdb"}`,
		`{"version":1,"command":"monitor","args":{"refreshed":true}}`,
		fmt.Sprintf(`{"version":1,"command":"capture","args":{"vni":%d}}`, seeVNI),
	} {
		n.hang(request)
	}
	a := vs[1].agent(n)
	packets := 0
	for round := range rounds {
		var fs [][]byte
		for range burst {
			fs = append(fs, frame(netlab.Broadcast, packets, 1200))
			packets++
		}
		vs[0].flood(n, seeVNI, fs...)
		vs[0].flush(n, vs...)
		// In the end more than a client's buffers hold.
		a.registerMany(round)
		if s := n.status(); s.Packets < uint64(packets) {
			t.Errorf("got %d packets counted, want at least %d", s.Packets, packets)
		}
	}
	n.ctl("fdb", "-j").printed()
	stats := decoded[struct {
		VNIs []control.VNIStat `json:"vnis"`
	}](n, "stats", seeVNI.String(), "-i", "0.1")
	if len(stats.VNIs) != 1 || stats.VNIs[0].Packets != uint64(packets) || stats.VNIs[0].Copies != uint64(2*packets) || len(stats.VNIs[0].Drops) > 0 {
		t.Errorf("got %+v, want %d packets, twice as many copies, and no drops", stats.VNIs, packets)
	}
	for _, v := range vs[1:] {
		got := v.got()
		if len(got) != packets {
			t.Errorf("%s: got %d packets, want %d", v.Name, len(got), packets)
		}
		for i, g := range got {
			if number(g.inner) != i {
				t.Fatalf("%s: got packet %d at position %d", v.Name, number(g.inner), i)
			}
		}
	}
}

// registerMany registers the agent in many VNIs, with another identifier each
// round, so that there is much to be told.
func (a *agent) registerMany(round int) {
	a.lab.t.Helper()
	r := &vxfld.Refresh{Originator: true, Holdtime: 300, Identifier: uint64(round + 1)}
	for i := range 200 {
		r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: vxlan.VNI(bigFirst + i), Addrs: []netip.Addr{a.addr}})
	}
	a.send(vxfld.V3, r)
	a.ask()
}

// A hundred clients at once, as many of them streams as may be: each gets its
// whole answer and each event, and one stream more is refused.
func TestSeeHundredClients(t *testing.T) {
	t.Parallel()
	// Root has four places of its own for streams, too.
	const clients, streams, members = 100, 36, 1200
	l := newLab(t, 0)
	vs := l.vteps(2)
	var config strings.Builder
	for i := range members {
		fmt.Fprintf(&config, "vtep_membership = %s %d\n", bigAddr(i), controlVNI)
	}
	n := l.node("learning = off", markerConfig(vs...), memberConfig([]vxlan.VNI{seeVNI}, vs...), config.String())
	var es []*events
	for i := range streams {
		if i%2 == 0 {
			es = append(es, n.stream(control.CommandMonitor, control.MonitorArgs{}))
		} else {
			es = append(es, n.stream(control.CommandCapture, control.CaptureArgs{VNI: uint32(seeVNI)}))
		}
	}
	ctx := within(t)
	dial := func() *control.Client {
		c := must(control.Dial(ctx, n.file("vxsnd.sock")))(t)
		t.Cleanup(func() { c.Close() })
		return c
	}
	var refused *control.Error
	err := dial().Stream(ctx, control.CommandMonitor, control.MonitorArgs{}, func(json.RawMessage) error { return nil })
	if !errors.As(err, &refused) || refused.Code != control.CodeBusy {
		t.Errorf("got %v for one stream more, want %s", err, control.CodeBusy)
	}

	var wg sync.WaitGroup
	for i := range clients - streams {
		c := dial()
		wg.Go(func() {
			got := 0
			err := c.Call(ctx, control.CommandFDB, control.FDBArgs{VNI: new(uint32(controlVNI))}, func(data json.RawMessage) error {
				var part control.FDBPart
				err := json.Unmarshal(data, &part)
				got += len(part)
				return err
			})
			if err != nil || got != members {
				t.Errorf("client %d: got %d members and %v, want %d", i, got, err, members)
			}
		})
	}
	wantMember(t, n, vs[0], vs[1], seeVNI, true)
	vs[1].agent(n).register(seeVNI+1, 300, 9)
	wg.Wait()
	for i, e := range es {
		e.wait("an event or a packet", func(ps []json.RawMessage) bool {
			if i%2 == 1 {
				var c control.CaptureEvent
				return json.Unmarshal(ps[len(ps)-1], &c) == nil && len(c.Packets) == 1
			}
			ms := all[control.MembershipEvent](t, ps)
			return len(ms) == 1 && ms[0].VNI == uint32(seeVNI+1) && ms[0].Identifier == 9
		})
	}
}
