// SPDX-License-Identifier: Apache-2.0

package e2e

// vxrdctl asks vxrd, and reloads change what it does. See vxrd_test.go for the
// lab.

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// Each command, in each of the three formats, against what the kernel and the
// service node have.
func TestVxrdControlPrints(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(2, []*node{n}, "head_rep = yes")
	a, b := vs[0], vs[1]
	b.vxlan(110, nowhere)
	check(t, a.AddVXLAN("other", netlab.VXLAN{VNI: 105, Local: a.addr, Port: 8472}))
	a.vxlan(110, nowhere)
	a.waitFloods("vxlan110", b.addr)
	a.wantFloods("vxlan100", b.addr)
	check(t, a.AddFDB("vxlan100", everyMAC, netip.MustParseAddr("198.51.100.1")))
	// The list that is compared with the kernel says so.
	a.reload(bothNodes([]*node{n}), "head_rep = yes", "config_check_rate = 1")
	check(t, netlab.Wait(within(t), "the other's entry to be noticed", func() bool {
		ls := a.lists()
		return len(ls) == 2 && ls[0].Foreign == 1
	}))

	const head = "VNI     Local Addr    Svc Node\n===     ==========    ========\n"
	const members = "VNI     Peer Addrs\n===     ==========\n"
	const entries = "VNI     Device      Entries    Of Others\n===     ======      =======    =========\n"
	const full100 = `{"vni":100,"device":"vxlan100","index":{},"local":"192.0.2.1","service_nodes":["192.0.2.201"],"registered":true,"up":true,"registered_ago":{}}`
	const list100 = `{"vni":100,"device":"vxlan100","index":{},"members":["192.0.2.2"],"own":1,"foreign":1,"stale":false,"last_answer":{},"from":["192.0.2.201"],"managed":false}`
	tests := []struct {
		args, want string
	}{
		{"vxlans", head + "100     192.0.2.1     192.0.2.201\n110     192.0.2.1     192.0.2.201\n" +
			"\nNot registered:\n  other, VNI 105: port: the device sends to port 8472, vxlan_port is 4789\n"},
		{"vxlans 100", head + "100     192.0.2.1     192.0.2.201\n"},
		{"vxlans 9", head + "Empty\n"},
		{"vxlans -j", `{"100": ["vxlan100", "192.0.2.1", "192.0.2.201"], "110": ["vxlan110", "192.0.2.1", "192.0.2.201"]}` + "\n"},
		{"vxlans --json 100", "[\n" + full100 + "\n]\n"},
		{"peers", members + "100     192.0.2.2\n110     192.0.2.2\n"},
		{"peers 110", members + "110     192.0.2.2\n"},
		{"-j peers", `{"100": ["192.0.2.2"], "110": ["192.0.2.2"]}` + "\n"},
		{"--json peers 100", "[\n" + list100 + "\n]\n"},
		{"vxlans hrep", entries + "100     vxlan100    1          1\n110     vxlan110    1          0\n"},
		{"vxlans hrep 110 -j", `{"110": ["192.0.2.2"]}` + "\n"},
		{"get config svcnode_ip", "{\n    \"svcnode_ip\": \"192.0.2.201\"\n}\n"},
		{"get config config_check_rate -j", "{\n    \"config_check_rate\": 1\n}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) { wantText(t, a.ctl(strings.Fields(tt.args)...), tt.want) })
	}

	text := a.ctl("show")
	var full map[string]any
	check(t, json.Unmarshal([]byte(a.ctl("show", "--json")), &full))
	for k, want := range map[string]any{
		"program": "vxrd", "pid": float64(a.proc.PID()), "ready": true, "head_rep": true, "svcnode_ips": []any{"192.0.2.201"},
		"answer_from": "any", "vxfld_port": float64(ctlPort), "vxlan_port": float64(dataPort), "devices": float64(3),
		"registered": float64(2), "skipped": float64(1), "stale": false, "programmed": float64(2), "send_errors": float64(0),
	} {
		if got := full[k]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("show: got %s %v, want %v", k, got, want)
		}
	}
	for _, word := range []string{"vxrd", "192.0.2.201", fmt.Sprint(a.proc.PID()), fmt.Sprint(full["node_id"])} {
		if !strings.Contains(text, word) {
			t.Errorf("show: got %q, want it to say %s", text, word)
		}
	}
	// The service node has the registration under that identifier.
	var ids []string
	for _, e := range n.entries(vxrdVNI) {
		ids = append(ids, fmt.Sprintf("%#012x", e.Identifier))
	}
	if id := fmt.Sprint(full["node_id"]); len(ids) != 2 || !slices.Contains(ids, id) || ids[0] == ids[1] {
		t.Errorf("got identifiers %v at the service node, want two, one of them %s", ids, id)
	}
}

// Without head-end replication there are no flood lists to show.
func TestVxrdControlWithoutHeadEnd(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	n := l.serve(1)[0]
	m := l.kernelVTEP(1)
	m.vxlan(vxrdVNI, n)
	v := m.vxrd("head_rep = no")
	for args, want := range map[string]string{
		"peers": "Head-end replication is turned off on this device.\nThis command will not provide any output\n", "peers -j": "{}\n", "vxlans hrep --json": "[]\n",
	} {
		if got := v.ctl(strings.Fields(args)...); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
	if got, want := v.ctl("vxlans", "-j"), `{"100": ["vxlan100", "192.0.2.1", "192.0.2.201"]}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Options that may change while vxrd runs do so at SIGHUP, and the others say
// that they need a restart. A device without an address of its own has that of
// local_addr, or that of the route to the service node.
func TestVxrdReloads(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 105
	l := newLab(t, 0)
	n := l.serve(1)[0]
	vs := l.headEnds(2, []*node{n})
	a, b := vs[0], vs[1]
	second := netip.MustParsePrefix("192.0.2.11/24")
	check(t, a.AddAddr("eth0", second))
	check(t, a.AddVXLAN("vxlan105", netlab.VXLAN{VNI: uint32(vni)}))
	n.waitMembers(vni, a.addr)
	config := bothNodes([]*node{n})
	w := a.watchFloods()

	wantChanges(t, a.reload(config, "local_addr = 192.0.2.11"), "local_addr")
	n.waitMembers(vni, second.Addr())
	wantChanges(t, a.reload(config, "local_addr = 192.0.2.12"), "local_addr") // is nobody's
	n.waitMembers(vni)
	if got := a.ctl("vxlans"); !strings.Contains(got, "vxlan105, VNI 105: not_local: the local address 192.0.2.12 is not of this machine") {
		t.Errorf("got %q, want it to say why VNI 105 is not registered", got)
	}
	wantChanges(t, a.reload(config), "local_addr")
	n.waitMembers(vni, a.addr)

	// Rounds of 1 s become rounds of 30 s.
	wantChanges(t, a.reload(config, "refresh_rate = 3"), "refresh_rate")
	sent := a.status().Sent
	check(t, netlab.Wait(within(t), "the registration that is repeated", func() bool { return *a.status().LastRegistration >= 3 }))
	if got := a.status().Sent - sent; got > 2 {
		t.Errorf("got %d messages sent in 3 s, want 2 at most", got)
	}
	wantChanges(t, a.reload(config), "refresh_rate")
	a.answered(2)

	wantChanges(t, a.reload(config, "answer_from = 192.0.2.1/32"), "answer_from")
	a.waitStranger()
	wantChanges(t, a.reload(config, "answer_from = service"), "answer_from")
	a.answered(2)

	ls := a.reload("svcnode_ip = 192.0.2.7", "answer_from = service", "statefile = /nowhere")
	restart := values(with(ls, msgRestart), "option")
	slices.Sort(restart)
	if want := []string{"statefile", "svcnode_ip"}; !slices.Equal(restart, want) {
		t.Errorf("got %v to need a restart, want %v", restart, want)
	}
	a.configure(a.config(config, "answer_from = 192.0.2.300")...)
	if why := a.refused(); len(why) == 0 || !strings.Contains(why[0], "answer_from") {
		t.Errorf("got %q, want an error about answer_from", why)
	}
	a.answered(2)
	// None of it was a reason to touch a list.
	w.wantChanges()
	a.wantFloods("vxlan100", b.addr)
}

// waitStranger waits until an answer was not believed.
func (v *vxrd) waitStranger() {
	v.lab.t.Helper()
	before := v.status().Answers["stranger"]
	began := time.Now()
	if err := netlab.Wait(within(v.lab.t), "a stranger", func() bool { return v.status().Answers["stranger"] > before }); err != nil {
		v.lab.t.Fatalf("got none in %v: %v", time.Since(began), err)
	}
}
