// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"syscall"

	"vxsnd/internal/control"
)

// askAndPrint has the daemon do the command and prints its answer.
func askAndPrint(ctx context.Context, c *ctlCall) error {
	cmd := c.command
	var req any
	if cmd.args != nil {
		var err error
		if req, err = cmd.args(c); err != nil {
			return err
		}
	}
	if _, err := c.connect(ctx); err != nil {
		return err
	}
	p := c.progress("waiting for the daemon")
	defer p.stop()
	return c.decouple(func() error {
		if c.terminal.on {
			c.out = &afterProgress{c.out, p}
		}
		received := 0
		switch {
		case cmd.first != nil:
			show, err := c.describe(ctx)
			if err == nil {
				goOn, err := cmd.first(show, c.format, c.out)
				if err != nil || !goOn {
					return err
				}
			} else if !isUnknown(err) {
				return err
			}
		case cmd.shared:
			if err := c.verify(ctx); err != nil {
				return err
			}
		}
		pr := cmd.printer(c)
		err := c.ask(ctx, cmd.asks, req, func(data json.RawMessage) error {
			if cmd.asks == control.CommandShow {
				if err := c.own(data); err != nil {
					return err
				}
			}
			received += len(data)
			p.set("waiting for the daemon, %d KB received", received/1000)
			return pr.piece(data)
		})
		if err != nil {
			return err
		}
		return pr.end()
	})
}

// An afterProgress is a terminal that may have a line about progress, which goes
// before anything is written.
type afterProgress struct {
	w io.Writer
	p *progress
}

func (a *afterProgress) Write(b []byte) (int, error) {
	a.p.stop()
	return a.w.Write(b)
}

// decouple runs fn, which writes to c.out; so a pager that waits for a key does
// not keep it from reading what the daemon sends.
func (c *ctlCall) decouple(fn func() error) error {
	out := c.out
	defer func() { c.out = out }()
	return decouple(out, func(w io.Writer) error {
		c.out = w
		return fn()
	})
}

// vniArgs are the arguments of a command about all VNIs or one, whose operand is
// oneVNI.
func vniArgs(c *ctlCall) (any, error) { return control.VNIArgs{VNI: c.vni(oneVNI.name)}, nil }

// configArgs are the arguments of get config, whose operand is oneOption.
func configArgs(c *ctlCall) (any, error) {
	return control.ConfigArgs{Name: c.text(oneOption.name)}, nil
}

// ctlError gives an error its hint and its status. A reader of the output that
// has seen enough is no error.
func ctlError(err error) error {
	var (
		done    *exitError
		refused *control.Error
	)
	switch {
	case err == nil || errors.Is(err, syscall.EPIPE):
		return nil
	case errors.As(err, &done):
		return done
	case errors.As(err, &refused):
		return &exitError{exitFailed, refused, refused.Hint}
	}
	return &exitError{exitFailed, err, ""}
}
