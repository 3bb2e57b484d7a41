// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// churnRate is the number of changes per second of a restless table.
const churnRate = 1000

// churn registers and withdraws members of a table at a service node, each from
// its own address, for a while.
func churn(to netip.Addr, t table, rate int, length time.Duration) error {
	pc, err := openTransparent()
	if err != nil {
		return err
	}
	defer pc.Close()
	ms, err := changeMessages(to, t.changes())
	if err != nil {
		return err
	}
	begin := time.Now()
	for i := 0; time.Since(begin) < length; {
		if due := int(time.Since(begin).Seconds() * float64(rate)); i >= due {
			time.Sleep(time.Millisecond)
			continue
		}
		if _, err := pc.WriteBatch(ms[i%len(ms):i%len(ms)+1], 0); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		i++
	}
	return nil
}

// changeMessages returns the messages to a service node that make changes known.
func changeMessages(to netip.Addr, cs []change) ([]ipv4.Message, error) {
	dst := udpAddr(netip.AddrPortFrom(to, controlPort))
	var ms []ipv4.Message
	for _, c := range cs {
		m, err := registration(c)
		if err != nil {
			return nil, err
		}
		oob := (&ipv4.ControlMessage{Src: c.addr.AsSlice()}).Marshal()
		ms = append(ms, ipv4.Message{Buffers: [][]byte{m}, OOB: oob, Addr: dst})
	}
	return ms, nil
}

// registration returns the message that makes a change known.
func registration(c change) ([]byte, error) {
	holdtime := uint32(registeredFor)
	if !c.add {
		holdtime = vxfld.HoldtimeWithdraw
	}
	a := c.addr.As4()
	head := vxfld.Refresh{Originator: true, Holdtime: holdtime, Identifier: uint64(a[2])<<8 | uint64(a[3])}
	pack, err := vxfld.NewPacker(vxfld.V3, head, defaultPacketSize-vxfld.Overhead)
	if err != nil {
		return nil, err
	}
	var out []byte
	emit := func(msg []byte) error {
		out = append(out, msg...)
		return nil
	}
	err = pack.Add(vxfld.VNIMembers{VNI: vxlan.VNI(firstVNI + c.vni), Addrs: []netip.Addr{c.addr}}, emit)
	if err == nil {
		err = pack.Flush(emit)
	}
	return out, err
}
