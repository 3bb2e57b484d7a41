// SPDX-License-Identifier: Apache-2.0

package register

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// Bounds of what waits for an answer. Together they keep the memory for it
// below some 50 MB, whatever is asked and by however many, besides the lists of
// all VNIs: 4 bytes for each VNI and each answer with the whole table. Of
// maxAnswers, maxKnown, maxFull and maxVNIs strangers have half at most.
const (
	// maxAnswers is how many answers are in progress at once.
	maxAnswers = 4096

	// maxKnown is how many askers are known: one that has its answer stays
	// known until its window is over.
	maxKnown = 65536

	// maxParts is how many answers one asker may have in progress: several
	// daemons may share an address.
	maxParts = 64

	// maxFull is how many answers with the whole table are in progress at once,
	// and maxFullEach how many of them to one address. With one alone, who has
	// got the last message of one could not ask for the next at once.
	maxFull     = 64
	maxFullEach = 2

	// minVNIs is how many VNIs each part may hold in any case, and maxVNIs how
	// many all of them hold before one may hold no more than that.
	minVNIs = 32
	maxVNIs = 1 << 18

	// maxReturning is how many answers to strangers go on after a turn. It is
	// half of what strangers may have, so the other half is for those that had
	// none yet.
	maxReturning = maxAnswers / 4

	// crowd is from how many answers in progress on it matters who is served
	// first.
	crowd = 64
)

// answers is what is to be answered. It is safe for concurrent use: readers
// put questions in, and one goroutine takes them out.
type answers struct {
	// wake has a token when there may be something new to do.
	wake chan struct{}

	mu        sync.Mutex // guards what follows and the fields of askers and parts
	askers    map[netip.Addr]*asker
	ready     [numLines][]*asker // those to serve, in turn
	windows   []*asker           // those whose window is open, in the order of due
	active    tally              // parts
	full      tally              // parts that answer with the whole table
	vnis      tally              // VNIs in all queues
	returning int                // parts of strangers that come back for more
	number    uint64             // of the last question for the whole table
}

// newAnswers returns an empty queue.
func newAnswers() *answers {
	return &answers{wake: make(chan struct{}, 1), askers: make(map[netip.Addr]*asker)}
}

// outcome says what became of a question.
type outcome struct {
	merged  bool // it joined an answer in progress
	dropped bool // there is no room for another asker or answer
	vnis    int  // VNIs that there is no room for
}

// crowded tells whether so many answers are in progress that it matters who is
// served first.
func (q *answers) crowded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active.all() >= crowd
}

// ask puts a question of somebody of class c in.
func (q *answers) ask(from netip.AddrPort, rt route, c class, resp vxfld.Response, vnis []vxfld.VNIMembers) outcome {
	rt.port = from.Port()
	full := resp == vxfld.ResponseAll
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.askers[from.Addr()]
	p, fulls := k.find(rt)
	out := outcome{merged: p != nil}
	if !q.admits(k, p, c, full && (p == nil || !p.full), fulls) {
		out.dropped = true
		return out
	}
	if k == nil {
		k = &asker{addr: from.Addr()}
		q.askers[k.addr] = k
	}
	if p == nil {
		p = &part{route: rt, class: c}
		q.active[c]++
		k.parts = slices.Insert(k.parts, k.fresh, p)
		k.fresh++
	}
	p.silent = true
	if c == member {
		q.promote(k, p)
	}
	if full && !p.full {
		q.number++
		p.full, p.number = true, q.number
		q.full[p.class]++
		k.toEnd(p)
	} else {
		// While the whole table is on its way it is not begun again, but what
		// the question names may have come with it and is answered for.
		for i := range vnis {
			if !q.put(p, vnis[i].VNI) {
				out.vnis++
			}
		}
	}
	q.enqueue(k)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return out
}

// admits tells whether there is room for a question: for asker k and part p,
// which are nil if they are new, and for the whole table, besides as many as
// fulls, where newFull is set. q.mu is held.
func (q *answers) admits(k *asker, p *part, c class, newFull bool, fulls int) bool {
	if newFull && (fulls >= maxFullEach || !q.full.room(c, maxFull)) {
		return false
	}
	if p != nil {
		return true
	}
	if k == nil {
		known := tally{stranger: len(q.askers)} // what strangers leave may be members'
		if !known.room(c, maxKnown) {
			return false
		}
	} else if len(k.parts) == maxParts {
		return false
	}
	return q.active.room(c, maxAnswers)
}

// promote makes a member of an asker, and of the part that it asks for. q.mu is
// held.
func (q *answers) promote(k *asker, p *part) {
	k.class = member
	q.returns(k, 0)
	if p.class == member {
		return
	}
	p.class = member
	q.active.promote(1)
	q.vnis.promote(len(p.queue))
	if p.full {
		q.full.promote(1)
	}
}

// enqueue puts an asker that has room and parts in line, or in a better line
// than it stands in. q.mu is held.
func (q *answers) enqueue(k *asker) {
	if k.serving || k.spent || len(k.parts) == 0 {
		return
	}
	line := lineMember
	if k.class == stranger {
		line = lineStranger
	}
	if k.fresh == 0 || k.sent > 0 {
		line++
	}
	if k.line != lineNone {
		if k.line <= line {
			return
		}
		have := &q.ready[k.line]
		i := slices.Index(*have, k)
		*have = slices.Delete(*have, i, i+1)
	}
	k.line = line
	q.ready[line] = append(q.ready[line], k)
}

// put adds a VNI to a part and tells whether there is room. q.mu is held.
func (q *answers) put(p *part, vni vxlan.VNI) bool {
	if _, ok := p.queued[vni]; ok {
		return true
	}
	if len(p.queue) >= minVNIs && !q.vnis.room(p.class, maxVNIs) {
		return false
	}
	if p.queued == nil {
		p.queued = make(map[vxlan.VNI]struct{})
	}
	p.queued[vni] = struct{}{}
	p.queue = append(p.queue, vni)
	q.vnis[p.class]++
	return true
}

// next takes out the asker to serve now. Where there is none it returns how
// long to wait until a window ends; less than zero if none is open.
func (q *answers) next(now time.Time) (*asker, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.windows) > 0 && !q.windows[0].due.After(now) {
		k := shift(&q.windows)
		k.window, k.spent, k.sent, k.bytes = false, false, 0, 0
		if len(k.parts) == 0 {
			delete(q.askers, k.addr)
			continue
		}
		q.enqueue(k)
	}
	for line := range q.ready {
		if len(q.ready[line]) > 0 {
			k := shift(&q.ready[line])
			k.line, k.serving = lineNone, true
			return k, 0
		}
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
// messages and bytes were sent to it; spent says that its window has no room
// for more. pause is the length of a window. It returns how many answers were
// given up, since too many to strangers would go on.
func (q *answers) served(k *asker, sent, bytes int, spent bool, pause time.Duration, now time.Time) (cut int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k.serving = false
	k.sent += sent
	k.bytes += bytes
	k.spent = spent && k.sent > 0
	if k.sent > 0 && !k.window {
		k.window, k.due = true, now.Add(pause)
		q.windows = append(q.windows, k)
	}
	if len(k.parts) > 0 && k.class == stranger && !q.returns(k, len(k.parts)) {
		cut = len(k.parts)
		q.clear(k)
	}
	if len(k.parts) == 0 && !k.window {
		delete(q.askers, k.addr)
	}
	q.enqueue(k)
	return cut
}

// returns counts n answers to an asker as those of strangers that come back
// for more, and tells whether there is room for that. q.mu is held.
func (q *answers) returns(k *asker, n int) bool {
	sum := q.returning + n - k.returning
	if n > k.returning && sum > maxReturning {
		return false
	}
	q.returning, k.returning = sum, n
	return true
}

// first returns the part of an asker that is to be gone on with, nil when all
// are done, and whether it is the only one.
func (q *answers) first(k *asker) (p *part, alone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(k.parts) == 0 {
		return nil, false
	}
	return k.parts[0], len(k.parts) == 1
}

// rotate lets an asker's other parts go before one that had its share.
func (q *answers) rotate(k *asker, p *part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k.toEnd(p)
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
		q.vnis[p.class]--
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

// told says that a message of a part is about to be sent.
func (q *answers) told(p *part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.silent = false
}

// finish ends one of an asker's parts, unless something was added to it in the
// meantime, and tells whether it did, and whether the last question got no
// message.
func (q *answers) finish(k *asker, p *part) (ended, silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(p.queue) > 0 || p.full && !p.started {
		return false, false
	}
	q.remove(k, p)
	return true, p.silent
}

// remove takes off one of an asker's parts. q.mu is held.
func (q *answers) remove(k *asker, p *part) {
	k.drop(p)
	q.active[p.class]--
	q.vnis[p.class] -= len(p.queue)
	if p.full {
		q.full[p.class]--
	}
	if len(k.parts) == 0 {
		k.parts, k.class = nil, stranger
	}
	q.returns(k, min(k.returning, len(k.parts)))
}

// clear takes off all of an asker's parts. q.mu is held.
func (q *answers) clear(k *asker) {
	for len(k.parts) > 0 {
		q.remove(k, k.parts[0])
	}
}

// abandon forgets all that an asker asked.
func (q *answers) abandon(k *asker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clear(k)
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
	return q.full.all() == 0
}
