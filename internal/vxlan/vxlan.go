// SPDX-License-Identifier: Apache-2.0

// Package vxlan knows the VXLAN network identifier and the VXLAN header of
// RFC 7348. It is pure: no sockets, no logging, no state.
package vxlan

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	// HeaderLen is the length of a VXLAN header in bytes (RFC 7348, section 5).
	HeaderLen = 8

	// Port is the UDP port that IANA assigned to VXLAN (RFC 7348, section 5).
	Port = 4789

	// MaxVNI is the largest VNI: it has 24 bits (RFC 7348, section 5).
	MaxVNI VNI = 1<<24 - 1

	// flagVNI is the I flag of the header's first byte. It must be set for the
	// VNI to be valid; all other bits are reserved and ignored on receipt
	// (RFC 7348, section 5).
	flagVNI = 0x08
)

var (
	// ErrShort says that a packet has no room for a VXLAN header.
	ErrShort = errors.New("shorter than a VXLAN header")

	// ErrNoVNI says that the I flag is not set, so the packet names no VNI.
	ErrNoVNI = errors.New("VXLAN header without a valid VNI")
)

// A VNI is a VXLAN network identifier, 0 to MaxVNI.
type VNI uint32

// ParseVNI reads a VNI in decimal, as configuration files and commands give
// it. The error names the text and the range.
func ParseVNI(s string) (VNI, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || VNI(n) > MaxVNI {
		return 0, fmt.Errorf("%q is not a VNI (0 to %d)", s, MaxVNI)
	}
	return VNI(n), nil
}

// Valid tells whether v fits the 24 bits of the header.
func (v VNI) Valid() bool { return v <= MaxVNI }

// String returns v in decimal.
func (v VNI) String() string { return strconv.FormatUint(uint64(v), 10) }

// ParseHeader reads the VXLAN header at the start of b, the payload of a UDP
// datagram, and returns its VNI. What follows the header is not looked at.
// It returns ErrShort or ErrNoVNI, unwrapped, and does not allocate.
func ParseHeader(b []byte) (VNI, error) {
	if len(b) < HeaderLen {
		return 0, ErrShort
	}
	if b[0]&flagVNI == 0 {
		return 0, ErrNoVNI
	}
	return VNI(b[4])<<16 | VNI(b[5])<<8 | VNI(b[6]), nil
}

// AppendHeader appends the header for v to dst and returns the result. A VNI
// of more than 24 bits is a bug of the caller and panics.
func AppendHeader(dst []byte, v VNI) []byte {
	if !v.Valid() {
		panic("vxlan: VNI " + v.String() + " has more than 24 bits")
	}
	return append(dst, flagVNI, 0, 0, 0, byte(v>>16), byte(v>>8), byte(v), 0)
}
