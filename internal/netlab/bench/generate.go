// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"vxsnd/internal/vxlan"
)

// The generator's traffic.
const (
	firstPort = 50000 // source ports, one flow each
	flows     = 16
	burst     = 64
)

// generate sends VXLAN packets to the node as fast as one CPU can, in so many
// VNIs from first on in turn, until the time is over. Packets that the node does
// not keep up with are lost in its receive buffer.
func generate(src, dst netip.Addr, first vxlan.VNI, vnis, inner int, d time.Duration) error {
	var conns []*ipv4.PacketConn
	for i := range flows {
		c, err := listenUDP(netip.AddrPortFrom(src, uint16(firstPort+i)))
		if err != nil {
			return err
		}
		defer c.Close()
		conns = append(conns, ipv4.NewPacketConn(c))
	}
	ms := make([]ipv4.Message, vnis+burst) // a burst from any VNI on
	for i := range ms {
		frame := append(vxlan.AppendHeader(nil, first+vxlan.VNI(i%vnis)), make([]byte, inner)...)
		ms[i] = ipv4.Message{Buffers: [][]byte{frame}, Addr: udpAddr(netip.AddrPortFrom(dst, vxlan.Port))}
	}
	next := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, c := range conns {
			if _, err := c.WriteBatch(ms[next:next+burst], 0); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			next = (next + burst) % vnis
		}
	}
	return nil
}

// pinTo binds the calling thread, and the program that it becomes, to a CPU.
func pinTo(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}
