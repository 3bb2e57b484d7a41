// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// errTooLong says that a line is longer than its bound.
var errTooLong = errors.New("line too long")

// A request is what a client asks for.
type request struct {
	Version int             `json:"version"`
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// An answer is one line of the daemon's: either data, or the end, or an error. A
// line of an upload has the same shape, but no error.
type answer struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data,omitempty"`
	End     bool            `json:"end,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// spoken returns the error for a message of another version. The version is
// read on its own, for the rest may have another shape in another version.
func spoken(line []byte, whose string) *Error {
	var v struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return &Error{Code: CodeBadRequest, Text: misread(whose, err)}
	}
	switch {
	case v.Version == nil:
		return &Error{Code: CodeVersion, Text: fmt.Sprintf("%s names no version, %d is spoken", whose, Version)}
	case *v.Version != Version:
		return &Error{Code: CodeVersion, Text: fmt.Sprintf("%s is of version %d, %d is spoken", whose, *v.Version, Version),
			Hint: "use the control program of the same release as the daemon"}
	}
	return nil
}

// parseRequest reads one line of a client's.
func parseRequest(line []byte) (request, *Error) {
	if e := spoken(line, "the request"); e != nil {
		return request{}, e
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return request{}, &Error{Code: CodeBadRequest, Text: misread("the request", err)}
	}
	if r.Command == "" {
		return request{}, &Error{Code: CodeBadRequest, Text: "the request names no command"}
	}
	return r, nil
}

// parseAnswer reads one line of the daemon's, or of an upload. The error is an
// *Error.
func parseAnswer(line []byte, whose string) (answer, error) {
	var a answer
	err := json.Unmarshal(line, &a)
	if err != nil || a.Version != Version {
		// Answers are long: the version is read on its own only where there is
		// something wrong.
		if e := spoken(line, whose); e != nil {
			return answer{}, e
		}
		return answer{}, &Error{Code: CodeBadRequest, Text: misread(whose, err)}
	}
	n := 0
	for _, is := range []bool{a.Data != nil, a.End, a.Error != nil} {
		if is {
			n++
		}
	}
	if n != 1 {
		return answer{}, &Error{Code: CodeBadRequest, Text: whose + " is not understood: not exactly one of data, end and error"}
	}
	return a, nil
}

// encode returns the line for a message.
func encode(message any) ([]byte, error) {
	b, err := json.Marshal(message)
	return append(b, '\n'), err
}

// DecodeArgs reads the arguments of a request into v, a pointer to a struct.
// An argument that v has no field for is refused, as is a value that does not
// fit. No arguments leave v as it is. The error is an *Error.
func DecodeArgs(args json.RawMessage, v any) error {
	if len(args) == 0 {
		return nil
	}
	return decode("args", args, v)
}

// DecodePiece reads a piece of an upload into v, a pointer to a slice, as
// DecodeArgs reads arguments. A piece that is null is refused.
func DecodePiece(piece json.RawMessage, v any) error {
	if string(piece) == "null" {
		return &Error{Code: CodeBadArgument, Text: "the upload is not a list"}
	}
	return decode("the upload", piece, v)
}

// decode reads JSON that the error calls what.
func decode(what string, raw json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{Code: CodeBadArgument, Text: misread(what, err)}
	}
	return nil
}

// misread says what is wrong with JSON that has a name, in its own terms: the types
// that it was to fit are no business of who wrote it.
func misread(what string, err error) string {
	var t *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &t):
		text := strings.NewReplacer("json: ", "", "netip.ParsePrefix(", "", "ParseAddr(", "", "): ", ": ").Replace(err.Error())
		return what + " is not understood: " + text
	case t.Field != "":
		return what + " is not understood: " + t.Field + " takes no " + t.Value
	case t.Type.Kind() == reflect.Slice:
		return what + " is not a list"
	}
	return what + " is not an object"
}

// readLine appends the next line of r to buf[:0], newline included. What comes
// before the error is returned with it: io.EOF may follow a last line without
// a newline. A line of more than max bytes is errTooLong.
func readLine(r *bufio.Reader, buf []byte, max int) ([]byte, error) {
	buf = buf[:0]
	for {
		part, err := r.ReadSlice('\n')
		buf = append(buf, part...)
		switch {
		case len(buf) > max:
			return buf[:max], errTooLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(buf) > 0:
			return buf, nil
		}
		return buf, err
	}
}
