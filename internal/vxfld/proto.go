// SPDX-License-Identifier: Apache-2.0

package vxfld

import (
	"math"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxlan"
)

// Field numbers of the messages that REFRESH and SYNC share
// (docs/protocol.md sections 3 and 4).
const (
	dictVNI        protowire.Number = 1
	dictData       protowire.Number = 2
	dataAddr       protowire.Number = 1
	dataHoldtime   protowire.Number = 2   // SYNC only
	dataIdentifier protowire.Number = 3   // SYNC only
	dataOwner      protowire.Number = 124 // SYNC only, docs/protocol.md section 7
	addressOctets  protowire.Number = 1
)

// minDataLen is the least length of a VniData with its tag, in bytes: three
// tags with their lengths around four octets. It bounds how many members a
// message can hold.
const minDataLen = 10

// fields walks over the fields of one protobuf message: the bytes of b from
// off on. The whole of b is kept so that offsets in errors are those of the
// datagram. It does not allocate unless there is an error.
type fields struct {
	b   []byte
	off int
	in  string // what is being read, for errors

	// The field that next has found: its value for a varint, and for bytes
	// where they begin in b; they end at off.
	num    protowire.Number
	typ    protowire.Type
	varint uint64
	start  int

	err error
}

// next steps to the next field. It returns false at the end and on an error,
// which is then in err. A group counts as one field, and what is inside it is
// checked for its form.
func (fs *fields) next() bool {
	if fs.off >= len(fs.b) {
		return false
	}
	at := fs.off
	num, typ, n := protowire.ConsumeTag(fs.b[at:])
	if n < 0 {
		return fs.fail(at)
	}
	value := at + n
	switch typ {
	case protowire.VarintType:
		fs.varint, n = protowire.ConsumeVarint(fs.b[value:])
		fs.start = value
	case protowire.BytesType:
		var content []byte
		content, n = protowire.ConsumeBytes(fs.b[value:])
		fs.start = value + n - len(content)
	default:
		n = protowire.ConsumeFieldValue(num, typ, fs.b[value:])
		fs.start = value
	}
	if n < 0 {
		return fs.fail(at)
	}
	fs.num, fs.typ, fs.off = num, typ, value+n
	return true
}

// fail records broken encoding at byte at, and ends the walk.
func (fs *fields) fail(at int) bool {
	fs.err = &ParseError{fs.in, at, ErrProtobuf}
	return false
}

// is tells whether the field is the one with this number and wire type. A
// known number with another wire type is an unknown field, as in any protobuf
// reader.
func (fs *fields) is(num protowire.Number, typ protowire.Type) bool {
	return fs.num == num && fs.typ == typ
}

// uint32 returns the value of a uint32 field. More than 32 bits are refused
// rather than cut off, as what is left would be some other value.
func (fs *fields) uint32(name string) (uint32, error) {
	if fs.varint > math.MaxUint32 {
		return 0, &ParseError{fs.in + "." + name, fs.start, ErrProtobuf}
	}
	return uint32(fs.varint), nil
}

// countFields returns how many length-delimited fields of this number a whole
// message has, up to the first error. Each has its tag, its length and at
// least the VNI, so less than len(b)/4 of them can be good.
func countFields(b []byte, num protowire.Number) int {
	n := 0
	fs := fields{b: b, off: headerLen}
	for fs.next() {
		if fs.is(num, protowire.BytesType) {
			n++
		}
	}
	return min(n, len(b)/4+1)
}

// parseDict decodes the VniDict that is b from start on. What member makes of
// each VniData is appended to dst.
func parseDict[E any](b []byte, start int, dst []E, member func([]byte, int) (E, error)) (vxlan.VNI, []E, error) {
	fs := fields{b: b, off: start, in: "vteps"}
	var vni vxlan.VNI
	found := false
	for fs.next() {
		switch {
		case fs.is(dictVNI, protowire.VarintType):
			if fs.varint > uint64(vxlan.MaxVNI) {
				return 0, nil, &ParseError{"vteps.vni", fs.start, ErrVNI}
			}
			vni, found = vxlan.VNI(fs.varint), true
		case fs.is(dictData, protowire.BytesType):
			e, err := member(b[:fs.off], fs.start)
			if err != nil {
				return 0, nil, err
			}
			dst = append(dst, e)
		}
	}
	if fs.err != nil {
		return 0, nil, fs.err
	}
	if !found {
		return 0, nil, &ParseError{"vteps.vni", start, ErrMissing}
	}
	return vni, dst, nil
}

// piece returns the elements of s from first on, so that appending to the
// piece leaves s alone; nil where there are none.
func piece[E any](s []E, first int) []E {
	if first >= len(s) {
		return nil
	}
	return s[first:len(s):len(s)]
}

// octets collects the elements of an IPv4Address. Occurrences of one field
// add up, as protobuf merges messages.
type octets struct {
	found bool
	n     int
	b     [4]byte
}

// parse adds the elements of the IPv4Address that is b from start on.
func (o *octets) parse(b []byte, start int, name string) error {
	o.found = true
	fs := fields{b: b, off: start, in: name}
	for fs.next() {
		if fs.num != addressOctets {
			continue
		}
		switch fs.typ {
		case protowire.VarintType:
			if !o.add(fs.varint) {
				return &ParseError{name, fs.start, ErrAddress}
			}
		case protowire.BytesType:
			for at := fs.start; at < fs.off; {
				v, n := protowire.ConsumeVarint(b[at:fs.off])
				if n < 0 {
					return &ParseError{name, at, ErrProtobuf}
				}
				if !o.add(v) {
					return &ParseError{name, at, ErrAddress}
				}
				at += n
			}
		}
	}
	return fs.err
}

// add takes one element and tells whether there may be such a one.
func (o *octets) add(v uint64) bool {
	if v > math.MaxUint8 || o.n == len(o.b) {
		return false
	}
	o.b[o.n] = byte(v)
	o.n++
	return true
}

// addr returns the address. at is where the message that should hold it
// begins.
func (o *octets) addr(name string, at int) (netip.Addr, error) {
	switch {
	case !o.found:
		return netip.Addr{}, &ParseError{name, at, ErrMissing}
	case o.n != len(o.b):
		return netip.Addr{}, &ParseError{name, at, ErrAddress}
	}
	return netip.AddrFrom4(o.b), nil
}

// appendVarintField appends a varint field with its tag.
func appendVarintField(dst []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

// sizeVarintField returns what appendVarintField appends, in bytes.
func sizeVarintField(num protowire.Number, v uint64) int {
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

// packedSize returns the length of the packed octets of a: an octet above 127
// takes two bytes.
func packedSize(octets [4]byte) int {
	n := len(octets)
	for _, o := range octets {
		n += int(o >> 7)
	}
	return n
}

// addrFieldSize returns what appendAddrField appends, in bytes.
func addrFieldSize(num protowire.Number, a netip.Addr) int {
	packed := packedSize(a.As4())
	return protowire.SizeTag(num) + protowire.SizeBytes(protowire.SizeTag(addressOctets)+protowire.SizeBytes(packed))
}

// appendAddrField appends an IPv4Address field for a, which is an IPv4
// address, with its tag.
func appendAddrField(dst []byte, num protowire.Number, a netip.Addr) []byte {
	octets := a.As4()
	packed := packedSize(octets)
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(protowire.SizeTag(addressOctets)+protowire.SizeBytes(packed)))
	dst = protowire.AppendTag(dst, addressOctets, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(packed))
	for _, o := range octets {
		dst = protowire.AppendVarint(dst, uint64(o))
	}
	return dst
}
