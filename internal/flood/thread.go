// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// turn is how long a worker may keep a CPU that others want: the shortest that
// the kernel grants (sched_runtime of sched_setattr(2), 0.1 to 100 ms).
const turn = 100 * time.Microsecond

// name gives the calling thread the name that top(1) and others show, for
// worker i; it is only a name, so an error is none.
func name(i int) {
	if b, err := unix.BytePtrFromString(fmt.Sprintf("flood/%d", i)); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

// pin binds the calling thread to the CPU of worker i. A CPU that has gone
// away costs the worker its place, not the service.
func (r *Raw) pin(i int) {
	if len(r.cfg.CPUs) == 0 {
		return
	}
	var set unix.CPUSet
	set.Set(r.cfg.CPUs[i%r.cfg.Workers%len(r.cfg.CPUs)])
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		r.cfg.Log.WithField("task", "flood").WithError(err).Warn("worker not pinned to its cpu")
	}
}

// hasten asks for short turns of the calling thread. Since Linux 6.12 a thread
// that wakes takes the CPU at once from one whose turns are longer
// (PREEMPT_SHORT), so that a packet waits less for what else runs there. Its share
// of the CPU stays the same, and so does its nice value. Older kernels take no
// notice; a policy other than the default one is the operator's choice.
func (r *Raw) hasten() {
	a, err := unix.SchedGetAttr(0, 0)
	if err == nil && a.Policy == unix.SCHED_NORMAL {
		a.Runtime = uint64(turn)
		err = unix.SchedSetAttr(0, a, 0)
	}
	if err != nil {
		r.cfg.Log.WithField("task", "flood").WithError(err).Debug("worker has turns of the usual length")
	}
}
