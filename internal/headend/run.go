// SPDX-License-Identifier: Apache-2.0

package headend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"vxsnd/internal/underlay"
)

// readEach is the number of devices from which on all are read in one go.
const readEach = 8

const (
	// pause is the least time between two passes: who wants members to change
	// faster gets what is wanted then.
	pause = 100 * time.Millisecond

	// restFactor has a pass that took long followed by a longer pause, so that no
	// more than a fifth of a processor is spent on changes without end.
	restFactor = 4

	// restless is how many times in a minute a list may change before it is
	// worth a warning.
	restless = 100
)

// Run programs the kernel until ctx is done: what Set and Drop say at once, but
// not more often than each 100 ms, and in intervals what the kernel has lost.
// What fails is logged, shown by Status, and tried again with the next
// comparison. It is called once, and its error is nil.
func (l *Lists) Run(ctx context.Context) error {
	interval, _ := l.interval()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		compare := false
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-tick.C:
			compare = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		began := time.Now()
		interval, renewed := l.interval()
		if renewed {
			tick.Reset(interval)
			compare = true
		}
		if compare {
			l.checkFile()
			l.repeats.Flush()
		}
		l.pass(ctx, compare)
		if l.journal.long() {
			l.compact()
		}
		rest.Reset(max(pause, restFactor*time.Since(began)))
	}
}

// interval returns the time between comparisons, and whether it was set since
// it was asked for last.
func (l *Lists) interval() (d time.Duration, renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, renewed = l.settings.Interval, l.renewed
	l.renewed = false
	if d <= 0 {
		d = defaultInterval
	}
	return d, renewed
}

// pass makes the kernel have what is wanted, in lists that have changed or, if
// it is to compare, in all. What is gone for good goes first, for another list
// may be in its place. Then come additions before removals, so that no list is
// empty in between.
func (l *Lists) pass(ctx context.Context, compare bool) {
	work := l.take(compare)
	l.handOver(work)
	l.remove(ctx, l.batches(work, func(li *list) []netip.Addr {
		if li.purpose != dropped {
			return nil
		}
		return union(li.own, li.unsure)
	}))
	l.clear(work)
	seen := l.look(work, compare)
	l.add(ctx, l.batches(seen, l.missing))
	l.remove(ctx, l.batches(work, l.surplus))
}

// take returns the lists to look at, in an order that does not depend on chance.
func (l *Lists) take(all bool) []*list {
	l.mu.Lock()
	defer l.mu.Unlock()
	var work []*list
	now := time.Now()
	for _, li := range l.lists {
		if li.changed {
			l.turn(li, now)
		}
		if li.changed || all {
			li.changed, li.problem = false, ""
			work = append(work, li)
		}
	}
	slices.SortFunc(work, func(a, b *list) int {
		return cmp.Or(cmp.Compare(a.key.Index, b.key.Index), cmp.Compare(a.key.VNI, b.key.VNI), cmp.Compare(a.key.Device, b.key.Device))
	})
	return work
}

// turn counts a change of a list.
func (l *Lists) turn(li *list, now time.Time) {
	if now.Sub(li.since) >= time.Minute {
		li.since, li.turns = now, 0
	}
	if li.turns++; li.turns == restless {
		l.repeats.Do("restless", func(count int) {
			l.log.WithFields(fieldsOf(li)).WithField("count", count).Warn("flood list keeps changing")
		})
	}
}

// A batch is a number of members of one list.
type batch struct {
	list  *list
	addrs []netip.Addr
}

// batches asks of each list which members are meant.
func (l *Lists) batches(work []*list, which func(*list) []netip.Addr) []batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var bs []batch
	for _, li := range work {
		if addrs := which(li); len(addrs) > 0 {
			bs = append(bs, batch{li, addrs})
		}
	}
	return bs
}

// handOver gives what is own in lists that are dropped to the list that is wanted
// in the same place, if there is one: the device has got another name, and its
// entries stay where they are meanwhile. Where that cannot be written to the
// journal they are removed, and added again.
func (l *Lists) handOver(work []*list) {
	var heirs []*list
	for _, li := range work {
		heir, addrs := l.heir(li)
		if len(addrs) == 0 || l.note([]batch{{heir, addrs}}) != nil {
			continue
		}
		l.mu.Lock()
		li.own, li.unsure = nil, nil
		l.mu.Unlock()
		l.forget(appendLines(nil, '-', li.key, addrs))
		heirs = append(heirs, heir)
	}
	// The device may be another one, which has the index of the former.
	l.read(heirs, false, true)
}

// heir returns the list that takes over what a list owns, nil if none does, and
// what that is.
func (l *Lists) heir(li *list) (*list, []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if li.purpose != dropped {
		return nil, nil
	}
	for _, other := range l.places[li.key.place()] {
		if other.purpose == wanted {
			return other, union(li.own, li.unsure)
		}
	}
	return nil, nil
}

// clear forgets lists that are dropped and own nothing.
func (l *Lists) clear(work []*list) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, li := range work {
		if li.purpose == dropped && len(li.own)+len(li.unsure) == 0 {
			l.delete(li)
		}
	}
}

// leaves tells whether a list is left alone, since another daemon manages the
// entries of its device. l.mu is held.
func (l *Lists) leaves(li *list) bool {
	_, managed := l.managed[li.key.Index]
	return managed && !slices.Contains(l.settings.Devices, li.key.Device)
}

// missing returns what is to be added to a list. l.mu is held.
func (l *Lists) missing(li *list) []netip.Addr {
	if li.purpose != wanted || l.leaves(li) {
		return nil
	}
	return without(without(li.members, li.own), li.foreign)
}

// surplus returns what is to be removed from a list. l.mu is held.
func (l *Lists) surplus(li *list) []netip.Addr {
	switch {
	case li.purpose != wanted:
		return nil
	case l.leaves(li):
		return union(li.own, li.unsure)
	}
	return without(union(li.own, li.unsure), li.members)
}

// look reads what the kernel has in the lists that members are missing in, or in
// all, and returns those that it could read: only to them may be added. The
// kernel does not say so if an entry to add is there already, by somebody else.
func (l *Lists) look(work []*list, all bool) (seen []*list) {
	lists := work
	if !all {
		lists = nil
		for _, b := range l.batches(work, l.missing) {
			lists = append(lists, b.list)
		}
	}
	seen = l.read(lists, all, true)
	l.tellManaged(work)
	return seen
}

// read compares lists with the kernel, and returns those that it has seen. It
// reads the devices one by one if they are few. What is missing may be added
// again.
func (l *Lists) read(lists []*list, all, again bool) (seen []*list) {
	devices := map[int][]*list{}
	for _, li := range lists {
		devices[li.key.Index] = append(devices[li.key.Index], li)
	}
	if all && len(lists) > 0 || len(devices) > readEach {
		devices = map[int][]*list{0: lists}
	}
	for index, lists := range devices {
		t, err := l.kernel.Read(index)
		if err != nil && !errors.Is(err, syscall.ENODEV) {
			err = fmt.Errorf("read flood entries: %w", err)
			l.fail(lists, err)
			l.warn("read", "flood entries cannot be read", err, nil)
			continue
		}
		seen = append(seen, lists...)
		l.forget(l.compare(lists, index, t, again))
	}
	return seen
}

// compare takes in what the kernel has, and returns the lines of the journal
// about what is not own any more. What is missing stays in the journal where it
// is to be added again.
func (l *Lists) compare(seen []*list, index int, t underlay.FloodTable, again bool) (gone []byte) {
	there := byPlace(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteManaged(index, t.Managed)
	for _, li := range seen {
		found := there[li.key.place()]
		known := union(li.own, li.unsure)
		li.lost = without(li.own, found)
		li.own, li.unsure = both(known, found), without(known, found)
		li.foreign = without(found, li.own)
		li.share()
		var retry []netip.Addr
		if again {
			retry = both(li.unsure, l.missing(li))
		}
		gone = appendLines(gone, '-', li.key, without(li.unsure, retry))
		li.unsure = retry
	}
	return gone
}

// noteManaged notes which devices others manage. l.mu is held.
func (l *Lists) noteManaged(index int, managed map[int]struct{}) {
	_, is := managed[index]
	switch {
	case index == 0:
		l.managed = maps.Clone(managed)
	case !is:
		delete(l.managed, index)
	case l.managed == nil:
		l.managed = maps.Clone(managed)
	default:
		l.managed[index] = struct{}{}
	}
}

// tellManaged logs which devices are left alone from now on, and which are not
// any more.
func (l *Lists) tellManaged(work []*list) {
	type device struct {
		index int
		name  string
	}
	devices := map[device]bool{}
	l.mu.Lock()
	for _, li := range work {
		if li.purpose == wanted {
			devices[device{li.key.Index, li.key.Device}] = l.leaves(li)
		}
	}
	l.mu.Unlock()
	for d, leave := range devices {
		_, left := l.left[d.index]
		switch {
		case leave && !left:
			l.left[d.index] = struct{}{}
			l.log.WithField("iface", d.name).Warn("flood list left alone: another daemon manages the entries of the device (hrep_devices)")
		case left && !leave:
			delete(l.left, d.index)
			l.log.WithField("iface", d.name).Info("flood list is programmed again")
		}
	}
}
