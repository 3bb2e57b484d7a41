// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// What a node says of itself over its management socket.

// call runs a command and hands each part of its answer to each.
func (n *node) call(command string, args any, each func(data json.RawMessage) error) {
	n.lab.t.Helper()
	ctx := within(n.lab.t)
	c := must(control.Dial(ctx, n.file("vxsnd.sock")))(n.lab.t)
	defer c.Close()
	check(n.lab.t, c.Call(ctx, command, args, each))
}

// status returns the answer to show.
func (n *node) status() (s control.Status) {
	n.lab.t.Helper()
	n.call(control.CommandShow, nil, func(data json.RawMessage) error { return json.Unmarshal(data, &s) })
	return s
}

// entries returns the entries of a VNI.
func (n *node) entries(vni vxlan.VNI) (es []control.FDBEntry) {
	n.lab.t.Helper()
	number := uint32(vni)
	n.call(control.CommandFDB, control.FDBArgs{VNI: &number}, func(data json.RawMessage) error {
		var part control.FDBPart
		err := json.Unmarshal(data, &part)
		es = append(es, part...)
		return err
	})
	return es
}

// waitMembers waits until the members of a VNI are those given, in any order,
// whatever vouches for them, and the node floods to them.
func (n *node) waitMembers(vni vxlan.VNI, want ...netip.Addr) {
	n.lab.t.Helper()
	slices.SortFunc(want, netip.Addr.Compare)
	var got []netip.Addr
	err := netlab.Wait(within(n.lab.t), "members", func() bool {
		got = got[:0]
		for _, e := range n.entries(vni) {
			got = append(got, e.Address)
		}
		slices.SortFunc(got, netip.Addr.Compare)
		got = slices.Compact(got)
		return slices.Equal(got, want)
	})
	if err != nil {
		n.lab.t.Fatalf("vni %s: got members %v, want %v: %v", vni, got, want, err)
	}
	n.settled()
}

// Each entry tells who vouches for it, for how long, and when that was last
// heard of.
func TestTableTellsWhoVouchesForMembers(t *testing.T) {
	t.Parallel()
	const vni vxlan.VNI = 90
	l := engineRaw.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("vxlan_port = 4789", "holdtime = 60", markerConfig(vs...), memberConfig([]vxlan.VNI{vni}, vs[0]))
	vs[1].agent(n).register(vni, 300, 7)
	vs[2].flood(n, vni, frame(netlab.Broadcast, 1, 64))
	n.waitMembers(vni, vs[0].addr, vs[1].addr, vs[2].addr)

	want := []struct {
		source   string
		holdtime int64 // 0 for one that does not age
		id       uint64
	}{{"configuration", 0, 0}, {"registration", 300, 7}, {"data", 60, 0}}
	for i, e := range n.entries(vni) {
		w := want[i]
		if e.Address != vs[i].addr || e.Source != w.source || e.Identifier != w.id || e.VNI != uint32(vni) {
			t.Errorf("got entry %+v, want %s of %s with identifier %d", e, w.source, vs[i].addr, w.id)
		}
		switch {
		case w.holdtime == 0 && (e.Seconds != nil || e.LastHeard != nil):
			t.Errorf("got entry %+v, want one that does not age", e)
		case w.holdtime == 0:
		case e.Seconds == nil || *e.Seconds > w.holdtime || *e.Seconds < w.holdtime-int64(patience.Seconds()):
			t.Errorf("got entry %+v, want about %d seconds left", e, w.holdtime)
		case e.LastHeard == nil || *e.LastHeard+*e.Seconds > w.holdtime+1:
			t.Errorf("got entry %+v, want it heard of %d seconds before it ends", e, w.holdtime)
		}
	}
	if s := n.status(); !s.Ready || s.Engine != "raw" || s.PID != n.proc.PID() || s.Packets == 0 || s.BySource["data"] == 0 {
		t.Errorf("got status %+v, want that of a node that floods", s)
	}
}
