// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/process"
)

// cleanUp removes what a service that crashed has left, and says what that was.
// It refuses where one of this configuration may be running, which would lose its
// own for a moment.
func (d *daemon) cleanUp() (err error) {
	if err := d.load(); err != nil {
		return err
	}
	// While the pid file is held, nothing that wants it starts. Without one, as in
	// a directory that is another's, the management socket has to tell.
	f, err := process.LockPIDFile(d.running.PIDFile)
	if errors.Is(err, process.ErrRunning) {
		return &exitError{exitFailed, err, cleanupHints[d.input.Program]}
	}
	defer func() { err = errors.Join(err, f.Remove()) }()
	if err := d.silent(); err != nil {
		return err
	}
	removed, err := cleanUp(d.input.Program, d.running)
	for _, what := range removed {
		fmt.Fprintf(d.stdout, "removed %s\n", what)
	}
	if err == nil && len(removed) == 0 {
		fmt.Fprintln(d.stdout, "nothing to clean up")
	}
	return startError(d.input.Program, err, exitFailed)
}

var cleanupHints = map[config.Program]string{
	config.Vxsnd: "stop it instead: it takes its address away by itself; --cleanup is for after a crash",
	config.Vxrd:  "stop it instead: it removes its flood entries by itself; --cleanup is for after a crash",
}

// silent returns an error where somebody listens at the management socket, or
// there is no telling.
func (d *daemon) silent() error {
	paths := []string{d.running.UDSFile}
	if !d.loaded.Named("udsfile") {
		// A service manager and an operator have theirs in different places.
		paths = append(paths, controlPrograms[d.input.Program].sockets...)
	}
	for _, path := range paths {
		c, err := control.Dial(context.Background(), path)
		var refused *control.Error
		switch {
		case err == nil:
			_ = c.Close()
			return &exitError{exitFailed, fmt.Errorf("%s: a %s is running that listens there", path, d.input.Program), cleanupHints[d.input.Program]}
		case errors.As(err, &refused) && refused.Code == control.CodePermission:
			return &exitError{exitFailed, fmt.Errorf("cannot tell whether a %s is running: %w", d.input.Program, err), refused.Hint}
		}
	}
	return nil
}
