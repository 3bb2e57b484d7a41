// SPDX-License-Identifier: Apache-2.0

package vxfld

// A Reason is why a message is refused. It is an error, and what a ParseError
// wraps.
type Reason uint8

// The reasons.
const (
	// ErrShort says that the header, the fixed part of a version 1 or 2 body
	// or one of its records runs past the end of the message.
	ErrShort Reason = iota

	// ErrVersion says that the version is not one of 1 to 3.
	ErrVersion

	// ErrType says that the type is none of REFRESH, PROXY and SYNC.
	ErrType

	// ErrProtobuf says that the protobuf encoding itself is broken, or holds a
	// number that the field's type does not.
	ErrProtobuf

	// ErrMissing says that a required field is not there.
	ErrMissing

	// ErrVNI says that a VNI has more than 24 bits.
	ErrVNI

	// ErrAddress says that an IPv4Address is not four numbers of 0 to 255.
	ErrAddress

	// ErrPacket says that the packet inside a PROXY message has no room for a
	// VXLAN header.
	ErrPacket

	// NumReasons is the number of reasons.
	NumReasons
)

var reasons = [NumReasons]struct{ name, text string }{
	ErrShort:    {"short", "message is cut short"},
	ErrVersion:  {"version", "unknown version"},
	ErrType:     {"type", "unknown type"},
	ErrProtobuf: {"protobuf", "malformed protobuf"},
	ErrMissing:  {"missing", "required field is missing"},
	ErrVNI:      {"vni", "VNI has more than 24 bits"},
	ErrAddress:  {"address", "not an IPv4 address of four octets"},
	ErrPacket:   {"packet", "enclosed packet is shorter than a VXLAN header"},
}

// Error says what is wrong with the message.
func (r Reason) Error() string { return reasons[r].text }

// Name returns the reason's stable name, one lower case word: it appears in
// logs and metrics.
func (r Reason) Name() string { return reasons[r].name }
