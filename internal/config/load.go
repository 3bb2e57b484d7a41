// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// OverrideSuffix behind the name of a file names the one that is read after it
// and wins.
const OverrideSuffix = ".override"

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

	// Regular takes no file that somebody else would have to write while it is
	// read: a FIFO is an error.
	Regular bool

	// Dir is the directory where relative file names begin: File itself, and
	// those in files and flags. "" is the working directory, which a daemon
	// leaves: it loads again from the one that it was started in.
	Dir string

	// RuntimeDir is what systemd sets as RUNTIME_DIRECTORY (systemd.exec(5)):
	// directories separated by colons. The defaults of pidfile, udsfile and
	// statefile are in the first of them; "" leaves them where the table of
	// options has them.
	RuntimeDir string
}

// A Result is what Load makes of an Input.
type Result struct {
	Config   Config
	Warnings []*Problem // what was accepted and deserves a word, in the order of files, lines and flags
	Files    []string   // files that were read, named as Input.File names them

	named   map[string]bool
	input   Input
	sources []source
}

// Named tells whether a file or flag gave the option, by its name or an older
// one, so that its value is what somebody asked for rather than the default.
func (r *Result) Named(option string) bool {
	o := lookup(option)
	return o != nil && r.named[o.Name]
}

// Load reads the files of in, checks all that it finds and returns the
// configuration. File names in it are made absolute by in.Dir.
// The error is a Problems with everything that is wrong; of the Result only the
// warnings count then.
func Load(in Input) (Result, error) {
	var (
		srs []source
		ps  Problems
	)
	for i, name := range []string{in.File, in.File + OverrideSuffix} {
		if in.File == "" {
			break
		}
		text, err := in.readFile(in.resolve(name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && (i > 0 || !in.Required):
		case err != nil:
			if len(ps) == 0 {
				ps = append(ps, unreadable(in.Program, name, err))
			}
		default:
			srs = append(srs, source{name, text, i > 0})
		}
	}
	return in.take(srs, nil, ps)
}

// With returns what Load, which r comes from, would have returned for the same
// text had these values been given, too: they win over files and flags, and of several for
// one option the last one does. A Problem of one is that of a flag, whose name is
// Flag.Name.
func (r *Result) With(set []Flag) (Result, error) {
	return r.input.take(r.sources, set, nil)
}

// take makes a Result of the text of files and of values that were set. ps is
// what is wrong already.
func (in Input) take(srs []source, set []Flag, ps Problems) (Result, error) {
	r := Result{input: in, sources: srs}
	for _, s := range srs {
		r.Files = append(r.Files, s.name)
	}
	l := newLoader(in.Program)
	c := l.load(srs, in.Flags, set)
	r.Warnings = l.warnings
	if ps = append(ps, l.problems...); len(ps) > 0 {
		return r, ps
	}
	for option, name := range map[string]*string{"pidfile": &c.PIDFile, "udsfile": &c.UDSFile, "statefile": &c.StateFile} {
		if !l.given(option) {
			*name = in.Default(lookup(option))
		}
	}
	if err := in.makeAbsolute(&c); err != nil {
		return r, Problems{{Text: err.Error(), Err: err}}
	}
	if ps = l.checkFiles(&c, &in); len(ps) > 0 {
		return r, ps
	}
	r.Config, r.named = c, l.named()
	return r, nil
}

// Default returns the default of option o, as Option.DefaultFor has it but for
// what RuntimeDir makes of it.
func (in *Input) Default(o *Option) string {
	def := o.DefaultFor(in.Program)
	switch dir, _, _ := strings.Cut(in.RuntimeDir, ":"); o.Name {
	case "pidfile", "udsfile", "statefile":
		if dir != "" {
			return filepath.Join(dir, filepath.Base(def))
		}
	}
	return def
}

// resolve returns name as it is to be opened.
func (in *Input) resolve(name string) string {
	if in.Dir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(in.Dir, name)
}

// absolute returns name as it is everywhere.
func (in *Input) absolute(name string) (string, error) {
	abs, err := filepath.Abs(in.resolve(name))
	if err != nil {
		return "", fmt.Errorf("make %s absolute: %w", name, err)
	}
	return abs, nil
}

// maxFile is the size of the largest file that is read, in bytes: a million
// static members fit.
const maxFile = 32 << 20

var errFIFO = errors.New("a FIFO cannot be read again")

var errNotText = errors.New("not a text file: it has a zero byte")

var errTooLarge = fmt.Errorf("larger than %d MiB", maxFile>>20)

// readFile is os.ReadFile with a bound.
func (in *Input) readFile(name string) ([]byte, error) {
	flags := os.O_RDONLY
	if in.Regular {
		flags |= syscall.O_NONBLOCK // opening a FIFO would wait for who writes it
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); in.Regular && (err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) != 0) {
		return nil, errors.Join(err, errFIFO)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
	case len(b) > maxFile:
		err = errTooLarge
	case bytes.IndexByte(b, 0) >= 0:
		err = errNotText
	}
	return b, err
}

func unreadable(program Program, name string, err error) *Problem {
	p := &Problem{File: name, Text: err.Error(), Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		p.Text = pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "check the name, or leave -c out to read " + program.DefaultFile() + " if there is one"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "make the file readable for the user that runs the daemon"
	}
	return p
}

func (in *Input) makeAbsolute(c *Config) (err error) {
	for _, name := range []*string{&c.PIDFile, &c.UDSFile, &c.StateFile, &c.LogDest.Path} {
		if *name == "" {
			continue
		}
		if *name, err = in.absolute(*name); err != nil {
			return err
		}
	}
	if len(c.UDSFile) > maxUDSPath {
		return fmt.Errorf("udsfile: %q is longer than %d bytes", c.UDSFile, maxUDSPath)
	}
	return nil
}

// Parse is Load for one text instead of files: name stands for its place in
// errors, and file names in it stay as they are.
func Parse(p Program, name string, text []byte, flags []Flag) (Result, error) {
	l := newLoader(p)
	c := l.load([]source{{name: name, text: text}}, flags, nil)
	if len(l.problems) > 0 {
		return Result{}, l.problems
	}
	return Result{Config: c, Warnings: l.warnings, Files: []string{name}, named: l.named()}, nil
}
