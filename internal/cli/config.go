// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// configCommand is the command that tells which configuration is in force.
func (d *daemon) configCommand() control.Command {
	run := func(_ context.Context, call *control.Call) error {
		var a control.ConfigArgs
		if err := control.DecodeArgs(call.Args, &a); err != nil {
			return err
		}
		d.mu.Lock()
		running, over := d.running, d.over
		d.mu.Unlock()
		values, err := configValues(&d.input, &running, a.Name)
		if err != nil {
			return err
		}
		for i := range values {
			values[i].Set = over.has(values[i].Name)
		}
		return call.Send(values)
	}
	return control.Command{Name: control.CommandConfig, Run: run}
}

// configValues returns the option that has a name or an older name, with
// underscores or hyphens, or for "" all options that the program makes use of.
func configValues(in *config.Input, c *config.Config, name string) ([]control.ConfigValue, error) {
	os := usedOptions(in.Program)
	if name != "" {
		o, err := findOption(in.Program, name)
		if err != nil {
			return nil, err
		}
		os = []config.Option{o}
	}
	values := make([]control.ConfigValue, 0, len(os))
	for _, o := range os {
		values = append(values, control.ConfigValue{Name: o.Name, Value: cut(o.Value(c)), Default: in.Default(&o), Reload: o.Reload})
	}
	return values, nil
}

// usedOptions returns the options that a program makes use of.
func usedOptions(p config.Program) []config.Option {
	return slices.DeleteFunc(config.OptionsFor(p), func(o config.Option) bool { return o.Obsolete || o.Programs&p == 0 })
}

// findOption returns the option of a program that has a name or an older name,
// with underscores or hyphens.
func findOption(p config.Program, name string) (config.Option, error) {
	found, known := config.Lookup(strings.ReplaceAll(name, "-", "_"))
	var names []string
	for _, o := range usedOptions(p) {
		if known && o.Name == found.Name {
			return o, nil
		}
		names = append(names, o.Name)
	}
	e := &control.Error{Code: control.CodeBadArgument, Text: fmt.Sprintf("%.64q is not an option of %s", name, p)}
	if n := config.Nearest(name, names); n != "" {
		e.Hint = "did you mean " + n + "?"
	}
	return config.Option{}, e
}

// maxShown is how much of a value is shown, in bytes: that of a million static
// members does not fit an answer.
const maxShown = 64 << 10

// cut returns what is shown of a value.
func cut(value string) string {
	if len(value) <= maxShown {
		return value
	}
	return value[:strings.LastIndexByte(value[:maxShown], ' ')+1] + "…"
}
