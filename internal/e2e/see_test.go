// SPDX-License-Identifier: Apache-2.0

package e2e

// What an operator sees of a node that floods: each command, as text and as JSON,
// against what was sent to it.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N: registers, is static, is learned

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// seeVNI is where the traffic of these tests is.
const seeVNI vxlan.VNI = 20

// decoded returns what vxsndctl prints as JSON.
func decoded[T any](n *node, args ...string) (v T) {
	n.lab.t.Helper()
	text := n.ctl(append([]string{"--json"}, args...)...).printed()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		n.lab.t.Errorf("%v: %v in\n%s", args, err, text)
	}
	return v
}

// An events is a stream of a node's, as it comes.
type events struct {
	t    *testing.T
	stop func() // ends it, and waits for that

	mu   sync.Mutex // guards what follows
	data []json.RawMessage
	end  error // why it ended
}

// stream begins a stream and waits for its first piece. It ends with the test.
func (n *node) stream(command string, args any) *events {
	t := n.lab.t
	t.Helper()
	e := &events{t: t}
	c := must(control.Dial(within(t), n.file("vxsnd.sock")))(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := c.Stream(ctx, command, args, func(data json.RawMessage) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.data = append(e.data, append(json.RawMessage(nil), data...))
			return nil
		})
		e.mu.Lock()
		defer e.mu.Unlock()
		e.end = err
	}()
	e.stop = func() { cancel(); <-done; c.Close() }
	t.Cleanup(e.stop)
	e.wait("the beginning of a stream", func(ps []json.RawMessage) bool { return len(ps) > 0 })
	return e
}

// wait waits until the pieces so far meet a condition.
func (e *events) wait(what string, cond func(pieces []json.RawMessage) bool) {
	e.t.Helper()
	check(e.t, netlab.Wait(within(e.t), what, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !cond(e.data) && e.end != nil && !errors.Is(e.end, context.Canceled) {
			e.t.Fatalf("%s: the stream ended: %v", what, e.end)
		}
		return cond(e.data)
	}))
}

// all returns the elements of pieces that are lists.
func all[T any](t *testing.T, pieces []json.RawMessage) (out []T) {
	t.Helper()
	for _, p := range pieces {
		var part []T
		check(t, json.Unmarshal(p, &part))
		out = append(out, part...)
	}
	return out
}

// watched adds a node with three VTEPs: one that is registered, one that is static,
// and one that is learned, all in seeVNI. It has got packets frames from the last.
func (l *lab) watched(packets int, config ...string) (n *node, vs []*machine) {
	l.t.Helper()
	vs = l.vteps(3)
	n = l.node(append([]string{"holdtime = 60", markerConfig(vs...), memberConfig([]vxlan.VNI{seeVNI}, vs[1])}, config...)...)
	vs[0].agent(n).register(seeVNI, 300, 7)
	for i := range packets {
		vs[2].flood(n, seeVNI, frame(netlab.Broadcast, i, 100))
	}
	vs[2].settle(n, vs[0])
	members := []netip.Addr{vs[0].addr, vs[1].addr, vs[2].addr}
	if packets == 0 {
		members = members[:2]
	}
	n.waitMembers(seeVNI, members...)
	return n, vs
}

// space is what JSON may be written with.
var space = regexp.MustCompile(`\s+`)

// Every command that only looks, in each of its forms.
func TestSeeCommands(t *testing.T) {
	t.Parallel()
	const packets = 5
	n, _ := newLab(t, 0).watched(packets)
	lines := func(ls ...string) []string { return ls }
	tests := []struct {
		args string
		text []string // a regular expression for each of the lines that must be there
		json string   // one for the JSON, without its blanks
	}{
		{"show", lines(`Protocol version: 3`, `.*Ready: +yes`, `.*Received: +\d+ packets, .*`), `"ready":true,.*"entries_by_source":{.*"data":1`},
		{"show detail", lines(`.*Learned: +1 member.*`, `.*By source: .*data=1.*`), `"learned":1,`},
		{"peers", lines(`.*[Nn]o peers.*`), `^\[\]$`},
		{"fdb 20", lines(
			`20 +192\.0\.2\.1 +\d+ +registration +7 +\d+s`,
			` +192\.0\.2\.2 +STATIC +configuration +- +-`,
			` +192\.0\.2\.3 +\d+ +data +- +\d+s`), `"vni":20,"address":"192.0.2.1","source":"registration","seconds":\d+,"identifier":"7"`},
		{"fdb --source data", lines(`20 +192\.0\.2\.3 +\d+ +data .*`), `^\[{"vni":20,"address":"192.0.2.3"[^}]*}\]$`},
		{"fdb --vtep 192.0.2.2/31 20", lines(`20 +192\.0\.2\.2 .*`, ` +192\.0\.2\.3 .*`), `^\[{[^}]*"192.0.2.2"[^}]*},{[^}]*"192.0.2.3"[^}]*}\]$`},
		{"fdb 20 debug", lines(`VNI .*NodeId.*`), `"address":"192.0.2.1"`},
		{"fdb --source operator", lines(`Empty`), `^\[\]$`},
		{"vtep 192.0.2.3", lines(fmt.Sprintf(`20 +data +\d+ .* %d .*`, packets)),
			fmt.Sprintf(`"vni":20,"sources":\[{.*"source":"data".*"packets":%d,"bytes":%d,"copies":%d,`, packets, packets*108, 2*packets)},
		{"vtep 192.0.2.99", lines(`192\.0\.2\.99 is in no VXLAN.*`), `^\[\]$`},
		{"stats -i 0.1", lines(fmt.Sprintf(`20 +3 .* %d +%d .*`, packets, 2*packets), `total .*`), `"total":{.*"vnis":\[{"vni":20,`},
		{"stats -i 0.1 20", lines(fmt.Sprintf(`20 +3 .* %d +%d .*`, packets, 2*packets)), fmt.Sprintf(`"members":3,"packets":%d,`, packets)},
		{"explain 20 192.0.2.1", lines(`A packet from 192\.0\.2\.1 in VNI 20 is flooded: 2 copies.*`, `192\.0\.2\.1 +no +sender .*`, `192\.0\.2\.2 +yes +copy .*`),
			`"flooded":true,"rule":"flooded",.*"copies":2,"destinations":\[{"address":"192.0.2.1","copy":false,"rule":"sender"`},
		{"explain 20 192.0.2.1 --ttl 1", lines(`.*is not flooded \(ttl\).*`), `"flooded":false,"rule":"ttl"`},
		{"explain 21 192.0.2.1", lines(`.*is not flooded \(no_member\).*`, `Learning: .*becomes a member.*`), `"rule":"no_member","text":"[^"]*","learned":true`},
		{"explain 20 192.0.2.254", lines(`.*is not flooded \(own\).*`), `"rule":"own"`},
		{"get config holdtime", lines(`.*60.*`), `"name":"holdtime","value":"60","default":"90","reload":true`},
		{"get config", lines(`.*"metrics_max_vnis": 1000,?`), `"name":"workers","value":"1"`},
		{"top -i 0.2 -n 1", lines(`.*20 +3 .*`), `"vni":20,"members":3,`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Fields(tt.args)
			text := n.ctl(args...).printed()
			for _, line := range tt.text {
				if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
					t.Errorf("got\n%s\nwant a line %s", text, line)
				}
			}
			if strings.ContainsRune(text, '\x1b') {
				t.Errorf("got %q, want no colour in a pipe", text)
			}
			full := n.ctl(append(args, "--json")...).printed()
			short := space.ReplaceAllString(full, "")
			if !json.Valid([]byte(full)) || !regexp.MustCompile(tt.json).MatchString(short) {
				t.Errorf("got\n%s\nwant JSON with %s", full, tt.json)
			}
			if deployed := n.ctl(append(args, "-j")...).printed(); !json.Valid([]byte(deployed)) {
				t.Errorf("got %q with -j, want JSON", deployed)
			}
		})
	}
}

// What each command is told wrong ends with status 2, or 1 where the daemon says
// so, and a line with a hint.
func TestSeeCommandsRefuse(t *testing.T) {
	t.Parallel()
	n, _ := newLab(t, 0).watched(0, "learning = off")
	tests := []struct {
		args   string
		status int
		want   string
	}{
		{"fdb --source datum", 2, "datum"},
		{"fdb --vtep 192.0.2.0/33", 2, "192.0.2.0/33"},
		{"explain 20", 2, "explain: SOURCE is missing"},
		{"explain 16777216 192.0.2.1", 2, "16777216"},
		{"explain 20 192.0.2.1 --ttl 256", 2, "256"},
		{"vtep vtep1", 2, `"vtep1" is not an address`},
		{"stat", 2, `unknown command "stat"`},
		{"capture 20 -w - --json", 2, "-w"},
		{"fdb add 20 127.0.0.1", 1, "127.0.0.1 cannot be the address of a VTEP"},
		{"fdb del 20 192.0.2.2", 1, "configuration"},
		{"fdb file /nonexistent", 1, "/nonexistent"},
		{"get config holdtim", 1, "holdtim"},
		{"set config workers 2", 1, "workers"},
		{"set config holdtime 0", 1, "holdtime"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			c := n.ctl(strings.Fields(tt.args)...)
			status := must(c.Wait(within(t)))(t)
			said := c.stderr.String()
			if status != tt.status || !strings.HasPrefix(said, "vxsndctl: ") || !strings.Contains(said, tt.want) {
				t.Errorf("got status %d and %q, want %d and %q", status, said, tt.status, tt.want)
			}
			if got := c.Output(); got != "" {
				t.Errorf("got %q on standard output, want nothing", got)
			}
		})
	}
}

// A monitor tells of members as they come and go, and why.
func TestSeeMonitor(t *testing.T) {
	t.Parallel()
	n, vs := newLab(t, 0).watched(0)
	e := n.stream(control.CommandMonitor, control.MonitorArgs{})
	text, lines := n.ctl("monitor", seeVNI.String()), n.ctl("monitor", "--json")
	// A stream that is there shows what happens from then on: have something
	// happen until both do.
	a := vs[1].agent(n)
	id := uint64(100)
	check(t, netlab.Wait(within(t), "both monitors", func() bool {
		id++
		a.register(seeVNI, 300, id)
		a.register(seeVNI, 0, id)
		return strings.Contains(text.Output(), "removed") && strings.Contains(lines.Output(), `"event":"removed"`)
	}))
	n.ctl("fdb", "add", "21", "192.0.2.1").printed()
	n.ctl("fdb", "del", "21", "192.0.2.1").printed()
	var got []control.MembershipEvent
	e.wait("events of the operator", func(ps []json.RawMessage) bool {
		got = nil
		for _, m := range all[control.MembershipEvent](t, ps) {
			if m.Source == "operator" {
				got = append(got, m)
			}
		}
		return len(got) >= 2
	})
	for i, want := range []string{control.EventAdded, control.EventRemoved} {
		if m := got[i]; m.Event != want || m.VNI != 21 || m.Address != vs[0].addr || m.Time.IsZero() {
			t.Errorf("event %d: got %+v, want 192.0.2.1 %s in VNI 21", i, m, want)
		}
	}
	for _, c := range []*ctl{text, lines} {
		check(t, c.Signal(os.Interrupt))
		c.printed()
	}
	if strings.Contains(text.Output(), " 21 ") {
		t.Errorf("got %q, want VNI %s alone", text.Output(), seeVNI)
	}
}
