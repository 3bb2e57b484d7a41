// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// What VTEPs register. Registration i is that of VTEP i % fullVTEPs for the
// i / fullVTEPs-th block of VNIs, so that the first 10,000 registrations make
// a table of 1000 VNIs with 1000 VTEPs each.
const (
	perMessage = 100  // VNIs of a registration
	fullVTEPs  = 1000 // VTEPs of each VNI
	fullVNIs   = 1000
	firstVNI   = 10000

	fullRegistrations = fullVTEPs * fullVNIs / perMessage

	// registeredFor outlasts the benchmark.
	registeredFor = 3600
)

// registrant returns the address of VTEP i.
func registrant(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}) }

// register sends n registrations to a service node, at a rate of so many
// members per second, each from the VTEP's own address and in as many messages
// as its daemon would make of it.
func register(to netip.Addr, n, rate int) error {
	pc, err := openTransparent()
	if err != nil {
		return err
	}
	defer pc.Close()
	ms, err := messages(netip.AddrPortFrom(to, controlPort), n)
	if err != nil {
		return err
	}
	begin := time.Now()
	for sent := 0; sent < n; {
		due := min(n, int(time.Since(begin).Seconds()*float64(rate)/perMessage)+1)
		for sent < due {
			for rest := ms[sent]; len(rest) > 0; {
				k, err := pc.WriteBatch(rest, 0)
				if err != nil {
					return fmt.Errorf("send: %w", err)
				}
				rest = rest[k:]
			}
			sent++
		}
		time.Sleep(time.Millisecond)
	}
	_, err = fmt.Printf("sent=%g\n", time.Since(begin).Seconds())
	return err
}

// controlPort is where registrations go to.
const controlPort = 10001

// openTransparent opens a UDP socket that sends from addresses that the machine
// has not.
func openTransparent() (*ipv4.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("IP_TRANSPARENT", unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1))
		})
		return errors.Join(cerr, err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	return ipv4.NewPacketConn(c), nil
}

// messages returns the messages of each of n registrations.
func messages(to netip.AddrPort, n int) ([][]ipv4.Message, error) {
	dst := udpAddr(to)
	out := make([][]ipv4.Message, n)
	for i := range out {
		vtep := registrant(i % fullVTEPs)
		oob := (&ipv4.ControlMessage{Src: vtep.AsSlice()}).Marshal()
		emit := func(msg []byte) error {
			out[i] = append(out[i], ipv4.Message{Buffers: [][]byte{append([]byte(nil), msg...)}, OOB: oob, Addr: dst})
			return nil
		}
		head := vxfld.Refresh{Originator: true, Holdtime: registeredFor, Identifier: uint64(i%fullVTEPs + 1)}
		pack, err := vxfld.NewPacker(vxfld.V3, head, defaultPacketSize-vxfld.Overhead)
		if err != nil {
			return nil, err
		}
		for k := range perMessage {
			vni := vxlan.VNI(firstVNI + i/fullVTEPs*perMessage + k)
			if err := pack.Add(vxfld.VNIMembers{VNI: vni, Addrs: []netip.Addr{vtep}}, emit); err != nil {
				return nil, err
			}
		}
		if err := pack.Flush(emit); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// defaultPacketSize is the default of max_packet_size.
const defaultPacketSize = 1500

// register has n registrations sent to a node, and returns how many seconds
// that took.
func (g *group) register(ctx context.Context, s *snode, n, rate int) (float64, error) {
	proc, err := g.start(g.vteps, senderCPU, g.self, "register", s.addr.String(), strconv.Itoa(n), strconv.Itoa(rate))
	if err != nil {
		return 0, err
	}
	line, err := proc.WaitLine(ctx, func(l string) bool { return strings.HasPrefix(l, "sent=") })
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimPrefix(line, "sent="), 64)
}
