// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

const (
	// warmTime is how long a contender has for the first packets, besides.
	warmTime = 50 * time.Millisecond

	// rampTime is how long traffic flows before a measurement, and tailTime how
	// long it flows on: the last packets that count are flooded by then.
	rampTime = 200 * time.Millisecond
	tailTime = 150 * time.Millisecond

	// startLimit bounds the wait for a program's first line.
	startLimit = 30 * time.Second

	// ticksPerSecond is the unit of CPU times in /proc (proc_stat(5), USER_HZ).
	ticksPerSecond = 100
)

// A load is what a contender is put under.
type load struct {
	inner int     // length of the inner frame, bytes
	rate  float64 // packets per second, 0 for more than it can flood
	churn bool
}

// errSilent says that a contender did nothing during a measurement: on a machine
// that others keep busy it may not have had its turn.
var errSilent = errors.New("no copies arrived")

// leastInKernel is the smallest part of its packets that the engine tc has to flood
// in the kernel for its figures to be those of the kernel.
const leastInKernel = 0.99

// errHandedUp says that a measurement of the engine tc is one of raw.
var errHandedUp = errors.New("the kernel left packets to raw")

// A figure is one measurement.
type figure struct {
	rate      float64 // copies per second
	missing   float64 // share of the copies of flooded packets
	unsent    float64 // share of the copies of all packets that were sent, where rate was given
	cpu       float64 // CPU seconds of the whole machine per million copies
	own       float64 // CPU seconds of the program per million copies
	user      float64 // CPU seconds of the program in user mode
	busy      float64 // and in all
	kernel    float64 // share of the packets that the engine tc flooded in the kernel
	delays    []time.Duration
	changes   []time.Duration // until a change of members was in force
	exactness int             // packets of which each copy was looked at
}

// moment is what has been counted up to one moment.
type moment struct {
	at, copies   uint64
	busy         float64
	user, system float64
}

func (l *lab) moment(s *sink, p *netlab.Process) (m moment, err error) {
	m.at = uint64(monotonic())
	if m.copies, err = s.total(); err != nil {
		return m, err
	}
	if p != nil {
		if m.user, m.system, err = p.CPU(); err != nil {
			return m, err
		}
	}
	m.busy, err = cpuBusy()
	return m, err
}

// measure puts a contender that runs under load.
func (l *lab) measure(c *contender, t table, r *running, w load) (f figure, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit+2*l.time+10*time.Second)
	defer cancel()
	s, err := newSink(l.receivers, t.device(), c.expect(t))
	if err != nil {
		return f, err
	}
	defer s.Close()
	tr := l.traffic(c, t, w.inner)
	tr.Rate, tr.Length = w.rate, rampTime+l.time+tailTime
	args, err := json.Marshal(tr)
	if err != nil {
		return f, err
	}
	gen, err := l.generator(ctx, t, r, args)
	if err != nil {
		return f, err
	}
	var eg errgroup.Group
	var moments []int64
	if w.churn {
		eg.Go(func() error { return r.churn(ctx, tr.Length) })
		if r.gauge != nil {
			eg.Go(func() (err error) {
				moments, err = r.gauge(tr.Length)
				return err
			})
		}
	}
	time.Sleep(rampTime)
	before, err := l.moment(s, r.proc)
	if err != nil {
		return f, err
	}
	time.Sleep(l.time)
	after, err := l.moment(s, r.proc)
	if err != nil {
		return f, err
	}
	sent, err := generated(ctx, gen)
	if err := errors.Join(err, eg.Wait()); err != nil {
		return f, err
	}
	if w.rate > 0 {
		time.Sleep(tailTime)
	}
	if r.share != nil {
		if f.kernel, err = r.share(ctx); err != nil {
			return f, err
		}
		if f.kernel < leastInKernel && !w.churn {
			return f, fmt.Errorf("%w: it flooded %.1f %% of them", errHandedUp, 100*f.kernel)
		}
	}
	all, err := s.total()
	if err != nil {
		return f, err
	}
	copies := float64(after.copies - before.copies)
	if copies == 0 {
		return f, errSilent
	}
	if w.rate > 0 && !w.churn {
		f.unsent = 1 - float64(all)/(float64(sent)*float64(t.members))
	}
	f.rate = copies / (float64(after.at-before.at) / 1e9)
	f.cpu = (after.busy - before.busy) / (copies / 1e6)
	f.user = after.user - before.user
	f.busy = f.user + after.system - before.system
	f.own = f.busy / (copies / 1e6)
	v := &verifier{
		table: t, inner: w.inner, ttl: c.ttl, from: int64(before.at), until: int64(after.at), packets: map[uint64]*seen{},
	}
	if err := l.verify(&f, s, v); err != nil {
		return f, err
	}
	// Where copies are lost, one that does not come tells nothing of the members.
	if f.missing == 0 {
		f.changes = changeTimes(moments, v.arrivals, v.from, v.until)
	}
	return f, nil
}

// generator starts the generator, and returns when its first packets are dealt
// with and the rest begins.
func (l *lab) generator(ctx context.Context, t table, r *running, args []byte) (*netlab.Process, error) {
	cpu := senderCPU
	if t.workers > 0 {
		cpu = anyCPU
	}
	cmd := l.pinned(cpu, l.self, "generate", string(args))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	gen, err := l.sender.Start(cmd)
	if err != nil {
		return nil, err
	}
	if _, err := gen.WaitLine(ctx, func(l string) bool { return l == "warm" }); err != nil {
		return nil, err
	}
	time.Sleep(warmTime)
	if r.settled != nil {
		if err := r.settled(ctx); err != nil {
			return nil, err
		}
	}
	_, err = in.Write([]byte{'\n'})
	return gen, err
}

// generated waits for the end of the generator and returns how many packets it
// has sent.
func generated(ctx context.Context, gen *netlab.Process) (uint64, error) {
	line, err := gen.WaitLine(ctx, func(l string) bool { return strings.HasPrefix(l, "sent=") })
	if err != nil {
		return 0, err
	}
	if _, err := gen.Wait(ctx); err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimPrefix(line, "sent="), 10, 64)
}

// verify has the samples of a measurement looked at.
func (l *lab) verify(f *figure, s *sink, v *verifier) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := s.samples(v.take); err != nil {
		return err
	}
	f.missing, f.exactness = v.missing()
	slices.Sort(v.delays)
	f.delays = v.delays
	return nil
}

// cpuBusy returns the seconds that the CPUs of the machine were not idle
// (proc_stat(5)).
func cpuBusy() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: no line for all CPUs")
	}
	var busy float64
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user nice system irq softirq steal
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, err
		}
		busy += v
	}
	return busy / ticksPerSecond, nil
}

// machine names the CPU and the kernel.
func machine() string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return model
	}
	return model + ", Linux " + unix.ByteSliceToString(u.Release[:])
}
