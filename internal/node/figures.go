// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/peer"
	"vxsnd/internal/register"
)

// Figures returns the node's figures of now. What is about the process is for the
// caller to add: Started, FailedChecks, LogLinesLost, Clients. It may be called
// concurrently.
func (n *Node) Figures() prom.Figures {
	n.sync(context.Background())
	c := n.config()
	f := prom.Figures{
		Alive: n.Alive() == nil, Flood: n.flooding.counters(), Latency: n.latency.Load(),
		Table: n.tableFigures(&c), Registration: n.registrationFigures(), Peering: n.peeringFigures(), Peers: n.peerFigures(),
		Capture: prom.Capture{
			Running: n.captures.running(), Packets: n.captures.packets.Load(), Lost: n.captures.lost.Load(),
		},
	}
	select {
	case <-n.ready:
		f.Ready = true
	default:
	}
	if e := n.flooding.current(); e != nil {
		f.Engine = e.String()
	}
	f.ReceiveQueue, f.SendQueue = n.flooding.backlog()
	if k, ok := n.kernel(); ok {
		f.EngineReason, f.Kernel = k.Why, kernelFigures(&k)
	}
	if a := n.address(); a != nil {
		s := a.State()
		f.Anycast = &prom.Anycast{Installed: s.Installed(), Healthy: s.Healthy, Draining: s.Draining}
	}
	rows, other := n.traffic.Load(nil)
	f.Other = other
	if c.MetricsMaxVNIs > 0 {
		f.VNIs = slices.Collect(n.eachVNI(n.table.VNIs(nil), rows))
	}
	return f
}

func (n *Node) tableFigures(c *config.Config) prom.Table {
	s := n.table.Stats()
	return prom.Table{
		VNIs: s.VNIs, Members: s.Members, Tombstones: s.Tombstones,
		Entries: byName(s.BySource[:], func(i int) string { return fdb.Source(i).String() }),
		MaxVNIs: c.Limits.MaxVNIs, MaxMembers: c.Limits.MaxMembers,
		MaxEntries: c.Limits.MaxEntries, MaxLearned: c.Limits.MaxLearned,
		Expired: s.Expired, Evicted: s.Evicted, Withdrawn: s.Withdrawn, Replaced: s.Replaced,
		Refused: byName(s.Refused[:], refusalName),
	}
}

func refusalName(i int) string { return fdb.Refusal(i).String() }

// byName returns a map of values by the names of their places.
func byName[T any](values []T, name func(int) string) map[string]T {
	m := make(map[string]T, len(values))
	for i, v := range values {
		m[name(i)] = v
	}
	return m
}

// counts returns the values of counters.
func counts(cs []atomic.Uint64) []uint64 {
	values := make([]uint64, len(cs))
	for i := range cs {
		values[i] = cs[i].Load()
	}
	return values
}

// outcomes names what the table did with entries.
func outcomes(added, refreshed, withdrawn, replaced, evicted *atomic.Uint64) map[string]uint64 {
	return map[string]uint64{
		"added": added.Load(), "refreshed": refreshed.Load(), "withdrawn": withdrawn.Load(),
		"replaced": replaced.Load(), "evicted": evicted.Load(),
	}
}

func (n *Node) registrationFigures() prom.Registration {
	c := n.register.Counters()
	r := prom.Registration{
		Messages:   make(map[prom.Message]uint64),
		ReadErrors: c.ReadErrors.Load(),
		Entries:    outcomes(&c.Added, &c.Refreshed, &c.Withdrawn, &c.Replaced, &c.Evicted),
		Refused:    byName(counts(c.Refused[:]), refusalName),
		LeftOut:    byName(counts(c.LeftOut[:]), func(i int) string { return register.LeftOut(i).String() }),
		Questions:  c.Questions.Load(), Merged: c.Merged.Load(), Dropped: c.Dropped.Load(),
		Withheld:       c.Withheld.Load(),
		UnansweredVNIs: c.VNIsDropped.Load() + c.TooLarge.Load(),
		Answers:        c.Answers.Load(), Empty: c.Empty.Load(), Abandoned: c.Abandoned.Load(), Cut: c.Cut.Load(),
		AnswerMessages: c.Messages.Load(), AnswerBytes: c.Bytes.Load(),
		WriteErrors: c.WriteErrors.Load(),
	}
	for version := range c.Received {
		name := "unknown"
		if version > 0 {
			name = strconv.Itoa(version)
		}
		for v := range c.Received[version] {
			r.Messages[prom.Message{Version: name, Verdict: register.Verdict(v).String()}] = c.Received[version][v].Load()
		}
	}
	return r
}

func (n *Node) peeringFigures() prom.Peering {
	c := n.group.Counters()
	return prom.Peering{
		Connections:  byName(counts(c.Verdicts[:]), func(i int) string { return peer.Verdict(i).String() }),
		AcceptErrors: c.AcceptErrors.Load(),
		Answers:      c.Answers.Load(), AnswerEntries: c.Entries.Load(),
		Entries: outcomes(&c.Added, &c.Refreshed, &c.Withdrawn, &c.Replaced, &c.Evicted),
		Refused: byName(counts(c.Refused[:]), refusalName),
	}
}

func (n *Node) peerFigures() (peers []prom.Peer) {
	now := clock()
	for _, s := range n.group.States() {
		p := prom.Peer{
			Name: s.Addr.String(), Up: s.Reachable && s.Fault == nil, Heard: -1,
			Queue: s.Queue, Waiting: s.Waiting,
			Relayed: s.Relayed, Dropped: s.Dropped, RelayErrors: s.RelayErrors,
			Updates: s.Updates, UpdateConnections: s.UpdateConnections, UpdateErrors: s.UpdateErrors,
			Dumps: s.Dumps, DumpErrors: s.DumpErrors, DumpTime: s.LastDump.Duration, DumpEntries: s.LastDump.Entries,
			Differ: s.Differ,
		}
		if s.LastHeard != 0 {
			p.Heard = max(0, now.Sub(s.LastHeard))
		}
		peers = append(peers, p)
	}
	_, failed := n.guard.names()
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if !slices.ContainsFunc(peers, func(p prom.Peer) bool { return p.Name == name }) {
			peers = append(peers, prom.Peer{Name: name, Heard: -1})
		}
	}
	return peers
}
