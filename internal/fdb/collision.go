// SPDX-License-Identifier: Apache-2.0

package fdb

import (
	"net/netip"
	"time"

	"vxsnd/internal/vxlan"
)

const (
	// maxTurns bounds the identifiers whose last change of address is remembered, and
	// maxCollisions those that are kept until they are reported.
	maxTurns      = 4096
	maxCollisions = 1024

	// maxTurnTime bounds how long a change of address is remembered: a VTEP that
	// moves and is back a day later collides with nobody.
	maxTurnTime = time.Hour
)

// A Collision is an identifier that two addresses of one VNI take turns to
// register: two hosts with the same node id, most likely.
type Collision struct {
	VNI           vxlan.VNI
	Identifier    uint64
	First, Second netip.Addr
	// Count is the number of times that the identifier went back to the address
	// that it had before, since this was last reported.
	Count int
}

type turnKey struct {
	vni vxlan.VNI
	id  uint64
	v4  bool
}

// A turn is one change of address, which another one back makes a collision
// until the entry's time is over.
type turn struct {
	from, to [16]byte
	until    Time
}

// turns notices identifiers that go to and fro between addresses. Its memory is
// bounded: the oldest change is forgotten first. The zero value is usable.
type turns struct {
	last map[turnKey]turn
	// order holds the keys of last, the oldest at next once it is full.
	order []turnKey
	next  int

	found []Collision
	at    map[turnKey]int
}

// note records that the identifier goes from one address to another, whose
// entry expires at exp.
func (ts *turns) note(k turnKey, from, to [16]byte, now, exp Time) {
	if ts.last == nil {
		ts.last = make(map[turnKey]turn)
	}
	was, ok := ts.last[k]
	if ok && was.from == to && was.to == from && now < was.until {
		ts.count(k, was)
	}
	if !ok {
		if len(ts.order) < maxTurns {
			ts.order = append(ts.order, k)
		} else {
			delete(ts.last, ts.order[ts.next])
			ts.order[ts.next] = k
			ts.next = (ts.next + 1) % maxTurns
		}
	}
	ts.last[k] = turn{from: from, to: to, until: min(exp, now.Add(maxTurnTime))}
}

func (ts *turns) count(k turnKey, was turn) {
	i, ok := ts.at[k]
	if !ok {
		if len(ts.found) == maxCollisions {
			return
		}
		if ts.at == nil {
			ts.at = make(map[turnKey]int)
		}
		i = len(ts.found)
		ts.at[k] = i
		ts.found = append(ts.found, Collision{VNI: k.vni, Identifier: k.id})
	}
	c := &ts.found[i]
	c.First, c.Second = addrOf(was.from), addrOf(was.to)
	c.Count++
}

// Collisions appends the collisions noticed since the last call to dst, at most
// 1024 of them, and returns the result.
func (t *Table) Collisions(dst []Collision) []Collision {
	t.mu.Lock()
	defer t.mu.Unlock()
	dst = append(dst, t.turns.found...)
	t.turns.found, t.turns.at = nil, nil
	return dst
}
