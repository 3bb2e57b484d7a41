// SPDX-License-Identifier: Apache-2.0

// Package vxfld reads and writes the control messages that registration
// daemons and service nodes exchange, versions 1 to 3, as docs/protocol.md
// describes them. It is pure: no sockets, no logging, no state, no policy.
// What a message means for the table, who may send it and which of its
// addresses can be a VTEP is for the caller to decide: a decoded message
// holds everything that was sent.
package vxfld

import (
	"errors"
	"math"
	"strconv"
	"time"
)

const (
	// headerLen is the length of the version and type bytes
	// (docs/protocol.md section 2).
	headerLen = 2

	// Port is the default UDP and TCP port of control messages
	// (docs/protocol.md section 1).
	Port = 10001

	// MaxDatagram is the largest payload of a UDP datagram over IPv4, in
	// bytes: 65,535 less 20 of IPv4 and 8 of UDP header (RFC 791, RFC 768).
	MaxDatagram = 65507

	// Overhead is what max_packet_size counts besides the message itself, in
	// bytes: 14 of Ethernet, 20 of IPv4 and 8 of UDP header
	// (docs/protocol.md section 1).
	Overhead = 42
)

// Holdtimes as they stand on the wire, in seconds (docs/protocol.md
// section 3, holdtime).
const (
	// HoldtimeWithdraw withdraws what the message names.
	HoldtimeWithdraw uint32 = 0

	// HoldtimeDefault is meant where a protobuf message has no holdtime.
	HoldtimeDefault uint32 = 90

	// HoldtimeMax is the longest time that is written for a member that ages.
	// Version 3 can carry more, and what is received is taken as it is.
	HoldtimeMax uint32 = 65534

	// HoldtimeStatic stands for a member that never ages.
	HoldtimeStatic uint32 = 65535
)

var (
	// ErrRange says that a message cannot be written, since it holds a value
	// that its version cannot carry.
	ErrRange = errors.New("value has no place in this version")

	// ErrTooLarge says that the members of one VNI do not fit the largest UDP
	// datagram.
	ErrTooLarge = errors.New("VNI is too large for a datagram")
)

// A ParseError is what Parse returns for a message that is refused.
type ParseError struct {
	// Field names the part of the message, such as "vteps.data.ip_addr".
	Field string

	// Offset is the byte of the message at which the part, or the value that
	// is wrong in it, begins.
	Offset int

	// Err says what is wrong.
	Err Reason
}

// Error names the field, the offset and what is wrong.
func (e *ParseError) Error() string {
	return e.Field + " at byte " + strconv.Itoa(e.Offset) + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *ParseError) Unwrap() error { return e.Err }

// A Version is the first byte of a message.
type Version uint8

// The versions that are in the field (docs/protocol.md section 2).
const (
	V1 Version = 1
	V2 Version = 2
	V3 Version = 3
)

// A Type is the second byte of a message.
type Type uint8

// The message types (docs/protocol.md section 2). Types from TypeExtension on
// are kept for nodes of this kind among themselves (section 7); none exists
// yet, and Parse refuses them with ErrType like any other unknown type.
const (
	TypeRefresh   Type = 1
	TypeProxy     Type = 2
	TypeSync      Type = 3
	TypeExtension Type = 128
)

// String returns the type's name in docs/protocol.md, or its number.
func (t Type) String() string {
	switch t {
	case TypeRefresh:
		return "REFRESH"
	case TypeProxy:
		return "PROXY"
	case TypeSync:
		return "SYNC"
	}
	return "type " + strconv.Itoa(int(t))
}

// A Response says which answer a message asks for. Numbers besides the named
// ones are kept as they were received.
type Response uint32

// The answers that can be asked for (docs/protocol.md section 3,
// response_type).
const (
	ResponseNone      Response = 0
	ResponseRequested Response = 1
	ResponseAll       Response = 2
)

// String returns the answer's name in docs/protocol.md, or its number.
func (r Response) String() string {
	switch r {
	case ResponseNone:
		return "none"
	case ResponseRequested:
		return "requested"
	case ResponseAll:
		return "all"
	}
	return "response " + strconv.FormatUint(uint64(r), 10)
}

// A Body is what follows the header: *Refresh, *Sync or *Proxy, never a nil
// pointer in a message that Parse returned.
type Body interface {
	// Type returns the type byte that stands before the body.
	Type() Type

	appendTo(dst []byte, v Version) ([]byte, error)
}

// A Message is one control message: a UDP datagram, or one direction of a TCP
// exchange (docs/protocol.md section 1).
type Message struct {
	Version Version
	Body    Body
}

// Parse decodes the message b whole. A message that is malformed anywhere is
// refused with a *ParseError and the zero Message. Unknown fields are
// skipped. What cannot be a VTEP is not looked for: that is policy.
//
// The memory that the result needs is in proportion to len(b): less than
// 16 times, whatever b holds. The Packet of a PROXY message and the Digest of a
// SYNC share b's memory; nothing else does.
func Parse(b []byte) (Message, error) {
	v, t, err := parseHeader(b)
	if err != nil {
		return Message{}, err
	}
	var body Body
	switch {
	case t == TypeRefresh && v == V3:
		body, err = parseRefreshProto(b)
	case t == TypeRefresh:
		body, err = parseRefreshFixed(b, v)
	case t == TypeProxy:
		body, err = parseProxy(b)
	case t == TypeSync:
		body, err = parseSync(b)
	default:
		return Message{}, &ParseError{"type", 1, ErrType}
	}
	if err != nil {
		return Message{}, err
	}
	return Message{Version: v, Body: body}, nil
}

// parseHeader decodes the header. The type may be any number.
func parseHeader(b []byte) (Version, Type, error) {
	if len(b) < headerLen {
		return 0, 0, &ParseError{"header", len(b), ErrShort}
	}
	v := Version(b[0])
	if v < V1 || v > V3 {
		return 0, 0, &ParseError{"version", 0, ErrVersion}
	}
	return v, Type(b[1]), nil
}

// Append appends the encoded message to dst and returns the result. What
// Parse accepts can be written, and is the same message when it is read again;
// the bytes may differ. A version or value that cannot be written gives an
// error that matches ErrVersion, ErrVNI or ErrRange, and no slice. A message
// without a body is a bug of the caller and panics.
func (m Message) Append(dst []byte) ([]byte, error) {
	if m.Body == nil {
		panic("vxfld: message without a body")
	}
	if m.Version < V1 || m.Version > V3 {
		return nil, ErrVersion
	}
	dst = append(dst, byte(m.Version), byte(m.Body.Type()))
	return m.Body.appendTo(dst, m.Version)
}

// HoldtimeOf returns d as it is written to the wire: whole seconds, rounded up
// so that a member with time left is not withdrawn, at most HoldtimeMax. The
// longest Duration stands for a member that never ages; zero and less
// withdraw.
func HoldtimeOf(d time.Duration) uint32 {
	switch {
	case d <= 0:
		return HoldtimeWithdraw
	case d == math.MaxInt64:
		return HoldtimeStatic
	case d > time.Duration(HoldtimeMax)*time.Second:
		return HoldtimeMax
	}
	return uint32((d + time.Second - 1) / time.Second)
}

// HoldtimeDuration returns the time that a holdtime of the wire stands for:
// the longest Duration for HoldtimeStatic, which means that the member never
// ages, and seconds otherwise.
func HoldtimeDuration(holdtime uint32) time.Duration {
	if holdtime == HoldtimeStatic {
		return math.MaxInt64
	}
	return time.Duration(holdtime) * time.Second
}
