// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A nodeState is what is known of a service node by what it answers.
type nodeState struct {
	since  time.Time // when it was asked first, or it got the time to come back
	heard  time.Time // when it answered last; zero for never
	silent bool      // it was said that it is silent
}

// last is when the patience with it begins.
func (n *nodeState) last() time.Time {
	if n.heard.After(n.since) {
		return n.heard
	}
	return n.since
}

// askedLocked notes that a service node was sent a registration.
func (r *Registrar) askedLocked(node netip.Addr, now time.Time) {
	if r.nodes[node] == nil {
		r.nodes[node] = &nodeState{since: now}
	}
}

// heardLocked notes an answer, and has the loop look where it ends a silence.
func (r *Registrar) heardLocked(from netip.Addr, now time.Time) {
	if !r.answered.IsZero() && now.Sub(r.answered) >= patience(&r.cfg) {
		for _, n := range r.nodes { // all were silent: each gets its time to come back
			n.since = now
		}
	}
	r.answered = now
	n := r.nodes[from]
	if n == nil {
		noteSender(r.others, from, now)
		return
	}
	if n.heard = now; n.silent {
		r.wake()
	}
}

// noteSender notes a sender, in place of the one that was heard the longest time
// ago where there are too many.
func noteSender(m map[netip.Addr]sightings, from netip.Addr, now time.Time) {
	s, known := m[from]
	if !known && len(m) >= maxSenders {
		delete(m, slices.MinFunc(slices.Collect(maps.Keys(m)), func(a, b netip.Addr) int {
			return cmp.Or(m[a].last.Compare(m[b].last), a.Compare(b))
		}))
	}
	m[from] = sightings{s.count + 1, now}
}

// sightings are how often a sender was heard, and when last.
type sightings struct {
	count int
	last  time.Time
}

// quietLocked returns the service nodes that have not answered for hold, in order,
// and when there may be another, zero for never. Deployed ones answer from
// another address than the one that was asked: for each such sender, one service
// node cannot be called silent, and there is no telling which.
func (r *Registrar) quietLocked(now time.Time, hold time.Duration) (quiet []netip.Addr, next time.Time) {
	for a, n := range r.nodes {
		if at := n.last().Add(hold); !now.Before(at) {
			quiet = append(quiet, a)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	others := 0
	for _, s := range r.others {
		if at := s.last.Add(hold); now.Before(at) {
			others++
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
	}
	if len(quiet) <= others {
		return nil, next
	}
	slices.SortFunc(quiet, netip.Addr.Compare)
	return quiet, next
}

// tellQuiet logs which service nodes have fallen silent while others answer, and
// which answer again.
func (r *Registrar) tellQuiet(now time.Time, hold time.Duration) (next time.Time) {
	r.mu.Lock()
	quiet, next := r.quietLocked(now, hold)
	var silent, again []netip.Addr
	last := make(map[netip.Addr]time.Time)
	for a, n := range r.nodes {
		switch _, is := slices.BinarySearchFunc(quiet, a, netip.Addr.Compare); {
		case is && !n.silent && len(quiet) < len(r.nodes):
			n.silent = true
			silent = append(silent, a)
			last[a] = n.heard
		case !is && n.silent:
			n.silent = false
			again = append(again, a)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(silent, netip.Addr.Compare)
	slices.SortFunc(again, netip.Addr.Compare)
	for _, a := range silent {
		log := r.log.WithField("peer", a)
		if last[a].IsZero() {
			log.Warn("service node has never answered")
			continue
		}
		log.WithField("interval", now.Sub(last[a]).Round(time.Second)).Warn("service node silent")
	}
	for _, a := range again {
		r.log.WithField("peer", a).Info("service node answers again")
	}
	return next
}

// A silence is how many lists no answer came for in too long.
type silence struct {
	stale, all int
	members    int    // in those that are stale
	oldest     *entry // nil if none is stale
}

func (r *Registrar) silenceLocked(now time.Time, hold time.Duration) silence {
	s := silence{all: len(r.entries)}
	for _, e := range r.entries {
		if !e.list.stale(now, hold) {
			continue
		}
		s.stale++
		s.members += len(e.list.members())
		if s.oldest == nil || e.list.quiet().Before(s.oldest.list.quiet()) {
			s.oldest = e
		}
	}
	return s
}

// silenceWarningsLocked are what an operator should know of who does not answer.
func (r *Registrar) silenceWarningsLocked(now time.Time) (out []string) {
	if !r.cfg.HeadRep {
		return nil
	}
	hold := patience(&r.cfg)
	s := r.silenceLocked(now, hold)
	lists := "flood lists are empty"
	if s.members > 0 {
		lists = "flood lists are kept, and may be out of date"
	}
	switch {
	case s.stale == 0:
	case r.answered.IsZero():
		out = append(out, "no service node has answered: "+lists)
	case s.stale < s.all:
		out = append(out, fmt.Sprintf("the service nodes are silent about %d of %s: their %s", s.stale, counted(s.all, "VNI"), lists))
	default:
		out = append(out, fmt.Sprintf("the service nodes have been silent for %v: %s", now.Sub(r.answered).Round(time.Second), lists))
	}
	quiet, _ := r.quietLocked(now, hold)
	if len(quiet) == len(r.nodes) {
		return out // as said
	}
	for i, a := range quiet {
		if i == maxWarned {
			return append(out, fmt.Sprintf("%s silent, too", counted(len(quiet)-i, "more service node")))
		}
		text := fmt.Sprintf("service node %s has never answered", a)
		if n := r.nodes[a]; !n.heard.IsZero() {
			text = fmt.Sprintf("service node %s has not answered for %v", a, now.Sub(n.heard).Round(time.Second))
		}
		out = append(out, text)
	}
	return out
}

// maxWarned bounds the service nodes that warnings name.
const maxWarned = 4
