// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/pflag"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
)

// A ctlCall is one run of a command: what its command line says, where its
// output goes and, once it is asked for, the connection to the daemon.
type ctlCall struct {
	program *ctlProgram
	command *ctlCommand
	flags   *pflag.FlagSet
	format  format
	paths   []string // of the daemon's socket
	values  map[string]any

	stdin    io.Reader
	out      io.Writer
	stderr   io.Writer
	terminal terminal // that of out

	client *control.Client
}

// vni returns the operand of that name, nil where it was left out.
func (c *ctlCall) vni(name string) *uint32 {
	v, ok := c.values[name].(uint32)
	if !ok {
		return nil
	}
	return &v
}

// address returns the operand of that name, which is not valid where it was left
// out.
func (c *ctlCall) address(name string) netip.Addr {
	a, _ := c.values[name].(netip.Addr)
	return a
}

// text returns the operand of that name, "" where it was left out.
func (c *ctlCall) text(name string) string {
	text, _ := c.values[name].(string)
	return text
}

// has tells whether an operand was given.
func (c *ctlCall) has(name string) bool {
	_, ok := c.values[name]
	return ok
}

// connect returns the connection to the daemon.
func (c *ctlCall) connect(ctx context.Context) (*control.Client, error) {
	if c.client == nil {
		client, err := control.Dial(ctx, c.paths...)
		if err != nil {
			return nil, err
		}
		c.client = client
	}
	return c.client, nil
}

func (c *ctlCall) close() {
	if c.client != nil {
		_ = c.client.Close()
	}
}

// ask sends a question to the daemon and calls each with every piece of its
// answer. Where the daemon does not know the command since it is that of another
// program, the error says so.
func (c *ctlCall) ask(ctx context.Context, command string, args any, each func(json.RawMessage) error) error {
	client, err := c.connect(ctx)
	if err != nil {
		return err
	}
	return c.whose(ctx, client.Call(ctx, command, args, each))
}

// whose looks for the reason of an error in who answers.
func (c *ctlCall) whose(ctx context.Context, err error) error {
	if isUnknown(err) {
		var other *exitError
		if _, e := c.describe(ctx); errors.As(e, &other) {
			return other
		}
	}
	return err
}

// verify returns an error where the daemon is that of another program. Commands
// that both daemons know, with different answers, call it first.
func (c *ctlCall) verify(ctx context.Context) error {
	if _, err := c.describe(ctx); err != nil && !isUnknown(err) {
		return err
	}
	return nil
}

// isUnknown tells whether the daemon does not know the command.
func isUnknown(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == control.CodeUnknownCommand
}

// describe returns what the daemon says of itself. The error is an *exitError
// where it is that of another program.
func (c *ctlCall) describe(ctx context.Context) (show json.RawMessage, err error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	err = client.Call(ctx, control.CommandShow, nil, func(data json.RawMessage) error {
		show = bytes.Clone(data)
		return c.own(data)
	})
	if err == nil && show == nil {
		err = errEmpty
	}
	return show, err
}

// own returns an error where the answer to show is that of another program,
// whose figures would be taken for others.
func (c *ctlCall) own(show json.RawMessage) error {
	var d control.Process
	if err := json.Unmarshal(show, &d); err != nil {
		return notUnderstood(err)
	}
	for _, other := range []config.Program{config.Vxsnd, config.Vxrd} {
		if other != c.program.daemon && d.Program == other.String() {
			return &exitError{exitFailed, fmt.Errorf("this is a %s", other), fmt.Sprintf("use %sctl, or name another socket (-u)", other)}
		}
	}
	return nil
}

// notUnderstood is the error for an answer of another shape.
func notUnderstood(err error) error { return fmt.Errorf("the answer is not understood: %w", err) }
