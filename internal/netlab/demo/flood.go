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
	sent   []packet              // as the service node got it: once, or not with head-end replication
	copies map[*machine][]packet // as they arrived
	out    map[*machine]int      // how often it came out of the machine's VXLAN device
}

// flood sends a frame of the kind out of a VTEP's VXLAN device and returns what
// became of it once every one of members has got everything that it will get. It
// checks all of that.
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
	if f.sent, _, err = l.node.find(f.frame, vni, marks[l.node]); err != nil {
		return nil, err
	}
	return f, l.wantFlooding(f, from, vni, k, members)
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

// wantFlooding checks what is promised: one copy for each member but the sender,
// nothing for anybody else, and what a copy looks like.
func (l *lab) wantFlooding(f *flooding, from *machine, vni vxlan.VNI, k kind, members []*machine) error {
	by, ttl := from.mac, uint8(defaultTTL)
	if l.headEnd {
		if len(f.sent) != 0 {
			return fmt.Errorf("got the %s frame at the service node, want it not to go there", k.name)
		}
	} else {
		if len(f.sent) != 1 {
			return fmt.Errorf("got the %s frame %d times at the service node, want once", k.name, len(f.sent))
		}
		s := f.sent[0]
		if s.Src != from.addr || s.TOS != k.dscp<<2 {
			return fmt.Errorf("the %s frame came to the service node from %s with TOS %#x, want %s and %#x",
				k.name, s.Src, s.TOS, from.addr, k.dscp<<2)
		}
		by, ttl = l.node.mac, s.TTL-1
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
			if err := wantCopy(c, from, m, by, ttl, k.dscp<<2, vni); err != nil {
				return fmt.Errorf("the copy of the %s frame at %s: %w", k.name, m.Name, err)
			}
			if l.headEnd {
				continue
			}
			if c.Source() != f.sent[0].Source() || c.Checksum != 0 {
				return fmt.Errorf("the copy of the %s frame at %s: got outer source %s and UDP checksum %#x, want that of "+
					"the VTEP that sent it, %s, and 0", k.name, m.Name, c.Source(), c.Checksum, f.sent[0].Source())
			}
		}
	}
	return nil
}

// defaultTTL is that of packets that the kernel makes.
const defaultTTL = 64

// wantCopy checks what a copy looks like that by sends.
func wantCopy(c packet, from, to *machine, by net.HardwareAddr, ttl, tos uint8, vni vxlan.VNI) error {
	switch {
	case !bytes.Equal(c.EtherSrc, by):
		return fmt.Errorf("got it from %s, want %s", c.EtherSrc, by)
	case c.Src != from.addr:
		return fmt.Errorf("got outer source %s, want that of the VTEP that sent it, %s", c.Src, from.addr)
	case c.Dst != to.addr:
		return fmt.Errorf("got outer destination %s, want %s", c.Dst, to.addr)
	case c.TTL != ttl:
		return fmt.Errorf("got TTL %d, want %d", c.TTL, ttl)
	case c.TOS != tos:
		return fmt.Errorf("got TOS %#x, want %#x", c.TOS, tos)
	case c.vni != vni:
		return fmt.Errorf("got VNI %s, want %s", c.vni, vni)
	}
	return nil
}

// showFlood floods a frame of each kind from vtep1, and a broadcast from each.
func (l *lab) showFlood(ctx context.Context, _ options) error {
	l.say("vtep1 sends three frames out of vxlan100 that it cannot send to one other VTEP. This is what a capture on the " +
		"underlay shows (port 4789 is the destination of all; copies have UDP checksum 0, as RFC 7348 has it):")
	err := l.packetTables(ctx,
		kind{"broadcast", netlab.Broadcast, guestAddr(blue, 255), 46, 0},
		kind{"multicast", net.HardwareAddr{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}, netip.MustParseAddr("239.1.2.3"), 34, 0},
		kind{"unknown unicast", net.HardwareAddr{0x02, 0, 0, 0, 0, 0x99}, guestAddr(blue, 99), 0, 0},
	)
	if err != nil {
		return err
	}
	l.ok("Each copy has the source address and port of the VTEP that sent the frame, its DSCP, and one TTL less; " +
		"the frame came out of vxlan100 byte for byte.")
	if err := l.copyTable(ctx, l.steady()); err != nil {
		return err
	}
	return l.showEngine(ctx)
}

// packetTables has vtep1 flood frames, and shows the packets that they become.
func (l *lab) packetTables(ctx context.Context, ks ...kind) error {
	from := l.vteps[0]
	others := without(l.steady(), from)
	for _, k := range ks {
		f, err := l.flood(ctx, from, blue, k, others...)
		if err != nil {
			return err
		}
		l.gap()
		l.row("%s to %s, %s", k.name, k.mac, k.to)
		l.row("where                outer source       outer destination  TTL  DSCP  VNI  inner frame")
		if l.headEnd {
			l.row("at the service node  (nothing)")
		} else {
			l.packetRow("at the service node", f.sent[0], "")
		}
		for _, m := range others {
			l.packetRow("copy at "+m.Name, f.copies[m][0], ", the same")
		}
	}
	l.gap()
	return nil
}

// copyTable has each of members flood a broadcast, and shows how many packets
// were captured where.
func (l *lab) copyTable(ctx context.Context, members []*machine) error {
	l.gap()
	l.row("packets captured           at the service node   vtep1   vtep2   vtep3   vtep4")
	total := 0
	for _, from := range members {
		f, err := l.flood(ctx, from, blue, broadcast(blue), without(members, from)...)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("of a broadcast of %s    %13d    ", from.Name, len(f.sent))
		for _, m := range l.vteps {
			total += len(f.copies[m])
			if m == from {
				text += "       -"
			} else {
				text += fmt.Sprintf(" %7d", len(f.copies[m]))
			}
		}
		l.row("%s", text)
	}
	l.gap()
	l.ok("%s of %s: one for each other VTEP of VNI %s, and none for the sender.",
		count(total, "copy"), count(len(members), "broadcast"), blue)
	return nil
}

// packetRow prints a packet as a row of showFlood's tables.
func (l *lab) packetRow(where string, p packet, note string) {
	l.row("%-19s  %-17s  %-17s %4d %5d %4s  %d bytes%s", where, p.Source(), p.Dst, p.TTL, p.TOS>>2, p.vni, len(p.inner), note)
}
