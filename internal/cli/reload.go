// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/startup"
)

// reloadPause is the least time between two reloads: signals that come in a
// storm are taken as one.
const reloadPause = 100 * time.Millisecond

// reload takes the configuration anew, all or nothing: what is wrong with it
// is logged, and what was in force stays. The log file is opened anew in any
// case, since whoever moved it asks for that in the same way. ready tells whether
// READY has been said: before that a service manager knows of no reload.
func (d *daemon) reload(ctx context.Context, ready bool) {
	if ready {
		d.notify.Reloading()
		defer func() {
			if ctx.Err() == nil { // else STOPPING has been said
				d.notify.Ready(d.service.Status())
			}
		}()
	}
	if err := d.log.Reopen(); err != nil {
		d.log.WithError(err).Warn("log file not opened anew")
	}
	in := d.input
	in.Regular = true // nobody stands by to write into a FIFO
	// A default file that was read before may be missing because somebody is
	// about to replace it; a restart is the way back to all defaults.
	in.Required = in.Required || slices.Contains(d.loaded.Files, in.File)
	r, err := config.Load(in)
	if err == nil {
		err = d.change(r)
	}
	if err == nil {
		return
	}
	ps, ok := problems(err)
	if !ok {
		d.kept(err, startup.Hint(err))
		return
	}
	for i, p := range ps {
		if i == maxProblemLines {
			d.log.WithField("count", len(ps)-i).Error("configuration not reloaded, more is wrong with it")
			break
		}
		hint := p.Hint
		if errors.Is(p, fs.ErrNotExist) {
			if hint = "put the file back"; !d.input.Required {
				hint += ", or restart to go on with the defaults"
			}
		}
		d.kept(p, hint)
	}
}

// kept says why a reload has changed nothing, and what to do about it.
func (d *daemon) kept(err error, hint string) {
	log := d.log.WithError(err)
	if hint != "" {
		log = log.WithField("hint", hint)
	}
	log.Error("configuration not reloaded, the one before stays")
}

// maxProblemLines bounds what one reload logs.
const maxProblemLines = 32

// change brings a configuration into force, as far as that is possible without
// a restart, and says what changed.
func (d *daemon) change(r config.Result) error {
	next := r.Config.WithStatic(&d.running)
	logs, err := d.log.Prepare(d.logOptions(&next))
	if err != nil {
		return err
	}
	parts, err := d.service.Prepare(next)
	if err != nil {
		logs.Discard()
		return err
	}
	parts.Commit()
	if d.background && next.LogDest.Kind == config.DestStdout {
		d.log.Warn("log goes to standard output from now on: from the background that is nowhere")
	} else if next.LogDest != d.running.LogDest {
		d.log.WithField("logdest", next.LogDest).Info("log goes on elsewhere")
	}
	logs.Commit()

	for i, w := range r.Warnings {
		if i == maxProblemLines {
			d.log.WithField("count", len(r.Warnings)-i).Warn("more of the configuration taken with a reservation")
			break
		}
		d.log.WithError(w).Warn("configuration taken with a reservation")
	}
	changed, restart := 0, 0
	for _, c := range config.Diff(d.input.Program, &d.running, &r.Config) {
		l := d.log.WithFields(logrus.Fields{"option": c.Option, "old": c.Old, "new": c.New})
		if c.Reload {
			changed++
			l.Info("option changed")
		} else {
			restart++
			l.Warn("option not changed: it needs a restart")
		}
	}
	d.log.WithFields(logrus.Fields{"changed": changed, "restart": restart}).Info("configuration reloaded")
	d.mu.Lock()
	d.loaded, d.running = r, next
	d.mu.Unlock()
	return nil
}
