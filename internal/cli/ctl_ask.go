// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"vxsnd/internal/control"
)

// ask has the daemon do cmd and prints its answer.
func (p *ctlProgram) ask(cmd *ctlCommand, req any, f format, paths []string, stdout io.Writer) error {
	ctx := context.Background()
	c, err := control.Dial(ctx, paths...)
	if err != nil {
		return err
	}
	defer c.Close()
	return decouple(stdout, func(w io.Writer) error {
		if cmd.first != nil {
			show, err := p.describe(ctx, c)
			if err == nil {
				goOn, err := cmd.first(show, f, w)
				if err != nil || !goOn {
					return err
				}
			} else if !isUnknown(err) {
				return err
			}
		}
		pr := cmd.printer(w, f)
		err := c.Call(ctx, cmd.asks, req, func(data json.RawMessage) error {
			if cmd.asks == control.CommandShow {
				if err := p.own(data); err != nil {
					return err
				}
			}
			return pr.piece(data)
		})
		if err == nil {
			return pr.end()
		}
		if isUnknown(err) {
			var other *exitError
			if _, e := p.describe(ctx, c); errors.As(e, &other) {
				return other
			}
		}
		return err
	})
}

// isUnknown tells whether the daemon does not know the command.
func isUnknown(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == control.CodeUnknownCommand
}

// describe returns what the daemon says of itself. The error is an *exitError
// where it is that of another program.
func (p *ctlProgram) describe(ctx context.Context, c *control.Client) (show json.RawMessage, err error) {
	err = c.Call(ctx, control.CommandShow, nil, func(data json.RawMessage) error {
		show = bytes.Clone(data)
		return p.own(data)
	})
	if err == nil && show == nil {
		err = errEmpty
	}
	return show, err
}

// own returns an error where the answer to show is that of another program,
// whose figures would be taken for others.
func (p *ctlProgram) own(show json.RawMessage) error {
	var d control.Process
	if err := json.Unmarshal(show, &d); err != nil {
		return fmt.Errorf("the answer is not understood: %w", err)
	}
	for program, other := range controlPrograms {
		if other != p && d.Program == program.String() {
			return &exitError{exitFailed, fmt.Errorf("this is a %s", program), "use " + other.name + ", or name another socket (-u)"}
		}
	}
	return nil
}

// ownAnswer is for a command that the daemon of the other program knows too, and
// answers with something else: describe has seen who answers.
func ownAnswer(json.RawMessage, format, io.Writer) (bool, error) { return true, nil }

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
