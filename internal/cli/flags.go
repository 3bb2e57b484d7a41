// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
)

// A commandLine is what the flags of a daemon say.
type commandLine struct {
	file      string
	fileGiven bool
	test      bool
	check     bool
	cleanup   bool
	version   bool
	help      bool
	daemon    bool
	debug     bool
	options   []config.Flag
}

// A mode is a flag that is no option of the configuration file.
type mode struct {
	name, short, arg string
	doc              string
	set              func(*commandLine, string)
}

// modes returns the modes of a program, in the order of help.
func modes(p config.Program) []mode {
	left := "an installed svcnode_ip"
	if p == config.Vxrd {
		left = "flood entries"
	}
	return []mode{
		{"config", "c", "FILE", "configuration file; FILE" + config.OverrideSuffix + " is read after it and wins (default" + hardBlank + p.DefaultFile() + ")",
			func(cl *commandLine, v string) { cl.file, cl.fileGiven = v, true }},
		{"test", "t", "", "check the configuration and exit",
			func(cl *commandLine, v string) { cl.test = v == "true" }},
		{"debug", "D", "", "log at level debug, to stdout, in the foreground",
			func(cl *commandLine, v string) { cl.debug = v == "true" }},
		{"check-system", "", "", "tell what of this machine's settings is in the way, and exit",
			func(cl *commandLine, v string) { cl.check = v == "true" }},
		{"cleanup", "", "", "remove " + left + " that a crash left, and exit",
			func(cl *commandLine, v string) { cl.cleanup = v == "true" }},
		{"daemon", "d", "", "run in the background; return when it is ready or cannot be",
			func(cl *commandLine, v string) { cl.daemon = v == "true" }},
		{"version", "V", "", "print the version and exit",
			func(cl *commandLine, v string) { cl.version = v == "true" }},
		{"help", "h", "", "print this help and exit",
			func(cl *commandLine, v string) { cl.help = v == "true" }},
	}
}

// configAlias is another name of --config.
const configAlias = "config-file"

// parseFlags reads the command line of a daemon. What the values of options are
// worth is for config to say.
func parseFlags(p config.Program, args []string) (*commandLine, error) {
	cl := &commandLine{file: p.DefaultFile()}
	fs := newFlagSet(p)
	err := fs.ParseAll(args, func(f *pflag.Flag, value string) error {
		return f.Value.(*flagValue).take(cl, f, value)
	})
	switch {
	case err != nil:
		return nil, flagError(p, fs, err, args)
	case cl.help || cl.version:
		return cl, nil
	case fs.NArg() > 0:
		return nil, surplus(p, fs, args, cl.options)
	}
	var given []string
	for _, m := range []struct {
		name string
		on   bool
	}{{"--test", cl.test}, {"--check-system", cl.check}, {"--cleanup", cl.cleanup}} {
		if m.on {
			given = append(given, m.name)
		}
	}
	if len(given) > 1 {
		return nil, &exitError{exitUsage, fmt.Errorf("%s do not go together", strings.Join(given, " and ")), "give one of them"}
	}
	if cl.debug {
		cl.options = append(cl.options,
			config.Flag{Name: "--debug", Option: "loglevel", Value: config.LevelDebug.String()},
			config.Flag{Name: "--debug", Option: "logdest", Value: config.LogDest{Kind: config.DestStdout}.String()})
	}
	return cl, nil
}

// newFlagSet returns the flags of all modes and options, those of the other
// program among them. Each older name is a flag of its own, so that an error
// names what was written.
func newFlagSet(p config.Program) *pflag.FlagSet {
	fs := pflag.NewFlagSet(p.String(), pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	add := func(name, short string, v *flagValue) {
		f := fs.VarPF(v, name, short, "")
		if v.arg == "" {
			f.NoOptDefVal = "true"
		}
	}
	for _, m := range modes(p) {
		add(m.name, m.short, &flagValue{mode: &m, arg: m.arg})
		if m.name == "config" {
			add(configAlias, "", &flagValue{mode: &m, arg: m.arg})
		}
	}
	for _, o := range config.OptionsFor(p) {
		short := o.Shorthand
		for _, name := range o.FlagNames() {
			v := &flagValue{option: o.Name, arg: o.Arg}
			if o.BooleanAlias(strings.ReplaceAll(name, "-", "_")) {
				v.arg = ""
			}
			add(name, short, v)
			short = ""
		}
	}
	return fs
}

// A flagValue knows where the value of its flag goes; it holds none itself.
// The methods are those that pflag asks for.
type flagValue struct {
	mode   *mode  // nil for an option
	option string // name in the configuration file
	arg    string // what stands for the value in help, "" for a switch
}

func (v *flagValue) String() string   { return "" }
func (v *flagValue) Set(string) error { return nil }
func (v *flagValue) Type() string     { return "" }

func (v *flagValue) take(cl *commandLine, f *pflag.Flag, value string) error {
	if v.mode == nil {
		cl.options = append(cl.options, config.Flag{Name: "--" + f.Name, Option: v.option, Value: value})
		return nil
	}
	switch {
	case v.arg == "" && value != "true" && value != "false":
		return &exitError{exitUsage, fmt.Errorf("--%s takes no value", f.Name), "write --" + f.Name + " alone"}
	case v.arg != "" && value == "":
		return &exitError{exitUsage, fmt.Errorf("--%s: a file name is missing", f.Name), ""}
	}
	v.mode.set(cl, value)
	return nil
}

// flagError puts what pflag found into our words and adds what to do.
func flagError(p config.Program, fs *pflag.FlagSet, err error, args []string) error {
	list := p.String() + " -h lists all flags"
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		syntax  *pflag.InvalidSyntaxError
		own     *exitError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		hint := list
		if unknown.GetSpecifiedShortnames() != "" {
			if h := oneHyphen(fs, args); h != "" {
				hint = h
			}
			return &exitError{exitUsage, fmt.Errorf("unknown flag -%s", name), hint}
		}
		if n := config.Nearest(name, longNames(fs)); n != "" {
			hint = "did you mean --" + n + "?"
		}
		return &exitError{exitUsage, fmt.Errorf("unknown flag --%s", name), hint}
	case errors.As(err, &missing):
		name := "--" + missing.GetSpecifiedName()
		if missing.GetSpecifiedShortnames() != "" {
			name = name[1:]
		}
		return &exitError{exitUsage, fmt.Errorf("%s: a value is missing", name),
			"write " + name + " " + missing.GetFlag().Value.(*flagValue).arg}
	case errors.As(err, &syntax):
		return &exitError{exitUsage, fmt.Errorf("%s is not a flag", syntax.GetSpecifiedFlag()), list}
	}
	return &exitError{exitUsage, err, list}
}

// surplus is the error for an argument that belongs to no flag.
func surplus(p config.Program, fs *pflag.FlagSet, args []string, options []config.Flag) error {
	arg := fs.Arg(0)
	hint := fmt.Sprintf("%[1]s takes flags only, %[1]s -h lists them", p)
	lists := func(f config.Flag) bool {
		o, ok := config.Lookup(f.Option)
		return ok && o.List
	}
	booleans := func(f config.Flag) bool {
		o, ok := config.Lookup(f.Option)
		return ok && o.Boolean()
	}
	word := slices.Contains([]string{"yes", "no", "true", "false", "on", "off", "1", "0"}, strings.ToLower(arg))
	if h := oneHyphen(fs, args); h != "" {
		hint = h
	} else if i := slices.IndexFunc(options, booleans); i >= 0 && word {
		hint = fmt.Sprintf("a value for a switch goes behind an equals sign: %s=%s", options[i].Name, arg)
	} else if i := slices.IndexFunc(options, lists); i >= 0 {
		hint = fmt.Sprintf("put commas between the values of a list, or quote it: %s %s,%s", options[i].Name, options[i].Value, arg)
	} else if isLong(fs, arg) {
		hint = "a flag has hyphens in front: --" + arg
	}
	return &exitError{exitUsage, fmt.Errorf("surplus argument %q", arg), hint}
}

// oneHyphen returns the hint for a long flag with one hyphen, which is read as
// letters and makes all sorts of errors; "" where there is none.
func oneHyphen(fs *pflag.FlagSet, args []string) string {
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "-"); ok && isLong(fs, name) {
			return "a long flag has two hyphens: --" + name
		}
	}
	return ""
}

// isLong tells whether s, up to an equals sign, is the name of a long flag.
func isLong(fs *pflag.FlagSet, s string) bool {
	name, _, _ := strings.Cut(s, "=")
	return len(name) > 1 && fs.Lookup(name) != nil
}

func longNames(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}
