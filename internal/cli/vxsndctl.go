// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/vxlan"
)

// vxsndSockets are where a vxsnd is looked for: as a service of systemd, and by
// its own default.
var vxsndSockets = []string{"/run/vxsnd/vxsnd.sock", "/var/run/vxsnd.sock"}

const vxsndctlHelp = `Usage: vxsndctl [-u FILE] [-j | --json] COMMAND

Shows what a running vxsnd does, its peers and which members it has.

Commands:
  show                 how the daemon does: addresses, table, counters
  peers                how its exchange with each peer goes
  fdb [VNI]            the members of all VXLANs, or of one
  help                 print this help and exit

Flags:
  -u, --udsfile FILE   the daemon's Unix socket for management (default
                       /run/vxsnd/vxsnd.sock, then /var/run/vxsnd.sock)
  -j                   print JSON, fdb in the shape of the Python suite
      --json           print JSON with all that is known
  -V, --version        print the version and exit
  -h, --help           print this help and exit

Flags may stand before and behind the command. See vxsndctl(8) for more.

Exit status: 0 done, 1 the daemon refused or was not reached, 2 usage.
`

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

// A ctlCommand is a command of vxsndctl that asks the daemon.
type ctlCommand struct {
	name    string
	vni     bool // takes a VNI, which may be left out
	printer func(w io.Writer, f format) printer
}

var ctlCommands = []ctlCommand{
	{control.CommandShow, false, printWhole(showText)},
	{control.CommandPeers, false, printWhole(peersText)},
	{control.CommandFDB, true, newFDBPrinter},
}

// newVxsndctlFlags returns the flags of vxsndctl. -j has no long name.
func newVxsndctlFlags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("vxsndctl", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.StringP("udsfile", "u", "", "")
	fs.BoolP("j", "j", false, "")
	fs.Bool("json", false, "")
	fs.BoolP("version", "V", false, "")
	fs.BoolP("help", "h", false, "")
	return fs
}

// runVxsndctl is the control program of vxsnd.
func runVxsndctl(args []string, stdout io.Writer) error {
	fs := newVxsndctlFlags()
	if err := fs.Parse(args); err != nil {
		return ctlFlagError(err)
	}
	on := func(name string) bool {
		set, err := fs.GetBool(name)
		return err == nil && set
	}
	file, f := fs.Lookup("udsfile"), formatText
	switch {
	case on("help") || fs.Arg(0) == "help" && fs.NArg() == 1:
		_, err := io.WriteString(stdout, vxsndctlHelp)
		return err
	case on("version"):
		_, err := fmt.Fprintln(stdout, versionLine("vxsndctl"))
		return err
	case on("j") && on("json"):
		return &exitError{exitUsage, errors.New("-j and --json are two shapes of JSON"), "take one of them"}
	case on("j"):
		f = formatDeployed
	case on("json"):
		f = formatJSON
	}
	paths := vxsndSockets
	if file.Changed {
		paths = []string{file.Value.String()}
	}
	if paths[0] == "" {
		return &exitError{exitUsage, errors.New("-u: a file name is missing"), "write -u FILE"}
	}
	cmd, vni, err := parseCtlCommand(fs.Args())
	if err != nil {
		return err
	}
	return ctlError(ask(cmd, vni, f, paths, stdout))
}

// parseCtlCommand reads what is no flag: a command and the VNI that it is
// about, nil for none.
func parseCtlCommand(args []string) (*ctlCommand, *uint32, error) {
	const list = "vxsndctl -h lists all flags and commands"
	usage := func(hint, format string, a ...any) error {
		return &exitError{exitUsage, fmt.Errorf(format, a...), hint}
	}
	if len(args) == 0 {
		return nil, nil, usage(list, "a command is missing")
	}
	var cmd *ctlCommand
	var names []string
	for i := range ctlCommands {
		if c := &ctlCommands[i]; c.name == args[0] {
			cmd = c
		}
		names = append(names, ctlCommands[i].name)
	}
	if cmd == nil {
		hint := list
		if n := config.Nearest(args[0], names); n != "" {
			hint = "did you mean " + n + "?"
		}
		return nil, nil, usage(hint, "unknown command %q", args[0])
	}
	args = args[1:]
	var vni *uint32
	if cmd.vni && len(args) > 0 {
		v, err := vxlan.ParseVNI(args[0])
		if err != nil {
			return nil, nil, usage("", "%s: %w", cmd.name, err)
		}
		vni, args = (*uint32)(&v), args[1:]
	}
	if len(args) > 0 {
		return nil, nil, usage(list, "%s: surplus argument %q", cmd.name, args[0])
	}
	return cmd, vni, nil
}

// ask has the daemon do cmd and prints its answer.
func ask(cmd *ctlCommand, vni *uint32, f format, paths []string, stdout io.Writer) error {
	ctx := context.Background()
	c, err := control.Dial(ctx, paths...)
	if err != nil {
		return err
	}
	defer c.Close()
	var args any
	if vni != nil {
		args = control.FDBArgs{VNI: vni}
	}
	return decouple(stdout, func(w io.Writer) error {
		p := cmd.printer(w, f)
		if err := c.Call(ctx, cmd.name, args, p.piece); err != nil {
			return err
		}
		return p.end()
	})
}

// ctlError gives an error its hint and its status. A reader of the output that
// has seen enough is no error.
func ctlError(err error) error {
	var e *control.Error
	switch {
	case err == nil || errors.Is(err, syscall.EPIPE):
		return nil
	case errors.As(err, &e):
		return &exitError{exitFailed, e, e.Hint}
	}
	return &exitError{exitFailed, err, ""}
}

// ctlFlagError puts what pflag found into our words.
func ctlFlagError(err error) error {
	const list = "vxsndctl -h lists all flags and commands"
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
