// SPDX-License-Identifier: Apache-2.0

// Package headend keeps the flood lists of VXLAN devices in the kernel: for
// each list the members that somebody wants there. It owns the journal of what
// it has put there itself, and never touches anything else. Who is wanted is
// decided elsewhere, and how the kernel is spoken to is known to package
// underlay.
//
// The kernel does not say who made an entry. So an entry is own only if it was
// not there when this package looked, was then written to the journal, and only
// then made; and after a restart, if it is both in the journal and in the
// kernel. Two cases cannot be told apart. An own entry that somebody removed and
// made again between two comparisons, or while the daemon did not run, is still
// taken for own. So are the entries of a device that somebody removed and made
// again under the same name and with the same index, which ip-link(8) lets one ask
// for, while the daemon did not run.
package headend

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
	"vxsnd/internal/underlay"
	"vxsnd/internal/vxlan"
)

const task = "headend"

// defaultInterval is the time between two comparisons with the kernel.
const defaultInterval = time.Minute

// A Key names a flood list: that of one VNI of one device. A device that is
// made again under its name has another index, and has not the list of the
// former. A device that gets another name keeps its index and its entries.
type Key struct {
	Device string // name
	Index  int
	VNI    vxlan.VNI
	// External tells that the device carries several VNIs (collect metadata), so
	// that entries of the kernel name theirs.
	External bool
}

// A place is where the kernel has a list.
type place struct {
	index int
	vni   vxlan.VNI // 0 where the device has but one
}

func (k Key) place() place {
	if k.External {
		return place{k.Index, k.VNI}
	}
	return place{index: k.Index}
}

// A Kernel has the flood entries: an underlay.FDB, whose methods say what these
// are to do.
type Kernel interface {
	Read(index int) (underlay.FloodTable, error)
	Apply([]underlay.FloodChange) []error
}

// Settings may change while Run runs.
type Settings struct {
	// Interval is the time between two comparisons with the kernel; a minute
	// where it is not positive.
	Interval time.Duration
	// Devices names those that are programmed although another daemon manages
	// their entries.
	Devices []string
}

// Options say where the lists are.
type Options struct {
	// StateFile is the name of the journal.
	StateFile string
	// Namespace and BootID say where and since when entries of the kernel are the
	// same: see underlay.NamespaceID and underlay.BootID. They have no blanks.
	Namespace, BootID string
	Kernel            Kernel
	Log               logrus.FieldLogger // nil discards
	Settings
}

// Lists are the flood lists of this machine. Methods may be called concurrently
// unless they say otherwise.
type Lists struct {
	kernel  Kernel
	log     logrus.FieldLogger
	journal *journal // for Open, then Run, then Flush and Close
	repeats logging.Limiter
	wake    chan struct{}

	left map[int]struct{} // for Run alone: devices that are reported as left alone

	mu       sync.Mutex // guards what follows, and the lists themselves
	lists    map[Key]*list
	places   map[place][]*list // the lists of each, of which one is not dropped, if it was set
	managed  map[int]struct{}
	settings Settings
	renewed  bool  // the settings are new
	broken   error // why the journal cannot be written; Run alone writes it
}

// What is to become of a list.
type purpose int

const (
	adopted purpose = iota // stays as it is, until somebody says more
	wanted                 // has the members that are wanted
	dropped                // goes
)

// A list is one flood list. Run alone writes what follows problem, and may read
// it without the lock.
type list struct {
	key     Key
	purpose purpose
	changed bool         // since Run looked last
	members []netip.Addr // that are wanted
	problem string

	own     []netip.Addr // in the kernel, by us
	unsure  []netip.Addr // in the journal, but maybe not in the kernel
	foreign []netip.Addr // in the kernel, by others, when last looked
	lost    []netip.Addr // own until the last look, for the log
	turns   int          // changes since
	since   time.Time
}

// share has a list that is as it is wanted keep one slice only. l.mu is held.
func (li *list) share() {
	if slices.Equal(li.own, li.members) {
		li.members = li.own
	}
}

// String names the task.
func (l *Lists) String() string { return task }

// Adopted returns the own entries of lists that were not named to Set, Drop or
// Keep since Open: the lists that worked before a restart.
func (l *Lists) Adopted() map[Key][]netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[Key][]netip.Addr{}
	for k, li := range l.lists {
		if li.purpose == adopted {
			m[k] = slices.Clone(li.own)
		}
	}
	return m
}

// Set names the members that are wanted in these lists, and no others. Lists
// that are not named stay as they are, but for one in the same place of the
// kernel, as that of a device which has got another name: it is dropped, and what
// it owns in the kernel goes over to the new one. Run does the rest.
func (l *Lists) Set(lists map[Key][]netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, members := range lists {
		li := l.lists[k]
		if li == nil {
			li = l.make(k)
		}
		for _, former := range l.places[k.place()] {
			if former != li && former.purpose != dropped {
				l.drop(former)
			}
		}
		members = normal(members)
		if li.purpose != wanted || !slices.Equal(li.members, members) {
			li.purpose, li.members = wanted, members
			li.share()
			l.change(li)
		}
	}
}

// Drop gives up lists: Run removes what is own in them.
func (l *Lists) Drop(keys ...Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if li := l.lists[k]; li != nil {
			l.drop(li)
		}
	}
}

// Keep drops the adopted lists that are not in present.
func (l *Lists) Keep(present map[Key]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, li := range l.lists {
		if _, ok := present[k]; !ok && li.purpose == adopted {
			l.drop(li)
		}
	}
}

// drop gives up a list. l.mu is held.
func (l *Lists) drop(li *list) {
	li.purpose, li.members = dropped, nil
	l.change(li)
}

// make adds a list. l.mu is held.
func (l *Lists) make(k Key) *list {
	li := &list{key: k}
	l.lists[k] = li
	l.places[k.place()] = append(l.places[k.place()], li)
	return li
}

// delete removes a list. l.mu is held.
func (l *Lists) delete(li *list) {
	p := li.key.place()
	delete(l.lists, li.key)
	l.places[p] = slices.DeleteFunc(l.places[p], func(other *list) bool { return other == li })
	if len(l.places[p]) == 0 {
		delete(l.places, p)
	}
}

// change has Run look at a list.
func (l *Lists) change(li *list) {
	li.changed = true
	l.wakeUp()
}

func (l *Lists) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// Configure takes new settings, and has Run compare with the kernel at once.
func (l *Lists) Configure(s Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings, l.renewed = s, true
	l.wakeUp()
}

// Flush removes all own entries, for a stop for good. It is called after Run has
// returned.
func (l *Lists) Flush() error {
	l.mu.Lock()
	for _, li := range l.lists {
		l.drop(li)
	}
	l.mu.Unlock()
	l.pass(context.Background(), false)
	if l.owned() == 0 {
		return nil
	}
	for _, s := range l.Status() {
		if s.Problem != "" {
			return fmt.Errorf("%d flood entries stay: %s", l.owned(), s.Problem)
		}
	}
	return fmt.Errorf("%d flood entries stay", l.owned())
}

// Close lets go of the journal, after Run has returned. Entries stay, and are
// own again after the next Open.
func (l *Lists) Close() error { return l.journal.close() }

// Status is how one list does.
type Status struct {
	Wanted  int    // members that are wanted
	Own     int    // entries that are own
	Foreign int    // entries that others made, when last looked
	Managed bool   // left alone: another daemon manages the device's entries
	Problem string // why it is not as it is wanted, or ""
}

// Status returns how all lists do.
func (l *Lists) Status() map[Key]Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[Key]Status, len(l.lists))
	for k, li := range l.lists {
		s := Status{
			Wanted: len(li.members), Own: len(li.own), Foreign: len(li.foreign),
			Managed: l.leaves(li), Problem: li.problem,
		}
		if s.Problem == "" && l.broken != nil {
			s.Problem = l.broken.Error()
		}
		m[k] = s
	}
	return m
}
