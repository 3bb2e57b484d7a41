// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"slices"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// A class says how an asker is known.
type class uint8

const (
	// stranger is anybody, and may be made up.
	stranger class = iota
	// member is a VTEP that is a member of what it asks for, or a peer.
	member
	numClasses
)

// A tally counts something by class.
type tally [numClasses]int

// all returns the count of both classes.
func (t *tally) all() int { return t[stranger] + t[member] }

// room tells whether there may be another of class c, where there may be most
// in all, half of them strangers'.
func (t *tally) room(c class, most int) bool {
	return t.all() < most && (c == member || t[stranger] < most/2)
}

// promote makes members of n strangers.
func (t *tally) promote(n int) {
	t[stranger] -= n
	t[member] += n
}

// A route is the way that a question came and its answer goes.
type route struct {
	port    uint16     // of the asker
	conn    int        // index of the socket
	local   netip.Addr // the address that was asked
	version vxfld.Version
}

// A part is an answer, or more than one that go the same way, in progress.
type part struct {
	route
	class class

	// queue holds the VNIs to answer for, queued the same ones, so that a VNI
	// that is asked for twice is not answered for twice.
	queue  []vxlan.VNI
	queued map[vxlan.VNI]struct{}

	// full says that the whole table is asked for, by the question with this
	// number. From when started is set, rest are the VNIs of it that are still
	// to come; they may be shared with other parts.
	full, started bool
	number        uint64
	rest          []vxlan.VNI

	// silent says that nothing was sent since the last question.
	silent bool
}

// Lines of askers, in the order in which they are served: members before
// strangers, and in each class those that have had nothing in this window and
// have a small answer to get before those that come back for more.
const (
	lineNone = iota
	lineMember
	lineMemberAgain
	lineStranger
	lineStrangerAgain
	numLines
)

// An asker is an address that waits for answers, or has got all of them a
// moment ago. In each window of time it is sent at most one burst, however many
// its questions are, and however many ports they come from.
type asker struct {
	addr  netip.Addr
	class class // the best of its parts'

	// parts are the answers in progress, in the order in which they are gone on
	// with. The first fresh ones are small and nothing of them was sent yet.
	parts []*part
	fresh int

	// line is the line that the asker stands in; it is in none while serving
	// says that it has its turn.
	line    int
	serving bool

	// returning counts the parts that go on after a turn, if it is a stranger.
	returning int

	// window says that a window is open, until due, in which so many messages
	// and bytes were sent. spent says that it has no room for more.
	window, spent bool
	due           time.Time
	sent, bytes   int
}

// find returns the part that goes a way, nil if there is none, and how many
// parts are for the whole table.
func (k *asker) find(rt route) (p *part, fulls int) {
	if k == nil {
		return nil, 0
	}
	for _, have := range k.parts {
		if have.route == rt {
			p = have
		}
		if have.full {
			fulls++
		}
	}
	return p, fulls
}

// toEnd puts one of an asker's parts behind the others. answers.mu is held.
func (k *asker) toEnd(p *part) {
	k.drop(p)
	k.parts = append(k.parts, p)
}

// drop takes off one of an asker's parts. answers.mu is held.
func (k *asker) drop(p *part) {
	i := slices.Index(k.parts, p)
	k.parts = slices.Delete(k.parts, i, i+1)
	if i < k.fresh {
		k.fresh--
	}
}
