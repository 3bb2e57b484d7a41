// SPDX-License-Identifier: Apache-2.0

// Package startup says in which ways a service can fail to start, so that
// whoever runs it can tell its user what to do, whatever the service is. It
// opens nothing and decides nothing.
package startup

import "errors"

// What kept a service from opening its sockets. An error of its start matches
// one of them, or neither.
var (
	// ErrBind says that an address or port is not to be had.
	ErrBind = errors.New("could not bind")
	// ErrPrivilege says that a capability is missing.
	ErrPrivilege = errors.New("lacks privilege")
	// ErrConfig says that what the configuration names cannot be used, and that
	// another try is no help.
	ErrConfig = errors.New("configuration cannot be used")
)

// An Error is why a service could not start, with what to do about it. It
// matches Err and Kind.
type Error struct {
	Err  error  // what happened; its text is that of the Error
	Kind error  // ErrBind, ErrPrivilege, ErrConfig or nil
	Hint string // what an operator may do about it, or ""
}

// Error returns the text of Err.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns Err and Kind.
func (e *Error) Unwrap() []error { return []error{e.Err, e.Kind} }

// New returns an Error.
func New(err, kind error, hint string) *Error { return &Error{Err: err, Kind: kind, Hint: hint} }

// Hint returns the hint of the first Error in err's tree, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
