// SPDX-License-Identifier: Apache-2.0

// Bench measures what vxsnd does. How fast it replicates is measured against
// the program that one would write first, in one run: network namespaces hold a sender, the node
// and the receivers; the two programs take turns, so that a noisy machine
// disturbs both. Believe the ratios.
//
//	sender            node                     receivers
//	10.0.1.1 --veth-- 10.0.1.2 10.0.2.1 --veth-- 10.0.2.2, router to 10.99.0.0/16
//
// The sender has one CPU to itself and the node the other; what the receivers
// do happens on the node's CPU. The sender outruns both programs.
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
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

const vni vxlan.VNI = 77

const (
	senderCPU = 0
	nodeCPU   = 1
)

var (
	vtep   = netip.MustParseAddr("10.0.1.1")
	node   = netip.MustParseAddr("10.0.1.2")
	router = netip.MustParseAddr("10.0.2.2")
)

// member returns the address of member i.
func member(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}) }

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
			vnis, err1 := strconv.Atoi(args[1])
			inner, err2 := strconv.Atoi(args[2])
			d, err3 := time.ParseDuration(args[3])
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			return generate(vtep, node, vni, vnis, inner, d)
		case "scrape":
			return scrape(args[1])
		case "on":
			return on(args[1], args[2:])
		case "obvious":
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			fmt.Println("msg=ready")
			return obvious(n, vni)
		case "register":
			to, err := netip.ParseAddr(args[1])
			if err != nil {
				return err
			}
			n, err1 := strconv.Atoi(args[2])
			rate, err2 := strconv.Atoi(args[3])
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			return register(to, n, rate)
		}
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	var p plan
	f.StringVar(&p.vxsnd, "vxsnd", "bin/vxsnd", "the program to measure")
	f.DurationVar(&p.time, "time", 3*time.Second, "length of one measurement")
	f.IntVar(&p.rounds, "rounds", 3, "measurements of each program and size, alternated")
	f.IntVar(&p.inner, "inner", 64, "length of the inner frame in bytes")
	sizes := f.String("members", "8,64,512", "numbers of members")
	parts := f.String("parts", strings.Join(allParts, ","), "what to measure")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("-members: %q is not a number of members", s)
		}
		p.members = append(p.members, n)
	}
	for _, s := range strings.Split(*parts, ",") {
		if !slices.Contains(allParts, s) {
			return fmt.Errorf("-parts: %q is not one of %s", s, strings.Join(allParts, ", "))
		}
		p.parts = append(p.parts, s)
	}
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("needs two CPUs: one for the sender, one for the node")
	}
	return p.run()
}

// allParts are what there is to measure.
var allParts = []string{"flood", "counting", "intake", "dump", "learn", "vxrd"}

// A plan is what to measure.
type plan struct {
	vxsnd   string
	time    time.Duration
	rounds  int
	inner   int
	members []int
	parts   []string

	self   string
	dir    string
	sender *netlab.Namespace
	node   *netlab.Namespace
	sink   *sink
}

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
	fmt.Printf("%s, %d CPUs\n", machine(), runtime.NumCPU())
	for _, part := range []struct {
		name    string
		measure func(*netlab.Lab) error
	}{{"flood", p.measureFlooding}, {"counting", p.measureCounting}, {"intake", p.grouped(3, (*group).measureIntake)},
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

// measureFlooding compares both programs with each number of members.
func (p *plan) measureFlooding(lab *netlab.Lab) error {
	if err := p.build(lab, 1); err != nil {
		return err
	}
	defer p.sink.Close()
	fmt.Printf("\ninner frame %d bytes, %d rounds of %s each, alternated, median shown\n\n", p.inner, p.rounds, p.time)
	fmt.Printf("%8s  %-10s %12s %8s %14s %10s %10s\n",
		"members", "program", "copies/s", "ratio", "CPU s/M copies", "user time", "missing")
	for _, n := range p.members {
		if err := p.compare(n); err != nil {
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

// compare measures both programs with n members and prints two lines.
func (p *plan) compare(n int) error {
	var raw, obvious []result
	for range p.rounds {
		r, err := p.measure(n, subject{start: p.startVxsnd, vnis: 1})
		if err != nil {
			return fmt.Errorf("vxsnd: %w", err)
		}
		raw = append(raw, r)
		if r, err = p.measure(n, subject{start: p.startObvious, vnis: 1}); err != nil {
			return fmt.Errorf("obvious program: %w", err)
		}
		obvious = append(obvious, r)
	}
	base := median(obvious, result.rate)
	for _, l := range []struct {
		name string
		rs   []result
	}{{"obvious", obvious}, {"vxsnd", raw}} {
		rate := median(l.rs, result.rate)
		fmt.Printf("%8d  %-10s %12.0f %8.2f %14.2f %9.1f%% %10.0f\n", n, l.name, rate, rate/base,
			median(l.rs, result.cpuPerMillion), 100*median(l.rs, result.userShare), median(l.rs, result.missing))
	}
	return nil
}

// build makes the network, for packets in so many VNIs.
func (p *plan) build(lab *netlab.Lab, vnis int) (err error) {
	if p.sender, err = lab.Namespace("sender"); err != nil {
		return err
	}
	if p.node, err = lab.Namespace("node"); err != nil {
		return err
	}
	receivers, err := lab.Namespace("receivers")
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return netlab.Veth(p.sender, "to-node", p.node, "to-sender", 0) },
		func() error { return netlab.Veth(p.node, "to-members", receivers, "to-node", 0) },
		func() error { return p.sender.AddAddr("to-node", netip.PrefixFrom(vtep, 24)) },
		func() error { return p.node.AddAddr("to-sender", netip.PrefixFrom(node, 24)) },
		func() error { return p.node.AddAddr("to-members", netip.MustParsePrefix("10.0.2.1/24")) },
		func() error { return receivers.AddAddr("to-node", netip.PrefixFrom(router, 24)) },
		func() error {
			return p.node.AddRoute(netlab.Route{To: netip.MustParsePrefix("10.99.0.0/16"), Via: router})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	p.sink, err = newSink(receivers, "to-node", vtep, vni, vnis)
	return err
}

// startVxsnd starts vxsnd with n static members and nothing else but the
// defaults.
func (p *plan) startVxsnd(n int) (*netlab.Process, error) {
	return p.startWith(n, 1, "")
}

// startWith starts vxsnd with n static members in each of so many VNIs, and with
// these lines of configuration.
func (p *plan) startWith(n, vnis int, lines string) (*netlab.Process, error) {
	var b strings.Builder
	b.WriteString("logdest = stdout\n" + lines)
	for i := range n {
		for k := range vnis {
			fmt.Fprintf(&b, "vtep_membership = %s %d\n", member(i), int(vni)+k)
		}
	}
	file := p.dir + "/vxsnd.conf"
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return p.start(p.node, nodeCPU, p.vxsnd, "-c", file, "-p", p.dir+"/vxsnd.pid")
}

func (p *plan) startObvious(n int) (*netlab.Process, error) {
	return p.start(p.node, nodeCPU, p.self, "obvious", strconv.Itoa(n))
}

// start starts a program in a namespace, on one CPU.
func (p *plan) start(ns *netlab.Namespace, cpu int, args ...string) (*netlab.Process, error) {
	return ns.Start(exec.Command(p.self, append([]string{"on", strconv.Itoa(cpu)}, args...)...))
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
