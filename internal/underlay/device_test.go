// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/logging"
	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// A machine with one link, whose VXLAN devices are followed:
//
//	machine eth0 192.0.2.1/24 ──── other 192.0.2.2
type deviceRig struct {
	*netlab.Namespace
	lab   *netlab.Lab
	other *netlab.Namespace
	d     *underlay.Devices
	told  chan []underlay.Device
}

const receiveBuffer = 1 << 20

var discard = logging.Discard()

func newDeviceRig(t *testing.T) *deviceRig {
	t.Helper()
	r := idleDeviceRig(t, receiveBuffer)
	r.run(t, func([]underlay.Device) {})
	return r
}

// idleDeviceRig follows nothing yet.
func idleDeviceRig(t *testing.T, buffer int) *deviceRig {
	t.Helper()
	l := netlab.Test(t)
	r := &deviceRig{lab: l, told: make(chan []underlay.Device, 1000)}
	r.Namespace = must(l.Namespace("machine"))(t)
	r.other = must(l.Namespace("other"))(t)
	check(t, netlab.Veth(r.Namespace, "eth0", r.other, "eth0", 0))
	check(t, r.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	check(t, r.Do(func() (err error) {
		r.d, err = underlay.OpenDevicesWithBuffer(discard, buffer)
		return err
	}))
	t.Cleanup(r.d.Close)
	return r
}

// run follows devices; before is called with what is told, ahead of the test.
func (r *deviceRig) run(t *testing.T, before func([]underlay.Device)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- r.d.Run(ctx, func(ds []underlay.Device) {
			before(ds)
			r.told <- ds
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// want waits until the devices that were told last are these, in the form of
// show, and compares with a fresh listing.
func (r *deviceRig) want(t *testing.T, want ...string) {
	t.Helper()
	r.wantThat(t, strings.Join(want, "\n"), func(ds []underlay.Device) bool { return slices.Equal(show(ds), want) })
	if got := show(must(r.d.List())(t)); !slices.Equal(got, want) {
		t.Fatalf("listed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *deviceRig) wantThat(t *testing.T, what string, ok func([]underlay.Device) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var got []underlay.Device
	for {
		select {
		case got = <-r.told:
			if ok(got) {
				return
			}
		case <-deadline:
			t.Fatalf("got:\n%s\nwant:\n%s", strings.Join(show(got), "\n"), what)
		}
	}
}

// show puts a device into one line without its index, and what is not usual alone.
func show(ds []underlay.Device) []string {
	var out []string
	for _, d := range ds {
		s := d.Name
		for i := 0; i < len(d.VNIs); i++ {
			v, first := d.VNIs[i], d.VNIs[i].VNI
			for i+1 < len(d.VNIs) && d.VNIs[i+1].VNI == d.VNIs[i].VNI+1 && d.VNIs[i+1].Remote == v.Remote {
				i++
			}
			s += fmt.Sprint(" ", first)
			if last := d.VNIs[i].VNI; last != first {
				s += fmt.Sprint("-", last)
			}
			if v.Remote.IsValid() {
				s += fmt.Sprint(">", v.Remote)
			}
		}
		if d.Local.IsValid() {
			s += " local " + d.Local.String()
		}
		for _, f := range []struct {
			on   bool
			name string
		}{
			{d.Port != 4789, fmt.Sprint("port ", d.Port)},
			{d.External, "external"},
			{d.Elsewhere, "elsewhere"},
			{!d.Up, "down"},
			{d.VRF != "", "vrf " + d.VRF},
			{d.Index == 0, "no index"},
		} {
			if f.on {
				s += " " + f.name
			}
		}
		out = append(out, s)
	}
	return out
}

func TestDevicesAreFollowed(t *testing.T) {
	r := newDeviceRig(t)
	r.want(t)
	local, remote := addr("192.0.2.1"), addr("192.0.2.2")
	check(t, r.AddVXLAN("vx5", netlab.VXLAN{VNI: 5, Local: local}))
	r.want(t, "vx5 5 local 192.0.2.1")
	check(t, r.AddVXLAN("vx4", netlab.VXLAN{VNI: 4, Remote: addr("239.1.1.1"), Device: "eth0", Port: 8472}))
	check(t, r.AddVXLAN("vx6", netlab.VXLAN{VNI: 1<<24 - 1, Local: addr("2001:db8::1"), Remote: addr("2001:db8::2"), Port: 4790}))
	r.want(t, "vx4 4>239.1.1.1 port 8472", "vx5 5 local 192.0.2.1", "vx6 16777215>2001:db8::2 local 2001:db8::1 port 4790")
	check(t, r.DeleteLink("vx6"))
	check(t, r.DeleteLink("vx4"))
	r.want(t, "vx5 5 local 192.0.2.1")

	check(t, r.ChangeVXLAN("vx5", local, remote))
	r.want(t, "vx5 5>192.0.2.2 local 192.0.2.1")
	check(t, r.ChangeVXLAN("vx5", addr("192.0.2.9"), remote))
	r.want(t, "vx5 5>192.0.2.2 local 192.0.2.9")
	check(t, r.SetDown("vx5"))
	r.want(t, "vx5 5>192.0.2.2 local 192.0.2.9 down")
	check(t, r.Rename("vx5", "new"))
	r.want(t, "new 5>192.0.2.2 local 192.0.2.9 down")
	check(t, r.SetUp("new"))
	r.want(t, "new 5>192.0.2.2 local 192.0.2.9")

	// Made again, it is another.
	before := must(r.d.List())(t)[0].Index
	check(t, r.DeleteLink("new"))
	check(t, r.AddVXLAN("new", netlab.VXLAN{VNI: 5, Local: addr("192.0.2.9"), Remote: remote}))
	r.wantThat(t, "another index", func(ds []underlay.Device) bool { return len(ds) == 1 && ds[0].Index != before })
}

// The device stays up where its underlay link goes down: the kernel may send
// another way. It goes where the link goes away.
func TestUnderlayLinkOfADevice(t *testing.T) {
	r := newDeviceRig(t)
	check(t, r.AddVXLAN("vx5", netlab.VXLAN{VNI: 5, Device: "eth0"}))
	r.want(t, "vx5 5")
	check(t, r.SetDown("eth0"))
	check(t, r.AddVXLAN("vx6", netlab.VXLAN{VNI: 6}))
	r.want(t, "vx5 5", "vx6 6")
	check(t, r.DeleteLink("eth0"))
	r.want(t, "vx6 6")
}

func TestVNIFilterIsFollowed(t *testing.T) {
	r := newDeviceRig(t)
	check(t, r.AddExternalVXLAN("ext", netlab.ExternalVXLAN{Local: addr("192.0.2.1"), Remote: addr("192.0.2.2"), Filter: true}))
	r.want(t, "ext local 192.0.2.1 external")
	check(t, r.AddVNIs("ext", 10, 10, netip.Addr{}))
	r.want(t, "ext 10>192.0.2.2 local 192.0.2.1 external")
	check(t, r.AddVNIs("ext", 2000, 5000, addr("192.0.2.3")))
	check(t, r.AddVNIs("ext", 11, 12, netip.Addr{}))
	r.want(t, "ext 10-12>192.0.2.2 2000-5000>192.0.2.3 local 192.0.2.1 external")
	check(t, r.DeleteVNIs("ext", 11, 11))
	check(t, r.DeleteVNIs("ext", 2000, 4999))
	r.want(t, "ext 10>192.0.2.2 12>192.0.2.2 5000>192.0.2.3 local 192.0.2.1 external")
	check(t, r.AddVNIs("ext", 12, 12, addr("192.0.2.4")))
	r.want(t, "ext 10>192.0.2.2 12>192.0.2.4 5000>192.0.2.3 local 192.0.2.1 external")
	check(t, r.DeleteLink("ext"))
	r.want(t)
}

// The VLANs that a bridge's port is mapped by, in both of the ways that the
// kernel tells of: bridge and port.
func TestVLANsOfABridgePortAreFollowed(t *testing.T) {
	if inUML(t, "bridge VLANs", "vxlan", "veth", "bridge") {
		return
	}
	r := newDeviceRig(t)
	check(t, r.AddExternalVXLAN("ext", netlab.ExternalVXLAN{Local: addr("192.0.2.1")}))
	check(t, r.AddBridge("br", 0))
	r.want(t, "ext local 192.0.2.1 external")
	check(t, r.SetMaster("ext", "br"))
	check(t, r.MapVLANs("br", "ext", 10, 0, 1010))
	r.want(t, "ext 1010 local 192.0.2.1 external")
	check(t, r.MapVLANs("br", "ext", 100, 199, 2100))
	check(t, r.MapVLANs("br", "ext", 20, 0, 1011))
	r.want(t, "ext 1010-1011 2100-2199 local 192.0.2.1 external")
	check(t, r.UnmapVLAN("ext", 10, 1010))
	check(t, r.UnmapVLAN("ext", 150, 2150))
	r.want(t, "ext 1011 2100-2149 2151-2199 local 192.0.2.1 external")
	check(t, r.SetVLANTunnel("ext", false))
	r.want(t, "ext local 192.0.2.1 external")
	check(t, r.MapVLANs("br", "ext", 30, 0, 30))
	r.want(t, "ext 30 local 192.0.2.1 external")

	// The flood entries of a VNI are for its VLAN.
	var f *underlay.FDB
	check(t, r.Do(func() (err error) {
		f, err = underlay.OpenFDB()
		return err
	}))
	defer f.Close()
	check(t, r.other.AddAddr("eth0", netip.MustParsePrefix("192.0.2.2/24")))
	e := underlay.FloodEntry{Index: must(r.Link("ext"))(t).Index, VNI: 30, Dst: addr("192.0.2.2")}
	if errs := f.Apply([]underlay.FloodChange{{FloodEntry: e}}); errs != nil {
		t.Fatal(errs)
	}
	c := must(r.other.Capture("eth0"))(t)
	mac := must(r.Link("br"))(t).MAC
	check(t, r.Send("br", netlab.Ethernet(netlab.Broadcast, mac, unix.ETH_P_8021Q, []byte("\x00\x1e\x88\xb5to all"))))
	ctx, cancel := context.WithTimeout(t.Context(), umlPatience/4)
	defer cancel()
	ps := must(c.Wait(ctx, 1, func(p *netlab.Packet) bool { return p.UDPTo(4789) }))(t)
	if vni, inner, err := ps[0].VXLAN(); err != nil || vni != 30 || !bytes.Contains(inner, []byte("to all")) {
		t.Errorf("got VNI %v, frame % x, %v, want 30", vni, inner, err)
	}
	check(t, r.SetNoMaster("ext"))
	r.want(t, "ext local 192.0.2.1 external")
}

// A bridge that is no VXLAN device's business and a device without a bridge.
func TestExternalDeviceWithoutVNIs(t *testing.T) {
	r := newDeviceRig(t)
	check(t, r.AddBridge("br", 0))
	check(t, r.AddExternalVXLAN("ext", netlab.ExternalVXLAN{}))
	r.want(t, "ext external")
	check(t, r.SetMaster("ext", "br"))
	check(t, r.SetDown("ext"))
	r.want(t, "ext external down")
}

// Nothing is missed however many devices come at once, and they cost nothing
// while nothing happens.
func TestManyDevices(t *testing.T) {
	const n = 2000
	r := newDeviceRig(t)
	for i := range n {
		check(t, r.AddVXLAN(fmt.Sprintf("vx%04d", i), netlab.VXLAN{VNI: uint32(i), Local: addr("192.0.2.1")}))
	}
	r.wantThat(t, "all devices", func(ds []underlay.Device) bool {
		return len(ds) == n && slices.IsSortedFunc(ds, func(a, b underlay.Device) int { return int(a.VNIs[0].VNI) - int(b.VNIs[0].VNI) })
	})
	check(t, r.DeleteLink("vx1234"))
	check(t, r.SetDown("vx0007"))
	r.wantThat(t, "one less and one down", func(ds []underlay.Device) bool {
		return len(ds) == n-1 && ds[7].VNIs[0].VNI == 7 && !ds[7].Up &&
			!slices.ContainsFunc(ds, func(d underlay.Device) bool { return d.VNIs[0].VNI == vxlan.VNI(1234) })
	})
}

// What the kernel could not tell is found out.
func TestOverrun(t *testing.T) {
	const n = 100
	r := idleDeviceRig(t, 1) // the kernel's least, about 2 KB
	hold, held := make(chan struct{}), make(chan struct{})
	first := true
	r.run(t, func([]underlay.Device) {
		if first {
			first = false
			close(held)
			<-hold // nobody reads
		}
	})
	<-held
	for i := range n {
		check(t, r.AddVXLAN(fmt.Sprintf("vx%03d", i), netlab.VXLAN{VNI: uint32(i)}))
	}
	check(t, r.SetDown("vx000"))
	for i := 1; i < n; i += 2 {
		check(t, r.DeleteLink(fmt.Sprintf("vx%03d", i)))
	}
	close(hold)
	right := func(ds []underlay.Device) bool {
		return len(ds) == n/2 && !ds[0].Up && !slices.ContainsFunc(ds, func(d underlay.Device) bool { return d.VNIs[0].VNI%2 == 1 })
	}
	r.wantThat(t, "every other device, the first down", right)
	// And it goes on.
	check(t, r.SetUp("vx000"))
	r.wantThat(t, "the first up", func(ds []underlay.Device) bool { return len(ds) == n/2 && ds[0].Up })
}

// Changes without a pause, with a buffer that is too small for them.
func TestOverrunUnderLoad(t *testing.T) {
	r := idleDeviceRig(t, 1)
	r.run(t, func([]underlay.Device) {})
	var want []string
	for i := range 50 {
		name := fmt.Sprintf("vx%03d", i)
		check(t, r.AddVXLAN(name, netlab.VXLAN{VNI: uint32(i)}))
		for k := range 60 {
			check(t, r.SetMTU(name, 1400+k))
		}
		if i%10 == 0 {
			check(t, r.DeleteLink(name))
		} else {
			want = append(want, fmt.Sprintf("%s %d", name, i))
		}
	}
	r.want(t, want...)
}

func TestNamespacesAreApart(t *testing.T) {
	r := newDeviceRig(t)
	check(t, r.other.AddVXLAN("theirs", netlab.VXLAN{VNI: 1}))
	check(t, r.AddVXLAN("ours", netlab.VXLAN{VNI: 1}))
	r.want(t, "ours 1")
	// A device that was made elsewhere goes on working there.
	check(t, r.other.MoveLink("theirs", r.Namespace))
	r.want(t, "ours 1", "theirs 1 elsewhere down")
	check(t, r.MoveLink("ours", r.other))
	r.want(t, "theirs 1 elsewhere down")
}

func TestSource(t *testing.T) {
	r := idleDeviceRig(t, receiveBuffer)
	check(t, r.AddRoute(netlab.Route{To: netip.MustParsePrefix("198.51.100.0/24"), Via: addr("192.0.2.2")}))
	check(t, r.AddAddr("eth0", netip.MustParsePrefix("2001:db8::1/64")))
	for to, want := range map[string]string{
		"192.0.2.2":    "192.0.2.1",
		"198.51.100.7": "192.0.2.1",
		"192.0.2.1":    "192.0.2.1",
		"2001:db8::2":  "2001:db8::1",
	} {
		if got, err := r.d.Source(addr(to), ""); err != nil || got != addr(want) {
			t.Errorf("to %s: got %v, %v, want %s", to, got, err, want)
		}
	}
	for _, bad := range []struct{ to, vrf, want string }{
		{"203.0.113.1", "", "route to 203.0.113.1: network is unreachable"},
		{"192.0.2.2", "blue", "route to 192.0.2.2: Link not found"},
	} {
		if _, err := r.d.Source(addr(bad.to), bad.vrf); err == nil || err.Error() != bad.want {
			t.Errorf("to %s in %q: got %v, want %q", bad.to, bad.vrf, err, bad.want)
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}
