// SPDX-License-Identifier: Apache-2.0

// Bench measures what vxsnd does. How fast it replicates is measured in network
// namespaces (see lab) against the kernel's own replication and other programs
// (see contenders), which take turns, so that a noisy machine disturbs all of
// them. Believe the ratios.
//
// What a group of service nodes does has a network of its own: see group.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

const (
	senderCPU = 0
	nodeCPU   = 1
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	err := command(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// command is the benchmark itself, or one of the programs that it starts in
// namespaces.
func command(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "generate":
			return generate(args[1])
		case "scrape":
			return scrape(args[1])
		case "on":
			return on(args[1], args[2:])
		case "obvious", "batched":
			t, err := parseTable(args[1:])
			if err != nil {
				return err
			}
			if args[0] == "batched" {
				return batched(t)
			}
			return obvious(t)
		case "churn":
			to, err1 := netip.ParseAddr(args[1])
			t, err2 := parseTable(args[2:])
			d, err3 := time.ParseDuration(args[5])
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			return churn(to, t, churnRate, d)
		case "register":
			to, err1 := netip.ParseAddr(args[1])
			n, err2 := strconv.Atoi(args[2])
			rate, err3 := strconv.Atoi(args[3])
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			return register(to, n, rate)
		}
	}
	p, err := parsePlan(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.run()
}

// allParts are what there is to measure.
var allParts = []string{"flood", "workers", "counting", "intake", "dump", "learn", "vxrd"}

// A plan is what to measure.
type plan struct {
	vxsnd  string
	time   time.Duration
	rounds int
	full   bool
	only   int      // number of members, 0 for all
	names  []string // of contenders
	report string   // directory
	parts  []string

	self string
	dir  string
}

func parsePlan(args []string) (*plan, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	p := &plan{}
	f.StringVar(&p.vxsnd, "vxsnd", "bin/vxsnd", "the program to measure")
	f.DurationVar(&p.time, "time", 0, "length of one measurement (default 700ms, with -full 800ms)")
	f.IntVar(&p.rounds, "rounds", 0, "measurements of each contender, alternated (default 1, with -full 3)")
	f.BoolVar(&p.full, "full", false, "measure flooding in full, in a quarter of an hour")
	f.IntVar(&p.only, "members", 0, "measure flooding and counting with this number of members alone")
	f.StringVar(&p.report, "report", "", "write the figures of flooding to performance.md and plots in this directory")
	names := f.String("contenders", "", "measure flooding by these alone, separated by commas")
	parts := f.String("parts", "flood", "what to measure: "+strings.Join(allParts, ","))
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	rounds, length := 1, 700*time.Millisecond
	if p.full {
		rounds, length = 3, 800*time.Millisecond
	}
	if p.rounds == 0 {
		p.rounds = rounds
	}
	if p.time == 0 {
		p.time = length
	}
	for _, s := range strings.Split(*parts, ",") {
		if !slices.Contains(allParts, s) {
			return nil, fmt.Errorf("-parts: %q is not one of %s", s, strings.Join(allParts, ", "))
		}
		p.parts = append(p.parts, s)
	}
	if *names != "" {
		p.names = strings.Split(*names, ",")
	}
	for _, s := range p.names {
		if !slices.ContainsFunc(contenders, func(c contender) bool { return c.name == s }) {
			return nil, fmt.Errorf("-contenders: there is no %q", s)
		}
	}
	if runtime.NumCPU() < 2 {
		return nil, fmt.Errorf("needs two CPUs: one for the sender, one for the node")
	}
	return p, nil
}

// wants tells whether to measure a contender.
func (p *plan) wants(name string) bool { return len(p.names) == 0 || slices.Contains(p.names, name) }

func (p *plan) run() (err error) {
	lab := netlab.New()
	defer func() {
		if cerr := lab.Close(); err == nil {
			err = cerr
		}
	}()
	if p.self, err = os.Executable(); err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp("", "vxsnd-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(p.dir)
	fmt.Printf("%s, %d CPUs, rounds of %s\n", machine(), runtime.NumCPU(), p.time.String())
	for _, part := range []struct {
		name    string
		measure func(*netlab.Lab) error
	}{{"flood", p.measureFlooding}, {"workers", p.measureWorkers}, {"counting", p.measureCounting}, {"intake", p.grouped(3, (*group).measureIntake)},
		{"dump", p.grouped(2, (*group).measureDumps)}, {"learn", p.grouped(3, (*group).measureLearning)},
		{"vxrd", p.grouped(1, (*group).measureRegistrar)}} {
		if !slices.Contains(p.parts, part.name) {
			continue
		}
		if err := part.measure(lab); err != nil {
			return err
		}
	}
	return nil
}

// grouped returns a measurement of a group of n nodes.
func (p *plan) grouped(n int, measure func(*group, context.Context) error) func(*netlab.Lab) error {
	return func(lab *netlab.Lab) error {
		g, err := p.buildGroup(lab, n)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), groupLimit)
		defer cancel()
		return measure(g, ctx)
	}
}

// on becomes another program, bound to one CPU.
func on(cpu string, args []string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := pinTo(n); err != nil {
		return fmt.Errorf("bind to cpu %d: %w", n, err)
	}
	return unix.Exec(args[0], args, os.Environ())
}

func listenUDP(a netip.AddrPort) (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", udpAddr(a))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return c, nil
}

func udpAddr(a netip.AddrPort) *net.UDPAddr { return net.UDPAddrFromAddrPort(a) }
