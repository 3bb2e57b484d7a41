// SPDX-License-Identifier: Apache-2.0

// Package control is the management socket of a daemon: the server that the
// daemon runs, the client that control programs use, and the data types of the
// commands. It owns the messages, their bounds and the socket file.
//
// It does not know what a command does: the daemon hands in what is to be run
// by name.
//
// Messages are JSON, one per line. A client may send several requests over one
// connection, in turn:
//
//	{"version":1,"command":"fdb","args":{"vni":100}}
//
// Each is answered by any number of lines with data and then by one line that
// ends the answer, well or with an error:
//
//	{"version":1,"data":…}
//	{"version":1,"end":true}
//	{"version":1,"error":{"code":"bad_argument","text":"…","hint":"…"}}
//
// A command that takes an upload has its data from the lines that follow the
// request, which have the shape of an answer that ends well. One that is a stream
// goes on until the client closes the connection, for writing at least; it says
// nothing meanwhile.
//
// Members that a reader does not know are ignored, except in args.
package control

import "time"

// Version is the version of the messages. A request of another one is refused
// with CodeVersion.
const Version = 1

const (
	// maxRequest bounds the line of a request, in bytes.
	maxRequest = 64 << 10

	// maxAnswer bounds a line of an answer, in bytes. A command that sends a
	// longer one has a bug.
	maxAnswer = 1 << 20

	// defaultClients is how many clients are served at once.
	defaultClients = 100

	// rootClients is how many clients of root are served on top of that.
	rootClients = 4

	// maxStreams is how many streams are open at once. Root has rootClients more.
	maxStreams = 32

	// requestTime is how long a request may take from its first byte to its end,
	// and the next piece of an upload from when it is waited for.
	requestTime = 5 * time.Second

	// idleTime is how long a client may say nothing between two requests.
	idleTime = 60 * time.Second

	// writeTime is how long a client may leave a line of an answer unread once its
	// socket is full.
	writeTime = 10 * time.Second

	// stopTime is what is left of writeTime when the server stops.
	stopTime = time.Second

	// silenceTime is how long a client waits for the next line of an answer.
	silenceTime = 30 * time.Second
)

// The codes of an Error. They are stable: a program may branch on them.
const (
	// CodeBadRequest is a request that cannot be understood.
	CodeBadRequest = "bad_request"
	// CodeUnknownCommand is a command that the daemon does not have.
	CodeUnknownCommand = "unknown_command"
	// CodeBadArgument is an argument that the command does not have or take.
	CodeBadArgument = "bad_argument"
	// CodeVersion is a message of a version that is not spoken.
	CodeVersion = "version"
	// CodeBusy is a connection too many, while all others have a request under way,
	// or a stream too many.
	CodeBusy = "busy"
	// CodeFailed is a command that could not do what it is for.
	CodeFailed = "failed"
	// CodeStopping is an answer cut short because the daemon stops.
	CodeStopping = "stopping"

	// CodePermission is a command that this user may not give, or, from Dial, a
	// socket that this user may not use.
	CodePermission = "permission"

	// CodeUnreachable is a daemon that does not answer. Only a Client uses it, it
	// is never sent.
	CodeUnreachable = "unreachable"
)

// An Error is why a request was not done. A Command may return one; the client
// gets it from Call as it was returned.
type Error struct {
	// Code is one of the Code constants.
	Code string `json:"code"`
	// Text says what is wrong: one line, lower case.
	Text string `json:"text"`
	// Hint says what to do about it; empty where Text says it.
	Hint string `json:"hint,omitempty"`
	// Item is which element of an upload is at fault, counted from 0 over all its
	// pieces; nil for none in particular.
	Item *int `json:"item,omitempty"`
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }
