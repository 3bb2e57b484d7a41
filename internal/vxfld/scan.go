// SPDX-License-Identifier: Apache-2.0

package vxfld

import (
	"iter"

	"google.golang.org/protobuf/encoding/protowire"

	"vxsnd/internal/vxlan"
)

// A SyncScan is a SYNC message that was found to be well formed, and whose
// entries are decoded as they are asked for: a table of any size takes no memory
// besides its bytes.
type SyncScan struct {
	// Sync is all but the records: its VNIs are nil.
	Sync

	// Entries is how many entries All yields.
	Entries int

	b []byte
}

// ScanSync checks the whole message b, which must be a SYNC, as Parse does, with
// the same errors. Any other type is refused with ErrType. The result shares b's
// memory.
func ScanSync(b []byte) (*SyncScan, error) {
	_, t, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if t != TypeSync {
		return nil, &ParseError{"type", 1, ErrType}
	}
	s := &SyncScan{b: b}
	var checked []struct{}
	fs := fields{b: b, off: headerLen, in: "body"}
	for fs.next() {
		if fs.is(syncVTEPs, protowire.BytesType) {
			_, checked, err = parseDict(b[:fs.off], fs.start, checked[:0], checkEntry)
			s.Entries += len(checked)
		} else {
			err = s.field(&fs)
		}
		if err != nil {
			return nil, err
		}
	}
	if fs.err != nil {
		return nil, fs.err
	}
	return s, nil
}

// checkEntry is parseEntry for who wants to know only whether it is one.
func checkEntry(b []byte, start int) (struct{}, error) {
	_, err := parseEntry(b, start)
	return struct{}{}, err
}

// All returns the entries with their VNIs in the order in which they were sent.
// A record without entries is not seen. It may be ranged over more than once.
func (s *SyncScan) All() iter.Seq2[vxlan.VNI, SyncEntry] {
	return func(yield func(vxlan.VNI, SyncEntry) bool) {
		fs := fields{b: s.b, off: headerLen}
		for fs.next() {
			if fs.is(syncVTEPs, protowire.BytesType) && !eachEntry(s.b[:fs.off], fs.start, yield) {
				return
			}
		}
	}
}

// eachEntry yields the entries of the VniDict that is b from start on, which is
// well formed, and returns false once yield did. The VNI may stand behind them.
func eachEntry(b []byte, start int, yield func(vxlan.VNI, SyncEntry) bool) bool {
	vni, _, _ := parseDict(b, start, nil, func([]byte, int) (struct{}, error) { return struct{}{}, nil })
	fs := fields{b: b, off: start}
	for fs.next() {
		if !fs.is(dictData, protowire.BytesType) {
			continue
		}
		if e, _ := parseEntry(b[:fs.off], fs.start); !yield(vni, e) {
			return false
		}
	}
	return true
}
