// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// What the tests of the program work with.
var (
	service = netip.MustParseAddr("192.0.2.1")
	sender  = netip.MustParseAddr("198.51.100.1")
	nextHop = [6]byte{2, 0, 0, 0, 0, 9}
)

const (
	forever = math.MaxUint64
	hold    = 90 * time.Second

	// sentPort is the source port of the packets.
	sentPort = 50000

	// good is the destination whose copies go to eth0, lost one without a way, silent
	// one whose next hop does not answer, and forbidden one that a route prohibits.
	good, lost, silent, forbidden = 1, 2, 3, 4
)

// A rig is the program with maps that a test fills. Frames are run through it in
// a namespace, whose copies leave by a cable.
//
//	lo (frames) - node - eth0 --- eth0 - far
type rig struct {
	testing.TB
	*kernel
	node, far *netlab.Namespace
	eth0      netlab.Link
	slots     uint32 // in use
	next      int    // record
	flows     []programFlow
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRig(t testing.TB) *rig {
	t.Helper()
	lab := netlab.Test(t)
	r := &rig{TB: t}
	var err error
	r.node, err = lab.Namespace("node")
	check(t, err)
	r.far, err = lab.Namespace("far")
	check(t, err)
	check(t, netlab.Veth(r.node, "eth0", r.far, "eth0", 0))
	r.eth0, err = r.node.Link("eth0")
	check(t, err)
	r.kernel, err = load(16)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	r.flows, err = share[programFlow](r.kernel, r.objects.Flows)
	check(t, err)
	_, err = r.grow()
	check(t, err)
	check(t, r.setService(service))
	*r.settings = programSetting{
		Lease: forever, LearnHold: uint64(hold), Port: swap(vxlan.Port), DestPort: swap(vxlan.Port),
	}
	r.kernel.devices[1] = programDevice{Ifindex: uint32(r.eth0.Index), Mac: [6]byte(r.eth0.MAC)}
	r.kernel.dests[good].Hop = uint64(makeHop(1, nextHop))
	for dest, why := range map[int]uint64{lost: whyUnreachable, silent: whyUnresolved, forbidden: whyRefused} {
		r.kernel.dests[dest].Why = why
	}
	return r
}

// swap returns a port as it lies in a packet.
func swap(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}

// to returns a member that lives for ever and whose packets are replicated.
func to(addr netip.Addr, dest uint32) programMember {
	return programMember{Addr: network(addr), Dest: dest | memberKnown, Expires: forever}
}

// vni has the program know a VNI, and returns its slot and its records.
func (r *rig) vni(vni vxlan.VNI, mtu int, members ...programMember) (*programSlot, []programMember) {
	r.Helper()
	at := makePosition(0, r.next)
	copy(r.members[0][r.next:], members)
	s := &r.kernel.slots[r.slots]
	*s = programSlot{Vni: uint32(vni), Word: uint64(makeWord(len(members), mtu, at))}
	check(r, r.setVNI(uint32(vni), r.slots))
	r.slots++
	r.next += len(members)
	return s, r.members[0][at.index():][:len(members)]
}

// frame returns a packet of the sender as lo receives it.
func frame(vni vxlan.VNI, inner int, change ...func(*netlab.Datagram)) []byte {
	b := make([]byte, inner)
	for i := range b {
		b[i] = byte(i)
	}
	d := netlab.Datagram{
		Src: netip.AddrPortFrom(sender, sentPort), Dst: netip.AddrPortFrom(service, vxlan.Port),
		TTL: 64, NoChecksum: true, Payload: netlab.Encapsulate(vni, b),
	}
	for _, f := range change {
		f(&d)
	}
	return d.Frame(make([]byte, 6), []byte{2, 0, 0, 0, 0, 1})
}

// skb is the part of struct __sk_buff (linux/bpf.h) that a run may set.
type skb struct {
	_       [152]byte
	Tstamp  uint64
	_       uint32
	GSOSegs uint32
	_       [8]byte
	GSOSize uint32
	_       [12]byte
}

const (
	wentUp = 0xffffffff // TC_ACT_UNSPEC
	done   = 2          // TC_ACT_SHOT
)

// run has the program take a frame of a flow that has not been there before, and
// returns its verdict and what it left of the frame.
func (r *rig) run(frame []byte, context *skb) (verdict uint32, left []byte) {
	r.Helper()
	clear(r.flows)
	return r.runOn(frame, context)
}

// runOn is run for a frame of a flow that may have been there.
func (r *rig) runOn(frame []byte, context *skb) (verdict uint32, left []byte) {
	r.Helper()
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
	if context != nil {
		o.Context = context
	}
	check(r, r.node.Do(func() (err error) {
		verdict, err = r.objects.Flood.Run(&o)
		return err
	}))
	return verdict, o.DataOut
}

// reason returns why the one packet went up that did since before.
func (r *rig) reason(before [numUps]uint64) up {
	r.Helper()
	after, err := r.handedUp()
	check(r, err)
	found := upForeign
	for u := range numUps {
		switch n := after[u] - before[u]; {
		case n > 1 || n == 1 && found != upForeign:
			r.Fatalf("got %v, before %v, want one packet more", after, before)
		case n == 1:
			found = u
		}
	}
	return found
}

// now returns the program's time.
func now(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return uint64(ts.Nano())
}
