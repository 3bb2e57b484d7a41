// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// fillRate is the rate in members per second at which a table is filled. It
	// is no more than what is lost nothing of; what is lost is sent once more.
	fillRate  = 100_000
	fillTries = 3

	// dumpStarts is how often a node starts and takes a table.
	dumpStarts = 3

	// rest is how long the nodes are left alone after a dump, before they count
	// as idle; idleTime is how long that is measured.
	rest     = 2 * time.Second
	idleTime = 3 * time.Second

	// later is what no packet should be delayed by besides.
	later = 2 * time.Millisecond
)

// A dump is one start of a node that takes the table of another.
type dump struct {
	ready      time.Duration // from its start
	members    int           // of the new node when it was ready
	exchange   time.Duration // question to table taken in
	peak, kept float64       // MB that the sender grew by meanwhile, and after it
	receiver   float64       // MB of the new node at its largest
}

// measureDumps has the second node start beside a first one with a full table,
// while packets are flooded through both.
func (g *group) measureDumps(ctx context.Context) error {
	a, b := g.nodes[0], g.nodes[1]
	if err := g.up(ctx, a, b); err != nil {
		return err
	}
	if err := down(ctx, b); err != nil {
		return err
	}
	if err := g.fill(ctx, a); err != nil {
		return err
	}
	fmt.Printf("\ndump of %d entries to a node that starts, a packet to each node every %s meanwhile\n\n", fullVNIs*fullVTEPs, probeEvery)
	fmt.Printf("%6s %10s %10s %10s %14s %14s %14s\n", "start", "ready", "exchange", "members", "sender peak", "sender after", "receiver peak")
	var idle, busy [2][]trip
	for i := range dumpStarts {
		d, spans, trips, err := g.dump(ctx, a, b)
		if err != nil {
			return fmt.Errorf("dump: %w", err)
		}
		fmt.Printf("%6d %10s %10s %10d %11.1f MB %11.1f MB %11.1f MB\n", i+1, d.ready.Round(time.Millisecond),
			d.exchange, d.members, d.peak, d.kept, d.receiver)
		for n := range trips {
			busy[n] = append(busy[n], within(trips[n], spans[0])...)
			idle[n] = append(idle[n], within(trips[n], spans[1])...)
		}
	}
	fmt.Printf("\n%-10s %-8s %8s %8s %9s %9s %9s  %s\n", "through", "when", "packets", "lost", "median", "p99.9", "longest",
		"more than "+later.String()+" over the idle median")
	for n, name := range []string{"sender", "receiver"} {
		ds, _ := delays(idle[n])
		limit := quantile(ds, 0.5) + later
		for _, w := range []struct {
			when  string
			trips []trip
		}{{"idle", idle[n]}, {"dump", busy[n]}} {
			ds, lost := delays(w.trips)
			over, _ := slices.BinarySearch(ds, limit)
			fmt.Printf("%-10s %-8s %8d %8d %9s %9s %9s  %d\n", name, w.when, len(w.trips), lost, round(quantile(ds, 0.5)),
				round(quantile(ds, 0.999)), round(quantile(ds, 1)), len(ds)-over)
		}
	}
	return down(ctx, a)
}

// round shortens a duration for people.
func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// fill registers a whole table at a node.
func (g *group) fill(ctx context.Context, s *snode) error {
	for range fillTries {
		if _, err := g.register(ctx, s, fullRegistrations, fillRate); err != nil {
			return err
		}
		got, _, err := settle(ctx, fullVNIs*fullVTEPs, s)
		if err != nil || got[0] == fullVNIs*fullVTEPs {
			return err
		}
	}
	return fmt.Errorf("%s: registrations lost each time", s.Name)
}

// dump starts b, waits until it is ready and idle, and stops it. The spans are
// those of the dump and of the idle time.
func (g *group) dump(ctx context.Context, a, b *snode) (d dump, spans [2]span, trips [][]trip, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit+rest+idleTime)
	defer cancel()
	probing, stop := context.WithCancel(ctx)
	var eg errgroup.Group
	eg.Go(func() (err error) {
		trips, err = g.probe(probing, a, b)
		return err
	})
	d, spans, err = g.restart(ctx, a, b)
	stop()
	return d, spans, trips, errors.Join(err, eg.Wait(), down(ctx, b))
}

// restart is dump without the packets, and leaves b running.
func (g *group) restart(ctx context.Context, a, b *snode) (d dump, spans [2]span, err error) {
	pid := strconv.Itoa(a.proc.PID())
	before, err := a.proc.Memory("VmRSS")
	if err != nil {
		return d, spans, err
	}
	// 5 makes VmHWM that of now (proc_pid_clear_refs(5)).
	if err := os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0); err != nil {
		return d, spans, err
	}
	begin := time.Now()
	if err := g.launch(b, []*snode{a, b}); err != nil {
		return d, spans, err
	}
	if err := b.ready(ctx); err != nil {
		return d, spans, err
	}
	d.ready = time.Since(begin)
	spans[0] = span{begin, time.Now()}
	if d.members, err = b.members(ctx); err != nil {
		return d, spans, err
	}
	ps, err := b.peers(ctx)
	if err != nil {
		return d, spans, err
	}
	for _, p := range ps {
		if p.LastDump != nil {
			d.exchange = time.Duration(p.LastDump.Milliseconds) * time.Millisecond
		}
	}
	time.Sleep(rest)
	spans[1].from = time.Now()
	time.Sleep(idleTime)
	spans[1].to = time.Now()

	peak, err1 := a.proc.Memory("VmHWM")
	after, err2 := a.proc.Memory("VmRSS")
	var err3 error
	d.receiver, err3 = b.proc.Memory("VmHWM")
	d.peak, d.kept = peak-before, after-before
	return d, spans, errors.Join(err1, err2, err3)
}
