// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"io"
)

// A Call is a request as the Command that does it has it. It is not safe for
// concurrent use.
type Call struct {
	// Args are what the request has, nil or JSON of any shape: DecodeArgs reads
	// them.
	Args json.RawMessage

	send    func(v any) error
	receive func() (json.RawMessage, error)
}

// NewCall returns a Call that is no client's, to run a Command with. send and
// receive are what Send and Receive call; a nil receive has nothing.
func NewCall(args json.RawMessage, send func(v any) error, receive func() (json.RawMessage, error)) *Call {
	return &Call{args, send, receive}
}

// Send sends one piece of data, of at most 1 MiB as JSON. It returns an error
// when the client is gone or too slow or the server stops: Run must return then,
// with any error.
func (c *Call) Send(v any) error { return c.send(v) }

// Receive returns the next piece of an upload, of at most 64 KiB as JSON, which
// the next call overwrites; io.EOF is its end. After any other error the upload
// is not whole: Run must return then, with any error, and have changed nothing.
// Until the end a command sends nothing, for the client does not read yet.
func (c *Call) Receive() (json.RawMessage, error) {
	if c.receive == nil {
		return nil, io.EOF
	}
	return c.receive()
}
