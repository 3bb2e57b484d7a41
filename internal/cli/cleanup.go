// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/node"
	"vxsnd/internal/process"
	"vxsnd/internal/registrar"
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
	said, err := cleanUp(d)
	for _, what := range said {
		fmt.Fprintln(d.stdout, what)
	}
	return startError(d.input.Program, err, exitFailed)
}

// cleanUpNode removes what a service node has left.
func cleanUpNode(c config.Config) (said []string, err error) {
	removed, err := node.Cleanup(c)
	for _, what := range removed {
		said = append(said, "removed "+what)
	}
	if err == nil && len(removed) == 0 {
		said = []string{"nothing to clean up"}
	}
	return said, err
}

// unitStateFile is where the unit of vxrd has its state file.
const unitStateFile = "/run/vxrd/vxrd.state"

// stateFiles returns the state files that flood entries may be noted in: an
// operator who names none may mean that of the unit.
func (d *daemon) stateFiles() []string {
	files := []string{d.running.StateFile}
	if d.loaded.Named("statefile") || d.input.RuntimeDir != "" {
		return files
	}
	return append([]string{unitStateFile}, files...)
}

// cleanUpEntries removes the flood entries that files tell of. It goes through
// all of them, whatever is wrong with one.
func cleanUpEntries(c config.Config, files []string) (said []string, err error) {
	for _, name := range files {
		// Without leave to look, whoever opens the file has more to say.
		if _, e := os.Lstat(name); errors.Is(e, fs.ErrNotExist) {
			said = append(said, "nothing to clean up: there is no "+name)
			continue
		}
		c.StateFile = name
		n, e := registrar.Cleanup(c)
		switch {
		case n > 0:
			said = append(said, fmt.Sprintf("removed %s that %s tells of", amount(n, "flood entry", "flood entries"), name))
		case e == nil:
			said = append(said, "nothing to clean up in "+name)
		}
		if err == nil {
			err = e
		} else if e != nil {
			err = fmt.Errorf("%w; %w", err, e)
		}
	}
	return said, err
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
