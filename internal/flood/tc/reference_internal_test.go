// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// The VNIs that the parser is tried with. Only one of them is replicated.
const (
	replicated   vxlan.VNI = 100 + iota
	ofRaw                  // known, without members here
	narrow                 // with a small MTU on the way
	strangers              // the sender is none of them
	expired                // the sender is not any more
	unregistered           // the sender's packets are of interest to the table
	reused                 // its slot is another's by now
	nowhere                // in a segment that is not there
)

const (
	narrowMTU = 128
	wideMTU   = 1500
)

var other = netip.MustParseAddr("203.0.113.1")

// newParserRig returns a rig that knows these VNIs.
func newParserRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	me, dead, unknown := to(sender, good), to(sender, good), to(sender, good)
	dead.Expires = 1
	unknown.Dest = good
	r.vni(replicated, wideMTU, to(other, good), me)
	r.vni(ofRaw, wideMTU)
	r.vni(narrow, narrowMTU, me, to(other, good))
	r.vni(strangers, wideMTU, to(other, good))
	r.vni(expired, wideMTU, dead, to(other, good))
	r.vni(unregistered, wideMTU, unknown, to(other, good))
	s, _ := r.vni(reused, wideMTU, me, to(other, good))
	s.Vni = 0x123456
	s, _ = r.vni(nowhere, wideMTU, me)
	s.Word = uint64(makeWord(2, wideMTU, makePosition(maxSegments-1, 0)))
	return r
}

// expect says what the program is to do with a frame on lo, in the plainest way.
func expect(b []byte, gso, stale bool) (verdict uint32, why up) {
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	const ip, udp, vx, inner = 14, 34, 42, 50
	switch {
	case len(b) < inner || !bytes.Equal(b[:6], make([]byte, 6)) || u16(12) != unix.ETH_P_IP,
		b[ip] != 0x45 || b[ip+9] != unix.IPPROTO_UDP,
		netip.AddrFrom4([4]byte(b[ip+16:])) != service || u16(udp+2) != vxlan.Port:
		return wentUp, upForeign
	case stale:
		return wentUp, upStale
	case u16(ip+6)&0x3fff != 0 || sumOf(b[ip:udp]) != 0xffff,
		u16(ip+2) != len(b)-ip || u16(udp+4) != len(b)-udp,
		gso || b[vx]&8 == 0:
		return wentUp, upHeader
	case b[ip+8] <= 1:
		return wentUp, upTTL
	}
	vni := vxlan.VNI(binary.BigEndian.Uint32(b[vx+4:]) >> 8)
	length, from := len(b)-ip, netip.AddrFrom4([4]byte(b[ip+12:]))
	switch {
	case !slices.Contains([]vxlan.VNI{replicated, narrow, strangers, expired, unregistered}, vni):
		return wentUp, upVNI
	case length > wideMTU || vni == narrow && length > narrowMTU:
		return wentUp, upLength
	case vni != replicated && vni != narrow && from == sender,
		from != sender && from != other:
		return wentUp, upSender
	case u16(udp+6) != 0: // nobody has verified what a test runs
		return wentUp, upChecksum
	}
	return done, upForeign
}

// try runs a frame through the program and compares what it does.
func (r *rig) try(b []byte, gso, stale bool) {
	r.Helper()
	r.settings.Lease = forever
	if stale {
		r.settings.Lease = 1
	}
	context := &skb{}
	if gso {
		context.GSOSize = 100
	}
	before, err := r.handedUp()
	check(r, err)
	var copies, packets uint64
	for i := range r.kernel.slots[:r.slots] {
		s := &r.kernel.slots[i]
		copies -= s.Copies + s.Drops[slotBlocked]
		packets -= s.Packets
	}
	verdict, left := r.run(b, context)
	for i := range r.kernel.slots[:r.slots] {
		s := &r.kernel.slots[i]
		copies += s.Copies + s.Drops[slotBlocked]
		packets += s.Packets
	}
	why := r.reason(before)
	wantVerdict, wantWhy := expect(b, gso, stale)
	if verdict != wantVerdict || why != wantWhy {
		r.Fatalf("got verdict %d, %v, want %d, %v of %x", int32(verdict), why, int32(wantVerdict), wantWhy, b)
	}
	if verdict == wentUp && !bytes.Equal(left, b) {
		r.Fatalf("got %x up, want it unchanged: %x", left, b)
	}
	var want uint64
	if verdict == done {
		want = 1
	}
	if packets != want || copies > want {
		r.Fatalf("got %d packets, %d copies, want %d of %x", packets, copies, want, b)
	}
}

// variants are packets that the program takes, and some for each reason not to.
func variants() [][]byte {
	out := [][]byte{
		frame(replicated, 14), frame(replicated, 64), frame(replicated, 1464), frame(narrow, narrowMTU-36),
		frame(replicated, 0), frame(0, 64), frame(0xffffff, 64),
		frame(replicated, 1465), frame(narrow, narrowMTU-35),
	}
	for v := ofRaw; v <= nowhere; v++ {
		out = append(out, frame(v, 64))
	}
	for _, change := range []func(*netlab.Datagram){
		func(d *netlab.Datagram) { d.TTL = 2 },
		func(d *netlab.Datagram) { d.TTL = 1 },
		func(d *netlab.Datagram) { d.TTL = 0 },
		func(d *netlab.Datagram) { d.TOS, d.DontFragment, d.ID = 0xff, true, 0xffff },
		func(d *netlab.Datagram) { d.NoChecksum = false },
		func(d *netlab.Datagram) { d.Src = netip.AddrPortFrom(other, 1) },
		func(d *netlab.Datagram) { d.Src = netip.AddrPortFrom(service, 1) },
		func(d *netlab.Datagram) { d.Dst = netip.AddrPortFrom(other, vxlan.Port) },
		func(d *netlab.Datagram) { d.Dst = netip.AddrPortFrom(service, vxlan.Port+1) },
		func(d *netlab.Datagram) { d.Payload[0] = 0 },
		func(d *netlab.Datagram) { d.Payload[0] = 0xff },
		func(d *netlab.Datagram) { d.Payload = d.Payload[:8] },
		func(d *netlab.Datagram) { d.Payload = d.Payload[:7] },
		func(d *netlab.Datagram) { d.Payload = nil },
		func(d *netlab.Datagram) {
			v6 := netip.MustParseAddr("2001:db8::1")
			d.Src, d.Dst = netip.AddrPortFrom(v6, 1), netip.AddrPortFrom(v6, vxlan.Port)
		},
	} {
		out = append(out, frame(replicated, 64, change))
	}
	// What no datagram is: damaged, in fragments, with options, padded, cut, not to
	// us, tagged.
	for _, change := range []func(b []byte) []byte{
		func(b []byte) []byte { b[24] ^= 1; return b },
		func(b []byte) []byte { b[20] |= 0x20; return summed(b) },
		func(b []byte) []byte { b[21] = 1; return summed(b) },
		func(b []byte) []byte { b[20] |= 0x80; return summed(b) },
		func(b []byte) []byte { b[14] = 0x46; return summed(slices.Insert(b, 34, 1, 1, 1, 0)) },
		func(b []byte) []byte { b[14] = 0x55; return summed(b) },
		func(b []byte) []byte { b[23] = unix.IPPROTO_TCP; return summed(b) },
		func(b []byte) []byte { return append(b, 0) },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return b[:49] },
		func(b []byte) []byte { return b[:34] },
		func(b []byte) []byte { b[39]--; return b },
		func(b []byte) []byte { copy(b, netlab.Broadcast); return b },
		func(b []byte) []byte { b[5] = 1; return b },
		func(b []byte) []byte { return slices.Insert(b, 12, 0x81, 0, 0, 5) },
		func(b []byte) []byte { b[12], b[13] = 0, 46; return b },
	} {
		out = append(out, change(frame(replicated, 64)))
	}
	return out
}

// summed makes the header's checksum good.
func summed(b []byte) []byte {
	if len(b) >= 34 {
		b[24], b[25] = 0, 0
		binary.BigEndian.PutUint16(b[24:], ^sumOf(b[14:34]))
	}
	return b
}

// repair makes good some of what random changes break, so that they come further.
func repair(b []byte, what uint8) []byte {
	if len(b) < 42 {
		return b
	}
	if what&1 != 0 {
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	}
	if what&2 != 0 {
		binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
	}
	if what&4 != 0 {
		clear(b[40:42])
	}
	if what&8 != 0 {
		summed(b)
	}
	return b
}

// What the argument of FuzzProgram and the random test beside repair says.
const (
	withGSO   = 1 << 6
	withStale = 1 << 7
)

func TestTheProgramDoesWhatTheReferenceSays(t *testing.T) {
	r := newParserRig(t)
	all := variants()
	reasons := make(map[up]int)
	for _, b := range all {
		for _, what := range []uint8{0, withGSO, withStale} {
			_, why := expect(b, what&withGSO != 0, what&withStale != 0)
			reasons[why]++
			r.try(slices.Clone(b), what&withGSO != 0, what&withStale != 0)
		}
	}
	for u := range upOrder { // and that, which is about others of a flow
		if reasons[u] == 0 {
			t.Errorf("no packet goes up for the reason %v", u)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := slices.Clone(all[random.IntN(len(all))])
		for range random.IntN(4) {
			b[random.IntN(min(len(b), 60))] = byte(random.Uint32())
		}
		what := uint8(random.Uint32())
		r.try(repair(b, what), what&(withGSO|0x30) == withGSO, what&(withStale|0x30) == withStale)
	}
}

// The program does with any frame what the reference says.
func FuzzProgram(f *testing.F) {
	for _, b := range variants() {
		f.Add(b, uint8(0))
		f.Add(b, uint8(0xf))
	}
	r := newParserRig(f)
	f.Fuzz(func(t *testing.T, b []byte, what uint8) {
		// The kernel runs programs on frames with the IP header that they announce, of
		// a page at most.
		if len(b) < 34 || len(b) < 54 && b[12] == 0x86 && b[13] == 0xdd || len(b) > 1600 {
			return
		}
		mine := *r
		mine.TB = t
		mine.try(repair(slices.Clone(b), what), what&withGSO != 0, what&withStale != 0)
	})
}
