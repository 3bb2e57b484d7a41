// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// The lab of most tests: the service node and VTEPs on one Ethernet segment.
//
//	       node 192.0.2.254
//	          │ eth0
//	───────── switch ─────────  192.0.2.0/24
//	│ eth0    │ eth0      │ eth0
//	1         2    …      N      192.0.2.N
//
// A VTEP is a machine with a capture on its link. Unless a test gives it a
// kernel VXLAN device it only takes note of what arrives at port 4789.
type lab struct {
	*netlab.Lab
	*netlab.Switch
	t      *testing.T
	engine engine // of nodes; "" for what the program itself prefers
}

const (
	// nodeAddr is the service node's address.
	nodeAddr = "192.0.2.254"

	// dataPort is where VXLAN data goes to, ctlPort where registrations do.
	dataPort = vxlan.Port
	ctlPort  = 10001

	// markerVNI has all VTEPs as its members; see machine.flush.
	markerVNI vxlan.VNI = 16777214
)

// newLab returns a lab without machines. MTU 0 is 1500.
func newLab(t *testing.T, mtu int) *lab {
	t.Helper()
	l := netlab.Test(t)
	return &lab{Lab: l, Switch: must(l.Switch("switch", mtu))(t), t: t}
}

// A machine is one on the segment, with a capture on its link eth0.
type machine struct {
	*netlab.Namespace
	lab  *lab
	addr netip.Addr // the first of its addresses
	mac  net.HardwareAddr
	port string // of the switch
	cap  *netlab.Capture
}

// machine adds a machine with addresses such as 192.0.2.1/24.
func (l *lab) machine(name string, addrs ...string) *machine {
	l.t.Helper()
	m := &machine{Namespace: must(l.Lab.Namespace(name))(l.t), lab: l}
	m.port = must(l.Attach(m.Namespace, "eth0"))(l.t)
	for _, a := range addrs {
		p := netip.MustParsePrefix(a)
		check(l.t, m.AddAddr("eth0", p))
		if !m.addr.IsValid() {
			m.addr = p.Addr()
		}
	}
	m.mac = must(m.Link("eth0"))(l.t).MAC
	m.cap = must(m.Capture("eth0"))(l.t)
	return m
}

// cable adds a machine that is not on the segment but on a link of its own to
// another, dev there, with a socket that takes in what arrives at port 4789.
func (l *lab) cable(name, addr string, to *machine, dev, toAddr string, mtu int) *machine {
	l.t.Helper()
	m := &machine{Namespace: must(l.Lab.Namespace(name))(l.t), lab: l}
	check(l.t, netlab.Veth(m.Namespace, "eth0", to.Namespace, dev, mtu))
	p := netip.MustParsePrefix(addr)
	m.addr = p.Addr()
	check(l.t, m.AddAddr("eth0", p))
	check(l.t, to.AddAddr(dev, netip.MustParsePrefix(toAddr)))
	m.mac = must(m.Link("eth0"))(l.t).MAC
	m.cap = must(m.Capture("eth0"))(l.t)
	m.listen(dataPort)
	return m
}

// vtep adds the VTEP 192.0.2.i. A socket takes in what is sent to port 4789, so
// that the kernel does not answer that the port is closed.
func (l *lab) vtep(i int) *machine {
	l.t.Helper()
	m := l.kernelVTEP(i)
	m.listen(dataPort)
	return m
}

// kernelVTEP adds the VTEP 192.0.2.i with port 4789 free for VXLAN devices.
func (l *lab) kernelVTEP(i int) *machine {
	l.t.Helper()
	return l.machine(fmt.Sprintf("vtep%d", i), fmt.Sprintf("192.0.2.%d/24", i))
}

// vteps adds the VTEPs 192.0.2.1 to 192.0.2.n.
func (l *lab) vteps(n int) []*machine {
	l.t.Helper()
	var ms []*machine
	for i := 1; i <= n; i++ {
		ms = append(ms, l.vtep(i))
	}
	return ms
}

// listen binds a UDP port of the machine.
func (m *machine) listen(port uint16) *net.UDPConn {
	m.lab.t.Helper()
	c := must(m.ListenUDP(netip.AddrPortFrom(m.addr, port)))(m.lab.t)
	m.lab.t.Cleanup(func() { c.Close() })
	return c
}

// packet returns a VXLAN packet from the VTEP to the node as hardware VTEPs
// send them: no checksum, source port per flow.
func (m *machine) packet(n *node, vni vxlan.VNI, inner []byte) netlab.Datagram {
	return netlab.Datagram{
		Src:        netip.AddrPortFrom(m.addr, 50000),
		Dst:        netip.AddrPortFrom(n.addr, dataPort),
		TTL:        64,
		NoChecksum: true,
		Payload:    netlab.Encapsulate(vni, inner),
	}
}

// send puts packets on the wire, from the machine to the node's link.
func (m *machine) send(n *node, ds ...netlab.Datagram) {
	m.lab.t.Helper()
	frames := make([][]byte, len(ds))
	for i, d := range ds {
		frames[i] = d.Frame(n.mac, m.mac)
	}
	check(m.lab.t, m.Send("eth0", frames...))
}

// flood sends inner frames to the node, of one flow, in order.
func (m *machine) flood(n *node, vni vxlan.VNI, inner ...[]byte) {
	m.lab.t.Helper()
	ds := make([]netlab.Datagram, len(inner))
	for i, f := range inner {
		ds[i] = m.packet(n, vni, f)
	}
	m.send(n, ds...)
}

// load floods packets of as many flows as keep all workers of the node busy,
// until the function that it returns is called.
func (m *machine) load(n *node, vni vxlan.VNI) (stop func()) {
	t := m.lab.t
	t.Helper()
	var frames [][]byte
	for i := range 64 {
		d := m.packet(n, vni, frame(netlab.Broadcast, i, 1000))
		d.Src = netip.AddrPortFrom(m.addr, uint16(50000+i))
		frames = append(frames, d.Frame(n.mac, m.mac))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := m.Send("eth0", frames...); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// drain waits until the node has read all that has arrived at its data port, so
// that there is room for more.
func (n *node) drain() {
	t := n.lab.t
	t.Helper()
	port := fmt.Sprintf(":%04X ", dataPort)
	check(t, netlab.Wait(within(t), "an empty receive queue", func() bool {
		sockets := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", n.proc.PID())))(t))
		for line := range strings.Lines(sockets) {
			// sl local_address rem_address st tx_queue:rx_queue …
			if f := strings.Fields(line); strings.Contains(line, port) && !strings.HasSuffix(f[4], ":00000000") {
				return false
			}
		}
		return true
	}))
}

// A received packet is a VXLAN packet that arrived, in one piece.
type received struct {
	netlab.Packet
	vni   vxlan.VNI
	inner []byte
}

// decode returns those of the captured packets that are VXLAN, put together
// where they came in fragments, without markers.
func (m *machine) decode(ps []netlab.Packet) []received {
	m.lab.t.Helper()
	var out []received
	for _, p := range must(netlab.Reassemble(ps))(m.lab.t) {
		if !p.UDPTo(dataPort) {
			continue
		}
		vni, inner, err := p.VXLAN()
		if err != nil {
			m.lab.t.Fatalf("%s: got a packet that is not VXLAN: %v", m.Name, err)
		}
		if vni != markerVNI {
			out = append(out, received{p, vni, inner})
		}
	}
	return out
}

// toMe tells packets to the machine that are VXLAN, or may be part of one. The
// switch shows it others too, while it does not know where a MAC is.
func (m *machine) toMe(p *netlab.Packet) bool {
	return bytes.Equal(p.EtherDst, m.mac) && (p.UDPTo(dataPort) || p.Fragment())
}

// got returns the VXLAN packets that the machine has received, in order. To see
// all that it will ever get, flush before.
func (m *machine) got() []received {
	m.lab.t.Helper()
	return m.decode(must(m.cap.Packets(m.toMe))(m.lab.t))
}

// await waits until the machine has received n VXLAN packets.
func (m *machine) await(n int) []received {
	m.lab.t.Helper()
	var out []received
	err := netlab.Wait(within(m.lab.t), fmt.Sprintf("%d packets at %s", n, m.Name), func() bool {
		ps := must(m.cap.Packets(m.toMe))(m.lab.t)
		whole, _ := netlab.Reassemble(ps)
		out = m.decode(whole)
		return len(out) >= n
	})
	if err != nil {
		m.lab.t.Fatalf("%v: got %d", err, len(out))
	}
	return out
}

// forget drops what has been captured so far.
func (m *machine) forget() {
	m.lab.t.Helper()
	check(m.lab.t, m.cap.Reset())
}

// markers counts the markers of the tests in this process.
var markers atomic.Uint64

// flush sends a marker the same way as flood does and waits until it is at
// every one of others. A worker of the node handles one packet after the other,
// so all copies of what this machine sent before have been sent by then. Where
// the kernel floods it has done so before a later packet comes to a worker,
// which the marker does for its checksum. The others must be members of
// markerVNI (see markerConfig), or the first marker of each makes it one.
func (m *machine) flush(n *node, others ...*machine) {
	m.lab.t.Helper()
	text := fmt.Appendf(nil, "marker %d", markers.Add(1))
	d := m.packet(n, markerVNI, netlab.Ethernet(netlab.Broadcast, m.mac, experimental, text))
	d.NoChecksum = false
	m.send(n, d)
	others = without(others, m)
	if len(others) == 0 {
		m.lab.t.Fatal("flush: nobody to wait for")
	}
	for _, o := range others {
		must(o.cap.Wait(within(m.lab.t), 1, func(p *netlab.Packet) bool {
			return o.toMe(p) && bytes.HasSuffix(p.Payload, text)
		}))(m.lab.t)
	}
}

// markerConfig returns the configuration line that makes the machines members
// of markerVNI.
func markerConfig(ms ...*machine) string {
	var out string
	for _, m := range ms {
		out += fmt.Sprintf("vtep_membership = %s %d\n", m.addr, markerVNI)
	}
	return out
}

// memberConfig returns configuration that makes machines static members of VNIs.
func memberConfig(vnis []vxlan.VNI, ms ...*machine) string {
	var out string
	for _, m := range ms {
		out += fmt.Sprintf("vtep_membership = %s", m.addr)
		for _, v := range vnis {
			out += " " + v.String()
		}
		out += "\n"
	}
	return out
}

// without returns ms less m.
func without(ms []*machine, m *machine) []*machine {
	return slices.DeleteFunc(slices.Clone(ms), func(o *machine) bool { return o == m })
}
