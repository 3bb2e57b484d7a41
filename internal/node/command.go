// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"

	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// Commands returns what the management socket answers. base fills in what an
// answer to show says of the process.
func (n *Node) Commands(base func() control.Status) []control.Command {
	l := newLister(n.table)
	return []control.Command{
		{Name: control.CommandShow, Run: func(_ context.Context, call *control.Call) error {
			if err := control.DecodeArgs(call.Args, &struct{}{}); err != nil {
				return err
			}
			s := base()
			n.fillStatus(&s)
			return call.Send(&s)
		}},
		{Name: control.CommandFDB, Run: func(ctx context.Context, call *control.Call) error {
			var a control.FDBArgs
			if err := control.DecodeArgs(call.Args, &a); err != nil {
				return err
			}
			if a.VNI == nil {
				return l.send(ctx, n.table.VNIs(nil), n.withVia(call.Send))
			}
			vni := vxlan.VNI(*a.VNI)
			if !vni.Valid() {
				return &control.Error{
					Code: control.CodeBadArgument, Text: fmt.Sprintf("vni %d is out of range 0..%d", *a.VNI, vxlan.MaxVNI),
				}
			}
			return l.send(ctx, []vxlan.VNI{vni}, n.withVia(call.Send))
		}},
		{Name: control.CommandPeers, Run: func(_ context.Context, call *control.Call) error {
			if err := control.DecodeArgs(call.Args, &struct{}{}); err != nil {
				return err
			}
			return call.Send(n.shownPeers())
		}},
	}
}

// fillStatus says how the node does.
func (n *Node) fillStatus(s *control.Status) {
	c := n.config()
	select {
	case <-n.ready:
		s.Ready = true
	default:
		s.Waiting = "the table of a peer"
	}
	if a := n.address(); a != nil {
		s.Anycast = shownAddress(c.SvcnodeIP, a.State())
	}
	s.Asking = n.group.Asking()
	s.Engine = "none"
	s.ProtocolVersion = int(vxfld.V3)
	s.VxfldPort, s.VRF = c.VxfldPort, c.VRF
	if e := n.flooding.current(); e != nil {
		s.Engine = e.String()
		s.VXLANListenPort, s.VXLANDestPort = c.VXLANListenPort, c.VXLANDestPort
	}
	if !c.SvcnodeIP.IsUnspecified() {
		s.SvcnodeIP = c.SvcnodeIP
	}
	if !c.SrcIP.IsUnspecified() {
		s.SrcIP = c.SrcIP
	}
	for _, p := range n.guard.others() {
		s.Peers = append(s.Peers, p.String())
	}

	t := n.table.Stats()
	s.VNIs, s.Members, s.Entries = t.VNIs, t.Members, t.Entries
	s.BySource = make(map[string]int)
	for src, count := range t.BySource {
		s.BySource[fdb.Source(src).String()] = count
	}
	f := n.flooding.counters()
	s.Packets, s.Bytes, s.Copies, s.CopyBytes = f.Packets, f.Bytes, f.Copies, f.CopyBytes
	s.Fragmented, s.Learned, s.Loops = f.Fragmented, f.Learned, f.Loops
	s.Drops = make(map[string]uint64)
	for d := metrics.DropNone + 1; d < metrics.NumDrops; d++ {
		s.Drops[d.String()] = f.Drops[d]
	}
	s.Registrations = make(map[string]uint64)
	for v := range register.NumVerdicts {
		s.Registrations[v.String()] = n.register.Counters().Verdicts[v].Load()
	}
	s.PeerConnections.Accepted, s.PeerConnections.Refused = make(map[string]uint64), make(map[string]uint64)
	for v := range peer.NumVerdicts {
		counts := s.PeerConnections.Refused
		if v.Accepted() {
			counts = s.PeerConnections.Accepted
		}
		counts[v.String()] = n.group.Counters().Verdicts[v].Load()
	}
}

// withVia has send tell by which peer static members came.
func (n *Node) withVia(send func(any) error) func(any) error {
	return func(v any) error {
		part, _ := v.(control.FDBPart)
		for i := range part {
			if e := &part[i]; e.Source == fdb.Peer.String() && e.Seconds == nil {
				e.Via, _ = n.group.Via(vxlan.VNI(e.VNI), e.Address)
			}
		}
		return send(v)
	}
}
