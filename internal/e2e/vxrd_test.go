// SPDX-License-Identifier: Apache-2.0

package e2e

// The lab of the registration daemon: VTEPs with kernel VXLAN devices and a
// vxrd each, and one service node or two that are each other's peers. What a
// test says of the VTEPs' addresses holds for all of them.
//
//	 sn1 .201      sn2 .202
//	    │             │
//	──────────── switch ───────────── 192.0.2.0/24
//	  │ .1        │ .2         │ .3   192.0.2.N
//	vtep1       vtep2        vtep3    with vxrd, and devices vxlanVNI, which
//	                                  have 10.0.0.N/24 where there is traffic

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// vxrdVNI is the VNI of most tests.
const vxrdVNI vxlan.VNI = 100

// nowhere stands for the service node of a device that has no default
// destination.
var nowhere = &node{machine: new(machine)}

// vxrdLinks makes the names under which the program is vxrd and vxrdctl, once.
var vxrdLinks = sync.OnceValues(func() (string, error) {
	file, err := build()
	if err != nil {
		return "", err
	}
	for _, name := range []string{"vxrd", "vxrdctl"} {
		if err := os.Symlink(file, filepath.Join(binaryDir, name)); err != nil {
			return "", err
		}
	}
	return binaryDir, nil
})

// vxrdName returns the path of vxrd or vxrdctl.
func vxrdName(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(must(vxrdLinks())(t), name)
}

// A vxrd is a VTEP's vxrd, which a test starts, stops and asks as it does with a
// node.
type vxrd struct {
	*node
	stateFile string // the same for all starts
}

// idleVxrd makes the vxrd of a machine and starts nothing.
func (m *machine) idleVxrd() *vxrd {
	m.lab.t.Helper()
	return &vxrd{&node{machine: m, registers: true}, filepath.Join(m.lab.t.TempDir(), "vxrd.state")}
}

// vxrd starts vxrd on the machine. It registers each second, so that what
// changes elsewhere is known soon.
func (m *machine) vxrd(config ...string) *vxrd {
	m.lab.t.Helper()
	v := m.idleVxrd()
	v.start(config...)
	return v
}

// config returns the configuration that a test wants, and what all of them do.
func (v *vxrd) config(more ...string) []string {
	return append([]string{"statefile = " + v.stateFile, "refresh_rate = 90"}, more...)
}

// start runs vxrd and waits until it is ready.
func (v *vxrd) start(config ...string) {
	v.lab.t.Helper()
	v.startAs(exec.Command(vxrdName(v.lab.t, "vxrd")), v.config(config...)...)
}

// reload puts another configuration in force.
func (v *vxrd) reload(config ...string) []map[string]string {
	v.lab.t.Helper()
	return v.node.reload(v.config(config...)...)
}

// status returns the answer to show.
func (v *vxrd) status() (s control.Registrar) {
	v.lab.t.Helper()
	v.call(control.CommandShow, nil, func(data json.RawMessage) error { return json.Unmarshal(data, &s) })
	return s
}

// vxlans returns what is registered, and what is not.
func (v *vxrd) vxlans() []control.VXLAN { return parts[control.VXLAN](v, control.CommandVXLANs) }

// lists returns the flood lists.
func (v *vxrd) lists() []control.FloodList { return parts[control.FloodList](v, control.CommandPeers) }

// parts returns the answer to a command that comes in parts.
func parts[T any](v *vxrd, command string) (all []T) {
	v.lab.t.Helper()
	v.call(command, nil, func(data json.RawMessage) error {
		var part []T
		err := json.Unmarshal(data, &part)
		all = append(all, part...)
		return err
	})
	return all
}

// ctl runs vxrdctl, which must end well, and returns what it prints.
func (v *vxrd) ctl(args ...string) string {
	v.lab.t.Helper()
	cmd := exec.Command(vxrdName(v.lab.t, "vxrdctl"), append([]string{"-u", v.file("vxsnd.sock")}, args...)...)
	return v.runCtl(cmd).printed()
}

// vxlan gives the VTEP a VXLAN device with its own address, and the service node as
// its default destination unless that is nowhere.
func (m *machine) vxlan(vni vxlan.VNI, n *node) (dev string) {
	m.lab.t.Helper()
	return m.device(n, vni, netlab.VXLAN{})
}

// everyMAC is the MAC of entries for what a device cannot place.
var everyMAC = make(net.HardwareAddr, 6)

// floods returns where a device sends what it cannot place, sorted.
func (m *machine) floods(dev string) (to []netip.Addr) {
	m.lab.t.Helper()
	for _, e := range must(m.FDB(dev))(m.lab.t) {
		if slices.Equal(e.MAC, everyMAC) {
			to = append(to, e.VTEP)
		}
	}
	slices.SortFunc(to, netip.Addr.Compare)
	return to
}

// waitFloods waits until a device sends what it cannot place there.
func (m *machine) waitFloods(dev string, want ...netip.Addr) {
	m.lab.t.Helper()
	slices.SortFunc(want, netip.Addr.Compare)
	var got []netip.Addr
	err := netlab.Wait(within(m.lab.t), "a flood list", func() bool {
		got = m.floods(dev)
		return slices.Equal(got, want)
	})
	if err != nil {
		m.lab.t.Fatalf("%s: %s floods to %v, want %v: %v", m.Name, dev, got, want, err)
	}
}

// wantFloods fails the test unless a device sends what it cannot place there.
func (m *machine) wantFloods(dev string, want ...netip.Addr) {
	m.lab.t.Helper()
	slices.SortFunc(want, netip.Addr.Compare)
	if got := m.floods(dev); !slices.Equal(got, want) {
		m.lab.t.Errorf("%s: %s floods to %v, want %v", m.Name, dev, got, want)
	}
}

// A floodWatch takes note of what changes of flood entries.
type floodWatch struct {
	*netlab.FDBWatch
	t    *testing.T
	seen int
}

// watchFloods starts to take note of what changes of flood entries.
func (m *machine) watchFloods() *floodWatch {
	m.lab.t.Helper()
	return &floodWatch{FDBWatch: must(m.WatchFDB())(m.lab.t), t: m.lab.t}
}

// changes returns what has changed since it was called last: + or -, and the
// destination.
func (w *floodWatch) changes() (out []string) {
	w.t.Helper()
	es := must(w.Events())(w.t)
	for _, e := range es[w.seen:] {
		// Older kernels say of each removal twice, once without the destination.
		if !slices.Equal(e.MAC, everyMAC) || !e.VTEP.IsValid() {
			continue
		}
		sign := "+"
		if e.Removed {
			sign = "-"
		}
		out = append(out, sign+e.VTEP.String())
	}
	w.seen = len(es)
	return out
}

// wantChanges fails the test unless these flood entries have changed, in any
// order, and no others, since the last call.
func (w *floodWatch) wantChanges(want ...string) {
	w.t.Helper()
	got := w.changes()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("got changes of flood entries %v, want %v", got, want)
	}
}

// answered waits until vxrd has registered and been answered so often from now on.
func (v *vxrd) answered(times uint64) {
	v.lab.t.Helper()
	want := v.status().Answers["answer"] + times
	check(v.lab.t, netlab.Wait(within(v.lab.t), fmt.Sprintf("%d answers", times), func() bool {
		return v.status().Answers["answer"] >= want
	}))
}

// warnings returns the messages of warnings that vxrd has logged.
func (n *node) warnings() (msgs []string) {
	for _, l := range lines(n.proc.Output()) {
		if l["level"] == "warning" {
			msgs = append(msgs, l["msg"])
		}
	}
	return msgs
}

// waitDevice waits until a VNI is registered for a device.
func (v *vxrd) waitDevice(vni vxlan.VNI, dev string) {
	v.lab.t.Helper()
	check(v.lab.t, netlab.Wait(within(v.lab.t), fmt.Sprintf("VNI %s of %s", vni, dev), func() bool {
		return slices.ContainsFunc(v.vxlans(), func(x control.VXLAN) bool {
			return x.VNI == uint32(vni) && x.Device == dev && x.Registered
		})
	}))
}
