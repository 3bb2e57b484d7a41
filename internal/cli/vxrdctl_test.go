// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"vxsnd/internal/control"
)

func cannedRegistrar() control.Registrar {
	sent, answered := int64(3), int64(124)
	return control.Registrar{
		Process: cannedProcess("vxrd"),
		Ready:   true, HeadRep: true, NodeID: "0x3c1f00000001",
		SvcnodeIPs: []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.20")},
		AnswerFrom: "service 10.0.0.0/24", SrcIP: netip.MustParseAddr("10.2.1.1"),
		VxfldPort: 10001, VXLANPort: 4789, VRF: "blue",
		Devices: 5, Registered: 3, Skipped: 3, LastRegistration: &sent, LastAnswer: &answered, Stale: true,
		Sent: 1234, SendErrors: 2, Answers: map[string]uint64{"answer": 1000, "stranger": 4, "malformed": 0}, LeftOut: 6, Programmed: 5,
		Warnings: []string{"the service nodes are silent", "vxlan10 (VNI 10): its remote address is a service node\nand it has a list"},
	}
}

func cannedVXLANs() []control.VXLAN {
	ago := int64(3)
	local, other := netip.MustParseAddr("10.2.1.1"), netip.MustParseAddr("10.2.1.100")
	nodes := []netip.Addr{netip.MustParseAddr("10.2.1.3")}
	both := append(nodes, netip.MustParseAddr("100.100.100.100"))
	return []control.VXLAN{
		{Device: "vxlan0", Index: 9, Reason: "no_vni: the device carries no VNI", Up: true},
		{VNI: 10, Device: "vxlan10", Index: 4, Local: local, ServiceNodes: nodes, Registered: true, Up: true, RegisteredAgo: &ago},
		{VNI: 10, Device: "vxlan10b", Index: 8, Local: local, ServiceNodes: nodes, Reason: "twice: the device vxlan10 registers this VNI", Up: true},
		{VNI: 30, Device: `vx"30`, Index: 5, Local: other, ServiceNodes: both, Registered: true, Up: true, RegisteredAgo: &ago},
		{VNI: 31, Device: "vxlan31", Index: 6, Reason: "down: the device is down"},
		{VNI: 16777215, Device: "vxlan2000", Index: 7, Local: local, ServiceNodes: nodes, Registered: true, Up: true, RegisteredAgo: &ago},
	}
}

func cannedLists() []control.FloodList {
	ago := int64(5)
	addrs := func(text ...string) (as []netip.Addr) {
		for _, s := range text {
			as = append(as, netip.MustParseAddr(s))
		}
		return as
	}
	return []control.FloodList{
		{VNI: 10, Device: "vxlan10", Index: 4, Members: addrs("10.2.1.2", "10.2.1.4"), Own: 2, LastAnswer: &ago, From: addrs("10.2.1.3")},
		{VNI: 30, Device: `vx"30`, Index: 5, Members: []netip.Addr{}, Stale: true},
		{VNI: 2000, Device: "vxlan2000", Index: 7, Members: addrs("10.2.1.2", "10.2.1.4", "10.2.1.100"), Own: 2, Foreign: 1, Stale: true,
			Problem: "10.2.1.100: no space left on device\n10.2.1.4: the same"},
		{VNI: 16777215, Device: "vxlan9", Index: 8, Members: addrs("10.2.1.2"), Managed: true},
	}
}

// cannedRegistrarCommands answer with two elements a part.
func cannedRegistrarCommands(s control.Registrar, vxlans []control.VXLAN, lists []control.FloodList) []control.Command {
	return append([]control.Command{
		{Name: control.CommandShow, Run: func(_ context.Context, call *control.Call) error {
			return call.Send(&s)
		}},
		{Name: control.CommandVXLANs, Run: inParts(vxlans, func(v control.VXLAN) uint32 { return v.VNI })},
		{Name: control.CommandPeers, Run: inParts(lists, func(l control.FloodList) uint32 { return l.VNI })},
	}, cannedConfig())
}

func inParts[T any](all []T, vni func(T) uint32) func(context.Context, *control.Call) error {
	return func(_ context.Context, call *control.Call) error {
		var a control.VNIArgs
		if err := control.DecodeArgs(call.Args, &a); err != nil {
			return err
		}
		wanted := slices.DeleteFunc(slices.Clone(all), func(v T) bool { return a.VNI != nil && *a.VNI != vni(v) })
		for part := range slices.Chunk(wanted, 2) {
			if err := call.Send(part); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestVxrdctlScript runs vxrdctl as a user does, against daemons of all sorts.
func TestVxrdctlScript(t *testing.T) {
	runCtlScripts(t, "testdata/vxrdctl", map[string]func(path string) (func(), error){
		"full": func(path string) (func(), error) {
			return serveControl(path, cannedRegistrarCommands(cannedRegistrar(), cannedVXLANs(), cannedLists()))
		},
		"plain": func(path string) (func(), error) {
			s := control.Registrar{
				Process: control.Process{Program: "vxrd", Version: "devel", PID: 1}, AnswerFrom: "any", VxfldPort: 10001, VXLANPort: 4789,
			}
			return serveControl(path, cannedRegistrarCommands(s, nil, nil))
		},
		"empty": func(path string) (func(), error) {
			return serveControl(path, cannedRegistrarCommands(control.Registrar{HeadRep: true, AnswerFrom: "any"}, nil, nil))
		},
		"vxsnd": func(path string) (func(), error) {
			return serveControl(path, cannedCommands(cannedStatus(), cannedPeers(), cannedFDB(), 3))
		},
		"odd":  func(path string) (func(), error) { return saying(path, `{"version":1,"data":7}`+"\n") },
		"mute": func(path string) (func(), error) { return saying(path, `{"version":1,"end":true}`+"\n") },
	})
}

func TestAnOutputOfVxrdctlThatFailsIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, cannedRegistrarCommands(control.Registrar{}, cannedVXLANs(), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	broken := errors.New("no space")
	for _, args := range [][]string{{"show"}, {"vxlans"}, {"vxlans", "-j"}, {"vxlans", "--json"}, {"peers"}, {"get", "config"}} {
		if err := vxrdctl.run(append(args, "-u", path), full{broken}, io.Discard); !errors.Is(err, broken) {
			t.Errorf("%q: got %v, want %v", args, err, broken)
		}
	}
}
