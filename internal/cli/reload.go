// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/startup"
)

// reloadPause is the least time between two reloads: signals that come in a
// storm are taken as one.
const reloadPause = 100 * time.Millisecond

// maxProblemLines bounds what one reload logs and reports of each kind.
const maxProblemLines = 32

// reload takes the configuration anew, all or nothing: what is wrong with it
// is logged and reported, and what was in force stays. What was set over the
// files goes. The log file is opened anew in any case, since whoever moved it
// asks for that in the same way. ready tells whether READY has been said: before
// that a service manager knows of no reload.
func (d *daemon) reload(ctx context.Context, ready bool) control.ReloadReport {
	if ready {
		d.notify.Reloading()
		defer func() {
			if ctx.Err() == nil { // else STOPPING has been said
				d.notify.Ready(d.service.Status())
			}
		}()
	}
	var reopened []string
	if err := d.log.Reopen(); err != nil {
		const text = "log file not opened anew"
		d.log.WithError(err).Warn(text)
		reopened = []string{text + ": " + err.Error()}
	}
	in := d.input
	in.Regular = true // nobody stands by to write into a FIFO
	// A default file that was read before may be missing because somebody is
	// about to replace it; a restart is the way back to all defaults.
	in.Required = in.Required || slices.Contains(d.loaded.Files, in.File)
	var report control.ReloadReport
	r, err := config.Load(in)
	if err == nil {
		report, err = d.change(r)
	}
	if err != nil {
		var more int
		report, more = d.refused(err)
		for _, p := range report.Errors {
			log := d.log.WithField(logrus.ErrorKey, p.Text)
			if p.Hint != "" {
				log = log.WithField("hint", p.Hint)
			}
			log.Error("configuration not reloaded, the one before stays")
		}
		if more > 0 {
			d.log.WithField("count", more).Error("configuration not reloaded, more is wrong with it")
			report.Errors = append(report.Errors, control.ReloadProblem{
				Text: fmt.Sprintf("%d more problems", more), Hint: d.name + " -t with the flags of the daemon tells all",
			})
		}
		report.Warnings = append(reopened, tellWarnings(r.Warnings)...) // they may tell why
		return report
	}
	report.Warnings = append(reopened, report.Warnings...)
	d.log.WithFields(logrus.Fields{"changed": len(report.Changed), "restart": len(report.Restart)}).Info("configuration reloaded")
	d.mu.Lock()
	d.loaded, d.over = r, overlay{}
	d.mu.Unlock()
	return report
}

// refused is the report of a configuration that is not brought into force, and
// how many problems are not in it.
func (d *daemon) refused(err error) (report control.ReloadReport, more int) {
	ps, ok := problems(err)
	if !ok {
		report.Errors = []control.ReloadProblem{{Text: err.Error(), Hint: startup.Hint(err)}}
		return report, 0
	}
	for _, p := range ps[:min(len(ps), maxProblemLines)] {
		hint := p.Hint
		if errors.Is(p, fs.ErrNotExist) {
			if hint = "put the file back"; !d.input.Required {
				hint += ", or restart to go on with the defaults"
			}
		}
		report.Errors = append(report.Errors, control.ReloadProblem{Text: p.Error(), Hint: hint})
	}
	return report, len(ps) - len(report.Errors)
}

// tellWarnings returns warnings as lines, up to a bound.
func tellWarnings(ws []*config.Problem) (lines []string) {
	for i, w := range ws {
		if i == maxProblemLines {
			return append(lines, fmt.Sprintf("%d more warnings", len(ws)-i))
		}
		lines = append(lines, w.Error())
	}
	return lines
}

// change brings a configuration into force, as far as that is possible without
// a restart, and says what changed.
func (d *daemon) change(r config.Result) (report control.ReloadReport, err error) {
	next := r.Config.WithStatic(&d.running)
	logs, err := d.log.Prepare(d.logOptions(&next))
	if err != nil {
		return report, err
	}
	parts, err := d.service.Prepare(next)
	if err != nil {
		logs.Discard()
		return report, err
	}
	var moves *metricsChange
	if d.metrics != nil {
		if moves, err = d.metrics.Prepare(next.MetricsListen); err != nil {
			parts.Discard()
			logs.Discard()
			return report, err
		}
	}
	parts.Commit()
	moves.Commit()
	report.Warnings = tellWarnings(r.Warnings)
	if d.background && next.LogDest.Kind == config.DestStdout {
		const text = "log goes to standard output from now on: from the background that is nowhere"
		d.log.Warn(text)
		report.Warnings = append(report.Warnings, text)
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
	for _, c := range config.Diff(d.input.Program, &d.running, &r.Config) {
		l := d.log.WithFields(logrus.Fields{"option": c.Option, "old": c.Old, "new": c.New})
		o := control.OptionChange{Name: c.Option, Old: c.Old, New: c.New}
		if c.Reload {
			report.Changed = append(report.Changed, o)
			l.Info("option changed")
		} else {
			report.Restart = append(report.Restart, o)
			l.Warn("option not changed: it needs a restart")
		}
	}
	d.mu.Lock()
	d.running = next
	d.mu.Unlock()
	return report, nil
}
