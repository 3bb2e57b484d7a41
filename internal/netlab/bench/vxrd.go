// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// What the registration daemon is measured with. It runs where the VTEPs are.
const (
	newDevices  = 50 // one after the other
	manyDevices = 2000
	manyLimit   = time.Minute // for all of them to be registered
	restingTime = 30 * time.Second
	listMembers = 1000
	listTries   = 5
	firstMany   = 10000
	firstNew    = 20000
	firstList   = 30000
	deviceGap   = 100 * time.Millisecond // the longest time between two devices
	watchGrain  = time.Millisecond       // of looking what the kernel has
)

// measureRegistrar measures how soon a new device is flooded to, how soon its
// flood list is there, and what a daemon with many devices needs at rest.
func (g *group) measureRegistrar(ctx context.Context) error {
	s := g.nodes[0]
	for i := range listMembers {
		for k := range listTries {
			g.extra += fmt.Sprintf("vtep_membership = %s %d\n", registrant(i), firstList+k)
		}
	}
	if err := g.up(ctx, s); err != nil {
		return err
	}
	v, err := g.startVxrd(ctx, s)
	if err != nil {
		return err
	}
	if err := g.measureNews(ctx, s); err != nil {
		return fmt.Errorf("new devices: %w", err)
	}
	if err := g.measureLists(ctx); err != nil {
		return fmt.Errorf("flood lists: %w", err)
	}
	// What it needed before is not to be counted.
	if err := down(ctx, v); err != nil {
		return err
	}
	if v, err = g.startVxrd(ctx, s); err != nil {
		return err
	}
	if err := g.measureRest(ctx, v); err != nil {
		return fmt.Errorf("many devices: %w", err)
	}
	return errors.Join(down(ctx, v), down(ctx, s))
}

// startVxrd runs vxrd with the defaults, but for the service node.
func (g *group) startVxrd(ctx context.Context, s *snode) (*snode, error) {
	v := &snode{Namespace: g.vteps, addr: prober, socket: g.dir + "/vxrd.sock"}
	file := g.dir + "/vxrd.conf"
	text := fmt.Sprintf("logdest = stdout\nuser = root\nsvcnode_ip = %s\nstatefile = %s/vxrd.state\n", s.addr, g.dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(g.vxsnd, "-c", file, "-p", g.dir+"/vxrd.pid", "-u", v.socket)
	cmd.Args[0] = "vxrd" // which is what it is then
	var err error
	if v.proc, err = v.Start(cmd); err != nil {
		return nil, err
	}
	return v, v.ready(ctx)
}

// addDevice adds a VXLAN device of a VNI, up.
func (g *group) addDevice(vni vxlan.VNI) (dev string, err error) {
	dev = "vx" + vni.String()
	return dev, g.vteps.AddVXLAN(dev, netlab.VXLAN{VNI: uint32(vni), Local: prober})
}

// measureNews adds devices and waits until the service node floods to each.
func (g *group) measureNews(ctx context.Context, s *snode) error {
	ds := make([]time.Duration, newDevices)
	for i := range ds {
		time.Sleep(rand.N(deviceGap))
		vni := vxlan.VNI(firstNew + i)
		begin := time.Now()
		if _, err := g.addDevice(vni); err != nil {
			return err
		}
		if err := s.knows(ctx, vni, prober); err != nil {
			return err
		}
		ds[i] = time.Since(begin)
	}
	fmt.Printf("\nfrom adding a device to it being flooded to, %d times: %s\n", newDevices, spread(ds))
	return nil
}

// spread tells the median and the longest of durations.
func spread(ds []time.Duration) string {
	slices.Sort(ds)
	return fmt.Sprintf("median %s, longest %s", ds[len(ds)/2].Round(time.Millisecond), ds[len(ds)-1].Round(time.Millisecond))
}

// measureLists adds devices of VNIs that have many members.
func (g *group) measureLists(ctx context.Context) error {
	w, err := g.vteps.WatchFDB()
	if err != nil {
		return err
	}
	var whole, programming []time.Duration
	seen := 0
	for k := range listTries {
		begin := time.Now()
		dev, err := g.addDevice(vxlan.VNI(firstList + k))
		if err != nil {
			return err
		}
		link, err := g.vteps.Link(dev)
		if err != nil {
			return err
		}
		var first time.Time
		for have := 0; have < listMembers; time.Sleep(watchGrain) {
			if err := ctx.Err(); err != nil {
				return err
			}
			es, err := w.Events()
			if err != nil {
				return err
			}
			for _, e := range es[seen:] {
				if e.Index == link.Index && strings.Trim(e.MAC.String(), "0:") == "" {
					have++
				}
			}
			if seen = len(es); have > 0 && first.IsZero() {
				first = time.Now()
			}
		}
		whole = append(whole, time.Since(begin))
		programming = append(programming, time.Since(first))
		if err := g.vteps.DeleteLink(dev); err != nil {
			return err
		}
	}
	fmt.Printf("from adding a device to its %d flood entries being there, %d times: %s;\nof that, from the first entry to the last: %s\n",
		listMembers, listTries, spread(whole), spread(programming))
	return nil
}

// measureRest adds devices and tells what the daemon needs when nothing happens
// any more.
func (g *group) measureRest(ctx context.Context, v *snode) error {
	before, err := v.registered(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	for i := range manyDevices {
		if _, err := g.addDevice(vxlan.VNI(firstMany + i)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, manyLimit+restingTime)
	defer cancel()
	for n := 0; n < before+manyDevices; time.Sleep(watchGrain) {
		if n, err = v.registered(ctx); err != nil {
			return err
		}
	}
	all := time.Since(begin)
	time.Sleep(rest)
	u0, s0, err := v.proc.CPU()
	if err != nil {
		return err
	}
	from := time.Now()
	time.Sleep(restingTime)
	took := time.Since(from).Seconds()
	u1, s1, err1 := v.proc.CPU()
	peak, err2 := v.proc.Memory("VmHWM")
	now, err3 := v.proc.Memory("VmRSS")
	fmt.Printf("%d more devices were added and registered in %s; with them, at rest for %s: %.2f %% of a CPU, %.0f MB resident, %.0f MB at most so far\n",
		manyDevices, all.Round(time.Millisecond), restingTime, 100*(u1+s1-u0-s0)/took, now, peak)
	return errors.Join(err1, err2, err3)
}

// registered returns how many VNIs a registration daemon has registered.
func (s *snode) registered(ctx context.Context) (int, error) {
	var r control.Registrar
	err := s.call(ctx, control.CommandShow, nil, func(b json.RawMessage) error { return json.Unmarshal(b, &r) })
	return r.Registered, err
}
