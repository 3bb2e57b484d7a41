// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Client is a connection to a daemon's management socket. It does one request
// at a time and is not safe for concurrent use.
type Client struct {
	// Silence is how long Call waits for the next line of an answer: 30 seconds
	// after Dial; 0 is for ever.
	Silence time.Duration

	socket net.Conn
	reader *bufio.Reader
	line   []byte
}

// Dial connects to the first of paths that somebody listens at. If there is
// none, the error is an *Error with CodeUnreachable or CodePermission and a
// hint, about the first path that is there at all.
func Dial(ctx context.Context, paths ...string) (*Client, error) {
	var found error
	for _, path := range paths {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return &Client{Silence: silenceTime, socket: c, reader: bufio.NewReader(c)}, nil
		}
		if found == nil && !errors.Is(err, fs.ErrNotExist) {
			found = dialError(path, err)
		}
	}
	if found == nil {
		found = &Error{Code: CodeUnreachable, Text: "no daemon at " + strings.Join(paths, " or "), Hint: "start it, or name the socket that it has"}
	}
	return nil, found
}

// dialError says what to do about the error of a connect.
func dialError(path string, err error) *Error {
	e := &Error{Code: CodeUnreachable, Text: fmt.Sprintf("connect %s: %v", path, plain(err))}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Hint = CodePermission, "use sudo"
		if g := group(path); g != "" && g != "root" {
			e.Hint = "be in group " + g + ", or use sudo"
		}
	case errors.Is(err, unix.ECONNREFUSED):
		e.Hint = "nobody listens there: start the daemon, or name the socket that it has"
	case errors.Is(err, unix.EAGAIN):
		e.Hint = "the daemon does not answer: see its log"
	}
	return e
}

// group returns the group that path is for, or if that is hidden, the one that
// its directory is for; "" if there is no telling.
func group(path string) string {
	file, err := os.Stat(path)
	if err != nil {
		file, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return ""
	}
	id := strconv.FormatUint(uint64(file.Sys().(*syscall.Stat_t).Gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// Call sends a request and calls each with every piece of data of the answer,
// in order; data is overwritten by the next. args is marshalled; nil is none.
// The error is the *Error of a daemon that refuses or fails, that of each, that
// of ctx, or what went wrong with the connection. After one that is no *Error
// of the daemon's the client is of no use any more.
func (c *Client) Call(ctx context.Context, command string, args any, each func(data json.RawMessage) error) error {
	return c.do(ctx, command, args, nil, each)
}

// Stream is Call for an answer that has no end of its own: it waits for the next
// piece for as long as it takes. After any error the client is of no use any
// more.
func (c *Client) Stream(ctx context.Context, command string, args any, each func(data json.RawMessage) error) error {
	silence := c.Silence
	defer func() { c.Silence = silence }()
	c.Silence = 0
	return c.Call(ctx, command, args, each)
}

// Upload is Call for a command that takes data: next returns its pieces, each of
// at most 64 KiB as JSON with what goes around it, and io.EOF at the end. Any
// other error of next is returned, and the daemon does nothing. A daemon waits
// five seconds for each piece. After any error the client is of no use any more.
func (c *Client) Upload(ctx context.Context, command string, args any, next func() (any, error), each func(data json.RawMessage) error) error {
	return c.do(ctx, command, args, next, each)
}

func (c *Client) do(ctx context.Context, command string, args any, next func() (any, error), each func(data json.RawMessage) error) error {
	r := request{Version: Version, Command: command}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return err
		}
		r.Args = b
	}
	// What an earlier request has left must not end this one.
	if err := c.socket.SetDeadline(time.Time{}); err != nil {
		return closed(err)
	}
	defer context.AfterFunc(ctx, func() { _ = c.socket.SetDeadline(time.Now()) })()
	// A daemon that has too many clients, or refuses an upload, says so and closes
	// without reading: what it has to say counts for more than that it does not
	// listen.
	sendErr, err := c.say(ctx, r)
	for whole := next == nil; !whole && sendErr == nil && err == nil; {
		a := answer{Version: Version}
		var v any
		switch v, err = next(); {
		case errors.Is(err, io.EOF):
			a.End, whole = true, true
		case err != nil:
			return err
		default:
			if a.Data, err = json.Marshal(v); err != nil {
				return err
			}
		}
		sendErr, err = c.say(ctx, a)
	}
	if err != nil {
		return err
	}
	for {
		a, err := c.next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil && sendErr != nil:
			return closed(sendErr)
		case err != nil:
			return err
		case a.Error != nil:
			return a.Error
		case a.End:
			return nil
		}
		if err := each(a.Data); err != nil {
			return err
		}
	}
}

// say sends one line. broken is what is wrong with the connection, after which
// the daemon may still have said something; err is anything else.
func (c *Client) say(ctx context.Context, message any) (broken, err error) {
	line, err := encode(message)
	if err != nil {
		return nil, err
	}
	if len(line) > maxRequest {
		return nil, fmt.Errorf("a line of %d bytes is longer than %d", len(line), maxRequest)
	}
	if c.Silence > 0 {
		if err := c.socket.SetWriteDeadline(time.Now().Add(c.Silence)); err != nil {
			return err, nil
		}
	}
	// The deadline may have replaced the one that is for the end of ctx.
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	_, broken = c.socket.Write(line)
	switch {
	case broken != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(broken, os.ErrDeadlineExceeded):
		return nil, &Error{Code: CodeUnreachable, Text: fmt.Sprintf("the daemon takes nothing for %v", c.Silence), Hint: "see its log"}
	}
	return broken, nil
}

// next reads one line of an answer.
func (c *Client) next(ctx context.Context) (answer, error) {
	if c.Silence > 0 {
		if err := c.socket.SetReadDeadline(time.Now().Add(c.Silence)); err != nil {
			return answer{}, err
		}
	}
	// The deadline may have replaced the one that is for the end of ctx.
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	var err error
	c.line, err = readLine(c.reader, c.line, maxAnswer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answer{}, &Error{Code: CodeUnreachable, Text: fmt.Sprintf("the daemon says nothing for %v", c.Silence), Hint: "see its log"}
	case errors.Is(err, errTooLong):
		return answer{}, fmt.Errorf("the answer has a line of more than %d bytes", maxAnswer)
	case err != nil:
		return answer{}, closed(err)
	case !bytes.HasSuffix(c.line, []byte("\n")):
		return answer{}, closed(io.ErrUnexpectedEOF)
	}
	return parseAnswer(c.line, "the answer")
}

// closed is the error for a connection that ended before the answer did.
func closed(err error) *Error {
	return &Error{Code: CodeUnreachable, Text: fmt.Sprintf("the daemon closed the connection before the answer ended: %v", plain(err)),
		Hint: "it stopped, or the answer was not read for too long: try again"}
}

// Close closes the connection.
func (c *Client) Close() error { return c.socket.Close() }
