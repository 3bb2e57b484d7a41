// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"vxsnd/internal/config"
	"vxsnd/internal/logging"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
	"vxsnd/internal/startup"
)

// runDaemon is the daemon of a program, in whatever mode its flags say.
func runDaemon(p config.Program, args []string, stdout, stderr io.Writer) error {
	cl, err := parseFlags(p, args)
	switch {
	case err != nil:
		return err
	case cl.help:
		return help(stdout, p)
	case cl.version:
		_, err := fmt.Fprintln(stdout, versionLine(p.String()))
		return err
	}
	d := newDaemon(p, cl, stdout, stderr)
	switch {
	case cl.check:
		if err := d.load(); err != nil {
			return err
		}
		return checkSystem(p, &d.running, stdout)
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
		_, err := newService(p, d.running, logging.Discard())
		return startError(p, err, exitConfig)
	case d.background && !process.Reborn():
		return d.detach()
	}
	return d.run()
}

// checkSystem prints what of the machine would be in the way.
func checkSystem(p config.Program, c *config.Config, stdout io.Writer) error {
	findings := preflight.Run(needs(p, c))
	if p == config.Vxrd {
		findings = slices.DeleteFunc(findings, func(f preflight.Finding) bool { return f.Name != registrarCheck })
	}
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

func logError(p config.Program, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &exitError{exitBind, err, "make the file writable for the user that runs " + p.String() + ", or name another one (logdest)"}
	}
	return &exitError{exitConfig, err, nameHint(err) + " (logdest)"}
}

// startError is the one place that sorts the errors of a service into exit status
// and hint. other is the status of what is of no kind of package startup.
func startError(p config.Program, err error, other int) error {
	if err == nil {
		return nil
	}
	e := &exitError{other, err, startup.Hint(err)}
	hint := "run " + p.String() + " with -D to see what led to it"
	switch {
	case errors.Is(err, startup.ErrPrivilege):
		e.status = exitBind
		hint = privilegeHints[p]
	case errors.Is(err, startup.ErrBind):
		e.status = exitBind
		hint = bindHints[p]
	case errors.Is(err, startup.ErrConfig):
		e.status = exitConfig
		hint = "change the options that it names"
	case other == exitConfig:
		hint = "change the options that it names"
	}
	if e.hint == "" {
		e.hint = hint
	}
	return e
}

// What to do about an error of each kind, where it does not say so itself.
var (
	privilegeHints = map[config.Program]string{
		config.Vxsnd: "run vxsnd as root or with CAP_NET_RAW; with -R it floods nothing and needs none if vxfld_port is 1024 or higher",
		config.Vxrd:  "run vxrd as root or with CAP_NET_ADMIN; with head_rep = false it needs none if vxfld_port is 1024 or higher",
	}
	bindHints = map[config.Program]string{
		config.Vxsnd: "compare svcnode_ip, src_ip, vrf and the ports with the addresses, devices and sockets of this machine",
		config.Vxrd:  "compare src_ip, vxfld_port, statefile and vrf with the addresses, sockets, files and devices of this machine",
	}
)
