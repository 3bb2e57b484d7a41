// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"sync"

	"vxsnd/internal/vxlan"
)

// maxBacklog bounds the members that one peer is still to be told of, and the
// withdrawals among them. Where there are more members, the peer is told of
// all that there are.
const maxBacklog = 1 << 16

// A member is one VTEP in one VNI.
type member struct {
	vni  vxlan.VNI
	addr netip.Addr
}

// A batch names members that peers are to be told of. What is true of them is
// read from the table when they are told.
type batch struct {
	// withdrawn are those that this node let go of, changed any others.
	withdrawn, changed map[member]struct{}
	// all stands for each member that there is to tell of; changed is nil then.
	all bool
	// round says that all members that the configuration names are among them.
	round bool
}

func newBatch() batch {
	return batch{withdrawn: make(map[member]struct{}), changed: make(map[member]struct{})}
}

func (b *batch) empty() bool { return !b.all && !b.round && len(b.withdrawn)+len(b.changed) == 0 }

// change adds a member, or says that all are to be told of.
func (b *batch) change(m member) {
	if b.all {
		return
	}
	b.changed[m] = struct{}{}
	if len(b.changed) > maxBacklog {
		b.all = true
		clear(b.changed)
	}
}

// merge adds what o names. It returns the number of withdrawals that found no
// room.
func (b *batch) merge(o *batch) (lost int) {
	for m := range o.withdrawn {
		if _, known := b.withdrawn[m]; known || len(b.withdrawn) < maxBacklog {
			b.withdrawn[m] = struct{}{}
		} else {
			lost++
		}
	}
	if o.all {
		b.all = true
		clear(b.changed)
	}
	b.round = b.round || o.round
	for m := range o.changed {
		b.change(m)
	}
	return lost
}

// A backlog is what one peer is still to be told. It is safe for concurrent use.
type backlog struct {
	wake chan struct{} // holds one value where there may be something to tell

	mu sync.Mutex
	batch
}

func newBacklog() backlog { return backlog{wake: make(chan struct{}, 1), batch: newBatch()} }

// add adds what o names. It returns the number of withdrawals that found no room.
func (b *backlog) add(o *batch) (lost int) {
	if o.empty() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return b.merge(o)
}

// take returns what there is to tell, and leaves nothing.
func (b *backlog) take() batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.batch
	b.batch = newBatch()
	return o
}

// size returns the number of members named, and whether all are to be told of.
func (b *backlog) size() (n int, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.withdrawn) + len(b.changed), b.all
}
