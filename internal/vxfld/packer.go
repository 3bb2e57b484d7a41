// SPDX-License-Identifier: Apache-2.0

package vxfld

import "fmt"

// A Packer packs VNIs into REFRESH messages, as many as fit one, and never
// spreads a VNI over two: an answer replaces the receiver's whole list of each
// VNI that it names (docs/protocol.md section 1). It is for one goroutine.
type Packer struct {
	version Version
	limit   int
	head    int
	buf     []byte
}

// NewPacker returns a Packer for messages of version v with head's fields
// (its VNIs are left out of account) of at most limit bytes, which is
// max_packet_size less Overhead. A message is larger only where a single VNI
// is. The error is that of Message.Append.
func NewPacker(v Version, head Refresh, limit int) (*Packer, error) {
	head.VNIs = nil
	buf, err := Message{Version: v, Body: &head}.Append(make([]byte, 0, min(max(limit, 64), MaxDatagram)))
	if err != nil {
		return nil, err
	}
	return &Packer{version: v, limit: min(limit, MaxDatagram), head: len(buf), buf: buf}, nil
}

// Add puts a VNI into the message at hand. A message that is complete is
// handed to emit first, which must not keep it; emit may block, and its error
// is returned as it is. A VNI that no datagram holds is left out, and the
// error matches ErrTooLarge; ErrVNI and ErrRange are those of Message.Append.
// After such an error the Packer may be used on.
func (p *Packer) Add(m VNIMembers, emit func(msg []byte) error) error {
	if err := m.check(p.version); err != nil {
		return err
	}
	size := m.size(p.version)
	if p.head+size > MaxDatagram {
		return fmt.Errorf("vni %s: %d members: %w", m.VNI, len(m.Addrs), ErrTooLarge)
	}
	if len(p.buf)+size > p.limit {
		if err := p.Flush(emit); err != nil {
			return err
		}
	}
	p.buf = m.appendTo(p.buf, p.version)
	if len(p.buf) > p.limit {
		return p.Flush(emit)
	}
	return nil
}

// Flush hands the message at hand to emit, if it holds a VNI.
func (p *Packer) Flush(emit func(msg []byte) error) error {
	if p.Pending() == 0 {
		return nil
	}
	msg := p.buf
	p.buf = p.buf[:p.head]
	return emit(msg)
}

// Pending returns how many bytes of records the message at hand holds.
func (p *Packer) Pending() int { return len(p.buf) - p.head }

// Head returns the message without records. It is valid until the next call of
// a method.
func (p *Packer) Head() []byte { return p.buf[:p.head] }
