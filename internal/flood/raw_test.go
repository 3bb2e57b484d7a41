// SPDX-License-Identifier: Apache-2.0

package flood_test

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"vxsnd/internal/fdb"
	"vxsnd/internal/flood"
	"vxsnd/internal/metrics"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// resolved is a machine whose neighbours all resolve.
type resolved struct{}

func (resolved) Unresolved() map[netip.Addr]struct{} { return nil }
func (resolved) Recheck(time.Duration)               {}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The engine on sockets of the kernel: a machine with two VTEPs, one cable away.
//
//	vteps .2 .3 --- eth0 .1 node, bound to the wildcard
func TestRawCountsAndShows(t *testing.T) {
	for _, net := range []string{"10.0.0.0/24", "2001:db8::/64"} {
		t.Run(net, func(t *testing.T) { testRaw(t, netip.MustParsePrefix(net)) })
	}
}

func testRaw(t *testing.T, net netip.Prefix) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	lab := netlab.Test(t)
	node, err := lab.Namespace("node")
	check(t, err)
	vteps, err := lab.Namespace("vteps")
	check(t, err)
	check(t, netlab.Veth(node, "eth0", vteps, "eth0", 0))
	a := []netip.Addr{net.Addr().Next()}
	for range 2 {
		a = append(a, a[len(a)-1].Next())
	}
	check(t, node.AddAddr("eth0", netip.PrefixFrom(a[0], net.Bits())))
	check(t, vteps.AddAddr("eth0", netip.PrefixFrom(a[1], net.Bits())))
	check(t, vteps.AddAddr("eth0", netip.PrefixFrom(a[2], net.Bits())))

	start := time.Now()
	clock := func() fdb.Time { return fdb.Time(time.Since(start)) }
	table := fdb.New(fdb.Options{Learning: fdb.LearnOff})
	for i, m := range a[1:] {
		table.Apply(0, []fdb.Update{{VNI: 77, Addr: m, Source: fdb.Registration, Identifier: uint64(i + 1), Holdtime: time.Hour}})
	}
	wildcard := netip.IPv4Unspecified()
	if !a[0].Is4() {
		wildcard = netip.IPv6Unspecified()
	}
	traffic, latency := metrics.NewTraffic(metrics.TrafficLimits{VNIs: 10, Senders: 10}), new(metrics.Latency)
	log := logrus.New()
	log.SetOutput(t.Output())
	e := flood.NewRaw(flood.RawConfig{
		Listen: []netip.AddrPort{netip.AddrPortFrom(wildcard, vxlan.Port)}, DestPort: vxlan.Port, Workers: 2,
		Receive: 1 << 20, Clock: clock, Neighbours: resolved{}, Traffic: traffic, Latency: latency, Log: log,
	}, table)
	check(t, node.Do(e.Listen))

	// Sources with many ports, so that both workers have packets.
	payload := append(vxlan.AppendHeader(nil, 77), "frame"...)
	const packets = 64
	for range packets {
		c, err := vteps.ListenUDP(netip.AddrPortFrom(a[1], 0))
		check(t, err)
		_, err = c.WriteToUDPAddrPort(payload, netip.AddrPortFrom(a[0], vxlan.Port))
		check(t, err)
		check(t, c.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(t, netlab.Wait(ctx, "packets in the sockets", func() bool { receive, _ := e.Backlog(); return receive > packets*len(payload) }))

	var taken atomic.Int64
	e.SetTap(&flood.Tap{
		Wants: func(v vxlan.VNI) bool { return v == 77 },
		Take: func(r *flood.Record) {
			taken.Add(1)
			if r.Destination != netip.AddrPortFrom(a[0], vxlan.Port) || r.Source.Addr() != a[1] || r.TTL != 64 ||
				!slices.Equal(r.Payload, payload) || r.Copies != 1 || r.Drop != metrics.DropNone || r.Time.Sub(start).Abs() > time.Hour {
				t.Errorf("got %+v", *r)
			}
		},
	})
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- e.Run(run) }()
	check(t, netlab.Wait(ctx, "all packets counted", func() bool { return traffic.VNI(77).Packets == packets }))
	if got := taken.Load(); got != packets {
		t.Errorf("shown: got %d packets, want %d", got, packets)
	}

	// Others may look and tap at any time.
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for range 50 {
				e.SetTap(&flood.Tap{Wants: func(vxlan.VNI) bool { return true }, Take: func(*flood.Record) {}})
				e.Backlog()
				e.SetTap(nil)
				traffic.Load(nil)
			}
		})
	}
	others.Wait()
	want := metrics.VNICount{Packets: packets, Bytes: packets * uint64(len(payload)),
		Copies: packets, CopyBytes: packets * uint64(len(payload))}
	if got := traffic.VNI(77); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	stop()
	check(t, <-ended)
	check(t, e.Close())
	if receive, send := e.Backlog(); receive != 0 || send != 0 {
		t.Errorf("backlog after Close: got %d, %d bytes, want 0", receive, send)
	}
	if got := traffic.VNI(77); got != want {
		t.Errorf("after Close: got %+v, want %+v", got, want)
	}
	senders := traffic.Senders(nil, netip.Addr{}, nil)
	if len(senders) != 1 || senders[0].Addr != a[1] || senders[0].Packets != packets {
		t.Errorf("senders: got %+v, want %d packets of %s", senders, packets, a[1])
	}
	if c := latency.Load(); c.Count == 0 || c.Sum == 0 {
		t.Errorf("latency: got %+v, want some", c)
	}
}
