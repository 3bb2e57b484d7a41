// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"fmt"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// A flaw is what is wrong with where a device sends what it floods.
type flaw uint8

const (
	// flawTwice: to a service node, which sends it to everybody, and to everybody.
	flawTwice flaw = iota
	// flawGroup: to a multicast group and to everybody.
	flawGroup
	// flawPast: not to a service node, and no list says where else.
	flawPast
	numFlaws
)

var flawTexts = [numFlaws]string{
	flawTwice: "flooded packets go out twice: the default destination of the device is a service node, and it has a head-end list",
	flawGroup: "flooded packets go out twice: the default destination of the device is a multicast group, and it has a head-end list",
	flawPast:  "flooded packets go to no service node: head_rep is off, and the default destination of the device is none",
}

// lookForFlaws looks at where the devices send what they flood, and says what is
// new. Without head-end replication the kernel is asked, in each round.
func (r *Registrar) lookForFlaws(cfg *config.Config, p *plan, round bool) {
	var table underlay.FloodTable
	if !cfg.HeadRep {
		if !round || len(p.Register) == 0 {
			return
		}
		var err error
		if table, err = r.fdb.Read(0); err != nil {
			r.log.WithError(err).Debug("flood entries not read")
			return
		}
	}
	flaws := make(map[headend.Key]flaw)
	var count [numFlaws]int
	var first [numFlaws]*registration // that is new
	r.mu.Lock()
	listed := r.listedLocked(cfg, p, table.Entries)
	for i := range p.Register {
		reg := &p.Register[i]
		f, ok := r.flawLocked(cfg, reg, listed)
		if !ok {
			continue
		}
		flaws[reg.Device] = f
		count[f]++
		if before, known := r.flaws[reg.Device]; first[f] == nil && (!known || before != f) {
			first[f] = reg
		}
	}
	r.flaws = flaws
	r.mu.Unlock()
	for f, reg := range first {
		if reg != nil {
			r.repeats.Do(flawTexts[f], func(int) {
				r.log.WithFields(logrus.Fields{"iface": reg.Device.Device, "vni": reg.VNI, "count": count[f]}).Warn(flawTexts[f])
			})
		}
	}
}

// flawLocked returns what is wrong with a registration.
func (r *Registrar) flawLocked(cfg *config.Config, reg *registration, listed map[headend.Key]struct{}) (flaw, bool) {
	_, list := listed[reg.Device]
	_, served := r.service[reg.Remote]
	served = served && reg.Remote.IsValid() // svcnode may be no address, too
	switch {
	case served && list:
		return flawTwice, true
	case reg.Remote.IsMulticast() && list:
		return flawGroup, true
	case !cfg.HeadRep && !served && !list:
		return flawPast, true
	}
	return 0, false
}

// listedLocked returns those that have a flood list besides their default
// destination: members, or without head-end replication entries of others.
func (r *Registrar) listedLocked(cfg *config.Config, p *plan, entries []underlay.FloodEntry) map[headend.Key]struct{} {
	listed := make(map[headend.Key]struct{})
	regs := make(map[underlay.FloodEntry]*registration, len(p.Register)) // by entries without their address
	for i := range p.Register {
		reg := &p.Register[i]
		regs[at(reg)] = reg
		if e := r.entries[reg.VNI]; cfg.HeadRep && e != nil && len(e.list.members()) > 0 {
			listed[reg.Device] = struct{}{}
		}
	}
	for _, e := range entries {
		if reg := regs[underlay.FloodEntry{Index: e.Index, VNI: e.VNI}]; reg != nil && reg.Remote != e.Dst {
			listed[reg.Device] = struct{}{}
		}
	}
	return listed
}

// at is where the flood entries of a registration are.
func at(reg *registration) underlay.FloodEntry {
	e := underlay.FloodEntry{Index: reg.Device.Index}
	if reg.Device.External {
		e.VNI = reg.VNI
	}
	return e
}

// flawWarningsLocked are what an operator should know of flaws, of each the first.
func (r *Registrar) flawWarningsLocked() (out []string) {
	var count [numFlaws]int
	var first [numFlaws]headend.Key
	for k, f := range r.flaws {
		if count[f]++; count[f] == 1 || cmp.Or(cmp.Compare(k.VNI, first[f].VNI), cmp.Compare(k.Device, first[f].Device)) < 0 {
			first[f] = k
		}
	}
	for f, n := range count {
		if n == 0 {
			continue
		}
		text := fmt.Sprintf("%s (VNI %s): %s", first[f].Device, first[f].VNI, flawTexts[f])
		if n > 1 {
			text += fmt.Sprintf("; the same holds for %d more", n-1)
		}
		out = append(out, text)
	}
	return out
}
