// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// errOver ends a connection on which nobody knows any more what the next line
// is.
var errOver = errors.New("the connection is of no use any more")

// A work is a request under way. Its methods are called by the Command alone.
type work struct {
	*conn
	broken error  // what ended the connection
	bug    error  // what the daemon itself did wrong
	fault  *Error // what is wrong with the upload
	buf    []byte // the last line of the upload
	whole  bool   // nothing of the upload, if it has one, is still to come
}

// answer does what the request says. The error is not nil if the connection is
// of no use any more.
func (c *conn) answer(ctx context.Context, line []byte) error {
	req, bad := parseRequest(line)
	if bad != nil {
		return c.end(ctx, bad)
	}
	cmd, ok := c.commands[req.Command]
	if !ok {
		return c.end(ctx, &Error{Code: CodeUnknownCommand, Text: fmt.Sprintf("unknown command %.32q", req.Command), Hint: "the daemon knows " + c.names})
	}
	w := &work{conn: c, whole: !cmd.Upload}
	e := c.permit(&cmd)
	if e == nil {
		e = w.run(ctx, &cmd, req.Args)
	}
	if w.broken != nil {
		return w.broken
	}
	err := c.end(ctx, e)
	if err == nil && !w.whole {
		err = errOver // what comes next are pieces of the upload
	}
	return err
}

// run has the command done and returns what went wrong.
func (w *work) run(ctx context.Context, cmd *Command, args json.RawMessage) *Error {
	call := &Call{Args: args, send: func(v any) error { return w.send(ctx, v) }}
	if cmd.Upload {
		call.receive = func() (json.RawMessage, error) { return w.receive(ctx) }
	}
	var err error
	if cmd.Stream {
		err = w.stream(ctx, func(ctx context.Context) error { return cmd.Run(ctx, call) })
	} else {
		err = cmd.Run(ctx, call)
	}
	var e *Error
	switch {
	case ctx.Err() != nil:
		return stopping()
	case w.bug != nil:
		w.log.WithError(w.bug).Error("answer of a management command is not sent")
		return &Error{Code: CodeFailed, Text: w.bug.Error()}
	case w.fault != nil:
		return w.fault
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	}
	return &Error{Code: CodeFailed, Text: err.Error()}
}

// stopping is the error for whoever is served while the daemon stops.
func stopping() *Error {
	return &Error{Code: CodeStopping, Text: "the daemon stops", Hint: "try again when it runs again"}
}

func (w *work) send(ctx context.Context, v any) error {
	if w.broken != nil || ctx.Err() != nil {
		return errors.Join(w.broken, ctx.Err())
	}
	data, err := json.Marshal(v)
	// What json has made need not go through it again.
	line := fmt.Appendf(nil, `{"version":%d,"data":%s}`+"\n", Version, data)
	if err == nil && len(line) > maxAnswer {
		err = fmt.Errorf("an answer of %d bytes is longer than %d", len(line), maxAnswer)
	}
	if err != nil {
		w.bug = err
		return err
	}
	w.broken = w.write(ctx, line)
	return w.broken
}

func (w *work) receive(ctx context.Context) (json.RawMessage, error) {
	switch {
	case w.broken != nil:
		return nil, w.broken
	case w.fault != nil:
		return nil, w.fault
	case w.whole:
		return nil, io.EOF
	case !w.allow(ctx, w.requestTime):
		return nil, errOver
	}
	const what = "a piece of the upload"
	var err error
	w.buf, err = w.line(ctx, w.buf, what)
	var a answer
	if err == nil {
		if a, err = parseAnswer(w.buf, what); err == nil && a.Error != nil {
			err = &Error{Code: CodeBadRequest, Text: what + " has an error"}
		}
	}
	switch {
	case errors.As(err, &w.fault) || ctx.Err() != nil:
		return nil, errors.Join(err, ctx.Err())
	case errors.Is(err, io.EOF):
		w.broken = io.ErrUnexpectedEOF
		return nil, w.broken
	case err != nil:
		w.broken = err
		return nil, err
	case a.End:
		w.whole = true
		return nil, io.EOF
	}
	return a.Data, nil
}
