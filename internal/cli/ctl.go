// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// A ctlProgram is the control program of a daemon.
type ctlProgram struct {
	name     string
	help     string   // what -h prints
	sockets  []string // where the daemon is looked for
	commands []ctlCommand
}

// controlPrograms are the control programs of the daemons.
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

// A ctlCommand is a command of a control program that asks the daemon.
type ctlCommand struct {
	name    string // one word, or words with a blank between them
	asks    string // the daemon's command
	operand operand
	printer func(w io.Writer, f format) printer
	// first is called with what the daemon says of itself, before it is asked; it
	// returns false where it has printed the answer. It is nil for most.
	first func(show json.RawMessage, f format, w io.Writer) (bool, error)
}

// An operand is what may stand behind a command. It can be left out.
type operand int

const (
	noOperand     operand = iota
	vniOperand            // a VNI
	optionOperand         // the name of an option
)

// newCtlFlags returns the flags of a control program. -j has no long name.
func newCtlFlags(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.StringP("udsfile", "u", "", "")
	fs.BoolP("j", "j", false, "")
	fs.Bool("json", false, "")
	fs.BoolP("version", "V", false, "")
	fs.BoolP("help", "h", false, "")
	return fs
}

// run is the program with its command line.
func (p *ctlProgram) run(args []string, stdout io.Writer) error {
	fs := newCtlFlags(p.name)
	if err := fs.Parse(args); err != nil {
		return p.flagError(err)
	}
	on := func(name string) bool {
		set, err := fs.GetBool(name)
		return err == nil && set
	}
	file, f := fs.Lookup("udsfile"), formatText
	switch {
	case on("help") || fs.Arg(0) == "help":
		_, err := io.WriteString(stdout, p.help)
		return err
	case on("version"):
		_, err := fmt.Fprintln(stdout, versionLine(p.name))
		return err
	case on("j") && on("json"):
		return &exitError{exitUsage, errors.New("-j and --json are two shapes of JSON"), "take one of them"}
	case on("j"):
		f = formatDeployed
	case on("json"):
		f = formatJSON
	}
	paths := p.sockets
	if file.Changed {
		paths = []string{file.Value.String()}
	}
	if paths[0] == "" {
		return &exitError{exitUsage, errors.New("-u: a file name is missing"), "write -u FILE"}
	}
	cmd, req, err := p.parse(fs.Args())
	if err != nil {
		return err
	}
	return ctlError(p.ask(cmd, req, f, paths, stdout))
}

// list says where all flags and commands are listed.
func (p *ctlProgram) list() string { return p.name + " -h lists all flags and commands" }

// parse reads what is no flag: a command, and the arguments that the daemon gets
// with it, nil for none.
func (p *ctlProgram) parse(args []string) (*ctlCommand, any, error) {
	usage := func(hint, format string, a ...any) error {
		return &exitError{exitUsage, fmt.Errorf(format, a...), hint}
	}
	if len(args) == 0 {
		return nil, nil, usage(p.list(), "a command is missing")
	}
	cmd := p.find(args)
	if cmd == nil {
		return nil, nil, usage(p.meant(args[0]), "unknown command %q", args[0])
	}
	args = args[len(strings.Fields(cmd.name)):]
	var req any
	if len(args) > 0 && cmd.operand != noOperand {
		switch cmd.operand {
		case vniOperand:
			v, err := vxlan.ParseVNI(args[0])
			if err != nil {
				return nil, nil, usage("", "%s: %w", cmd.name, err)
			}
			req = control.VNIArgs{VNI: (*uint32)(&v)}
		case optionOperand:
			if args[0] == "" {
				return nil, nil, usage("", "%s: the name of an option is missing", cmd.name)
			}
			req = control.ConfigArgs{Name: args[0]}
		}
		args = args[1:]
	}
	if len(args) > 0 {
		return nil, nil, usage(p.list(), "%s: surplus argument %q", cmd.name, args[0])
	}
	return cmd, req, nil
}

// find returns the command with the most words that args begin with, nil for
// none.
func (p *ctlProgram) find(args []string) (found *ctlCommand) {
	most := 0
	for i := range p.commands {
		words := strings.Fields(p.commands[i].name)
		if n := len(words); n > most && n <= len(args) && slices.Equal(words, args[:n]) {
			found, most = &p.commands[i], n
		}
	}
	return found
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

// flagError puts what pflag found into our words.
func (p *ctlProgram) flagError(err error) error {
	list := p.list()
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return &exitError{exitUsage, fmt.Errorf("unknown flag -%s", unknown.GetSpecifiedName()), list}
	case errors.As(err, &unknown):
		return &exitError{exitUsage, fmt.Errorf("unknown flag --%s", unknown.GetSpecifiedName()), list}
	case errors.As(err, &missing):
		return &exitError{exitUsage, errors.New("-u: a file name is missing"), "write -u FILE"}
	case errors.As(err, &invalid):
		name := "--" + invalid.GetFlag().Name
		if len(name) == len("--j") {
			name = name[1:]
		}
		return &exitError{exitUsage, fmt.Errorf("%s takes no value", name), "write " + name + " alone"}
	}
	return &exitError{exitUsage, err, list}
}
