// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"
)

// intakeTime is how long members register at each rate.
const intakeTime = 3 * time.Second

// An intake is one measurement of registrations that the first of some nodes
// takes in and relays to the others.
type intake struct {
	sent     int     // members
	seconds  float64 // of sending
	taken    int     // members that the first node knows
	known    int     // members that the peer knows that knows fewest
	lag      time.Duration
	cpu      float64 // CPU seconds of the first node
	overflow uint64  // messages that found a peer's queue full
}

func (in intake) lost() int              { return in.sent - in.known }
func (in intake) rate() float64          { return float64(in.known) / (in.seconds + in.lag.Seconds()) }
func (in intake) cpuPerMillion() float64 { return in.cpu / (float64(in.taken) / 1e6) }

// intake measures members at a rate per second.
func (g *group) intake(ctx context.Context, rate int, length time.Duration, nodes ...*snode) (in intake, err error) {
	ctx, cancel := context.WithTimeout(ctx, length+2*startLimit)
	defer cancel()
	if err := g.up(ctx, nodes...); err != nil {
		return in, err
	}
	n := min(int(float64(rate)*length.Seconds())/perMessage, fullRegistrations)
	in.sent = n * perMessage
	u0, s0, err := nodes[0].proc.CPU()
	if err != nil {
		return in, err
	}
	if in.seconds, err = g.register(ctx, nodes[0], n, rate); err != nil {
		return in, err
	}
	end := time.Now()
	got, last, err := settle(ctx, in.sent, nodes...)
	if err != nil {
		return in, err
	}
	u1, s1, err := nodes[0].proc.CPU()
	if err != nil {
		return in, err
	}
	in.cpu = u1 - u0 + s1 - s0
	in.lag = max(last.Sub(end), 0)
	in.taken, in.known = got[0], got[0]
	for _, k := range got[1:] {
		in.known = min(in.known, k)
	}
	ps, err := nodes[0].peers(ctx)
	if err != nil {
		return in, err
	}
	for _, p := range ps {
		in.overflow += p.Dropped + p.RelayErrors
	}
	return in, down(ctx, nodes...)
}

// measureIntake raises the rate until members are lost.
func (g *group) measureIntake(ctx context.Context) error {
	g.pinned = true
	fmt.Printf("\nregistrations of %d VNIs, paced for %s, taken in by one node and relayed to its peers\n\n", perMessage, intakeTime)
	fmt.Printf("%10s %6s %12s %10s %10s %9s %16s %8s\n",
		"members/s", "peers", "known/s", "not taken", "not known", "lag", "CPU s/M members", "ratio")
	for _, rate := range []int{100_000, 150_000, 200_000, 300_000, 400_000, 500_000} {
		alone, err := g.intake(ctx, rate, intakeTime, g.nodes[0])
		if err != nil {
			return fmt.Errorf("registrations: %w", err)
		}
		alone.print(rate, 0, alone)
		in, err := g.intake(ctx, rate, intakeTime, g.nodes...)
		if err != nil {
			return fmt.Errorf("registrations to a group: %w", err)
		}
		in.print(rate, len(g.nodes)-1, alone)
		if in.lost() > 0 {
			break
		}
	}
	return nil
}

// print prints one line; alone is the same without peers.
func (in intake) print(rate, peers int, alone intake) {
	fmt.Printf("%10d %6d %12.0f %10d %10d %9s %16.2f %8.2f\n", rate, peers, in.rate(), in.sent-in.taken, in.taken-in.known,
		in.lag.Round(time.Millisecond), in.cpuPerMillion(), in.cpuPerMillion()/alone.cpuPerMillion())
}
