// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// A kind is a kind of frame that a VTEP floods: an IPv4 packet of its VXLAN
// device with a text in it, to somebody who is not a VTEP or is everybody.
type kind struct {
	name string
	mac  net.HardwareAddr
	to   netip.Addr
	dscp uint8
	size int // of the IP packet, at least; 0 is as the text is
}

// frame returns a frame of the kind from m's device with the given text.
func (k kind) frame(m *machine, vni vxlan.VNI, text string) []byte {
	const headers = 20 + 8
	b := []byte(text)
	for i := len(b) + headers; i < k.size; i++ {
		b = append(b, byte('a'+i%26))
	}
	d := m.devices[vni]
	return netlab.Datagram{
		Src: netip.AddrPortFrom(d.addr, 40000), Dst: netip.AddrPortFrom(k.to, 9), // discard
		TTL: 1, TOS: k.dscp << 2, Payload: b,
	}.Frame(k.mac, d.mac)
}

// broadcast is the kind for showing who gets a copy.
func broadcast(vni vxlan.VNI) kind {
	return kind{name: "broadcast", mac: netlab.Broadcast, to: guestAddr(vni, 255)}
}

// A flooding is what became of one frame.
type flooding struct {
	frame  []byte
	sent   packet                // as the service node got it
	copies map[*machine][]packet // as they arrived
	out    map[*machine]int      // how often it came out of the machine's VXLAN device
}

// flood sends a frame of the kind out of a VTEP's VXLAN device and returns what
// became of it once every one of members has got everything that it will get.
func (l *lab) flood(ctx context.Context, from *machine, vni vxlan.VNI, k kind, members ...*machine) (*flooding, error) {
	marks, err := l.marks()
	if err != nil {
		return nil, err
	}
	l.texts++
	f := &flooding{
		frame:  k.frame(from, vni, fmt.Sprintf("frame %d", l.texts)),
		copies: make(map[*machine][]packet), out: make(map[*machine]int),
	}
	// A second frame of the same flow goes through the same worker of vxsnd,
	// after the first: when it has arrived, so have all copies of that.
	last := k.frame(from, vni, fmt.Sprintf("last %d", l.texts))
	dev := from.devices[vni].name
	if err := from.Send(dev, f.frame, last); err != nil {
		return nil, err
	}
	for _, m := range members {
		err := until(ctx, fmt.Sprintf("the copy of a %s frame at %s", k.name, m.Name), func() (bool, error) {
			_, n, err := m.find(last, vni, marks[m])
			return n > 0, err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, m := range l.vteps {
		if f.copies[m], f.out[m], err = m.find(f.frame, vni, marks[m]); err != nil {
			return nil, err
		}
	}
	sent, _, err := l.node.find(f.frame, vni, marks[l.node])
	if err != nil {
		return nil, err
	}
	if len(sent) != 1 {
		return nil, fmt.Errorf("got the %s frame %d times at the service node, want once", k.name, len(sent))
	}
	f.sent = sent[0]
	return f, f.want(from, vni, k, members)
}

// find returns the packets with an inner frame that m has received since mark,
// in whatever VXLAN, and how often the frame came out of m's devices; for a
// machine without devices that is how often it came in.
func (m *machine) find(frame []byte, vni vxlan.VNI, mark int) ([]packet, int, error) {
	ps, err := m.since(mark)
	if err != nil {
		return nil, 0, err
	}
	ps = slices.DeleteFunc(ps, func(p packet) bool { return !bytes.Equal(p.inner, frame) })
	out := 0
	for of, d := range m.devices {
		fs, err := d.out.Packets(func(p *netlab.Packet) bool { return bytes.Equal(p.Frame, frame) })
		if err != nil {
			return nil, 0, err
		}
		if of != vni && len(fs) > 0 {
			return nil, 0, fmt.Errorf("a frame of VNI %s came out of %s of %s", vni, d.name, m.Name)
		}
		out += len(fs)
	}
	return ps, out, nil
}

// want checks what the data plane promises: one copy for each member but the
// sender, nothing for anybody else, and what a copy looks like.
func (f *flooding) want(from *machine, vni vxlan.VNI, k kind, members []*machine) error {
	if f.sent.Src != from.addr || f.sent.TOS != k.dscp<<2 {
		return fmt.Errorf("the %s frame came to the service node from %s with TOS %#x, want %s and %#x",
			k.name, f.sent.Src, f.sent.TOS, from.addr, k.dscp<<2)
	}
	for m, copies := range f.copies {
		want := 0
		if slices.Contains(members, m) {
			want = 1
		}
		if len(copies) != want || f.out[m] != want {
			return fmt.Errorf("%s got %s of the %s frame from %s, and %d came out of its VXLAN device, want %d",
				m.Name, count(len(copies), "copy"), k.name, from.Name, f.out[m], want)
		}
		for _, c := range copies {
			if err := f.wantCopy(c, m, vni); err != nil {
				return fmt.Errorf("the copy of the %s frame at %s: %w", k.name, m.Name, err)
			}
		}
	}
	return nil
}

func (f *flooding) wantCopy(c packet, m *machine, vni vxlan.VNI) error {
	s := f.sent
	switch {
	case c.Source() != s.Source():
		return fmt.Errorf("got outer source %s, want that of the VTEP that sent it, %s", c.Source(), s.Source())
	case c.Dst != m.addr:
		return fmt.Errorf("got outer destination %s, want %s", c.Dst, m.addr)
	case c.TTL != s.TTL-1:
		return fmt.Errorf("got TTL %d, want %d", c.TTL, s.TTL-1)
	case c.TOS != s.TOS:
		return fmt.Errorf("got TOS %#x, want %#x", c.TOS, s.TOS)
	case c.Checksum != 0:
		return fmt.Errorf("got UDP checksum %#x, want 0", c.Checksum)
	case c.vni != vni || !bytes.Equal(c.Payload, s.Payload):
		return fmt.Errorf("the VXLAN header or the frame is not what was sent")
	}
	return nil
}

// showFlood floods a frame of each kind from vtep1.
func (l *lab) showFlood(ctx context.Context, _ options) error {
	from, others := l.vteps[0], l.vteps[1:3]
	l.say("vtep1 sends three frames out of vxlan100 that no VTEP can deliver by itself. This is what a capture on the " +
		"underlay shows (port 4789 is the destination of all; UDP checksum 0, as RFC 7348 has it):")
	for _, k := range []kind{
		{"broadcast", netlab.Broadcast, guestAddr(blue, 255), 46, 0},
		{"multicast", net.HardwareAddr{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}, netip.MustParseAddr("239.1.2.3"), 34, 0},
		{"unknown unicast", net.HardwareAddr{0x02, 0, 0, 0, 0, 0x99}, guestAddr(blue, 99), 0, 0},
	} {
		f, err := l.flood(ctx, from, blue, k, others...)
		if err != nil {
			return err
		}
		l.gap()
		l.row("%s to %s, %s", k.name, k.mac, k.to)
		l.row("where                outer source       outer destination  TTL  DSCP  VNI  inner frame")
		l.packetRow("at the service node", f.sent, "")
		for _, m := range others {
			l.packetRow("copy at "+m.Name, f.copies[m][0], ", the same")
		}
	}
	l.gap()
	l.ok("Each frame arrived once at %s, and came out of vxlan100 there byte for byte. vtep1 got none of them back.",
		names(others))
	l.ok("Each copy has the source address and port of the VTEP that sent it, its DSCP, and one TTL less.")
	return nil
}

// packetRow prints a packet as a row of showFlood's tables.
func (l *lab) packetRow(where string, p packet, note string) {
	l.row("%-19s  %-17s  %-17s %4d %5d %4s  %d bytes%s", where, p.Source(), p.Dst, p.TTL, p.TOS>>2, p.vni, len(p.inner), note)
}
