// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"vxsnd/internal/config"
	"vxsnd/internal/logging"
	"vxsnd/internal/node"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// runVxsnd is the service node's daemon.
func runVxsnd(args []string, stdout, stderr io.Writer) error {
	cl, err := parseFlags(config.Vxsnd, args)
	switch {
	case err != nil:
		return err
	case cl.help:
		return help(stdout, config.Vxsnd)
	case cl.version:
		_, err := fmt.Fprintln(stdout, versionLine("vxsnd"))
		return err
	}
	d := newDaemon("vxsnd", config.Vxsnd, cl, stdout, stderr)
	switch {
	case cl.check:
		if err := d.load(); err != nil {
			return err
		}
		return checkSystem(&d.running, stdout)
	case cl.cleanup:
		return d.cleanUp()
	case cl.test:
		if err := d.load(); err != nil {
			return err
		}
		d.warn()
		if err := d.checkIdentity(); err != nil {
			return err
		}
		_, err := newService(d.running, logging.Discard())
		return startError(err, exitConfig)
	case d.background && !process.Reborn():
		return d.detach()
	}
	return d.run()
}

// checkSystem prints what of the machine would be in the way.
func checkSystem(c *config.Config, stdout io.Writer) error {
	findings := preflight.Run(nodeNeeds(c))
	if err := preflight.Print(stdout, findings); err != nil {
		return err
	}
	for _, f := range findings {
		if !f.OK && !f.Unknown {
			return &exitError{exitFailed, nil, ""}
		}
	}
	return nil
}

// problems returns what err says about the configuration, if it is about that.
func problems(err error) (config.Problems, bool) {
	var ps config.Problems
	ok := errors.As(err, &ps)
	return ps, ok
}

// configError gives the error of a configuration its status: what is wrong
// with flags alone is a matter of usage.
func configError(err error) error {
	if ps, ok := problems(err); ok && ps.Flags() {
		return &exitError{exitUsage, err, ""}
	}
	return &exitError{exitConfig, err, ""}
}

func logError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{exitBind, err, "make the file writable for the user that runs vxsnd, or name another one (logdest)"}
	}
	return &exitError{exitConfig, err, nameHint(err) + " (logdest)"}
}

// startError is the one place that sorts the errors of a node into exit status
// and hint. other is the status of what is neither a busy address nor a lack
// of privilege.
func startError(err error, other int) error {
	if err == nil {
		return nil
	}
	e := &exitError{other, err, node.Hint(err)}
	hint := "run vxsnd with -D to see what led to it"
	switch {
	case errors.Is(err, node.ErrPrivilege):
		e.status = exitBind
		hint = "run vxsnd as root or with CAP_NET_RAW; with -R it floods nothing and needs none if vxfld_port is 1024 or higher"
	case errors.Is(err, node.ErrBind):
		e.status = exitBind
		hint = "compare svcnode_ip, src_ip, vrf and the ports with the addresses, devices and sockets of this machine"
	case other == exitConfig:
		hint = "change the options that it names"
	}
	if e.hint == "" {
		e.hint = hint
	}
	return e
}
