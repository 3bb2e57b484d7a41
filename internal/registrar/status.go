// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/vxlan"
)

// stuck is how long the loop may go without showing that it lives while it does
// something: it sends several messages a second, and asks the kernel for more
// often than that.
const stuck = 10 * time.Second

// summaryVXLANs bounds the VNIs of a summary.
const summaryVXLANs = 32

// An activity is what somebody does: since when it last showed that it lives, in
// nanoseconds since 1970, or 0 while it waits.
type activity struct{ atomic.Int64 }

func (a *activity) touch() { a.Store(time.Now().UnixNano()) }

func (a *activity) rest() { a.Store(0) }

// Alive returns what is stuck, nil if nothing is.
func (r *Registrar) Alive() error {
	since := r.busy.Load()
	if d := time.Since(time.Unix(0, since)); since != 0 && d > stuck {
		return fmt.Errorf("registering is stuck for %v", d.Round(time.Second))
	}
	return nil
}

// Status returns one line that says how the registrar does.
func (r *Registrar) Status() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	registered, skipped := r.countsLocked()
	line := fmt.Sprintf("registered %s of %s with %s", counted(registered, "VNI"),
		counted(r.plan.Devices, "device"), counted(len(r.plan.Nodes), "service node"))
	if r.cfg.HeadRep {
		members := 0
		for _, e := range r.entries {
			members += len(e.list.members())
		}
		line += ", " + counted(members, "member")
	}
	if skipped > 0 {
		line += fmt.Sprintf(", %d skipped", skipped)
	}
	if r.silent {
		line += ", service nodes silent"
	}
	return line
}

// countsLocked returns how many VNIs are registered, and how many are not: those
// that are not to be, and those that could not be sent to any service node.
func (r *Registrar) countsLocked() (registered, skipped int) {
	for i := range r.plan.Register {
		if e := r.entries[r.plan.Register[i].VNI]; e != nil && !e.sent.IsZero() {
			registered++
		}
	}
	return registered, len(r.plan.Register) - registered + len(r.plan.Skipped)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// Summary writes to the log what is registered, up to a bound, with how many
// members, and what is not.
func (r *Registrar) Summary() {
	r.mu.Lock()
	p := r.plan
	registered, skipped := r.countsLocked()
	head := r.cfg.HeadRep
	counts := make([]int, 0, summaryVXLANs)
	for i := range p.Register[:min(len(p.Register), summaryVXLANs)] {
		n := -1 // not registered
		if e := r.entries[p.Register[i].VNI]; e != nil && !e.sent.IsZero() {
			n = len(e.list.members())
		}
		counts = append(counts, n)
	}
	r.mu.Unlock()
	r.log.WithFields(logrus.Fields{"registered": registered, "skipped": skipped, "devices": p.Devices}).Info("vxlans")
	for i, n := range counts {
		reg := &p.Register[i]
		f := logrus.Fields{"vni": reg.VNI, "iface": reg.Device.Device, "local": reg.Local, "peer": reg.Nodes}
		if n < 0 {
			r.log.WithFields(f).Info("vxlans: unsent")
			continue
		}
		if head {
			f["members"] = n
		}
		r.log.WithFields(f).Info("vxlans: registered")
	}
	for i := range p.Skipped[:min(len(p.Skipped), summaryVXLANs)] {
		s := &p.Skipped[i]
		r.log.WithFields(s.fields()).Info("vxlans: skipped")
	}
	r.logCounters("counters")
}

// logReady says that everything was registered once.
func (r *Registrar) logReady() {
	r.mu.Lock()
	registered, skipped := r.countsLocked()
	f := logrus.Fields{
		"vxfld_port": r.cfg.VxfldPort, "head_rep": r.cfg.HeadRep, "devices": r.plan.Devices,
		"registered": registered, "skipped": skipped,
	}
	if nodes := serviceNodes(&r.cfg); len(nodes) > 0 {
		f["svcnode_ip"] = nodes
	}
	if r.id != 0 {
		f["node_id"] = shownID(r.id)
	}
	if r.cfg.VRF != "" {
		f["vrf"] = r.cfg.VRF
	}
	r.mu.Unlock()
	r.log.WithFields(f).Info("ready")
}

// shownID is an identifier as people read it.
func shownID(id uint64) string { return fmt.Sprintf("%#012x", id) }

// logStopped says what the registrar did while it ran.
func (r *Registrar) logStopped() { r.logCounters("stopped") }

// logCounters writes a line with what the registrar did so far.
func (r *Registrar) logCounters(message string) {
	f := logrus.Fields{"sent": r.sends.Load()}
	if n := r.sendErrors.Load(); n > 0 {
		f["send_errors"] = n
	}
	if n := r.leftOut.Load(); n > 0 {
		f["left_out"] = n
	}
	for v := range numVerdicts {
		if n := r.verdicts[v].Load(); n > 0 {
			f[v.String()] = n
		}
	}
	r.log.WithFields(f).Info(message)
}

// logChanges writes to the log what is registered anew, and what withdrawn.
func (r *Registrar) logChanges(b *batch) {
	for message, routes := range map[string]map[route][]vxlan.VNI{"vni to register": b.Register, "vni to withdraw": b.Withdraw} {
		for at, vnis := range routes {
			for _, v := range vnis {
				r.log.WithFields(logrus.Fields{"vni": v, "local": at.Local, "peer": at.Node}).Debug(message)
			}
		}
	}
}

// logSkips writes to the log what is skipped and was not, or not for this reason.
func (r *Registrar) logSkips(before, now *plan) {
	for _, s := range newSkips(before, now) {
		r.log.WithFields(s.fields()).Debug("vni skipped")
	}
}
