// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// An agent speaks the control protocol (docs/protocol.md) with the service node
// as a registration daemon on a VTEP does.
type agent struct {
	*machine
	conn *net.UDPConn
}

// newAgent opens the socket of a registration daemon: it sends from the port
// that it sends to (PROTOCOL section 1).
func newAgent(m *machine) (*agent, error) {
	c, err := m.ListenUDP(netip.AddrPortFrom(m.addr, vxfld.Port))
	if err != nil {
		return nil, err
	}
	return &agent{m, c}, nil
}

// exchange sends a message that asks for the members of one VNI, and returns
// them as the node answers, sorted, with the size of the message. A datagram
// may get lost on a busy machine, so it asks again.
func (a *agent) exchange(ctx context.Context, v vxfld.Version, vni vxlan.VNI, r *vxfld.Refresh) (
	members []netip.Addr, size int, err error) {
	b, err := vxfld.Message{Version: v, Body: r}.Append(nil)
	if err != nil {
		return nil, 0, err
	}
	buf := make([]byte, vxfld.MaxDatagram)
	err = until(ctx, fmt.Sprintf("the node's answer to a version %d message", v), func() (bool, error) {
		if _, err := a.conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(nodeAddr, vxfld.Port)); err != nil {
			return false, err
		}
		if err := a.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return false, err
		}
		n, from, err := a.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		m, err := vxfld.Parse(buf[:n])
		if err != nil {
			return false, fmt.Errorf("the node's answer: %w", err)
		}
		answer, ok := m.Body.(*vxfld.Refresh)
		if !ok || m.Version != v || from != netip.AddrPortFrom(nodeAddr, vxfld.Port) {
			return false, fmt.Errorf("got an answer in version %d from %s, want version %d from %s port %d",
				m.Version, from, v, nodeAddr, vxfld.Port)
		}
		for _, of := range answer.VNIs {
			if of.VNI == vni {
				members = append(members, of.Addrs...)
			}
		}
		slices.SortFunc(members, netip.Addr.Compare)
		return true, nil
	})
	return members, len(b), err
}

// ask returns the members of a VNI that has some: for others there is no answer.
func (a *agent) ask(ctx context.Context, vni vxlan.VNI) ([]netip.Addr, error) {
	members, _, err := a.exchange(ctx, vxfld.V3, vni, &vxfld.Refresh{
		Originator: true, Holdtime: vxfld.HoldtimeDefault, Response: vxfld.ResponseRequested,
		VNIs: []vxfld.VNIMembers{{VNI: vni}},
	})
	return members, err
}

// register makes the agent's VTEP a member of a VNI for a number of seconds, 0
// to withdraw it, and returns the members that the node answers with.
func (a *agent) register(ctx context.Context, v vxfld.Version, vni vxlan.VNI, holdtime uint32) (
	members []netip.Addr, size int, err error) {
	r := &vxfld.Refresh{
		Originator: true, Holdtime: holdtime,
		VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{a.addr}}},
	}
	// Version 1 cannot ask, and is answered; only version 3 names the sender.
	if v >= vxfld.V2 {
		r.Response = vxfld.ResponseRequested
	}
	if v >= vxfld.V3 {
		r.Identifier = 0x5254_0000_0004
	}
	return a.exchange(ctx, v, vni, r)
}

// wantMembers fails unless members are the addresses of exactly these machines.
func wantMembers(vni vxlan.VNI, members []netip.Addr, want ...*machine) error {
	var addrs []netip.Addr
	for _, m := range want {
		addrs = append(addrs, m.addr)
	}
	if !slices.Equal(members, addrs) {
		return fmt.Errorf("got %v as the members of VNI %s at the node, want %v", members, vni, addrs)
	}
	return nil
}

// addrList puts addresses together as prose does.
func addrList(as []netip.Addr) string {
	var out []string
	for _, a := range as {
		out = append(out, a.String())
	}
	return list(out)
}
