// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"

	"vxsnd/internal/vxlan"
)

// obvious is the program that one writes first: it reads one packet, looks its
// VNI up under a lock, and writes one packet per member through a raw socket.
// It keeps the source address and port, so that it does the same job.
func obvious(t table) error {
	var mu sync.RWMutex
	lists := map[vxlan.VNI][]netip.Addr{}
	for k := range t.vnis {
		lists[vxlan.VNI(firstVNI+k)] = t.list(k)
	}
	in, err := listenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), vxlan.Port))
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("ip4:255", "0.0.0.0") // IPPROTO_RAW: sends, never receives
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	out, err := ipv4.NewRawConn(pc)
	if err != nil {
		return fmt.Errorf("open raw socket: %w", err)
	}
	fmt.Println("msg=ready")
	b := make([]byte, 65536)
	for {
		n, src, err := in.ReadFromUDPAddrPort(b)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		v, err := vxlan.ParseHeader(b[:n])
		if err != nil {
			continue
		}
		mu.RLock()
		to := lists[v]
		mu.RUnlock()
		payload := append(udpHeader(src.Port(), vxlan.Port, n), b[:n]...)
		for _, a := range to {
			if a == src.Addr() {
				continue
			}
			h := &ipv4.Header{
				Version: ipv4.Version, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(payload),
				TTL: 64, Protocol: 17, Src: src.Addr().AsSlice(), Dst: a.AsSlice(),
			}
			if err := out.WriteTo(h, payload, nil); err != nil {
				return fmt.Errorf("send to %s: %w", a, err)
			}
		}
	}
}

func udpHeader(src, dst uint16, payload int) []byte {
	n := 8 + payload
	return []byte{byte(src >> 8), byte(src), byte(dst >> 8), byte(dst), byte(n >> 8), byte(n), 0, 0}
}
