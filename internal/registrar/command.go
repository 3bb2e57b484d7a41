// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/control"
	"vxsnd/internal/headend"
	"vxsnd/internal/vxlan"
)

// Commands returns what the management socket answers. base fills in what an
// answer to show says of the process.
func (r *Registrar) Commands(base func() control.Process) []control.Command {
	return []control.Command{
		{Name: control.CommandShow, Run: func(_ context.Context, call *control.Call) error {
			if err := control.DecodeArgs(call.Args, &struct{}{}); err != nil {
				return err
			}
			s := control.Registrar{Process: base()}
			r.fill(&s, time.Now())
			return call.Send(&s)
		}},
		{Name: control.CommandVXLANs, Run: ofVNI(func(v *control.VXLAN) int { return len(v.ServiceNodes) }, func(wanted func(vxlan.VNI) bool) []control.VXLAN {
			return r.shownVXLANs(wanted, time.Now())
		})},
		{Name: control.CommandPeers, Run: ofVNI(func(l *control.FloodList) int { return len(l.Members) }, func(wanted func(vxlan.VNI) bool) []control.FloodList {
			return r.shownLists(wanted, time.Now())
		})},
		{Name: control.CommandMonitor, Stream: true, Run: r.monitor},
	}
}

// ofVNI makes what list returns for a VNI, or for all, a command. addresses counts
// those that an element names.
func ofVNI[T any](addresses func(*T) int, list func(wanted func(vxlan.VNI) bool) []T) func(context.Context, *control.Call) error {
	return func(_ context.Context, call *control.Call) error {
		wanted, err := wantedVNIs(call)
		if err != nil {
			return err
		}
		for part := range control.Parts(list(wanted), addresses) {
			if err := call.Send(part); err != nil {
				return err
			}
		}
		return nil
	}
}

// wantedVNIs tells which VNIs the arguments of a call are about.
func wantedVNIs(call *control.Call) (func(vxlan.VNI) bool, error) {
	var a control.VNIArgs
	if err := control.DecodeArgs(call.Args, &a); err != nil {
		return nil, err
	}
	if a.VNI == nil {
		return func(vxlan.VNI) bool { return true }, nil
	}
	vni := vxlan.VNI(*a.VNI)
	if !vni.Valid() {
		return nil, &control.Error{
			Code: control.CodeBadArgument, Text: fmt.Sprintf("vni %d is out of range 0..%d", *a.VNI, vxlan.MaxVNI),
		}
	}
	return func(v vxlan.VNI) bool { return v == vni }, nil
}

// ago is how many seconds ago something was, nil if it never was.
func ago(t, now time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := int64(max(0, now.Sub(t)) / time.Second)
	return &s
}

// fill says how the registrar does.
func (r *Registrar) fill(s *control.Registrar, now time.Time) {
	var lists map[headend.Key]headend.Status
	if r.lists != nil {
		lists = r.lists.Status()
	}
	for _, l := range lists {
		s.Programmed += l.Own
	}
	s.Sent, s.SendErrors = r.sends.Load(), r.sendErrors.Load()
	s.LeftOut = r.leftOut.Load()
	s.Answers = make(map[string]uint64)
	for v := range numVerdicts {
		s.Answers[v.String()] = r.verdicts[v].Load()
	}
	select {
	case <-r.ready:
		s.Ready = true
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.HeadRep, s.VRF, s.VxfldPort, s.VXLANPort = r.cfg.HeadRep, r.cfg.VRF, r.cfg.VxfldPort, r.cfg.VXLANPort
	s.SvcnodeIPs, s.AnswerFrom = serviceNodes(&r.cfg), r.cfg.AnswerFrom.String()
	if !r.cfg.SrcIP.IsUnspecified() {
		s.SrcIP = r.cfg.SrcIP
	}
	if r.id != 0 {
		s.NodeID = shownID(r.id)
	}
	s.Devices = r.plan.Devices
	s.Registered, s.Skipped = r.countsLocked()
	s.LastRegistration, s.LastAnswer = ago(r.lastSent, now), ago(r.answered, now)
	s.Stale = r.silent
	s.Warnings = append(r.warningsLocked(now), listWarnings(lists)...)
}

// warningsLocked are what an operator should look at.
func (r *Registrar) warningsLocked(now time.Time) []string {
	var out []string
	if r.left > 0 {
		out = append(out, fmt.Sprintf("%d %s", r.left, leftText))
	}
	out = append(out, r.silenceWarningsLocked(now)...)
	if s := r.plan.nothing(); s != nil {
		out = append(out, fmt.Sprintf("no VNI is registered: %s: %s", s.Name, s))
	}
	out = append(out, r.refusalWarningsLocked()...)
	out = append(out, r.flawWarningsLocked()...)
	for _, a := range slices.SortedFunc(maps.Keys(r.strangers), netip.Addr.Compare) {
		if s := r.strangers[a]; !r.believesLocked(a) && now.Sub(s.last) < strangerTime {
			out = append(out, fmt.Sprintf("%s sent %s that answer_from does not believe, the last %v ago",
				a, counted(s.count, "message"), now.Sub(s.last).Round(time.Second)))
		}
	}
	return out
}

// refusalWarningsLocked are the service nodes that registrations cannot be sent
// to, of which the first is named.
func (r *Registrar) refusalWarningsLocked() []string {
	vnis := make(map[netip.Addr]int)
	why := make(map[netip.Addr]error)
	for i := range r.plan.Register {
		reg := &r.plan.Register[i]
		for _, n := range reg.Nodes {
			if err := r.refused[route{n, reg.Local}]; err != nil {
				vnis[n]++
				why[n] = err
			}
		}
	}
	if len(vnis) == 0 {
		return nil
	}
	n := slices.MinFunc(slices.Collect(maps.Keys(vnis)), netip.Addr.Compare)
	text := fmt.Sprintf("%s cannot be registered with %s: %v", counted(vnis[n], "VNI"), n, why[n])
	if more := len(vnis) - 1; more > 0 {
		text += fmt.Sprintf("; nor with %s", counted(more, "more service node"))
	}
	return []string{text}
}

// listWarnings are what an operator should look at among the flood lists, of each
// kind the first.
func listWarnings(lists map[headend.Key]headend.Status) []string {
	var out []string
	warn := func(what func(headend.Status) string) {
		var first *headend.Key
		n := 0
		for k, s := range lists {
			if what(s) == "" {
				continue
			}
			if n++; first == nil || cmp.Or(cmp.Compare(k.VNI, first.VNI), cmp.Compare(k.Device, first.Device)) < 0 {
				first = &k
			}
		}
		switch {
		case n == 1:
			out = append(out, fmt.Sprintf("flood list of %s (VNI %s): %s", first.Device, first.VNI, what(lists[*first])))
		case n > 1:
			out = append(out, fmt.Sprintf("%d flood lists, the first of %s (VNI %s): %s", n, first.Device, first.VNI, what(lists[*first])))
		}
	}
	warn(func(s headend.Status) string { return s.Problem })
	warn(func(s headend.Status) string {
		if !s.Managed {
			return ""
		}
		return "left alone, another daemon manages the device (hrep_devices)"
	})
	return out
}

// refusalLocked says why a VNI is to be registered and is not.
func (r *Registrar) refusalLocked(reg *registration) string {
	for _, n := range reg.Nodes {
		if err := r.refused[route{n, reg.Local}]; err != nil {
			return err.Error()
		}
	}
	return "not sent yet"
}

// shownVXLANs are the VNIs of the devices, in the order of VNI and device.
func (r *Registrar) shownVXLANs(wanted func(vxlan.VNI) bool, now time.Time) []control.VXLAN {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []control.VXLAN
	for i := range r.plan.Register {
		reg := &r.plan.Register[i]
		if !wanted(reg.VNI) {
			continue
		}
		v := control.VXLAN{
			VNI: uint32(reg.VNI), Device: reg.Device.Device, Index: reg.Device.Index, Local: reg.Local, ServiceNodes: reg.Nodes, Up: true,
		}
		if e := r.entries[reg.VNI]; e != nil && !e.sent.IsZero() {
			v.Registered, v.RegisteredAgo = true, ago(e.sent, now)
		} else {
			v.Reason = "unsent: " + r.refusalLocked(reg)
		}
		out = append(out, v)
	}
	for i := range r.plan.Skipped {
		s := &r.plan.Skipped[i]
		if wanted(s.VNI) {
			out = append(out, control.VXLAN{
				VNI: uint32(s.VNI), Device: s.Name, Index: s.Index, Local: s.Local, ServiceNodes: s.Nodes, Reason: s.String(), Up: s.Up,
			})
		}
	}
	slices.SortStableFunc(out, func(a, b control.VXLAN) int {
		return cmp.Or(cmp.Compare(a.VNI, b.VNI), cmp.Compare(a.Device, b.Device))
	})
	return out
}

// shownLists are the flood lists, in the order of their VNIs. No answer is taken
// in for one that waits.
func (r *Registrar) shownLists(wanted func(vxlan.VNI) bool, now time.Time) []control.FloodList {
	if r.lists == nil {
		return nil
	}
	status := r.lists.Status()
	r.mu.Lock()
	defer r.mu.Unlock()
	hold := patience(&r.cfg)
	managed := make(map[int]bool) // devices: lists that never had a member are in no status
	for k, s := range status {
		managed[k.Index] = managed[k.Index] || s.Managed
	}
	var out []control.FloodList
	es := slices.AppendSeq(slices.Collect(maps.Values(r.entries)), maps.Values(r.waiting))
	slices.SortFunc(es, func(a, b *entry) int { return cmp.Compare(a.VNI, b.VNI) })
	for _, e := range es {
		if !wanted(e.VNI) {
			continue
		}
		unregistered := r.entries[e.VNI] != e || e.sent.IsZero()
		s := status[e.Device]
		l := control.FloodList{
			VNI: uint32(e.VNI), Device: e.Device.Device, Index: e.Device.Index,
			Members: append([]netip.Addr{}, e.list.members()...), Own: s.Own, Foreign: s.Foreign,
			Unregistered: unregistered, Stale: !unregistered && e.list.stale(now, hold), From: e.list.from(), Managed: managed[e.Device.Index], Problem: s.Problem,
		}
		if e.list.spoken {
			l.LastAnswer = ago(e.list.heard, now)
		}
		out = append(out, l)
	}
	return out
}
