// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
)

// A ctlProgram is the control program of a daemon.
type ctlProgram struct {
	daemon   config.Program
	name     string
	purpose  string   // for its help: one line, or several
	sockets  []string // where the daemon is looked for
	commands []ctlCommand
}

// controlPrograms are the control programs of the daemons. No command may refer to
// them, since they refer to all commands.
var controlPrograms = map[config.Program]*ctlProgram{config.Vxsnd: vxsndctl, config.Vxrd: vxrdctl}

// A format is a way to print an answer.
type format int

const (
	formatText     format = iota
	formatDeployed        // JSON as the Python suite has it
	formatJSON            // JSON with everything
)

// A printer prints the pieces of an answer as they come, and what is to follow
// when they have all come.
type printer interface {
	piece(data json.RawMessage) error
	end() error
}

// A ctlCommand is a command of a control program. Most ask the daemon one
// question and print the answer: they have asks and printer. The others have
// run.
type ctlCommand struct {
	group    string // for the list of commands: the heading that it stands under
	name     string // one word, or words with a blank between them
	doc      string // for the list of commands: what it does, in one line
	more     string // for its own help, with PROGRAM for the program: what else there is to know
	operands []operand
	// flags adds the flags that are the command's own; nil where there are none. A
	// name that two commands have takes a value in both, or in none.
	flags func(*pflag.FlagSet)

	asks string // the daemon's command
	// args are the arguments of asks, made of operands and flags; nil for none.
	args    func(*ctlCall) (any, error)
	printer func(*ctlCall) printer
	// shared tells that the daemon of the other program knows asks too and answers
	// with something else, so that it is looked who answers.
	shared bool
	// first is called with what the daemon says of itself, before it is asked; it
	// returns false where it has printed the answer. It is nil for most.
	first func(show json.RawMessage, f format, w io.Writer) (bool, error)

	run func(context.Context, *ctlCall) error
}

// grouped returns commands that stand under one heading.
func grouped(group string, commands ...[]ctlCommand) []ctlCommand {
	all := slices.Concat(commands...)
	for i := range all {
		all[i].group = group
	}
	return all
}

// The headings of commands.
const (
	looking  = "Looking"
	changing = "Changing, for root and the user of the daemon"
	others   = "Others"
)

// newCtlFlags returns the flags of a control program and of cmd, which may be nil.
// -j has no long name.
func newCtlFlags(name string, cmd *ctlCommand) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.SortFlags = false
	fs.StringP("udsfile", "u", "", "the `FILE` of the daemon's Unix socket for management")
	fs.BoolP("j", "j", false, "print JSON in the shape of the Python suite")
	fs.Bool("json", false, "print JSON with all that is known")
	fs.BoolP("version", "V", false, "print the version and exit")
	fs.BoolP("help", "h", false, "print help and exit; behind a command, help on that")
	if cmd != nil && cmd.flags != nil {
		cmd.flags(fs)
	}
	return fs
}

// run is the program with its command line.
func (p *ctlProgram) run(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == candidatesFlag {
		return p.candidates(args[1:], stdout)
	}
	words, cmd := p.find(args)
	fs := newCtlFlags(p.name, cmd)
	if err := fs.Parse(args); err != nil {
		return p.flagError(cmd, err)
	}
	on := func(name string) bool {
		set, err := fs.GetBool(name)
		return err == nil && set
	}
	switch {
	case len(words) > 0 && words[0] == "help":
		if words = words[1:]; len(words) > 0 {
			if _, cmd = p.find(words); cmd == nil {
				return usageError(p.meant(words[0]), "unknown command %q", words[0])
			}
			if n := len(strings.Fields(cmd.name)); n < len(words) {
				return usageError("", "help: surplus argument %q", words[n])
			}
		}
		fallthrough
	case on("help"):
		if cmd != nil {
			return p.helpOn(stdout, cmd)
		}
		return p.help(stdout)
	case on("version"):
		_, err := fmt.Fprintln(stdout, versionLine(p.name))
		return err
	case on("j") && on("json"):
		return usageError("take one of them", "-j and --json are two shapes of JSON")
	}
	c := &ctlCall{
		program: p, command: cmd, flags: fs, paths: p.sockets,
		stdin: os.Stdin, out: stdout, stderr: stderr, terminal: terminalOf(stdout),
	}
	switch {
	case on("j"):
		c.format = formatDeployed
	case on("json"):
		c.format = formatJSON
	}
	if file := fs.Lookup("udsfile"); file.Changed {
		c.paths = []string{file.Value.String()}
	}
	if c.paths[0] == "" {
		return usageError("write -u FILE", "-u: a file name is missing")
	}
	if err := c.parse(fs.Args()); err != nil {
		return err
	}
	defer c.close()
	run := cmd.run
	if run == nil {
		run = askAndPrint
	}
	return ctlError(run(context.Background(), c))
}

// usageError is the error for a command line that is wrong.
func usageError(hint, format string, a ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, a...), hint}
}

// list says where all flags and commands are listed.
func (p *ctlProgram) list() string { return p.name + " -h lists all flags and commands" }

// find returns the words of a command line that are no flags and no values of
// flags, and the command with the most words that they begin with, nil for none.
func (p *ctlProgram) find(args []string) (words []string, found *ctlCommand) {
	words = p.words(args)
	most := 0
	for i := range p.commands {
		name := strings.Fields(p.commands[i].name)
		if n := len(name); n > most && n <= len(words) && slices.Equal(name, words[:n]) {
			found, most = &p.commands[i], n
		}
	}
	return words, found
}

// words returns what of a command line is no flag and no value of one. It can be
// told before the command is known, whose flags these are.
func (p *ctlProgram) words(args []string) (words []string) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--":
			return append(words, args[i+1:]...)
		case len(a) < 2 || a[0] != '-':
			words = append(words, a)
		case p.flagBefore(a) != nil:
			i++
		}
	}
	return words
}

// flagBefore returns the flag whose value is the argument behind arg, nil where
// that is none.
func (p *ctlProgram) flagBefore(arg string) *pflag.Flag {
	look := func(find func(*pflag.FlagSet) *pflag.Flag) *pflag.Flag {
		if f := find(newCtlFlags(p.name, nil)); f != nil {
			return f
		}
		for i := range p.commands {
			if f := find(newCtlFlags(p.name, &p.commands[i])); f != nil {
				return f
			}
		}
		return nil
	}
	if name, long := strings.CutPrefix(arg, "--"); long {
		f := look(func(fs *pflag.FlagSet) *pflag.Flag { return fs.Lookup(name) })
		if f == nil || f.NoOptDefVal != "" {
			return nil
		}
		return f
	}
	letters, ok := strings.CutPrefix(arg, "-")
	for i := range len(letters) {
		f := look(func(fs *pflag.FlagSet) *pflag.Flag { return fs.ShorthandLookup(letters[i : i+1]) })
		switch {
		case !ok || f == nil:
			return nil
		case f.NoOptDefVal == "":
			// What follows the letter is its value.
			if i == len(letters)-1 {
				return f
			}
			return nil
		}
	}
	return nil
}

// meant is the hint for a command that begins with word and that there is not.
func (p *ctlProgram) meant(word string) string {
	var names []string
	for _, c := range p.commands {
		if strings.HasPrefix(c.name, word+" ") {
			return "did you mean " + c.name + "?"
		}
		names = append(names, c.name)
	}
	if n := config.Nearest(word, names); n != "" {
		return "did you mean " + n + "?"
	}
	return p.list()
}

// meantBehind is the hint for a word behind a command that may be meant for
// another word that can stand there, "" where none is like it.
func (p *ctlProgram) meantBehind(cmd *ctlCommand, word string) string {
	words := p.nextWords(strings.Fields(cmd.name))
	for _, o := range cmd.operands {
		if o.kind == wordOperand {
			words = append(words, o.name)
		}
	}
	if n := config.Nearest(word, words); n != "" && n != word {
		return "did you mean " + cmd.name + " " + n + "?"
	}
	return ""
}

// flagError puts what pflag found into our words.
func (p *ctlProgram) flagError(cmd *ctlCommand, err error) error {
	list := p.list()
	if cmd != nil && cmd.flags != nil {
		list = p.name + " " + cmd.name + " -h lists its flags"
	}
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return usageError(list, "unknown flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		name, hint := unknown.GetSpecifiedName(), list
		if n := config.Nearest(name, longNames(newCtlFlags(p.name, cmd))); n != "" && len(n) > 1 {
			hint = "did you mean --" + n + "?"
		}
		return usageError(hint, "unknown flag --%s", name)
	case errors.As(err, &missing):
		f := missing.GetFlag()
		arg, _ := pflag.UnquoteUsage(f)
		what := "a value"
		if arg == "FILE" {
			what = "a file name"
		}
		return usageError("write "+flagName(f)+" "+arg, "%s: %s is missing", flagName(f), what)
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		if f.NoOptDefVal != "" {
			return usageError("write "+flagName(f)+" alone", "%s takes no value", flagName(f))
		}
		return usageError("", "%s: %w", flagName(f), invalid.Unwrap())
	}
	return usageError(list, "%w", err)
}

// flagName is how a flag is mostly written.
func flagName(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}
