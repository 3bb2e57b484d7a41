// SPDX-License-Identifier: Apache-2.0

package sock

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// headerSpace is the room for the headers of one message: IPv6 and UDP.
const headerSpace = 48

// An Outbox is the memory of a batched writer. Each message is a header of its
// own and a payload that it shares with others: the kernel gathers the two, so
// that the payload is never copied in user space. It is not safe for
// concurrent use.
type Outbox struct {
	ms      []Message
	iovs    []unix.Iovec // two per message: header, payload
	names   []unix.RawSockaddrInet6
	headers []byte
	n       int
}

// NewOutbox returns an Outbox for up to n messages to addresses of the given
// family (of which only Is4 matters).
func NewOutbox(n int, like netip.Addr) *Outbox {
	o := &Outbox{
		ms:      make([]Message, n),
		iovs:    make([]unix.Iovec, 2*n),
		names:   make([]unix.RawSockaddrInet6, n),
		headers: make([]byte, n*headerSpace),
	}
	for i := range o.ms {
		o.iovs[2*i].Base = &o.headers[i*headerSpace]
		h := &o.ms[i].hdr
		h.Iov = &o.iovs[2*i]
		h.SetIovlen(2)
		h.Name = (*byte)(unsafe.Pointer(&o.names[i]))
		if like.Is4() {
			h.Namelen = unix.SizeofSockaddrInet4
			o.names[i].Family = unix.AF_INET
		} else {
			h.Namelen = unix.SizeofSockaddrInet6
			o.names[i].Family = unix.AF_INET6
		}
	}
	return o
}

// Len returns the number of messages.
func (o *Outbox) Len() int { return o.n }

// Full tells whether there is no room for another message.
func (o *Outbox) Full() bool { return o.n == len(o.ms) }

// Reset forgets all messages and lets go of their payloads' use.
func (o *Outbox) Reset() { o.n = 0 }

// Messages returns the messages in the order in which they were added. They
// are valid until Reset.
func (o *Outbox) Messages() []Message { return o.ms[:o.n] }

// Add4 adds a message to dst and returns the space for its header, which the
// caller fills in. The payload must stay unchanged until Reset, and must not
// be empty. Adding to a full Outbox panics.
func (o *Outbox) Add4(dst [4]byte, header int, payload []byte) []byte {
	(*unix.RawSockaddrInet4)(unsafe.Pointer(&o.names[o.n])).Addr = dst
	return o.add(header, payload)
}

// Add6 is Add4 for an IPv6 destination.
func (o *Outbox) Add6(dst [16]byte, header int, payload []byte) []byte {
	o.names[o.n].Addr = dst
	return o.add(header, payload)
}

func (o *Outbox) add(header int, payload []byte) []byte {
	i := o.n
	o.n++
	o.iovs[2*i].SetLen(header)
	body := &o.iovs[2*i+1]
	body.Base = &payload[0]
	body.SetLen(len(payload))
	off := i * headerSpace
	return o.headers[off : off+header : off+header]
}

// Destination returns the address that message i goes to.
func (o *Outbox) Destination(i int) netip.Addr { return source(&o.names[i]).Addr() }

// Header returns the header of message i.
func (o *Outbox) Header(i int) []byte {
	off := i * headerSpace
	return o.headers[off : off+int(o.iovs[2*i].Len)]
}

// Payload returns the payload of message i.
func (o *Outbox) Payload(i int) []byte {
	v := &o.iovs[2*i+1]
	return unsafe.Slice(v.Base, int(v.Len))
}

// PayloadLen returns the length of the payload of message i.
func (o *Outbox) PayloadLen(i int) int { return int(o.iovs[2*i+1].Len) }
