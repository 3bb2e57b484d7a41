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

// generate sends VXLAN packets to the node as fast as one CPU can, until the
// time is over. Packets that the node does not keep up with are lost in its
// receive buffer.
func generate(src, dst netip.Addr, vni vxlan.VNI, inner int, d time.Duration) error {
	frame := append(vxlan.AppendHeader(nil, vni), make([]byte, inner)...)
	var conns []*ipv4.PacketConn
	for i := range flows {
		c, err := listenUDP(netip.AddrPortFrom(src, uint16(firstPort+i)))
		if err != nil {
			return err
		}
		defer c.Close()
		conns = append(conns, ipv4.NewPacketConn(c))
	}
	ms := make([]ipv4.Message, burst)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{frame}, Addr: udpAddr(netip.AddrPortFrom(dst, vxlan.Port))}
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for _, c := range conns {
			if _, err := c.WriteBatch(ms, 0); err != nil {
				return fmt.Errorf("send: %w", err)
			}
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
