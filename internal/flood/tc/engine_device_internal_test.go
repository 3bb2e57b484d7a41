// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

func TestProgramIsPutBack(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.flood()
	p.unhook("eth0")
	if n := p.hooks("eth0"); n == 0 {
		p.flood()
	}
	until(t, "the program", func() bool { return p.hooks("eth0") == 1 })
	p.flood()
	p.stop()
}

func TestDeviceGoesAndComes(t *testing.T) {
	p := newPlant(t)
	p.start()
	p.flood()
	check(t, p.copies.Close())
	check(t, p.node.DeleteLink("eth0"))
	until(t, "no device", func() bool { return len(p.Status().Devices) == 0 })
	p.cable()
	p.address()
	p.flood() // by raw, if the kernel does not know the way yet
	p.floods()
	p.flood()
	check(t, p.Sync(context.Background()))
	if c, s := p.Counters(), p.Status(); c.Packets != 3 || s.Packets < 2 {
		t.Errorf("got %d packets, %d of them in the kernel, want 3 and 2 at least", c.Packets, s.Packets)
	}
}

// Devices that the settings name are those where the program is, whatever is there
// else, and as they come.
func TestInterfaces(t *testing.T) {
	p := newPlant(t, func(c *Config) { c.Settings.Interfaces = []string{"eth1", "lo"} })
	check(t, p.node.Do(p.Listen))
	p.run()
	for _, a := range p.addrs[1:] {
		p.member(plantVNI, a)
	}
	until(t, "a VNI in the kernel", func() bool { return p.Status().VNIs == 1 })
	p.flood()
	check(t, netlab.Veth(p.node, "eth1", p.far, "eth1", 0))
	until(t, "the device", func() bool { return slices.Equal(p.Status().Devices, []string{"eth1"}) })
	if n := p.hooks("eth0"); n != 0 {
		t.Errorf("got %d programs at another device, want none", n)
	}
	s := p.config.Settings
	s.Interfaces = nil
	p.Adjust(s)
	p.floods()
	if n := p.hooks("eth1"); n != 0 {
		t.Errorf("got %d programs at the device of before, want none", n)
	}
	p.flood()
	p.wantBy(1, 1)
	s.MaxMembers = 2
	p.Adjust(s)
	until(t, "a VNI that is too large", func() bool { return p.Status().RawVNIs["too_many_members"] == 1 })
	p.flood()
	p.wantBy(1, 2)
}

// What is sent to an address that is listened to but not the machine's goes where
// the machine sends it.
func TestServiceAddressThatComesAndGoes(t *testing.T) {
	service := netip.MustParseAddr("203.0.113.53")
	// A socket of raw cannot be bound before its address is there.
	p := newPlant(t, func(c *Config) {
		c.Listen = []netip.AddrPort{netip.AddrPortFrom(service, vxlan.Port)}
	})
	check(t, p.node.AddAddr("lo", netip.PrefixFrom(service, 32)))
	node := p.addrs[0]
	p.addrs[0] = service // frames go there
	p.start()
	p.flood()
	elsewhere := p.frame() // to another address of the machine
	copy(elsewhere[30:34], node.AsSlice())
	check(t, p.far.Send("eth0", summed(elsewhere)))
	check(t, p.node.DeleteAddr("lo", netip.PrefixFrom(service, 32)))
	until(t, "no address", func() bool { return !p.takes() })
	check(t, p.far.Send("eth0", p.frame()))
	check(t, p.node.AddAddr("lo", netip.PrefixFrom(service, 32)))
	until(t, "the address", p.takes)
	p.flood()
	p.wantBy(2, 0)
}
