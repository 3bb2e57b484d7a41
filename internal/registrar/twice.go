// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// lookForTwice looks for devices that send what they flood to a service node, which
// sends it to everybody, and to everybody themselves, and says so. Without
// head-end replication the kernel is asked, in each round.
func (r *Registrar) lookForTwice(cfg *config.Config, p *plan, round bool) {
	var suspects []*registration
	r.mu.Lock()
	for i := range p.Register {
		reg := &p.Register[i]
		if _, ok := r.service[reg.Remote]; ok && reg.Remote.IsValid() {
			suspects = append(suspects, reg)
		}
	}
	r.mu.Unlock()
	if !cfg.HeadRep && len(suspects) > 0 {
		if !round {
			return
		}
		t, err := r.fdb.Read(0)
		if err != nil {
			r.log.WithError(err).Debug("flood entries not read")
			return
		}
		suspects = withList(suspects, t.Entries)
	}
	twice := make(map[headend.Key]struct{}, len(suspects))
	for _, reg := range suspects {
		twice[reg.Device] = struct{}{}
	}
	r.mu.Lock()
	before := r.twice
	r.twice = twice
	r.mu.Unlock()
	for _, reg := range suspects {
		if _, known := before[reg.Device]; !known {
			r.repeats.Do("twice", func(int) {
				r.log.WithFields(logrus.Fields{"iface": reg.Device.Device, "vni": reg.VNI, "count": len(twice)}).Warn(twiceText)
			})
			return
		}
	}
}

// twiceText says what is wrong with a device that floods twice.
const twiceText = "flooded packets go out twice: the default destination of the device is a service node, and it has a head-end list"

// withList returns those of regs that have a flood entry besides their default
// destination.
func withList(regs []*registration, entries []underlay.FloodEntry) []*registration {
	has := make(map[underlay.FloodEntry]struct{}) // without its address, if that is another one
	remotes := make(map[underlay.FloodEntry]netip.Addr, len(regs))
	for _, reg := range regs {
		remotes[at(reg)] = reg.Remote
	}
	for _, e := range entries {
		place := underlay.FloodEntry{Index: e.Index, VNI: e.VNI}
		if remote, ok := remotes[place]; ok && remote != e.Dst {
			has[place] = struct{}{}
		}
	}
	return slices.DeleteFunc(regs, func(reg *registration) bool { _, ok := has[at(reg)]; return !ok })
}

// at is where the flood entries of a registration are.
func at(reg *registration) underlay.FloodEntry {
	e := underlay.FloodEntry{Index: reg.Device.Index}
	if reg.Device.External {
		e.VNI = reg.VNI
	}
	return e
}
