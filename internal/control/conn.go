// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// A conn is one client of a Server.
type conn struct {
	*Server
	socket *net.UnixConn
	root   bool
	idle   time.Time // when its last request ended, zero with one under way; guarded by Server.mu
}

func newConn(s *Server, socket *net.UnixConn) *conn {
	p := peer(socket)
	return &conn{Server: s, socket: socket, root: p != nil && p.Uid == 0}
}

// serve answers the requests of the client, in turn, until it leaves, breaks a
// bound or ctx is done, and closes the connection.
func (c *conn) serve(ctx context.Context) {
	defer c.socket.Close()
	defer c.leave(c) // before the close, after which the client may come again
	defer context.AfterFunc(ctx, func() {
		_ = c.socket.SetReadDeadline(time.Now())
		_ = c.socket.SetWriteDeadline(time.Now().Add(stopTime))
	})()
	r := bufio.NewReader(c.socket)
	var line []byte
	for {
		if !c.allow(ctx, c.idleTime) || !c.setIdle(c, time.Now()) {
			return
		}
		if _, err := r.Peek(1); err != nil || !c.setIdle(c, time.Time{}) || !c.allow(ctx, c.requestTime) {
			return
		}
		var err error
		line, err = readLine(r, line, maxRequest)
		switch {
		case err == nil:
			err = c.answer(ctx, line)
		case errors.Is(err, errTooLong):
			_ = c.end(ctx, &Error{Code: CodeBadRequest, Text: fmt.Sprintf("the request is longer than %d bytes", maxRequest)})
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
			_ = c.end(ctx, &Error{Code: CodeBadRequest, Text: fmt.Sprintf("the request is not complete after %v", c.requestTime)})
		}
		if err != nil {
			return
		}
	}
}

// allow gives the client time for what it is to say next. It returns false if
// ctx is done: it looks after it has set the deadline, which may have replaced
// the one that ends the connection.
func (c *conn) allow(ctx context.Context, d time.Duration) bool {
	return c.socket.SetReadDeadline(time.Now().Add(d)) == nil && ctx.Err() == nil
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
	var broken, bug error
	err := cmd.Run(ctx, &Call{Args: req.Args, send: func(v any) error {
		if broken != nil || ctx.Err() != nil {
			return errors.Join(broken, ctx.Err())
		}
		data, err := json.Marshal(v)
		// What json has made need not go through it again.
		line := fmt.Appendf(nil, `{"version":%d,"data":%s}`+"\n", Version, data)
		if err == nil && len(line) > maxAnswer {
			err = fmt.Errorf("an answer of %d bytes is longer than %d", len(line), maxAnswer)
		}
		if err != nil {
			bug = err
			return err
		}
		broken = c.write(ctx, line)
		return broken
	}})
	var e *Error
	switch {
	case broken != nil:
		return broken
	case ctx.Err() != nil:
		e = &Error{Code: CodeStopping, Text: "the daemon stops", Hint: "try again when it runs again"}
	case bug != nil:
		e = &Error{Code: CodeFailed, Text: bug.Error()}
		c.log.WithError(bug).Error("answer of a management command is not sent")
	case err == nil:
	case !errors.As(err, &e):
		e = &Error{Code: CodeFailed, Text: err.Error()}
	}
	return c.end(ctx, e)
}

// end writes the last line of an answer: e, or that all is well where e is nil.
func (c *conn) end(ctx context.Context, e *Error) error {
	line, err := encode(answer{Version: Version, End: e == nil, Error: e})
	if err != nil {
		return err
	}
	return c.write(ctx, line)
}

// write waits for room for the line, but not for ever.
func (c *conn) write(ctx context.Context, line []byte) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(c.writeTime)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		_ = c.socket.SetWriteDeadline(time.Now().Add(stopTime))
	}
	_, err := c.socket.Write(line)
	return err
}
