// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// blue and green are the VXLANs of the lab.
const (
	blue  vxlan.VNI = 100
	green vxlan.VNI = 200
)

// patience is how long something in the lab may take: a hundred times what it
// does take, for machines that are busy. A test that waits for what does not
// come makes it shorter.
var patience = 15 * time.Second

// nodeAddr is the service node's address.
var nodeAddr = netip.MustParseAddr("192.0.2.254")

// A lab is the network that is shown: see drawing.
type lab struct {
	*netlab.Lab
	*screen
	bin     string // the directory of the programs
	node    *machine
	vteps   []*machine // vtep1 to vtep4; vtep4 comes and goes
	vxsnd   *daemon
	began   time.Time // when vxsnd was started
	daemons []*daemon // all that were started
	texts   int       // payloads made so far
	headEnd bool      // the VTEPs make the copies, not the service node
}

// steady are the VTEPs that are there all the time.
func (l *lab) steady() []*machine { return l.vteps[:3] }

// A machine is a namespace on the segment, with a capture on its link eth0.
type machine struct {
	*netlab.Namespace
	number  int // of a VTEP, 0 for the service node
	vxrd    *daemon
	addr    netip.Addr
	mac     net.HardwareAddr
	wire    *netlab.Capture
	devices map[vxlan.VNI]*device
}

// newLab makes the machines without their VXLAN devices.
func newLab(s *screen, bin string) (*lab, error) {
	l := &lab{Lab: netlab.New(), screen: s, bin: bin}
	err := l.addMachines()
	if err == nil {
		return l, nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = errors.New("network namespaces need root: run 'sudo make demo'")
	}
	return nil, errors.Join(err, l.Close())
}

func (l *lab) addMachines() error {
	sw, err := l.Switch("switch", 0)
	if err != nil {
		return err
	}
	if l.node, err = l.machine(sw, "node", nodeAddr); err != nil {
		return err
	}
	for i := 1; i <= 4; i++ {
		m, err := l.machine(sw, fmt.Sprintf("vtep%d", i), netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		if err != nil {
			return err
		}
		m.number = i
		l.vteps = append(l.vteps, m)
	}
	return nil
}

func (l *lab) machine(sw *netlab.Switch, name string, addr netip.Addr) (*machine, error) {
	n, err := l.Namespace(name)
	if err != nil {
		return nil, err
	}
	m := &machine{Namespace: n, addr: addr, devices: make(map[vxlan.VNI]*device)}
	if _, err := sw.Attach(n, "eth0", netip.PrefixFrom(addr, 24)); err != nil {
		return nil, err
	}
	link, err := n.Link("eth0")
	if err != nil {
		return nil, err
	}
	m.mac = link.MAC
	m.wire, err = n.Capture("eth0")
	return m, err
}

// title is what a reader calls the machine.
func (m *machine) title() string {
	if m.number == 0 {
		return "service node"
	}
	return m.Name
}

// guestAddr returns the address of VTEP i inside a VXLAN.
func guestAddr(vni vxlan.VNI, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(vni), byte(i)})
}

// A packet is a VXLAN packet that a machine has received, in one piece.
type packet struct {
	netlab.Packet
	vni   vxlan.VNI
	inner []byte
}

// received returns all VXLAN packets that m has received so far, in order. The
// switch shows it others too while it does not know where a MAC is; they are
// left out. The list only ever grows, so its length marks a moment.
func (m *machine) received() ([]packet, error) {
	ps, err := m.wire.Packets(func(p *netlab.Packet) bool {
		return bytes.Equal(p.EtherDst, m.mac) && (p.UDPTo(vxlan.Port) || p.Fragment())
	})
	if err != nil {
		return nil, err
	}
	// Incomplete datagrams are an error there; here the rest has yet to come.
	whole, _ := netlab.Reassemble(ps)
	var out []packet
	for _, p := range whole {
		if !p.UDPTo(vxlan.Port) {
			continue
		}
		vni, inner, err := p.VXLAN()
		if err != nil {
			return nil, fmt.Errorf("%s received a packet on port %d that is not VXLAN: %w", m.Name, vxlan.Port, err)
		}
		out = append(out, packet{p, vni, inner})
	}
	return out, nil
}

// since returns what m has received after its list had the given length.
func (m *machine) since(mark int) ([]packet, error) {
	ps, err := m.received()
	if err != nil {
		return nil, err
	}
	return ps[mark:], nil
}

// mark returns how many VXLAN packets m has received.
func (m *machine) mark() (int, error) {
	ps, err := m.received()
	return len(ps), err
}

// marks returns mark for all machines.
func (l *lab) marks() (map[*machine]int, error) {
	out := make(map[*machine]int)
	for _, m := range append([]*machine{l.node}, l.vteps...) {
		var err error
		if out[m], err = m.mark(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// until waits until cond is true or fails.
func until(ctx context.Context, what string, cond func() (bool, error)) error {
	return within(ctx, patience, what, cond)
}

// within waits until cond is true or fails, for a time at most.
func within(ctx context.Context, limit time.Duration, what string, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not so after %s", limit))
	defer cancel()
	var failed error
	err := netlab.Wait(ctx, what, func() (done bool) {
		done, failed = cond()
		return done || failed != nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// addrs returns the addresses of machines.
func addrs(ms []*machine) (out []netip.Addr) {
	for _, m := range ms {
		out = append(out, m.addr)
	}
	return out
}

// without returns machines but one.
func without(ms []*machine, not *machine) (out []*machine) {
	for _, m := range ms {
		if m != not {
			out = append(out, m)
		}
	}
	return out
}

// addrList puts addresses together as prose does.
func addrList(as []netip.Addr) string {
	var out []string
	for _, a := range as {
		out = append(out, a.String())
	}
	return list(out)
}

// names lists machines, as "vtep1, vtep2 and vtep3".
func names(ms []*machine) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return list(out)
}

// list puts words together as prose does.
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "none"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// count is a number and a noun.
func count(n int, noun string) string {
	if n != 1 {
		if strings.HasSuffix(noun, "y") {
			noun = strings.TrimSuffix(noun, "y") + "ie"
		}
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
