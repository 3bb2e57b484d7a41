// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/control"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// call runs a command and returns what it sends.
func call[T any](h *harness, name, args string) (parts []T, err error) {
	h.t.Helper()
	cmds := h.Commands(func() control.Process { return control.Process{Program: "vxrd", PID: 1} })
	i := slices.IndexFunc(cmds, func(c control.Command) bool { return c.Name == name })
	if i < 0 {
		h.t.Fatalf("no command %s", name)
	}
	err = cmds[i].Run(context.Background(), control.NewCall(json.RawMessage(args), func(v any) error {
		p, ok := v.(T)
		if !ok {
			h.t.Fatalf("%s: got %T", name, v)
		}
		parts = append(parts, p)
		return nil
	}, nil))
	return parts, err
}

func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100", "10.0.0.101")
		c.NodeID, c.SrcIP = 0xabc, addr("10.0.0.1")
		h := newHarness(t, c,
			device("a", 1, ""), device("b", 1, ""), with(device("c", 2, ""), func(d *underlay.Device) { d.Up = false }), device("d", 3, "10.0.0.100"))
		h.start()
		h.answer("10.0.0.100", "1 1 2 3")
		h.answer("10.0.0.101", "1 1 3 4")
		h.sleep(5 * time.Second)
		equate := cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

		five := int64(5)
		four := int64(4)
		shows, err := call[*control.Registrar](h, control.CommandShow, "")
		if err != nil || len(shows) != 1 {
			t.Fatalf("show: got %d answers, %v", len(shows), err)
		}
		s := shows[0]
		want := control.Registrar{
			Process: control.Process{Program: "vxrd", PID: 1},
			Ready:   true, HeadRep: true, NodeID: "0x000000000abc", SvcnodeIPs: addrs("10.0.0.100", "10.0.0.101"),
			AnswerFrom: "any", SrcIP: addr("10.0.0.1"), VxfldPort: 10001, VXLANPort: 4789,
			Devices: 4, Registered: 2, Skipped: 2, LastRegistration: &four, LastAnswer: &five, Sent: 4, Programmed: 3,
			Answers: map[string]uint64{
				"answer": 2, "empty": 0, "not_asked": 0, "stranger": 0, "malformed": 0, "not_refresh": 0, "registration": 0, "unknown_vni": 0, "no_own": 0,
			},
		}
		if diff := cmp.Diff(&want, s, equate); diff != "" {
			t.Errorf("show (-want +got):\n%s", diff)
		}

		nodes := addrs("10.0.0.100", "10.0.0.101")
		vxlans, err := call[[]control.VXLAN](h, control.CommandVXLANs, "")
		if err != nil || len(vxlans) != 1 {
			t.Fatalf("vxlans: got %d parts, %v", len(vxlans), err)
		}
		wantVXLANs := []control.VXLAN{
			{VNI: 1, Device: "a", Index: 1001, Local: addr("10.0.0.1"), ServiceNodes: nodes, Registered: true, Up: true, RegisteredAgo: &four},
			{VNI: 1, Device: "b", Index: 1001, Local: addr("10.0.0.1"), ServiceNodes: nodes, Up: true, Reason: "twice: the device a registers this VNI"},
			{VNI: 2, Device: "c", Index: 1002, Local: addr("10.0.0.1"), ServiceNodes: nodes, Reason: "down: the device is down"},
			{VNI: 3, Device: "d", Index: 1003, Local: addr("10.0.0.1"), ServiceNodes: nodes, Registered: true, Up: true, RegisteredAgo: &four},
		}
		if diff := cmp.Diff(wantVXLANs, vxlans[0], equate); diff != "" {
			t.Errorf("vxlans (-want +got):\n%s", diff)
		}
		if one, err := call[[]control.VXLAN](h, control.CommandVXLANs, `{"vni":2}`); err != nil || len(one) != 1 || len(one[0]) != 1 || one[0][0].Device != "c" {
			t.Errorf("vxlans of one vni: got %+v, %v", one, err)
		}

		lists, err := call[[]control.FloodList](h, control.CommandPeers, `{"vni":1}`)
		if err != nil || len(lists) != 1 {
			t.Fatalf("peers: got %d parts, %v", len(lists), err)
		}
		wantLists := []control.FloodList{{
			VNI: 1, Device: "a", Index: 1001, Members: addrs("10.0.0.2", "10.0.0.3", "10.0.0.4"), Own: 3, LastAnswer: &five, From: nodes,
		}}
		if diff := cmp.Diff(wantLists, lists[0], equate); diff != "" {
			t.Errorf("peers (-want +got):\n%s", diff)
		}
		if got := h.Status(); got != "registered 2 VNIs of 4 devices with 2 service nodes, 3 members, 2 skipped" {
			t.Errorf("status: got %q", got)
		}
		h.Summary()
		if got := h.logged("vxlans: registered") + h.logged("vxlans: skipped"); got != 4 {
			t.Errorf("summary: got %d lines, want 4", got)
		}
		if err := h.Alive(); err != nil {
			t.Errorf("alive: got %v", err)
		}
		h.busy.Store(time.Now().Add(-time.Minute).UnixNano())
		if h.Alive() == nil {
			t.Error("stuck for a minute: got no error")
		}
	})
}

func TestListWarnings(t *testing.T) {
	key := func(vni vxlan.VNI) headend.Key { return headend.Key{Device: "vxlan" + vni.String(), VNI: vni} }
	got := listWarnings(map[headend.Key]headend.Status{
		key(1): {Wanted: 1}, key(2): {Problem: "disk full"}, key(3): {Problem: "no space"}, key(4): {Managed: true},
	})
	want := []string{
		"2 flood lists, the first of vxlan2 (VNI 2): disk full",
		"flood list of vxlan4 (VNI 4): left alone, another daemon manages the device (hrep_devices)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCommandsRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, testConfig("10.0.0.100"))
		h.start()
		for _, tt := range []struct{ command, args, want string }{
			{control.CommandVXLANs, `{"vni":16777216}`, "vni 16777216 is out of range 0..16777215"},
			{control.CommandPeers, `{"vni":16777216}`, "vni 16777216 is out of range 0..16777215"},
			{control.CommandVXLANs, `{"vin":1}`, "vin"},
			{control.CommandShow, `{"vni":1}`, "vni"},
		} {
			_, err := call[any](h, tt.command, tt.args)
			var e *control.Error
			if !errors.As(err, &e) || e.Code != control.CodeBadArgument || !strings.Contains(e.Text, tt.want) {
				t.Errorf("%s %s: got %v, want a bad argument with %q", tt.command, tt.args, err, tt.want)
			}
		}
	})
}

func TestLongAnswersComeInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds []underlay.Device
		for vni := range vxlan.VNI(control.MaxPart + 1) {
			ds = append(ds, device(fmt.Sprintf("d%05d", vni), vni, ""))
		}
		h := newHarness(t, testConfig("10.0.0.100"), ds...)
		h.run()
		<-h.Ready()
		vxlans, err := call[[]control.VXLAN](h, control.CommandVXLANs, "")
		if err != nil || len(vxlans) != 2 || len(vxlans[0]) != control.MaxPart || len(vxlans[1]) != 1 {
			t.Errorf("vxlans: got %d parts, %v", len(vxlans), err)
		}
		lists, err := call[[]control.FloodList](h, control.CommandPeers, "")
		if err != nil || len(lists) != 2 {
			t.Errorf("peers: got %d parts, %v", len(lists), err)
		}
	})
}

func TestNoPeersWithoutHeadEndReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig("10.0.0.100")
		c.HeadRep = false
		h := newHarness(t, c, device("a", 1, ""))
		h.start()
		if lists, err := call[[]control.FloodList](h, control.CommandPeers, ""); err != nil || len(lists) != 0 {
			t.Errorf("got %+v, %v, want none", lists, err)
		}
	})
}

// A device is managed as a whole, also where lists of it never had a member.
func TestManagedDevicesAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := with(device("a", 0, ""), func(d *underlay.Device) {
			d.External, d.VNIs = true, []underlay.DeviceVNI{{VNI: 1}, {VNI: 2}}
		})
		h := newHarness(t, testConfig("10.0.0.100"), many, device("b", 3, ""))
		h.start()
		h.answer("10.0.0.100", "1 1 2; 3 1 2")
		h.lists.mu.Lock()
		h.lists.managed = map[string]bool{"a": true}
		h.lists.mu.Unlock()
		lists, err := call[[]control.FloodList](h, control.CommandPeers, "")
		if err != nil || len(lists) != 1 || len(lists[0]) != 3 {
			t.Fatalf("got %+v, %v, want 3 lists", lists, err)
		}
		for _, l := range lists[0] {
			if want := l.Device == "a"; l.Managed != want {
				t.Errorf("vni %d: got managed %v, want %v", l.VNI, l.Managed, want)
			}
		}
	})
}
