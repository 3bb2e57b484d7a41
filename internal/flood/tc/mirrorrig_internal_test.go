// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

// countingSink is a sink that adds up.
type countingSink struct {
	mu      sync.Mutex
	slots   map[vxlan.VNI]slotCount
	senders map[netip.Addr]sighting
}

func (c *countingSink) flooded(v vxlan.VNI, n slotCount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots == nil {
		c.slots = make(map[vxlan.VNI]slotCount)
	}
	s := c.slots[v]
	s.packets += n.packets
	s.copies += n.copies
	c.slots[v] = s
}

func (c *countingSink) sent(_ vxlan.VNI, a netip.Addr, n sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.senders == nil {
		c.senders = make(map[netip.Addr]sighting)
	}
	s := c.senders[a]
	s.packets += n.packets
	s.copies += n.copies
	s.bytes += n.bytes
	s.copyBytes += n.copyBytes
	s.drops += n.drops
	s.seen = max(s.seen, n.seen)
	c.senders[a] = s
}

// A mirrorRig is a mirror between a table and a fake kernel, moved by hand.
type mirrorRig struct {
	t     testing.TB
	tab   *fdb.Table
	k     *fakeKernel
	paths *fakePaths
	sink  countingSink
	now   atomic.Int64
	m     *mirror
	r     *reader
	// path returns the way to an address, which the mirrorRig tells of when asked to.
	path func(netip.Addr) underlay.Path
}

const learnHold = 8 * time.Second

func newMirrorRig(t testing.TB, o fdb.Options, most int) *mirrorRig {
	return newMirrorRigOf(t, o, most, newFakeKernel(64, 256))
}

func newMirrorRigOf(t testing.TB, o fdb.Options, most int, k *fakeKernel) *mirrorRig {
	g := &mirrorRig{t: t, tab: fdb.New(o), k: k, paths: newFakePaths(t)}
	g.now.Store(int64(1000 * time.Second))
	g.path = func(netip.Addr) underlay.Path { return goodPath(0, 1500) }
	g.r = k.reader()
	g.m = newMirror(mirrorOptions{
		table: g.tab, maps: k.mirrored(), paths: g.paths, clock: g.clock, sink: &g.sink,
		settings: mirrorSettings{most: most, hold: o.LearnHoldtime},
	})
	g.m.follow()
	return g
}

func (g *mirrorRig) clock() fdb.Time { return fdb.Time(g.now.Load()) }

// settle has the mirror do all that there is to do now.
func (g *mirrorRig) settle() {
	for range 100 {
		more := g.m.turn()
		if news := g.paths.news; len(news) > 0 {
			g.paths.news = nil
			ways := make(map[netip.Addr]underlay.Path)
			for _, a := range news {
				if p := g.path(a); p.State != underlay.PathPending {
					ways[a] = p
				}
			}
			if len(ways) > 0 {
				g.m.pathsChanged(ways)
				continue
			}
		}
		select {
		case d := <-g.m.dying:
			if err := g.k.grace(); err != nil {
				g.t.Fatal(err)
			}
			g.m.waiting <- d
			continue
		default:
		}
		if !more && g.m.pass.done() {
			return
		}
	}
	g.t.Fatal("the mirror never comes to rest")
}

// pass lets time pass, in which the mirror turns as often as it does by itself.
func (g *mirrorRig) pass(d time.Duration) {
	for d > 0 {
		step := min(d, g.m.tick())
		g.now.Add(int64(step))
		d -= step
		g.settle()
	}
}

func (g *mirrorRig) join(id vxlan.VNI, hold time.Duration, addrs ...netip.Addr) {
	us := make([]fdb.Update, 0, len(addrs))
	for i, a := range addrs {
		us = append(us, fdb.Update{VNI: id, Addr: a, Identifier: uint64(a.As4()[3]) + uint64(a.As4()[2])<<8 + 1, Source: fdb.Registration, Holdtime: hold})
		_ = i
	}
	g.tab.Apply(g.clock(), us)
}

func (g *mirrorRig) leave(id vxlan.VNI, addrs ...netip.Addr) { g.join(id, 0, addrs...) }

// flooded returns to whom the program floods a VNI.
func (g *mirrorRig) flooded(id vxlan.VNI) []netip.Addr {
	v := g.r.list(g.clock(), id)
	if v.copies == nil {
		return nil
	}
	return v.addrs()
}

func (v *verdict) addrs() []netip.Addr {
	out := make([]netip.Addr, 0, len(v.copies))
	for i := range v.copies {
		out = append(out, v.copies[i].addr)
	}
	return out
}

func vtep(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func vteps(ns ...int) []netip.Addr {
	out := make([]netip.Addr, 0, len(ns))
	for _, n := range ns {
		out = append(out, vtep(n))
	}
	return out
}
