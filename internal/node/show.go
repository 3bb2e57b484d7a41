// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/anycast"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
)

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
	s.VxfldPort, s.VRF, s.MetricsListen = c.VxfldPort, c.VRF, c.MetricsListen
	if e := n.flooding.current(); e != nil {
		s.Engine = e.String()
		s.VXLANListenPort, s.VXLANDestPort = c.VXLANListenPort, c.VXLANDestPort
	}
	if k, ok := n.kernel(); ok {
		s.EngineReason, s.Devices = k.Reason, k.Devices
		if k.Loaded {
			s.Kernel = shownKernel(&k)
		}
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
	s.Queues.Receive, s.Queues.Send = n.flooding.backlog()
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

// shownAddress is the state of the service address as the management socket
// shows it.
func shownAddress(addr netip.Addr, s anycast.State) *control.Anycast {
	out := &control.Anycast{
		Address: addr, Interface: s.Iface, Owner: s.Owner.String(), Healthy: s.Healthy, Draining: s.Draining,
	}
	if !s.Since.IsZero() {
		out.SinceSeconds = int64(time.Since(s.Since) / time.Second)
	}
	if s.Err != nil {
		out.Problem = s.Err.Error()
	} else if s.Health != nil {
		out.Problem = s.Health.Error()
	}
	return out
}

// shownPeers are the peers as the management socket shows them, in the order of
// the configuration. Names that do not resolve come last.
func (n *Node) shownPeers() []control.Peer {
	now := clock()
	ago := func(t fdb.Time) int64 { return int64(max(0, now.Sub(t)) / time.Second) }
	out := []control.Peer{}
	names, failed := n.guard.names()
	for _, s := range n.group.States() {
		p := control.Peer{
			Address: s.Addr, Name: names[s.Addr], Kind: "other", Reachable: s.Reachable,
			Queue: s.Queue, Waiting: s.Waiting, All: s.All,
			Relayed: s.Relayed, Dropped: s.Dropped, RelayErrors: s.RelayErrors,
			Updates: s.Updates, UpdateConnections: s.UpdateConnections, UpdateErrors: s.UpdateErrors,
			Differ: s.Differ,
		}
		if s.Ours {
			p.Kind = "vxsnd"
		}
		p.Faulty, p.Silent = s.Fault != nil, s.Silent
		if err := cmp.Or(s.Err, s.Fault); err != nil {
			p.Problem = err.Error()
		}
		if s.Loss != nil {
			p.RelayProblem = s.Loss.Error()
		}
		p.Refuses = s.Refuses
		if s.Asked != 0 {
			asked := ago(s.Asked)
			p.AskedFor = &asked
		}
		if s.LastHeard != 0 {
			heard := ago(s.LastHeard)
			p.LastHeard = &heard
		}
		if d := s.LastDump; d.When != 0 {
			p.LastDump = &control.Dump{Ago: ago(d.When), Entries: d.Entries, Milliseconds: d.Duration.Milliseconds()}
			if d.Err != nil {
				p.LastDump.Problem = d.Err.Error()
			}
		}
		out = append(out, p)
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		out = append(out, control.Peer{Name: name, Kind: "other", Problem: failed[name].Error()})
	}
	return out
}
