// SPDX-License-Identifier: Apache-2.0

package vxfld

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxlan"
)

// Field numbers of the SYNC body (docs/protocol.md section 4).
const (
	syncIdentifier protowire.Number = 1
	syncVTEPs      protowire.Number = 2
	syncResponse   protowire.Number = 3

	// Of the extension space (docs/protocol.md section 7).
	syncNode     protowire.Number = 120
	syncNotReady protowire.Number = 121
	syncComplete protowire.Number = 122
	syncDigest   protowire.Number = 123
	syncRound    protowire.Number = 125
)

// SyncNode is what Sync.Node holds in messages of this implementation.
const SyncNode uint32 = 1

// A Sync asks for the table of a service node, is the answer to that, or
// updates a peer's table (docs/protocol.md section 4).
type Sync struct {
	Identifier uint64

	// Response is ResponseAll in a request for the whole table.
	Response Response

	// VNIs are the records in the order in which they were sent.
	VNIs []VNIEntries

	// Node is SyncNode where the sender is of this implementation, 0 where it
	// has not shown that it is. It, and what follows, are fields of section 7,
	// which others skip.
	Node uint32

	// NotReady says of an answer that the sender's own table may still lack
	// members.
	NotReady bool

	// Complete ends an answer whose sender is of this implementation: without
	// it the answer was cut off between two records. It also ends a round.
	Complete bool

	// Round is the same number, not 0, in all updates in which the sender tells of
	// every member that its configuration names.
	Round uint64

	// Digest asks for the entries that the sender lacks; its content belongs to
	// package peer. Nil is none.
	Digest []byte
}

// VNIEntries is one record of a Sync: a VNI and entries of it, which may be
// none.
type VNIEntries struct {
	VNI     vxlan.VNI
	Entries []SyncEntry
}

// A SyncEntry is one member as its entry stands in a service node's table.
type SyncEntry struct {
	Addr netip.Addr

	// Holdtime is the time that the entry has left, in seconds: see
	// HoldtimeDuration. 0 withdraws it.
	Holdtime uint32

	// Identifier names the node that registered it, 0 if none did.
	Identifier uint64

	// Owner is the node whose configuration names a static member of identifier 0;
	// 0.0.0.0 is the sender. It is not valid where the member belongs to nobody in
	// particular. It is a field of section 7.
	Owner netip.Addr
}

// Type returns TypeSync.
func (*Sync) Type() Type { return TypeSync }

// parseSync decodes a SYNC message of any version.
func parseSync(b []byte) (*Sync, error) {
	s := &Sync{}
	var entries []SyncEntry
	fs := fields{b: b, off: headerLen, in: "body"}
	for fs.next() {
		if !fs.is(syncVTEPs, protowire.BytesType) {
			if err := s.field(&fs); err != nil {
				return nil, err
			}
			continue
		}
		if s.VNIs == nil {
			s.VNIs = make([]VNIEntries, 0, countFields(b, syncVTEPs))
			entries = make([]SyncEntry, 0, len(b)/minDataLen)
		}
		var vni vxlan.VNI
		var err error
		first := len(entries)
		vni, entries, err = parseDict(b[:fs.off], fs.start, entries, parseEntry)
		if err != nil {
			return nil, err
		}
		s.VNIs = append(s.VNIs, VNIEntries{VNI: vni, Entries: piece(entries, first)})
	}
	if fs.err != nil {
		return nil, fs.err
	}
	return s, nil
}

// field takes in the field at hand, which is no record.
func (s *Sync) field(fs *fields) error {
	var err error
	switch {
	case fs.is(syncIdentifier, protowire.VarintType):
		s.Identifier = fs.varint
	case fs.is(syncResponse, protowire.VarintType):
		var n uint32
		n, err = fs.uint32("response_type")
		s.Response = Response(n)
	case fs.is(syncNode, protowire.VarintType):
		s.Node, err = fs.uint32("node")
	case fs.is(syncNotReady, protowire.VarintType):
		s.NotReady = fs.varint != 0
	case fs.is(syncComplete, protowire.VarintType):
		s.Complete = fs.varint != 0
	case fs.is(syncRound, protowire.VarintType):
		s.Round = fs.varint
	case fs.is(syncDigest, protowire.BytesType):
		s.Digest = fs.b[fs.start:fs.off:fs.off]
	}
	return err
}

// parseEntry decodes the VniData of a SYNC that is b from start on.
func parseEntry(b []byte, start int) (SyncEntry, error) {
	e := SyncEntry{Holdtime: HoldtimeDefault}
	fs := fields{b: b, off: start, in: "vteps.data"}
	var a, owner octets
	for fs.next() {
		var err error
		switch {
		case fs.is(dataAddr, protowire.BytesType):
			err = a.parse(b[:fs.off], fs.start, "vteps.data.ip_addr")
		case fs.is(dataOwner, protowire.BytesType):
			err = owner.parse(b[:fs.off], fs.start, "vteps.data.owner")
		case fs.is(dataHoldtime, protowire.VarintType):
			e.Holdtime, err = fs.uint32("holdtime")
		case fs.is(dataIdentifier, protowire.VarintType):
			e.Identifier = fs.varint
		}
		if err != nil {
			return SyncEntry{}, err
		}
	}
	if fs.err != nil {
		return SyncEntry{}, fs.err
	}
	var err error
	if e.Addr, err = a.addr("vteps.data.ip_addr", start); err != nil {
		return SyncEntry{}, err
	}
	if owner.found {
		if e.Owner, err = owner.addr("vteps.data.owner", start); err != nil {
			return SyncEntry{}, err
		}
	}
	return e, nil
}

// appendTo appends the body as deployed senders write it: without an identifier
// of 0, and with the response type in any case. Fields of section 7 stand where
// they say something: in front those that a reader wants to know first.
func (s *Sync) appendTo(dst []byte, _ Version) ([]byte, error) {
	if s.Node != 0 {
		dst = appendVarintField(dst, syncNode, uint64(s.Node))
	}
	if s.NotReady {
		dst = appendVarintField(dst, syncNotReady, 1)
	}
	if s.Round != 0 {
		dst = appendVarintField(dst, syncRound, s.Round)
	}
	if s.Digest != nil {
		dst = protowire.AppendTag(dst, syncDigest, protowire.BytesType)
		dst = protowire.AppendBytes(dst, s.Digest)
	}
	if s.Identifier != 0 {
		dst = appendVarintField(dst, syncIdentifier, s.Identifier)
	}
	for i := range s.VNIs {
		var err error
		if dst, err = AppendSyncRecord(dst, s.VNIs[i]); err != nil {
			return nil, err
		}
	}
	dst = appendVarintField(dst, syncResponse, uint64(s.Response))
	if s.Complete {
		dst = AppendSyncComplete(dst)
	}
	return dst, nil
}

// AppendSyncComplete appends what ends an answer to a node of this
// implementation that was streamed with AppendSyncRecord.
func AppendSyncComplete(dst []byte) []byte {
	return appendVarintField(dst, syncComplete, 1)
}

// AppendSyncRecord appends one record to dst, which holds a SYNC message, or
// the end of one whose beginning was sent already: fields may stand in any
// order. So a sender streams a table of any size VNI by VNI and never holds all
// of it. A VNI may be spread over several records. The error matches ErrVNI or
// ErrRange.
func AppendSyncRecord(dst []byte, r VNIEntries) ([]byte, error) {
	if !r.VNI.Valid() {
		return nil, fmt.Errorf("vni %s: %w", r.VNI, ErrVNI)
	}
	size := sizeVarintField(dictVNI, uint64(r.VNI))
	for i := range r.Entries {
		e := &r.Entries[i]
		if !e.Addr.Is4() {
			return nil, fmt.Errorf("vni %s: address %s: %w", r.VNI, e.Addr, ErrRange)
		}
		if e.Owner.IsValid() && !e.Owner.Is4() {
			return nil, fmt.Errorf("vni %s: owner %s: %w", r.VNI, e.Owner, ErrRange)
		}
		size += protowire.SizeTag(dictData) + protowire.SizeBytes(e.size())
	}
	dst = protowire.AppendTag(dst, syncVTEPs, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	dst = appendVarintField(dst, dictVNI, uint64(r.VNI))
	for i := range r.Entries {
		e := &r.Entries[i]
		dst = protowire.AppendTag(dst, dictData, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(e.size()))
		dst = appendAddrField(dst, dataAddr, e.Addr)
		dst = appendVarintField(dst, dataHoldtime, uint64(e.Holdtime))
		dst = appendVarintField(dst, dataIdentifier, e.Identifier)
		if e.Owner.IsValid() {
			dst = appendAddrField(dst, dataOwner, e.Owner)
		}
	}
	return dst, nil
}

// size returns the length of the entry's VniData in bytes.
func (e *SyncEntry) size() int {
	n := addrFieldSize(dataAddr, e.Addr) +
		sizeVarintField(dataHoldtime, uint64(e.Holdtime)) +
		sizeVarintField(dataIdentifier, e.Identifier)
	if e.Owner.IsValid() {
		n += addrFieldSize(dataOwner, e.Owner)
	}
	return n
}
