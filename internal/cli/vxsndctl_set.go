// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// steeringCommands change the configuration of either daemon.
var steeringCommands = []ctlCommand{
	{
		name: "set config", doc: "change an option that takes effect without a restart",
		more: "The value is as in the configuration file. It is in force until the next reload or restart. " +
			"To keep it, write it to the configuration file.",
		operands: []operand{{name: "NAME", kind: reloadOperand}, {name: "VALUE", kind: textOperand}},
		run: func(ctx context.Context, c *ctlCall) error {
			return steer(ctx, c, control.CommandSetConfig, control.SetConfigArgs{Name: c.text("NAME"), Value: c.text("VALUE")})
		},
	},
	{
		name: "set debug", doc: "have the daemon log all it can, or what its configuration says",
		more:     "It is in force until the next reload or restart.",
		operands: []operand{{name: "on|off", kind: choiceOperand, words: []string{"on", "off"}}},
		run: func(ctx context.Context, c *ctlCall) error {
			return steer(ctx, c, control.CommandSetDebug, control.SetDebugArgs{On: c.text("on|off") == "on"})
		},
	},
	{
		name: "reload", doc: "have the daemon read its configuration anew",
		more: "All of it takes effect, or nothing. What set config and set debug have set is as the configuration " +
			"says again.",
		run: func(ctx context.Context, c *ctlCall) error { return steer(ctx, c, control.CommandReload, nil) },
	},
}

// steer has the daemon change its configuration, and prints what changed.
func steer(ctx context.Context, c *ctlCall, command string, args any) error {
	if err := c.verify(ctx); err != nil {
		return err
	}
	return doChange(c, c.progress("waiting for the daemon"), func(each func(json.RawMessage) error) error {
		return c.ask(ctx, command, args, each)
	}, func(b *bytes.Buffer, r *control.ReloadReport) error {
		reportText(b, r)
		c.warn(r.Warnings)
		if len(r.Errors) == 0 {
			return nil
		}
		var wrong config.Problems
		for _, e := range r.Errors {
			wrong = append(wrong, &config.Problem{Text: oneLine(e.Text), Hint: e.Hint})
		}
		return nothingChanged(wrong)
	})
}

// doChange has the daemon change something by ask, and prints its answer, a T: as
// JSON as it came, or as text writes it. The error of text is that of the change.
// p is stopped before.
func doChange[T any](c *ctlCall, p *progress, ask func(each func(json.RawMessage) error) error, text func(*bytes.Buffer, *T) error) error {
	defer p.stop()
	var whole json.RawMessage
	if err := ask(func(data json.RawMessage) error {
		whole = bytes.Clone(data)
		return nil
	}); err != nil {
		return err
	}
	p.stop()
	if whole == nil {
		return errEmpty
	}
	var answer T
	if err := json.Unmarshal(whole, &answer); err != nil {
		return notUnderstood(err)
	}
	var b bytes.Buffer
	failed := text(&b, &answer)
	if c.format != formatText {
		b.Reset()
		if err := json.Indent(&b, whole, "", "  "); err != nil {
			return notUnderstood(err)
		}
		b.WriteByte('\n')
	}
	if _, err := c.out.Write(b.Bytes()); err != nil {
		return err
	}
	return failed
}

// warn prints warnings of the daemon's, each in a line.
func (c *ctlCall) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(c.stderr, "%s: warning: %s\n", c.program.name, oneLine(w))
	}
}

// shownValue is how much of a value is shown to people.
const shownValue = 60

// reportText writes what became of a change of the configuration.
func reportText(b *bytes.Buffer, r *control.ReloadReport) {
	lines := func(format string, changes []control.OptionChange) {
		for _, o := range changes {
			fmt.Fprintf(b, format, o.Name, clip(cmp.Or(o.Old, "none"), shownValue), clip(cmp.Or(o.New, "none"), shownValue))
		}
	}
	lines("%s: %s -> %s\n", r.Changed)
	lines("%s: %s -> %s, after a restart\n", r.Restart)
	if len(r.Errors) == 0 && len(r.Changed)+len(r.Restart) == 0 {
		b.WriteString("nothing changed\n")
	}
}
