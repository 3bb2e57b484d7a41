// SPDX-License-Identifier: Apache-2.0

package underlay_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/underlay"
)

// A device whose underlay link is in a VRF:
//
//	machine vx over eth0 192.0.2.1/24 in blue ──── other 192.0.2.2
func TestVRF(t *testing.T) {
	if inUML(t, "vrf", "vrf", "vxlan", "veth", "bridge") {
		return
	}
	r := newDeviceRig(t)
	check(t, r.other.AddAddr("eth0", netip.MustParsePrefix("192.0.2.2/24")))
	check(t, r.AddVXLAN("vx", netlab.VXLAN{VNI: 5, Local: addr("192.0.2.1"), Device: "eth0"}))
	r.want(t, "vx 5 local 192.0.2.1")

	// Directly, and as a port of a bridge that is in the VRF.
	check(t, r.AddVRF("red", 11))
	check(t, r.AddBridge("br", 0))
	check(t, r.SetMaster("eth0", "br"))
	check(t, r.SetMaster("br", "red"))
	r.want(t, "vx 5 local 192.0.2.1 vrf red")
	check(t, r.SetDown("red"))
	check(t, r.Rename("red", "pink"))
	r.want(t, "vx 5 local 192.0.2.1 vrf pink")
	check(t, r.SetNoMaster("br"))
	r.want(t, "vx 5 local 192.0.2.1")
	check(t, r.SetNoMaster("eth0"))
	check(t, r.AddVRF("blue", 10))
	check(t, r.SetMaster("eth0", "blue"))
	r.want(t, "vx 5 local 192.0.2.1 vrf blue")

	if got, err := r.d.Source(addr("192.0.2.2"), "blue"); err != nil || got != addr("192.0.2.1") {
		t.Errorf("got source %v, %v, want 192.0.2.1", got, err)
	}
	if got, err := r.d.Source(addr("192.0.2.2"), ""); err == nil {
		t.Errorf("got source %v outside the VRF, want none", got)
	}

	for vrf, want := range map[string]error{"blue": nil, "": unix.ENETUNREACH} {
		var u *underlay.Underlay
		check(t, r.Do(func() (err error) {
			u, err = underlay.OpenAddresses(vrf, nil)
			return err
		}))
		way, err := must(u.Ways())(t).To(addr("192.0.2.2"))
		if !errors.Is(err, want) || err == nil && way.Device != "eth0" {
			t.Errorf("vrf %q: got way %+v, %v, want one by eth0 or %v", vrf, way, err, want)
		}
		u.Close()
	}

	// What floods goes by the VRF.
	var f *underlay.FDB
	check(t, r.Do(func() (err error) {
		f, err = underlay.OpenFDB()
		return err
	}))
	defer f.Close()
	index := must(r.Link("vx"))(t).Index
	if errs := f.Apply(add(index, "192.0.2.2")); errs != nil {
		t.Fatal(errs)
	}
	c := must(r.other.Capture("eth0"))(t)
	in := netlab.Ethernet(netlab.Broadcast, must(r.Link("vx"))(t).MAC, 0x88b5, []byte("to all"))
	check(t, r.Send("vx", in))
	ctx, cancel := context.WithTimeout(t.Context(), umlPatience/4)
	defer cancel()
	must(c.Wait(ctx, 1, func(p *netlab.Packet) bool {
		_, inner, err := p.VXLAN()
		return err == nil && bytes.Equal(inner, in)
	}))(t)

	if got := kinds(f.Apply(add(index, "192.0.2.2"))); len(got) != 1 || got[0] != "exists" {
		t.Errorf("got %q, want that it exists", got)
	}
	check(t, r.AddFDB("vx", zero, addr("192.0.2.3"))) // as if made before the VRF
	if errs := f.Apply(remove(index, "192.0.2.2", "192.0.2.3")); errs != nil {
		t.Errorf("remove: got %v", errs)
	}
	if got := entries(must(f.Read(index))(t)); len(got) != 0 {
		t.Errorf("got entries %q, want none", got)
	}
	check(t, r.SetNoMaster("eth0"))
	r.want(t, "vx 5 local 192.0.2.1")
}

// The addresses of a VRF are those of the devices whose masters end in it:
//
//	machine eth0 192.0.2.1/24 in br in blue
func TestAddressesInVRF(t *testing.T) {
	if inUML(t, "vrf", "vrf", "vxlan", "veth", "bridge") {
		return
	}
	m := must(netlab.Test(t).Namespace("machine"))(t)
	check(t, m.AddVRF("blue", 10))
	check(t, m.AddBridge("br", 0))
	check(t, m.AddBridge("eth0", 0))
	check(t, m.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	inside, outside := followAddresses(t, m, "blue"), followAddresses(t, m, "")
	want := func(in bool) {
		t.Helper()
		for told, want := range map[chan []netip.Addr]bool{inside: in, outside: !in} {
			ctx, cancel := context.WithTimeout(t.Context(), umlPatience/4)
			for got := !want; got != want; {
				select {
				case as := <-told:
					got = slices.Contains(as, addr("192.0.2.1"))
				case <-ctx.Done():
					t.Fatalf("in the VRF: got no news of it, want %v", in)
				}
			}
			cancel()
		}
	}
	want(false)
	check(t, m.SetMaster("eth0", "blue"))
	want(true)
	check(t, m.SetNoMaster("eth0"))
	want(false)
	check(t, m.SetMaster("br", "blue"))
	check(t, m.AddAddr("br", netip.MustParsePrefix("192.0.2.2/24")))
	check(t, m.DeleteAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	check(t, m.AddAddr("br", netip.MustParsePrefix("192.0.2.1/24")))
	want(true)
}

func followAddresses(t *testing.T, n *netlab.Namespace, vrf string) chan []netip.Addr {
	t.Helper()
	var u *underlay.Underlay
	check(t, n.Do(func() (err error) {
		u, err = underlay.OpenAddresses(vrf, nil)
		return err
	}))
	told := make(chan []netip.Addr, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- u.Run(ctx, func(as []netip.Addr) { told <- as }) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		u.Close()
	})
	return told
}
