// SPDX-License-Identifier: Apache-2.0

package vxfld

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxlan"
)

// Sizes of the version 1 and 2 body, in bytes (docs/protocol.md section 3).
const (
	fixedLenV1     = 4 // originator flags, holdtime
	fixedLenV2     = 6 // and response_type
	fixedRecordLen = 6 // VNI, address count
	fixedAddrLen   = 4
)

// Field numbers of the version 3 body (docs/protocol.md section 3).
const (
	refreshOriginator protowire.Number = 1
	refreshHoldtime   protowire.Number = 2
	refreshResponse   protowire.Number = 3
	refreshIdentifier protowire.Number = 4
	refreshVTEPs      protowire.Number = 5
	refreshPartial    protowire.Number = 120 // section 7
)

// A Refresh registers, renews or withdraws members of VNIs, asks for members,
// or answers such a question (docs/protocol.md section 3).
type Refresh struct {
	// Originator says that the sender is a VTEP's own daemon. Cleared, the
	// message is an answer or was relayed by a service node.
	Originator bool

	// Holdtime is the time that the members live, in seconds: see
	// HoldtimeDuration. Versions 1 and 2 carry 16 bits of it.
	Holdtime uint32

	// Response says which answer is asked for. Version 1 has no such field:
	// ResponseNone.
	Response Response

	// Identifier names the registering node; 0 is nobody in particular.
	// Versions 1 and 2 have no such field: 0.
	Identifier uint64

	// Partial says that the sender of this answer may itself lack members, so that
	// who is not named may be one all the same. Only version 3 has a place for it,
	// in its extension space (docs/protocol.md section 7).
	Partial bool

	// VNIs are the records in the order in which they were sent. The same VNI
	// may occur more than once: the addresses add up, and where one replaces
	// another, the later counts.
	VNIs []VNIMembers
}

// VNIMembers is one record of a Refresh: a VNI and addresses in it, which may
// be none.
type VNIMembers struct {
	VNI   vxlan.VNI
	Addrs []netip.Addr
}

// Type returns TypeRefresh.
func (*Refresh) Type() Type { return TypeRefresh }

// parseRefreshFixed decodes a REFRESH message of version 1 or 2.
func parseRefreshFixed(b []byte, v Version) (*Refresh, error) {
	off := headerLen + fixedLenV1
	if v == V2 {
		off = headerLen + fixedLenV2
	}
	if len(b) < off {
		return nil, &ParseError{"body", headerLen, ErrShort}
	}
	r := &Refresh{
		Originator: binary.BigEndian.Uint16(b[headerLen:]) != 0,
		Holdtime:   uint32(binary.BigEndian.Uint16(b[headerLen+2:])),
	}
	if v == V2 {
		r.Response = Response(binary.BigEndian.Uint16(b[headerLen+4:]))
	}

	// Lengths and VNIs are checked before anything is allocated for them, so
	// a count that lies costs nothing.
	records, members := 0, 0
	for at := off; at < len(b); {
		if len(b)-at < fixedRecordLen {
			return nil, &ParseError{"record", at, ErrShort}
		}
		if !vxlan.VNI(binary.BigEndian.Uint32(b[at:])).Valid() {
			return nil, &ParseError{"record.vni", at, ErrVNI}
		}
		n := int(binary.BigEndian.Uint16(b[at+4:]))
		if len(b)-at-fixedRecordLen < n*fixedAddrLen {
			return nil, &ParseError{"record.addresses", at + fixedRecordLen, ErrShort}
		}
		at += fixedRecordLen + n*fixedAddrLen
		records++
		members += n
	}
	if records == 0 {
		return r, nil
	}
	r.VNIs = make([]VNIMembers, 0, records)
	addrs := make([]netip.Addr, 0, members)
	for at := off; at < len(b); {
		rec := VNIMembers{VNI: vxlan.VNI(binary.BigEndian.Uint32(b[at:]))}
		n := int(binary.BigEndian.Uint16(b[at+4:]))
		at += fixedRecordLen
		first := len(addrs)
		for range n {
			addrs = append(addrs, netip.AddrFrom4([4]byte(b[at:])))
			at += fixedAddrLen
		}
		rec.Addrs = piece(addrs, first)
		r.VNIs = append(r.VNIs, rec)
	}
	return r, nil
}

// parseRefreshProto decodes a REFRESH message of version 3.
func parseRefreshProto(b []byte) (*Refresh, error) {
	r := &Refresh{Holdtime: HoldtimeDefault}
	var addrs []netip.Addr
	fs := fields{b: b, off: headerLen, in: "body"}
	for fs.next() {
		var err error
		switch {
		case fs.is(refreshOriginator, protowire.VarintType):
			r.Originator = fs.varint != 0
		case fs.is(refreshHoldtime, protowire.VarintType):
			r.Holdtime, err = fs.uint32("holdtime")
		case fs.is(refreshResponse, protowire.VarintType):
			var n uint32
			n, err = fs.uint32("response_type")
			r.Response = Response(n)
		case fs.is(refreshIdentifier, protowire.VarintType):
			r.Identifier = fs.varint
		case fs.is(refreshPartial, protowire.VarintType):
			r.Partial = fs.varint != 0
		case fs.is(refreshVTEPs, protowire.BytesType):
			if r.VNIs == nil {
				r.VNIs = make([]VNIMembers, 0, countFields(b, refreshVTEPs))
				addrs = make([]netip.Addr, 0, len(b)/minDataLen)
			}
			var vni vxlan.VNI
			first := len(addrs)
			vni, addrs, err = parseDict(b[:fs.off], fs.start, addrs, parseMember)
			r.VNIs = append(r.VNIs, VNIMembers{VNI: vni, Addrs: piece(addrs, first)})
		}
		if err != nil {
			return nil, err
		}
	}
	if fs.err != nil {
		return nil, fs.err
	}
	return r, nil
}

// parseMember decodes the VniData of a REFRESH that is b from start on.
func parseMember(b []byte, start int) (netip.Addr, error) {
	fs := fields{b: b, off: start, in: "vteps.data"}
	var a octets
	for fs.next() {
		if fs.is(dataAddr, protowire.BytesType) {
			if err := a.parse(b[:fs.off], fs.start, "vteps.data.ip_addr"); err != nil {
				return netip.Addr{}, err
			}
		}
	}
	if fs.err != nil {
		return netip.Addr{}, fs.err
	}
	return a.addr("vteps.data.ip_addr", start)
}

// appendTo appends the body in the layout of v.
func (r *Refresh) appendTo(dst []byte, v Version) ([]byte, error) {
	dst, err := r.appendHead(dst, v)
	if err != nil {
		return nil, err
	}
	for i := range r.VNIs {
		if err := r.VNIs[i].check(v); err != nil {
			return nil, err
		}
		dst = r.VNIs[i].appendTo(dst, v)
	}
	return dst, nil
}

// appendHead appends what stands before the VNI records.
func (r *Refresh) appendHead(dst []byte, v Version) ([]byte, error) {
	var originator uint16
	if r.Originator {
		originator = 1
	}
	if v == V3 {
		// Deployed senders of answers write every field, also where it holds
		// the default, and deployed readers were only ever tried with that.
		dst = appendVarintField(dst, refreshOriginator, uint64(originator))
		dst = appendVarintField(dst, refreshHoldtime, uint64(r.Holdtime))
		dst = appendVarintField(dst, refreshResponse, uint64(r.Response))
		dst = appendVarintField(dst, refreshIdentifier, r.Identifier)
		if r.Partial {
			dst = appendVarintField(dst, refreshPartial, 1)
		}
		return dst, nil
	}
	switch {
	case r.Partial:
		return nil, fmt.Errorf("partial: %w", ErrRange)
	case r.Holdtime > math.MaxUint16:
		return nil, fmt.Errorf("holdtime %d: %w", r.Holdtime, ErrRange)
	case r.Response > math.MaxUint16, v == V1 && r.Response != ResponseNone:
		return nil, fmt.Errorf("response_type %d: %w", r.Response, ErrRange)
	case r.Identifier != 0:
		return nil, fmt.Errorf("identifier %d: %w", r.Identifier, ErrRange)
	}
	dst = binary.BigEndian.AppendUint16(dst, originator)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Holdtime))
	if v == V2 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(r.Response))
	}
	return dst, nil
}

// size returns the length of the record as version v writes it, in bytes.
func (m *VNIMembers) size(v Version) int {
	if v != V3 {
		return fixedRecordLen + len(m.Addrs)*fixedAddrLen
	}
	return protowire.SizeTag(refreshVTEPs) + protowire.SizeBytes(m.protoSize())
}

// protoSize returns the length of the record's VniDict in bytes.
func (m *VNIMembers) protoSize() int {
	n := sizeVarintField(dictVNI, uint64(m.VNI))
	for _, a := range m.Addrs {
		n += protowire.SizeTag(dictData) + protowire.SizeBytes(addrFieldSize(dataAddr, a))
	}
	return n
}

// check tells whether the record can be written as version v.
func (m *VNIMembers) check(v Version) error {
	if !m.VNI.Valid() {
		return fmt.Errorf("vni %s: %w", m.VNI, ErrVNI)
	}
	if v != V3 && len(m.Addrs) > math.MaxUint16 {
		return fmt.Errorf("vni %s: %d addresses: %w", m.VNI, len(m.Addrs), ErrRange)
	}
	for _, a := range m.Addrs {
		if !a.Is4() {
			return fmt.Errorf("vni %s: address %s: %w", m.VNI, a, ErrRange)
		}
	}
	return nil
}

// appendTo appends the record as version v writes it; check has passed it.
func (m *VNIMembers) appendTo(dst []byte, v Version) []byte {
	if v == V3 {
		dst = protowire.AppendTag(dst, refreshVTEPs, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(m.protoSize()))
		dst = appendVarintField(dst, dictVNI, uint64(m.VNI))
		for _, a := range m.Addrs {
			dst = protowire.AppendTag(dst, dictData, protowire.BytesType)
			dst = protowire.AppendVarint(dst, uint64(addrFieldSize(dataAddr, a)))
			dst = appendAddrField(dst, dataAddr, a)
		}
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.VNI))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Addrs)))
	for _, a := range m.Addrs {
		octets := a.As4()
		dst = append(dst, octets[:]...)
	}
	return dst
}
