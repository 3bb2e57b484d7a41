// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// DefaultFile is read where no other file is named.
	DefaultFile = "/etc/vxsnd.conf"

	// OverrideSuffix behind the name of a file names the one that is read
	// after it and wins.
	OverrideSuffix = ".override"
)

// A Flag is an option given on the command line.
type Flag struct {
	Name   string // as the user wrote it, with its hyphens: "--holdtime" or "-s"
	Option string // name of the option
	Value  string
}

// An Input says where a configuration comes from. What stands later wins:
// defaults, File, File with OverrideSuffix, Flags.
type Input struct {
	Program  Program // Vxsnd where 0
	File     string  // "" reads no file
	Required bool    // a File that does not exist is an error
	Flags    []Flag  // in the order of the command line
}

// A Result is what Load makes of an Input.
type Result struct {
	Config   Config
	Warnings []*Problem // what was accepted and deserves a word, in the order of files, lines and flags
	Files    []string   // files that were read
}

// Load reads the files of in, checks all that it finds and returns the
// configuration. File names in it are made absolute by the working directory.
// The error is a Problems with everything that is wrong; the Result is then
// the zero value.
func Load(in Input) (Result, error) {
	var (
		r   Result
		srs []source
		ps  Problems
	)
	for i, name := range []string{in.File, in.File + OverrideSuffix} {
		if in.File == "" {
			break
		}
		text, err := readFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && (i > 0 || !in.Required):
		case err != nil:
			if len(ps) == 0 {
				ps = append(ps, unreadable(name, err))
			}
		default:
			srs = append(srs, source{name, text, i > 0})
			r.Files = append(r.Files, name)
		}
	}
	c, warnings, err := parse(in.Program, srs, in.Flags)
	if err != nil {
		ps = append(ps, err...)
	}
	if len(ps) > 0 {
		return Result{}, ps
	}
	if err := c.makeAbsolute(); err != nil {
		return Result{}, Problems{{Text: err.Error(), Err: err}}
	}
	r.Config, r.Warnings = c, warnings
	return r, nil
}

// maxFile is the size of the largest file that is read, in bytes: a million
// static members fit.
const maxFile = 32 << 20

var errTooLarge = fmt.Errorf("larger than %d MiB", maxFile>>20)

// readFile is os.ReadFile with a bound.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errTooLarge
	}
	return b, err
}

func unreadable(name string, err error) *Problem {
	p := &Problem{File: name, Text: err.Error(), Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		p.Text = pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "check the name, or leave -c out to read " + DefaultFile + " if there is one"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "make the file readable for the user that runs the daemon"
	}
	return p
}

func (c *Config) makeAbsolute() error {
	for _, name := range []*string{&c.PIDFile, &c.UDSFile, &c.LogDest.Path} {
		if *name == "" {
			continue
		}
		abs, err := filepath.Abs(*name)
		if err != nil {
			return fmt.Errorf("make %s absolute: %w", *name, err)
		}
		*name = abs
	}
	if len(c.UDSFile) > maxUDSPath {
		return fmt.Errorf("udsfile: %q is longer than %d bytes", c.UDSFile, maxUDSPath)
	}
	return nil
}

// Parse is Load for one text instead of files: name stands for its place in
// errors, and file names in it stay as they are.
func Parse(p Program, name string, text []byte, flags []Flag) (Result, error) {
	c, warnings, ps := parse(p, []source{{name: name, text: text}}, flags)
	if len(ps) > 0 {
		return Result{}, ps
	}
	return Result{Config: c, Warnings: warnings, Files: []string{name}}, nil
}
