// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io/fs"
	"syscall"

	"vxsnd/internal/config"
	"vxsnd/internal/process"
)

// lockPIDFile takes the pid file: in the background and where one is named,
// or where a service manager made a directory for it.
func (d *daemon) lockPIDFile() error {
	if !d.background && !d.loaded.Named("pidfile") && d.input.RuntimeDir == "" {
		return nil
	}
	f, err := process.LockPIDFile(d.running.PIDFile)
	switch {
	case err == nil:
		d.pidfile = f
		return nil
	case errors.Is(err, process.ErrRunning):
		return &exitError{exitBind, err, secondHints[d.input.Program]}
	case !d.insists("pidfile"):
		d.noPIDFile = err
		return nil
	}
	return pidError(err)
}

// secondHints say what a second daemon on one machine needs.
var secondHints = map[config.Program]string{
	config.Vxsnd: "stop that one first, or give this one a pidfile and addresses of its own",
	config.Vxrd: "stop that one first; in another network namespace, or with another vxfld_port, " +
		"this one can run beside it with a pidfile, udsfile and statefile of its own",
}

// insists tells whether the daemon cannot do without the file of an option: in
// the background, and where another than the default is asked for. Files that
// spell out all defaults are common, and root's directories not everybody's.
func (d *daemon) insists(option string) bool {
	o, _ := config.Lookup(option)
	return d.background || d.loaded.Named(option) && o.Value(&d.running) != o.DefaultFor(d.input.Program)
}

func pidError(err error) error {
	switch {
	case errors.Is(err, process.ErrNotPID):
		return &exitError{exitConfig, err, "name another file (pidfile), or remove this one"}
	case errors.Is(err, fs.ErrPermission):
		return &exitError{exitBind, err, "name a file in a directory that the user may write to (pidfile), or start as root"}
	}
	return &exitError{exitConfig, err, nameHint(err) + " (pidfile)"}
}

// nameHint says what to name instead of a file that cannot be opened.
func nameHint(err error) string {
	if errors.Is(err, syscall.EISDIR) {
		return "name a file in that directory"
	}
	return "name a file in a directory that exists and can be written to"
}

func (d *daemon) removePIDFile() {
	if err := d.pidfile.Remove(); err != nil {
		d.log.WithError(err).Warn("pid file not removed")
	}
}
