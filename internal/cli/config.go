// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
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
		running := d.running
		d.mu.Unlock()
		values, err := configValues(&d.input, &running, a.Name)
		if err != nil {
			return err
		}
		return call.Send(values)
	}
	return control.Command{Name: control.CommandConfig, Run: run}
}

// configValues returns the option that has a name or an older name, with
// underscores or hyphens, or for "" all options that the program makes use of.
func configValues(in *config.Input, c *config.Config, name string) ([]control.ConfigValue, error) {
	var values []control.ConfigValue
	var names []string
	p := in.Program
	found, known := config.Lookup(strings.ReplaceAll(name, "-", "_"))
	for _, o := range config.OptionsFor(p) {
		if o.Obsolete || o.Programs&p == 0 {
			continue
		}
		names = append(names, o.Name)
		if name == "" || known && o.Name == found.Name {
			values = append(values, control.ConfigValue{Name: o.Name, Value: cut(o.Value(c)), Default: in.Default(&o)})
		}
	}
	if len(values) > 0 {
		return values, nil
	}
	e := &control.Error{Code: control.CodeBadArgument, Text: fmt.Sprintf("%.64q is not an option of %s", name, p)}
	if n := config.Nearest(name, names); n != "" {
		e.Hint = "did you mean " + n + "?"
	}
	return nil, e
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
