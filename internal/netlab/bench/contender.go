// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vxsnd/internal/netlab"
)

// A contender is a program that floods, or the kernel.
type contender struct {
	name string
	what string // for a legend
	// native says that it takes inner frames, as a VTEP does, and not packets.
	native bool
	// queues says that packets which it has no time for may wait in its receive
	// buffer, so that it has to be started anew after an overload.
	queues bool
	ttl    uint8 // of its copies; 0 is any
	// churns says that its members can be changed while it runs.
	churns bool
	begin  func(*lab, table) (*running, error)
}

// running is a contender that floods.
type running struct {
	proc *netlab.Process // nil for the kernel
	// settled waits until the sender is known wherever it has to be, nil if there is
	// nothing to wait for.
	settled func(ctx context.Context) error
	// share returns what part of the packets since then was flooded in the kernel,
	// nil where that is not the question.
	share func(ctx context.Context) (float64, error)
	// churn changes members for a while.
	churn func(ctx context.Context, length time.Duration) error
	// gauge has a member come and go meanwhile, nil if it cannot be told when
	// that is in force.
	gauge func(length time.Duration) ([]int64, error)
	// end stops it; hard does not let it serve what is queued.
	end func(ctx context.Context, hard bool) error
}

// contenders are all of them, slowest first.
var contenders = []contender{
	{name: "obvious", what: "the obvious Go program", queues: true,
		begin: func(l *lab, t table) (*running, error) { return l.beginOther("obvious", t) }},
	{name: "batched", what: "batched raw sender, no logic", queues: true, ttl: sentTTL - 1,
		begin: func(l *lab, t table) (*running, error) { return l.beginOther("batched", t) }},
	{name: "raw", what: "vxsnd, engine raw", queues: true, ttl: sentTTL - 1, churns: true,
		begin: func(l *lab, t table) (*running, error) { return l.beginNode("raw", t, "") }},
	{name: "kernel", what: "kernel head-end replication", native: true, churns: true,
		begin: (*lab).beginHeadend},
	{name: "tc", what: "vxsnd, engine tc", queues: true, ttl: sentTTL - 1, churns: true,
		begin: func(l *lab, t table) (*running, error) { return l.beginNode("tc", t, "") }},
}

// expect returns what the sink has to see of a contender.
func (c *contender) expect(t table) expected {
	e := expected{src: vtep, native: c.native, vnis: t.vnis, every: t.sampled()}
	if c.native {
		e.src = nodeSource
	}
	return e
}

// ready waits until a program says that it floods.
func ready(ctx context.Context, p *netlab.Process) error {
	_, err := p.WaitLine(ctx, func(l string) bool { return strings.Contains(l, "msg=ready") })
	return err
}

// ender returns how a program is ended.
func ender(p *netlab.Process) func(context.Context, bool) error {
	return func(ctx context.Context, hard bool) error {
		s := syscall.SIGTERM
		if hard {
			s = syscall.SIGKILL
		}
		if err := p.Signal(s); err != nil {
			return errors.Join(err, errors.New(p.Output()))
		}
		status, err := p.Wait(ctx)
		if err == nil && !hard && status > 0 {
			err = fmt.Errorf("ended with status %d: %s", status, p.Output())
		}
		return err
	}
}

// beginOther starts one of this program's own contenders.
func (l *lab) beginOther(name string, t table) (*running, error) {
	p, err := l.start(l.node, nodeCPU, l.self, name, strconv.Itoa(t.members), strconv.Itoa(t.vnis), strconv.FormatBool(t.onLink))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return &running{proc: p, end: ender(p)}, ready(ctx, p)
}

// maxKernelMembers is the largest value of tc_max_members, so that the engine tc
// is measured with tables that it would leave to raw.
const maxKernelMembers = 4095

// beginNode starts vxsnd with static members and these lines of configuration.
func (l *lab) beginNode(engine string, t table, lines string) (*running, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "logdest = stdout\nuser = root\nengine = %s\n%s", engine, lines)
	if engine == "tc" {
		fmt.Fprintf(&b, "tc_max_members = %d\n", maxKernelMembers)
	}
	cpu := nodeCPU
	if t.workers > 0 {
		fmt.Fprintf(&b, "workers = %d\n", t.workers)
		cpu = anyCPU
	}
	for a, vnis := range t.memberships() {
		fmt.Fprintf(&b, "vtep_membership = %s", a)
		for _, v := range vnis {
			fmt.Fprintf(&b, " %d", v)
		}
		b.WriteByte('\n')
	}
	file, socket := l.dir+"/vxsnd.conf", l.dir+"/vxsnd.sock"
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := l.start(l.node, cpu, l.vxsnd, "-c", file, "-p", l.dir+"/vxsnd.pid", "-u", socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := ready(ctx, p); err != nil {
		return nil, err
	}
	r := &running{proc: p, end: ender(p)}
	if engine == "tc" {
		k := &kernelPart{socket: socket, members: (t.members + 1) * t.vnis}
		r.settled, r.share = k.settle, k.share
	}
	if t.vnis == 1 {
		r.gauge = func(length time.Duration) ([]int64, error) { return l.gauge(t, length) }
	}
	r.churn = func(ctx context.Context, length time.Duration) error {
		c, err := l.receivers.Start(l.command("churn", l.service(t).String(), strconv.Itoa(t.members), strconv.Itoa(t.vnis),
			strconv.FormatBool(t.onLink), length.String()))
		if err != nil {
			return err
		}
		status, err := c.Wait(ctx)
		if err == nil && status != 0 {
			err = errors.New(c.Output())
		}
		return err
	}
	return r, nil
}

// beginHeadend has the kernel flood to a table's members.
func (l *lab) beginHeadend(t table) (*running, error) {
	if err := l.headend.set(t); err != nil {
		return nil, err
	}
	churn := func(ctx context.Context, length time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, length)
		defer cancel()
		return l.headend.churn(ctx, t, churnRate)
	}
	return &running{churn: churn, end: func(context.Context, bool) error { return l.headend.clear(t) }}, nil
}

// parseTable reads the arguments of beginOther and of churn.
func parseTable(args []string) (t table, err error) {
	if len(args) < 3 {
		return t, errors.New("a table is MEMBERS VNIS ONLINK")
	}
	var err1, err2, err3 error
	t.members, err1 = strconv.Atoi(args[0])
	t.vnis, err2 = strconv.Atoi(args[1])
	t.onLink, err3 = strconv.ParseBool(args[2])
	return t, errors.Join(err1, err2, err3)
}

// service returns the node's address at the receivers' side.
func (l *lab) service(t table) netip.Addr {
	if t.onLink {
		return netip.MustParseAddr("10.98.255.1")
	}
	return nodeSource
}
