// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// deadline is generous: a test that needs it has failed.
const deadline = 30 * time.Second

// captured returns n copies that far receives, and fails if there are more.
func (r *rig) captured(c *netlab.Capture, n int) []netlab.Packet {
	r.Helper()
	return r.capturedAt(c, n, vxlan.Port)
}

func (r *rig) capturedAt(c *netlab.Capture, n int, port uint16) []netlab.Packet {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	mine := func(p *netlab.Packet) bool { return p.DstPort == port }
	_, err := c.Wait(ctx, n, mine)
	check(r, err)
	// What was sent before this is there when it is.
	end := netlab.Datagram{
		Src: netip.AddrPortFrom(sender, 1), Dst: netip.AddrPortFrom(service, 1), TTL: 1, Payload: []byte("end"),
	}
	check(r, r.node.Send("eth0", end.Frame(netlab.Broadcast, r.eth0.MAC)))
	_, err = c.Wait(ctx, 1, func(p *netlab.Packet) bool { return p.DstPort == 1 })
	check(r, err)
	ps, err := c.Packets(mine)
	check(r, err)
	if len(ps) != n {
		r.Fatalf("got %d packets, want %d", len(ps), n)
	}
	check(r, c.Reset())
	return ps
}

func sumOf(header []byte) (sum uint16) {
	var s uint32
	for i := 0; i < len(header); i += 2 {
		s += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	return uint16(s + s>>16)
}

func TestCopiesAreThePacketWithAnotherDestination(t *testing.T) {
	for _, tt := range []struct {
		name   string
		inner  int
		change func(*netlab.Datagram)
		port   uint16 // of copies
	}{
		{"smallest", 14, func(*netlab.Datagram) {}, vxlan.Port},
		{"full size", 1464, func(d *netlab.Datagram) { d.TTL, d.TOS = 255, 0xb8|1 }, vxlan.Port},
		{"congestion", 64, func(d *netlab.Datagram) { d.TTL, d.TOS = 2, 3 }, vxlan.Port},
		{"not to be fragmented", 64, func(d *netlab.Datagram) { d.DontFragment, d.ID = true, 7 }, vxlan.Port},
		{"another port", 64, func(*netlab.Datagram) {}, 8472},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.settings.DestPort = swap(tt.port)
			c, err := r.far.Capture("eth0")
			check(t, err)
			var members []programMember
			var want []netip.Addr
			// Odd and even words, and sums that carry.
			for _, s := range []string{"203.0.113.1", "255.255.255.254", "1.0.0.1", "128.127.255.255"} {
				want = append(want, netip.MustParseAddr(s))
				members = append(members, to(want[len(want)-1], good))
			}
			members = append(members, to(sender, good))
			r.vni(0xabcdef, 1500, members...)
			in := frame(0xabcdef, tt.inner, tt.change)
			sent, err := netlab.Decode(in)
			check(t, err)
			if verdict, _ := r.run(in, nil); verdict != done {
				t.Fatalf("got verdict %d, want %d", int32(verdict), done)
			}
			var got []netip.Addr
			for _, p := range r.capturedAt(c, len(want), tt.port) {
				got = append(got, p.Dst)
				if len(p.Frame) != len(in) {
					t.Errorf("got %d bytes, want %d", len(p.Frame), len(in))
				}
				if s := sumOf(p.Frame[14:34]); s != 0xffff {
					t.Errorf("got sum %#x of %x, want 0xffff", s, p.Frame[14:34])
				}
				if id := binary.BigEndian.Uint16(p.Frame[18:]); p.DontFragment || p.Fragment() || id == 7 {
					t.Errorf("got flags and id of %x, want no flag and an id of its own", p.Frame[14:34])
				}
				a := facts{
					p.Src, p.SrcPort, p.DstPort, p.TTL, p.TOS, p.Checksum, p.EtherDst.String(), p.EtherSrc.String(), len(p.Payload),
				}
				b := facts{
					sender, sentPort, tt.port, sent.TTL - 1, sent.TOS, 0, "02:00:00:00:00:09", r.eth0.MAC.String(), len(sent.Payload),
				}
				if d := cmp.Diff(b, a, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
					t.Errorf("copy (-want +got):\n%s", d)
				}
				if !bytes.Equal(p.Payload, sent.Payload) {
					t.Errorf("got payload %x, want %x", p.Payload, sent.Payload)
				}
			}
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
				t.Errorf("destinations (-want +got):\n%s", d)
			}
		})
	}
}

// facts are what a copy must have of the packet, and of its own.
type facts struct {
	Src              netip.Addr
	SrcPort, DstPort uint16
	TTL, TOS         uint8
	Checksum         uint16
	To, From         string
	Payload          int
}

// counters are what the program writes of a VNI.
type counters struct {
	Packets, Bytes, Copies, CopyBytes uint64
	Drops                             [numSlotDrops]uint64
}

func countersOf(s *programSlot) counters {
	return counters{s.Packets, s.Bytes, s.Copies, s.CopyBytes, s.Drops}
}

func TestEachLiveMemberGetsOneCopy(t *testing.T) {
	const length = 8 + 64
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) }
	dead := func(m programMember) programMember { m.Expires = 1; return m }
	me := to(sender, good)
	many := make([]programMember, 300)
	for i := range many {
		many[i] = to(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), good)
	}
	many[200] = me
	for _, tt := range []struct {
		name    string
		members []programMember
		copies  int
		want    counters
	}{
		{"one other", []programMember{me, to(addr(1), good)}, 1, counters{1, length, 1, length, [numSlotDrops]uint64{}}},
		{"the sender last", []programMember{to(addr(1), good), to(addr(2), good), me}, 2, counters{1, length, 2, 2 * length, [numSlotDrops]uint64{}}},
		{"nobody else", []programMember{me}, 0, counters{1, length, 0, 0, [numSlotDrops]uint64{slotNoMember: 1}}},
		{"all others expired", []programMember{me, dead(to(addr(1), good))}, 0, counters{1, length, 0, 0, [numSlotDrops]uint64{slotNoMember: 1}}},
		{"one expired", []programMember{to(addr(1), good), me, dead(to(addr(2), good)), to(addr(3), good)}, 2,
			counters{1, length, 2, 2 * length, [numSlotDrops]uint64{}}},
		{"ways that fail", []programMember{to(addr(1), lost), to(addr(2), silent), me, to(addr(3), good), to(addr(4), silent), to(addr(5), forbidden)}, 1,
			counters{1, length, 1, length, [numSlotDrops]uint64{slotUnreachable: 1, slotUnresolved: 2, slotRefused: 1}}},
		{"no way to anybody", []programMember{me, to(addr(1), lost)}, 0, counters{1, length, 0, 0, [numSlotDrops]uint64{slotUnreachable: 1}}},
		{"many", many, 299, counters{1, length, 299, 299 * length, [numSlotDrops]uint64{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c, err := r.far.Capture("eth0")
			check(t, err)
			s, records := r.vni(77, 1500, tt.members...)
			began := now(t)
			if verdict, _ := r.run(frame(77, 64), nil); verdict != done {
				t.Fatalf("got verdict %d, want %d", int32(verdict), done)
			}
			seen := make(map[netip.Addr]int)
			for _, p := range r.captured(c, tt.copies) {
				seen[p.Dst]++
			}
			for _, m := range records {
				want := 0
				if m.Dest&0xffffff == good && m.Expires == forever && m.Addr != me.Addr {
					want = 1
				}
				if got := seen[address(m.Addr)]; got != want {
					t.Errorf("got %d copies to %v, want %d", got, address(m.Addr), want)
				}
				switch {
				case m.Addr != me.Addr:
					if m.Packets != 0 || m.Seen != 0 || m.Copies != 0 {
						t.Errorf("got %+v, want nothing seen", m)
					}
				case m.Packets != 1 || m.Copies != uint32(tt.copies) || m.Seen < began || m.Seen > now(t) || m.Expires != forever:
					t.Errorf("got %+v of the sender, want one packet with %d copies", m, tt.copies)
				}
			}
			if got := countersOf(s); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCopiesThatTheKernelRefusesAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(r *rig) error
	}{
		{"device is gone", func(r *rig) error { return r.node.DeleteLink("eth0") }},
		{"device is down", func(r *rig) error { return r.node.SetDown("eth0") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			check(t, netlab.Veth(r.node, "eth1", r.far, "eth1", 0))
			eth1, err := r.node.Link("eth1")
			check(t, err)
			c, err := r.far.Capture("eth1")
			check(t, err)
			r.kernel.devices[2] = programDevice{Ifindex: uint32(eth1.Index), Mac: [6]byte(eth1.MAC)}
			r.kernel.dests[9].Hop = uint64(makeHop(2, nextHop))
			s, _ := r.vni(77, 1500, to(sender, good), to(netip.MustParseAddr("203.0.113.1"), good), to(netip.MustParseAddr("203.0.113.2"), 9))
			check(t, tt.fail(r))
			if verdict, _ := r.run(frame(77, 64), nil); verdict != done {
				t.Fatalf("got verdict %d, want %d", int32(verdict), done)
			}
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			ps, err := c.Wait(ctx, 1, func(p *netlab.Packet) bool { return p.DstPort == vxlan.Port })
			check(t, err)
			if got, want := ps[0].Dst, netip.MustParseAddr("203.0.113.2"); got != want {
				t.Errorf("got a copy to %v, want %v", got, want)
			}
			if got, want := countersOf(s), (counters{1, 72, 1, 72, [numSlotDrops]uint64{slotBlocked: 1}}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestAPacketExtendsTheLifeOfALearnedMember(t *testing.T) {
	soon := now(t) + uint64(time.Hour)
	for _, tt := range []struct {
		name    string
		flags   uint32
		expires uint64
		longer  bool
	}{
		{"learned", memberKnown | memberLearned, 0, true},
		{"learned, and lives longer", memberKnown | memberLearned, soon, false},
		{"registered", memberKnown, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			expires := tt.expires
			if expires == 0 {
				expires = now(t) + uint64(hold)/2
			}
			_, records := r.vni(77, 1500, programMember{Addr: network(sender), Dest: good | tt.flags, Expires: expires})
			began := now(t)
			if verdict, _ := r.run(frame(77, 64), nil); verdict != done {
				t.Fatalf("got verdict %d, want %d", int32(verdict), done)
			}
			got, from, until := records[0].Expires, expires, expires
			if tt.longer {
				from, until = began+uint64(hold), now(t)+uint64(hold)
			}
			if got < from || got > until {
				t.Errorf("got %d, want %d to %d", got, from, until)
			}
		})
	}
}

// All members that a word can count are served, from wherever they begin.
func TestTheLargestList(t *testing.T) {
	r := newRig(t)
	r.next = segmentMembers - maxCount
	members := make([]programMember, maxCount)
	for i := range members {
		members[i] = to(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), lost)
	}
	members[maxCount-1] = to(sender, good)
	s, records := r.vni(77, 1500, members...)
	if verdict, _ := r.run(frame(77, 64), nil); verdict != done {
		t.Fatalf("got verdict %d, want %d", int32(verdict), done)
	}
	if got, want := countersOf(s), (counters{1, 72, 0, 0, [numSlotDrops]uint64{slotUnreachable: maxCount - 1}}); got != want || records[maxCount-1].Packets != 1 {
		t.Errorf("got %+v, %+v of the sender, want %+v", got, records[maxCount-1], want)
	}
}
