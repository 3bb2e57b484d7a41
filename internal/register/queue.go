// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"sync"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// Bounds of what waits for an answer. Together they keep the memory for it
// below some 50 MB, whatever is asked and by however many, besides the lists of
// all VNIs: 4 bytes for each VNI and each answer with the whole table.
const (
	// maxAskers is how many askers wait at once, and maxKnown how many are
	// known: one that has its answer stays known until its pause is over.
	maxAskers = 4096
	maxKnown  = 65536

	// maxParts is how many ways to ask (socket, local address, version) one
	// asker may have in progress.
	maxParts = 4

	// maxFull is how many answers with the whole table are in progress at once.
	maxFull = 64

	// minVNIs is how many VNIs each part may hold in any case, and maxVNIs how
	// many all of them hold before one may hold no more than that.
	minVNIs = 32
	maxVNIs = 1 << 18
)

// A route is the way that a question came and its answer goes.
type route struct {
	conn    int        // index of the socket
	local   netip.Addr // the address that was asked
	version vxfld.Version
}

// A part is an answer, or more than one that go the same way, in progress.
type part struct {
	route

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

	// messages counts what was sent; it belongs to the answering goroutine.
	messages int
}

// An asker waits for answers, of which one at a time is in progress, or has got
// all of them a moment ago. In each window of time it is sent at most one
// burst, however many its questions are.
type asker struct {
	addr  netip.AddrPort
	parts []*part

	// waiting says that the asker is in the list of those to serve, or is
	// being served.
	waiting bool

	// window says that a window is open, until due, in which sent messages
	// were sent.
	window bool
	due    time.Time
	sent   int
}

// room tells whether the asker may be sent something in this window: see
// serve for the messages that it takes to go on.
func (k *asker) room() bool { return k.sent <= burst-3 }

// answers is what is to be answered. It is safe for concurrent use: readers
// put questions in, and one goroutine takes them out.
type answers struct {
	// wake has a token when there may be something new to do.
	wake chan struct{}

	mu      sync.Mutex // guards what follows and the fields of askers and parts
	askers  map[netip.AddrPort]*asker
	ready   []*asker // those to serve, in turn
	windows []*asker // those whose window is open, in the order of due
	active  int      // askers with parts
	full    int      // parts that answer with the whole table
	number  uint64   // of the last question for the whole table
	vnis    int      // VNIs in all queues
}

// newAnswers returns an empty queue.
func newAnswers() *answers {
	return &answers{wake: make(chan struct{}, 1), askers: make(map[netip.AddrPort]*asker)}
}

// outcome says what became of a question.
type outcome struct {
	merged  bool // it joined an answer in progress
	dropped bool // there is no room for another asker or answer
	vnis    int  // VNIs that there is no room for
}

// ask puts a question in.
func (q *answers) ask(from netip.AddrPort, rt route, resp vxfld.Response, vnis []vxfld.VNIMembers) outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.askers[from]
	var p *part
	if k != nil {
		for _, have := range k.parts {
			if have.route == rt {
				p = have
			}
		}
	}
	full := resp == vxfld.ResponseAll
	out := outcome{merged: p != nil}
	switch {
	case full && (p == nil || !p.full) && q.full == maxFull,
		k == nil && len(q.askers) == maxKnown,
		(k == nil || len(k.parts) == 0) && q.active == maxAskers,
		p == nil && k != nil && len(k.parts) == maxParts:
		out.dropped = true
		return out
	}
	if k == nil {
		k = &asker{addr: from}
		q.askers[from] = k
	}
	if p == nil {
		p = &part{route: rt}
		if len(k.parts) == 0 {
			q.active++
		}
		k.parts = append(k.parts, p)
	}
	if full && !p.full {
		q.number++
		p.full, p.number = true, q.number
		q.full++
	} else {
		// While the whole table is on its way it is not begun again, but what
		// the question names may have come with it and is answered for.
		for i := range vnis {
			if !q.put(p, vnis[i].VNI) {
				out.vnis++
			}
		}
	}
	if !k.waiting && k.room() {
		q.serve(k)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return out
}

// serve puts an asker in line. q.mu is held.
func (q *answers) serve(k *asker) {
	k.waiting = true
	q.ready = append(q.ready, k)
}

// put adds a VNI to a part and tells whether there is room. q.mu is held.
func (q *answers) put(p *part, vni vxlan.VNI) bool {
	if _, ok := p.queued[vni]; ok {
		return true
	}
	if len(p.queue) >= minVNIs && q.vnis >= maxVNIs {
		return false
	}
	if p.queued == nil {
		p.queued = make(map[vxlan.VNI]struct{})
	}
	p.queued[vni] = struct{}{}
	p.queue = append(p.queue, vni)
	q.vnis++
	return true
}

// next takes out the asker to serve now. Where there is none it returns how
// long to wait until a window ends; less than zero if none is open.
func (q *answers) next(now time.Time) (*asker, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.windows) > 0 && !q.windows[0].due.After(now) {
		k := shift(&q.windows)
		k.window, k.sent = false, 0
		switch {
		case k.waiting:
		case len(k.parts) > 0:
			q.serve(k)
		default:
			delete(q.askers, k.addr)
		}
	}
	if len(q.ready) > 0 {
		return shift(&q.ready), 0
	}
	if len(q.windows) > 0 {
		return nil, q.windows[0].due.Sub(now)
	}
	return nil, -1
}

// shift takes the first asker off a list that is not empty.
func shift(list *[]*asker) *asker {
	k := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return k
}

// served ends the turn of an asker that next returned, in which so many
// messages were sent to it. pause is the length of a window.
func (q *answers) served(k *asker, sent int, pause time.Duration, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k.waiting = false
	k.sent += sent
	if k.sent > 0 && !k.window {
		k.window, k.due = true, now.Add(pause)
		q.windows = append(q.windows, k)
	}
	switch {
	case len(k.parts) == 0 && !k.window:
		delete(q.askers, k.addr)
	case len(k.parts) > 0 && k.room():
		q.serve(k)
	}
}

// first returns the part of an asker that is to be served, nil when all are
// done.
func (q *answers) first(k *asker) *part {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(k.parts) == 0 {
		return nil
	}
	return k.parts[0]
}

// pop takes the next VNI out of a part. snapshot returns all VNIs of the table
// as they were not before the question with a number; it is called without
// the lock.
func (q *answers) pop(p *part, snapshot func(number uint64) []vxlan.VNI) (vxlan.VNI, bool) {
	q.mu.Lock()
	if len(p.queue) > 0 {
		defer q.mu.Unlock()
		vni := p.queue[0]
		p.queue = p.queue[1:]
		delete(p.queued, vni)
		q.vnis--
		return vni, true
	}
	start := p.full && !p.started
	p.started = p.full
	q.mu.Unlock()
	if start {
		p.rest = snapshot(p.number)
	}
	if len(p.rest) == 0 {
		return 0, false
	}
	vni := p.rest[0]
	p.rest = p.rest[1:]
	return vni, true
}

// finish ends an asker's first part, unless something was added to it in the
// meantime, and tells whether it did.
func (q *answers) finish(k *asker) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := k.parts[0]
	if len(p.queue) > 0 || p.full && !p.started {
		return false
	}
	q.remove(k)
	return true
}

// remove takes off an asker's first part. q.mu is held.
func (q *answers) remove(k *asker) {
	p := k.parts[0]
	k.parts[0] = nil
	k.parts = k.parts[1:]
	q.vnis -= len(p.queue)
	if p.full {
		q.full--
	}
	if len(k.parts) == 0 {
		k.parts = nil
		q.active--
	}
}

// abandon forgets all that an asker asked.
func (q *answers) abandon(k *asker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(k.parts) > 0 {
		q.remove(k)
	}
}

// last returns the number of the last question for the whole table.
func (q *answers) last() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.number
}

// idle tells whether nobody waits for the whole table.
func (q *answers) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full == 0
}
