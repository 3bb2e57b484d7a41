// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of the programs: it owns their flags, their
// help, how they are put together from a configuration, what they do at
// signals, and their exit status.
//
// It does not know what an option means (config does) nor how packets are
// flooded (node does), and it is the only package that reads flags.
package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"vxsnd/internal/config"
)

// The exit status of all programs.
const (
	exitStopped = iota // stopped as it was told to, or nothing to do
	exitFailed         // failed at run time
	exitUsage          // the command line is wrong
	exitConfig         // the configuration is wrong
	exitBind           // could not bind, or lacks privilege
)

// Run runs the program that args[0] names, with the rest of args as its
// command line, until it is done or told to stop by a signal. It returns the
// exit status: 0 stopped, 1 failed at run time, 2 usage, 3 configuration, 4
// could not bind or lacks privilege. Each but 0 comes with a line on stderr
// that says why, and mostly with one that says what to do.
func Run(args []string, stdout, stderr io.Writer) int {
	name := "vxsnd"
	if len(args) > 0 {
		name, args = filepath.Base(args[0]), args[1:]
	}
	var err error
	switch name {
	case "vxsndctl":
		err = vxsndctl.run(args, stdout, stderr)
	case "vxrdctl":
		err = vxrdctl.run(args, stdout, stderr)
	case "vxrd":
		err = runDaemon(config.Vxrd, args, stdout, stderr)
	default:
		name = "vxsnd"
		err = runDaemon(config.Vxsnd, args, stdout, stderr)
	}
	return report(stderr, name, err)
}

// An exitError ends a program with a status.
type exitError struct {
	status int
	err    error  // nil where all has been said
	hint   string // what to do about it, "" where err says it
}

// Error returns the text of the error that ends the program.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error that ends the program.
func (e *exitError) Unwrap() error { return e.err }

// report writes err to w, one line for each thing that is wrong and one for
// what to do about it, and returns the exit status that it stands for.
func report(w io.Writer, program string, err error) int {
	if err == nil {
		return exitStopped
	}
	status, hint := exitFailed, ""
	var e *exitError
	if errors.As(err, &e) {
		status, hint = e.status, e.hint
	}
	line := func(text, hint string) {
		fmt.Fprintf(w, "%s: %s\n", program, text)
		if hint != "" {
			fmt.Fprintf(w, "%s: hint: %s\n", program, hint)
		}
	}
	if ps, ok := problems(err); ok {
		for _, p := range ps {
			line(p.Error(), p.Hint)
		}
		return status
	}
	if e == nil || e.err != nil {
		line(err.Error(), hint)
	}
	return status
}
