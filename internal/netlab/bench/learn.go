// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const (
	// learnTries is how many members are learned, in a VNI each, and learnGap
	// the longest time between two of them, so that they come at any moment of
	// what the nodes do at intervals.
	learnTries       = 50
	learnGap         = 100 * time.Millisecond
	learnFirst       = 5000
	learnGrain       = time.Millisecond // of asking whether it is known
	learnLimit       = 10 * time.Second
	learnTTL   uint8 = 64
)

// measureLearning tells how long it takes until a member that one node learns
// from a packet is known to its peers.
func (g *group) measureLearning(ctx context.Context) error {
	if err := g.up(ctx, g.nodes...); err != nil {
		return err
	}
	first := g.nodes[0]
	link, err := first.Link("eth0")
	if err != nil {
		return err
	}
	ds := make([]time.Duration, learnTries)
	for i := range ds {
		time.Sleep(rand.N(learnGap))
		vtep, vni := registrant(i), vxlan.VNI(learnFirst+i)
		packet := netlab.Datagram{
			Src: netip.AddrPortFrom(vtep, firstPort), Dst: netip.AddrPortFrom(first.addr, vxlan.Port), TTL: learnTTL, NoChecksum: true,
			Payload: netlab.Encapsulate(vni, netlab.Ethernet(netlab.Broadcast, g.mac, experimental, make([]byte, 46))),
		}
		begin := time.Now()
		if err := g.vteps.Send("eth0", packet.Frame(link.MAC, g.mac)); err != nil {
			return err
		}
		var eg errgroup.Group
		for _, s := range g.nodes[1:] {
			eg.Go(func() error { return s.knows(ctx, vni, vtep) })
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		ds[i] = time.Since(begin)
	}
	slices.Sort(ds)
	fmt.Printf("\nfrom a packet of a new member to both peers knowing it, %d times: median %s, p90 %s, longest %s\n", learnTries,
		ds[len(ds)/2].Round(time.Millisecond), quantile(ds, 0.9).Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
	return down(ctx, g.nodes...)
}

// knows waits until a node has the member.
func (s *snode) knows(ctx context.Context, vni vxlan.VNI, vtep netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, learnLimit)
	defer cancel()
	c, err := control.Dial(ctx, s.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	args := control.FDBArgs{VNI: new(uint32)}
	*args.VNI = uint32(vni)
	for found := false; !found; time.Sleep(learnGrain) {
		err := c.Call(ctx, control.CommandFDB, args, func(b json.RawMessage) error {
			var part control.FDBPart
			err := json.Unmarshal(b, &part)
			found = found || slices.ContainsFunc(part, func(e control.FDBEntry) bool { return e.Address == vtep })
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: vni %s: %w", s.Name, vni, err)
		}
	}
	return nil
}
