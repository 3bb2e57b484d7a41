// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxsnd/internal/netlab"
)

const (
	// warmUp is how long traffic flows before a measurement.
	warmUp = 500 * time.Millisecond

	// startLimit bounds the wait for a program's first line.
	startLimit = 20 * time.Second

	// ticksPerSecond is the unit of CPU times in /proc (proc_stat(5), USER_HZ).
	ticksPerSecond = 100
)

// A result is one measurement.
type result struct {
	copies       uint64
	seconds      float64
	busy         float64 // CPU seconds of the node's CPU
	user, system float64 // CPU seconds of the program
	fewest, most uint64  // copies of the member that got the fewest, the most
}

func (r result) rate() float64          { return float64(r.copies) / r.seconds }
func (r result) cpuPerMillion() float64 { return r.busy / (float64(r.copies) / 1e6) }
func (r result) ownPerMillion() float64 { return (r.user + r.system) / (float64(r.copies) / 1e6) }
func (r result) userShare() float64     { return r.user / (r.user + r.system) }

// missing is by how many copies the members differ: what was in flight when
// the counters were read, and copies that were lost.
func (r result) missing() float64 { return float64(r.most - r.fewest) }

func median(rs []result, f func(result) float64) float64 {
	var v []float64
	for _, r := range rs {
		v = append(v, f(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// A subject is a program to measure.
type subject struct {
	start  func(members int) (*netlab.Process, error)
	vnis   int      // that packets are sent in
	beside []string // what else runs on the sender's CPU meanwhile, if anything
}

// measure runs a program under load.
func (p *plan) measure(n int, sub subject) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit+p.time+10*time.Second)
	defer cancel()
	proc, err := sub.start(n)
	if err != nil {
		return result{}, err
	}
	if _, err := proc.WaitLine(ctx, func(l string) bool { return strings.Contains(l, "msg=ready") }); err != nil {
		return result{}, err
	}
	var beside *netlab.Process
	if len(sub.beside) > 0 {
		if beside, err = p.start(p.sender, senderCPU, sub.beside...); err != nil {
			return result{}, err
		}
		defer beside.Stop(ctx)
	}
	gen, err := p.start(p.sender, senderCPU, p.self, "generate", strconv.Itoa(sub.vnis), strconv.Itoa(p.inner), (p.time + 4*warmUp).String())
	if err != nil {
		return result{}, err
	}
	defer gen.Stop(ctx)

	time.Sleep(warmUp)
	before, err := p.sample(n, proc)
	if err != nil {
		return result{}, err
	}
	time.Sleep(p.time)
	after, err := p.sample(n, proc)
	if err != nil {
		return result{}, err
	}
	if _, err := gen.Wait(ctx); err != nil {
		return result{}, err
	}
	if beside != nil {
		if status, err := beside.Stop(ctx); err != nil || status > 0 {
			return result{}, fmt.Errorf("%s ended with status %d: %w", sub.beside[1], status, errors.Join(err, errors.New(beside.Output())))
		}
	}
	if status, err := proc.Stop(ctx); err != nil || status > 0 {
		return result{}, fmt.Errorf("ended with status %d: %w", status, errors.Join(err, errors.New(proc.Output())))
	}
	r := result{
		copies:  after.total - before.total,
		seconds: after.at.Sub(before.at).Seconds(),
		busy:    after.busy - before.busy,
		user:    after.user - before.user,
		system:  after.system - before.system,
	}
	if after.wrong != before.wrong {
		return r, fmt.Errorf("%d packets with a wrong source or VNI", after.wrong-before.wrong)
	}
	if r.copies == 0 {
		return r, errors.New("no copies arrived")
	}
	for i := range n {
		c := after.perMember[i] - before.perMember[i]
		if i == 0 || c < r.fewest {
			r.fewest = c
		}
		r.most = max(r.most, c)
	}
	return r, nil
}

// A sample is what has been counted up to one moment.
type sample struct {
	reading
	at           time.Time
	busy         float64
	user, system float64
}

func (p *plan) sample(n int, proc *netlab.Process) (sample, error) {
	var s sample
	var err error
	s.at = time.Now()
	if s.reading, err = p.sink.read(n); err != nil {
		return s, err
	}
	if s.user, s.system, err = proc.CPU(); err != nil {
		return s, err
	}
	s.busy, err = cpuBusy(nodeCPU)
	return s, err
}

// cpuBusy returns the seconds that a CPU was not idle (proc_stat(5)).
func cpuBusy(cpu int) (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != fmt.Sprintf("cpu%d", cpu) {
			continue
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
	return 0, fmt.Errorf("/proc/stat: no line for cpu %d", cpu)
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
