// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"os"
	"time"
)

// errLeft is a client that ended its stream.
var errLeft = errors.New("the client left")

// stream runs a command whose answer has no end of its own, with a context that
// ends when the client leaves. Nothing is sent for hours maybe: only what comes
// from the client tells of that.
func (w *work) stream(ctx context.Context, run func(context.Context) error) error {
	if !w.startStream() {
		w.repeats.Do("streams", func(count int) {
			w.log.WithField("count", count).Warn("stream of a management client refused: too many are open")
		})
		return &Error{Code: CodeBusy, Text: "too many streams are open", Hint: "end one of them, or try again later"}
	}
	defer w.endStream()
	// As in allow, with no deadline.
	if err := w.socket.SetReadDeadline(time.Time{}); err != nil || ctx.Err() != nil {
		return errOver
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, said = w.reader.Peek(1); !errors.Is(said, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	err := run(ctx)
	_ = w.socket.SetReadDeadline(time.Now())
	<-ended
	switch {
	case said == nil:
		w.fault = &Error{Code: CodeBadRequest, Text: "nothing may be sent while a stream is open"}
		w.whole = false
	case !errors.Is(said, os.ErrDeadlineExceeded):
		w.broken = errLeft
	}
	return err
}

// startStream takes one of the places for streams. Those of root are counted
// like those of clients.
func (c *conn) startStream() bool {
	most := maxStreams
	if c.root() {
		most += rootClients
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams >= most {
		return false
	}
	c.streams++
	return true
}

func (c *conn) endStream() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams--
}
