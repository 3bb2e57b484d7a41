// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is one client of a Server.
type conn struct {
	*Server
	socket *net.UnixConn
	reader *bufio.Reader
	user   unix.Ucred // who connected, and nobody where the kernel does not say
	idle   time.Time  // when its last request ended, zero with one under way; guarded by Server.mu
}

func newConn(s *Server, socket *net.UnixConn) *conn {
	c := &conn{Server: s, socket: socket, reader: bufio.NewReader(socket), user: unix.Ucred{Uid: noUser}}
	if p := peer(socket); p != nil {
		c.user = *p
	}
	return c
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
	var line []byte
	for {
		if !c.allow(ctx, c.idleTime) || !c.setIdle(c, time.Now()) {
			return
		}
		_, err := c.reader.Peek(1)
		if err != nil && ctx.Err() != nil {
			// Who asks now and then learns why there are no more answers.
			_ = c.end(ctx, stopping())
		}
		if err != nil || !c.setIdle(c, time.Time{}) || !c.allow(ctx, c.requestTime) {
			return
		}
		line, err = c.line(ctx, line, "the request")
		var bad *Error
		switch {
		case err == nil:
			err = c.answer(ctx, line)
		case errors.As(err, &bad):
			_ = c.end(ctx, bad)
		}
		if err != nil {
			return
		}
	}
}

// line reads the line that the client is to say next, to which what refers. What
// the client does wrong is an *Error.
func (c *conn) line(ctx context.Context, buf []byte, what string) ([]byte, error) {
	buf, err := readLine(c.reader, buf, maxRequest)
	switch {
	case errors.Is(err, errTooLong):
		err = &Error{Code: CodeBadRequest, Text: fmt.Sprintf("%s is longer than %d bytes", what, maxRequest)}
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		err = &Error{Code: CodeBadRequest, Text: fmt.Sprintf("%s is not complete after %v", what, c.requestTime)}
	}
	return buf, err
}

// allow gives the client time for what it is to say next. It returns false if
// ctx is done: it looks after it has set the deadline, which may have replaced
// the one that ends the connection.
func (c *conn) allow(ctx context.Context, d time.Duration) bool {
	return c.socket.SetReadDeadline(time.Now().Add(d)) == nil && ctx.Err() == nil
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
