// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"

	"vxsnd/internal/headend"
	"vxsnd/internal/underlay"
)

// leftText says that nobody looks after entries of an earlier run.
const leftText = "flood entries of a run with head_rep are left: stop vxrd, run 'vxrd --cleanup' as root, and start it again"

// removeLeft removes the flood entries that an earlier run with head-end
// replication has left, if it may: no answer changes them any more. A file that
// is not about this namespace, or that another process has, says nothing of them.
func (r *Registrar) removeLeft(fdb *underlay.FDB) {
	o, err := listOptions(&r.cfg, fdb)
	if err == nil {
		o.Log = r.log
		r.left, err = headend.Left(o)
	}
	switch {
	case errors.Is(err, headend.ErrInUse), errors.Is(err, headend.ErrOtherSpace):
		return
	case err != nil:
		r.log.WithError(err).Warn("no telling whether flood entries of an earlier run are left")
		return
	case r.left == 0:
		return
	}
	removed := 0
	if err = mayProgram(fdb); err == nil {
		removed, err = headend.Cleanup(o)
	}
	if removed > 0 {
		r.log.WithField("count", removed).Info("flood entries of a run with head_rep removed")
	}
	if r.left -= removed; r.left > 0 {
		r.log.WithField("count", r.left).WithError(err).Warn(leftText)
	}
}
