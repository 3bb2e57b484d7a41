// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// identity returns whom to become, nil for nobody else: started as root, a
// daemon goes on as the user and group of the configuration.
func (d *daemon) identity() (*process.Identity, error) {
	if os.Geteuid() == 0 {
		return d.named()
	}
	if d.loaded.Named("user") || d.loaded.Named("group") {
		d.log.Warn("user and group stay as they are: not started as root")
	}
	return nil, nil
}

// named looks up the user and group of the configuration. Where it names
// nobody, that is the user who has the program's name; where there is none, they
// are nil.
func (d *daemon) named() (*process.Identity, error) {
	user, group := d.running.User, d.running.Group
	if user == "" {
		user = d.name
	}
	id, err := process.LookupIdentity(user, group)
	switch {
	case err == nil:
		return id, nil
	case d.running.User == "" && group == "" && errors.Is(err, process.ErrNoUser):
		return nil, nil
	case d.running.User == "" && errors.Is(err, process.ErrNoUser):
		// Nobody has named that user: what is said is about the group.
		if _, e := process.LookupIdentity("0", group); e != nil {
			return nil, &exitError{exitConfig, e, "make that group, or name another one (group)"}
		}
		return nil, &exitError{exitConfig, fmt.Errorf("group %s goes with a user, and there is no user %s", group, user),
			"name the user, too (user), or make the user " + user}
	}
	return nil, &exitError{exitConfig, err, "make that user and group, or name others (user, group)"}
}

// checkIdentity is for -t: what would end a start as root is but a warning for
// somebody else, whose daemon stays who it is.
func (d *daemon) checkIdentity() error {
	_, err := d.named()
	if err != nil && os.Geteuid() != 0 {
		fmt.Fprintf(d.stderr, "%s: warning: %v\n", d.name, err)
		return nil
	}
	return err
}

// logIdentity says as whom the daemon goes on.
func (d *daemon) logIdentity(id *process.Identity) {
	if id == nil && os.Geteuid() != 0 {
		return // nothing has changed
	}
	if id == nil {
		d.log.Info("goes on as root with reduced capabilities: user " + d.name + " does not exist")
		return
	}
	group := d.running.Group
	if group == "" {
		group = strconv.Itoa(id.GID)
	}
	log := d.log.WithFields(logrus.Fields{"user": id.Name, "group": group})
	if id.UID == 0 {
		log.Info("goes on as root with reduced capabilities")
		return
	}
	log.Info("goes on as an unprivileged user")
}

// drop looks at what of the machine is in the way, as long as it may, and then
// goes on with no more privilege than serving takes.
func (d *daemon) drop(id *process.Identity) error {
	d.checks = preflight.Run(d.service.Needs())
	for _, f := range d.checks {
		if !f.OK && !f.Unknown {
			d.log.WithFields(logrus.Fields{"check": f.Name, "value": f.Value, "fix": f.Fix}).Warn(f.Text)
		}
	}
	if id != nil {
		d.handOver(id.UID, id.GID)
	}
	if err := process.Drop(id, d.service.Capabilities()...); err != nil {
		return &exitError{exitBind, err, "start as root with all its capabilities, or as an unprivileged user with those that are needed"}
	}
	d.logIdentity(id)
	if err := d.log.Reopenable(); err != nil {
		d.warnStart(err, "log file cannot be opened anew: a reload will go on with this one")
	}
	if err := d.log.Rotatable(); err != nil {
		d.warnStart(err, "log file cannot be rotated: keep it in a directory of that user's")
	}
	for _, name := range d.files() {
		f, err := os.Open(name)
		if err != nil {
			d.warnStart(err, "configuration file cannot be read any more: a reload will fail")
			continue
		}
		f.Close()
	}
	return nil
}

// handOver gives files of the daemon to the user that it becomes; not the pid
// file, since whoever can write that chooses what root kills by it.
func (d *daemon) handOver(uid, gid int) {
	if err := d.log.Chown(uid, gid); err != nil {
		d.warnStart(err, "log file stays root's: it cannot be opened anew")
	}
	if d.metrics != nil {
		if err := d.metrics.chown(uid, gid); err != nil {
			d.warnStart(err, "metrics socket stays root's")
		}
	}
	if d.control == nil {
		return
	}
	if err := d.control.Chown(uid, gid); err != nil {
		d.warnStart(err, "management socket stays root's")
	}
}

// warnStart warns of what a daemon starts with all the same: in the log, and
// where it was put into the background also at the terminal, since few look at
// the log of a start that went well.
func (d *daemon) warnStart(err error, message string) {
	d.log.WithError(err).Warn(message)
	if d.background {
		d.notify.Warn(message + ": " + err.Error())
	}
}
