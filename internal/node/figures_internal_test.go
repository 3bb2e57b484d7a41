// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/netlab"
	"vxsnd/internal/register"
)

// remote returns an address that the machine of the test hardly has.
func remote(i byte) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, i}) }

// running starts a node on an address of the loopback interface, without a data
// plane.
func running(t *testing.T, addr string, port uint16, peers ...config.Peer) *Node {
	t.Helper()
	n := newNode(t, func(c *config.Config) {
		c.SvcnodeIP = netip.MustParseAddr(addr)
		c.SrcIP = c.SvcnodeIP
		c.VxfldPort = port
		c.SvcnodePeers = peers
	})
	ctx, cancel := context.WithCancel(context.Background())
	check(t, n.Listen(ctx))
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// until waits until cond holds.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(t, netlab.Wait(ctx, what, cond))
}

// Every name that can occur is there from the start, and many may ask at once.
func TestFigures(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	port := freePort(t)
	n := running(t, "127.0.0.1", port, config.Peer{Addr: netip.MustParseAddr("127.0.0.9"), Port: port}, config.Peer{Host: "peer.invalid", Port: port})
	put(t, n, fdb.Operator, 5, remote(1), remote(2))
	count(n, 5, remote(1), clock())
	count(n, 6, remote(1), clock())
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			for range 10 {
				n.Figures()
			}
		})
	}
	for i := range byte(50) {
		put(t, n, fdb.Operator, 7, remote(i+1))
	}
	askers.Wait()

	f := n.Figures()
	for name, got := range map[string]int{
		"entries": len(f.Table.Entries), "refusals": len(f.Table.Refused), "messages": len(f.Registration.Messages),
		"left out": len(f.Registration.LeftOut), "registered": len(f.Registration.Entries), "connections": len(f.Peering.Connections),
		"told": len(f.Peering.Entries),
	} {
		if got < 5 {
			t.Errorf("%s: got %d names, want all that there can be", name, got)
		}
	}
	for _, version := range []string{"unknown", "1", "2", "3"} {
		if _, ok := f.Registration.Messages[prom.Message{Version: version, Verdict: register.VerdictRate.String()}]; !ok {
			t.Errorf("got no figure of version %s", version)
		}
	}
	if !f.Alive || f.Engine != "" || f.Anycast != nil || f.Table.Entries["operator"] != 52 || f.Table.MaxMembers == 0 {
		t.Errorf("got %+v", f)
	}
	if len(f.Peers) != 2 || f.Peers[0].Name != netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port).String() || f.Peers[0].Heard >= 0 ||
		f.Peers[1].Name != "peer.invalid" {
		t.Errorf("got peers %+v, want the one and the name that does not resolve", f.Peers)
	}
	// One that is not in the table keeps its figures until they are of others.
	var rows []int
	for _, v := range f.VNIs {
		rows = append(rows, int(v.VNI), v.Members, int(v.Packets))
	}
	if len(rows) != 9 || [9]int(rows) != [9]int{5, 2, 1, 6, 0, 1, 7, 50, 0} {
		t.Errorf("got VNIs %v", rows)
	}
	n.forgetVNIs()
	if f := n.Figures(); len(f.VNIs) != 2 || f.Other.Packets != 1 {
		t.Errorf("got %d VNIs and %d packets of others, want 2 and 1", len(f.VNIs), f.Other.Packets)
	}
	c, err := n.Prepare(func() config.Config { c := n.config(); c.MetricsMaxVNIs = 0; return c }())
	check(t, err)
	c.Commit()
	if f := n.Figures(); f.VNIs != nil {
		t.Errorf("got %d VNIs where nothing is counted per VNI, want none", len(f.VNIs))
	}
}

// What operators add and remove at one node, the other nodes of its group have
// and lose.
func TestPeersAreToldWhatOperatorsDo(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	port := freePort(t)
	peer := func(a string) config.Peer { return config.Peer{Addr: netip.MustParseAddr(a), Port: port} }
	a, b := running(t, "127.0.0.2", port, peer("127.0.0.3")), running(t, "127.0.0.3", port, peer("127.0.0.2"))
	<-a.Ready()
	<-b.Ready()
	has := func(want ...string) {
		t.Helper()
		until(t, "the other node to have it", func() bool {
			got := entries(t, b)
			if len(got) != len(want) {
				return false
			}
			for i := range got {
				if got[i] != want[i] {
					return false
				}
			}
			return true
		})
	}
	_, err := ask[any](t, a, control.CommandFDBAdd, change(5, remote(1)))
	check(t, err)
	has("5 203.0.113.1 peer")
	_, err = replaced(t, a, io.EOF, list{change(5, remote(1)), change(5, remote(2)), change(6, remote(3))})
	check(t, err)
	has("5 203.0.113.1 peer", "5 203.0.113.2 peer", "6 203.0.113.3 peer")
	_, err = ask[any](t, a, control.CommandFDBDel, change(5, remote(2)))
	check(t, err)
	has("5 203.0.113.1 peer", "6 203.0.113.3 peer")
	_, err = ask[any](t, b, control.CommandFDBDel, change(5, remote(1)))
	wantError(t, err, control.CodeFailed, "it is one by peer", "remove it there")
	_, err = replaced(t, a, io.EOF, list{change(6, remote(3))})
	check(t, err)
	has("6 203.0.113.3 peer")

	// Both have one: it goes where its operator removes it.
	_, err = ask[any](t, b, control.CommandFDBAdd, change(6, remote(3)))
	check(t, err)
	has("6 203.0.113.3 operator", "6 203.0.113.3 peer")
	got, err := ask[control.FDBChanged](t, a, control.CommandFDBDel, change(6, remote(3)))
	check(t, err)
	if !got[0].Changed {
		t.Errorf("got %+v, want it changed", got[0])
	}
	has("6 203.0.113.3 operator")
}
